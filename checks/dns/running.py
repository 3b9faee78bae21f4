"""Checks that CoreDNS runs."""

from collections.abc import Iterator

from checks.common import and_list
from checks.dns.codes import VERIFY, dns_code
from doctor.contract import check
from doctor.model.evidence import Backend, DnsService
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod

__all__ = [
    "DNS_NOT_READY",
    "DNS_SCALED_TO_ZERO",
    "DNS_SELECTOR_MATCHES_NOTHING",
    "DNS_SERVICE_MISSING",
    "running",
]

DNS_SERVICE_MISSING = dns_code("DNS_SERVICE_MISSING", "The cluster has no DNS Service.")
DNS_SCALED_TO_ZERO = dns_code("DNS_SCALED_TO_ZERO", "The DNS server's Deployment wants no replica.")
DNS_SELECTOR_MATCHES_NOTHING = dns_code(
    "DNS_SELECTOR_MATCHES_NOTHING", "The DNS Service's selector matches no pod."
)
DNS_NOT_READY = dns_code("DNS_NOT_READY", "No replica of the DNS server is ready.")


@check(
    id="dns.running",
    title="CoreDNS runs, and its Service leads to it",
    codes=(
        DNS_SERVICE_MISSING,
        DNS_SCALED_TO_ZERO,
        DNS_SELECTOR_MATCHES_NOTHING,
        DNS_NOT_READY,
    ),
)
def running(dns: DnsService) -> Iterator[Finding]:
    """CoreDNS runs, and its Service leads to it.

    What it looks at:
        The DNS Service, its endpoints, the pods its selector matches, and their Deployment.

    Why it matters:
        Without a ready endpoint every lookup in the cluster fails at once.

    What proves it:
        No endpoint is ready, and the objects say why: no replica wanted, no pod selected, or pods
        that are not ready, with the kubelet's reason.

    Look-alikes:
        One replica of several that is not ready costs nothing: no finding. Pods that are not ready
        because their node, its flannel or its kube-proxy is broken are explained by that.

    Remediation:
        Scale the Deployment up, restore the selector, or mend what its pods crash on.

    Sources:
        Kubernetes documentation, "Debugging DNS Resolution" and "Debug Services".
    """
    if dns.absent or any(g.essential for g in dns.gaps):
        return
    backend = dns.backend
    if backend is None or backend.service is None:
        yield _no_service(backend.key if backend else "kube-system/kube-dns")
    elif not backend.ready and (backend.endpoints or backend.service.spec.selector):
        yield _no_endpoint(backend)


def _finding(code: Code, key: str, title: str, more: tuple[str, ...], mend: Remediation) -> Finding:
    """Make a finding about the DNS Service."""
    return Finding(
        code=code,
        title=title,
        hop=Hop(HopKind.SERVICE, key),
        evidence=(f"api:services/{key}", *more),
        remediation=(mend,),
        falsifier=f"Service {key} has a ready endpoint",
    )


def _addon() -> Remediation:
    """Say how kubeadm installs CoreDNS."""
    command = "kubeadm init phase addon coredns"
    return Remediation("Install CoreDNS and its Service again", (command,), Risk.SAFE, VERIFY)


def _no_service(key: str) -> Finding:
    """Say that there is no DNS Service."""
    title = f"There is no DNS Service: {key} does not exist, so no name resolves in the cluster"
    return _finding(DNS_SERVICE_MISSING, key, title, (), _addon())


def _no_endpoint(backend: Backend) -> Finding:
    """Say why the DNS Service has no ready endpoint."""
    asleep = [w for w in backend.workloads if w.spec.replicas == 0]
    # pods that are still there are on their way out
    if asleep and len(asleep) == len(backend.workloads):
        key = asleep[0].key
        scale = f"kubectl -n {asleep[0].namespace} scale deployment {asleep[0].name} --replicas=2"
        mend = Remediation(f"Scale {key} up", (scale,), Risk.SAFE, VERIFY)
        title = f"Deployment {key} is scaled to 0 replicas: Service {backend.key} has no endpoint"
        return _finding(DNS_SCALED_TO_ZERO, backend.key, title, (f"api:deployments/{key}",), mend)
    if not backend.pods and not backend.workloads:
        return _no_match(backend)
    return _not_ready(backend)


def _no_match(backend: Backend) -> Finding:
    """Say that the selector matches nothing, and what it should match."""
    service = backend.service
    selector = (service.spec.selector if service else None) or {}
    said = ",".join(f"{k}={v}" for k, v in sorted(selector.items()))
    there = [p for p in backend.nearly if any("coredns" in c.image for c in p.spec.containers)]
    title = f"Service {backend.key} selects {said}, which no pod carries"
    mend = _addon()
    if there:
        labels = {k: there[0].labels[k] for k in selector if k in there[0].labels}
        title += f", although {and_list(p.key for p in there)} runs"
        value = ",".join(f'"{k}":"{v}"' for k, v in sorted(labels.items()))
        namespace, _, name = backend.key.partition("/")
        path = '{"op":"replace","path":"/spec/selector","value":{' + value + "}}"
        patch = f"kubectl -n {namespace} patch service {name} --type=json -p '[{path}]'"
        mend = Remediation("Select CoreDNS's pods again", (patch,), Risk.SAFE, VERIFY)
    more = tuple(f"api:pods/{p.key}" for p in there)
    return _finding(DNS_SELECTOR_MATCHES_NOTHING, backend.key, title, more, mend)


def _why(pod: Pod, backend: Backend) -> str:
    """Say why a pod is not ready."""
    events = [e for e in backend.events if e.involved_object.name == pod.name]
    said = next((e.message for e in reversed(events) if e.reason == "FailedScheduling"), "")
    if not pod.node:
        return f"not scheduled: {said[:120]}" if said else "not scheduled"
    return pod.waiting or pod.status.reason or ("crashing" if pod.crashing else "not ready")


def _not_ready(backend: Backend) -> Finding:
    """Say that pods of the DNS server are there, or are wanted, and none is ready."""
    pods, (namespace, _, _) = backend.pods, backend.key.partition("/")
    nodes = sorted({p.node for p in pods if p.node})
    whys = and_list(f"{p.name} is {_why(p, backend)}" for p in pods) or "no pod was created"
    look = [f"kubectl -n {namespace} describe pod {p.name}" for p in pods[:2]]
    logs = [f"kubectl -n {namespace} logs {p.name} --previous" for p in pods[:2] if p.crashing]
    kinds = (
        HopKind.NODE,
        HopKind.FLANNEL,
        HopKind.KUBE_PROXY,
        HopKind.FORWARD,
        HopKind.POD_NETWORK,
    )
    wants = [f"kubectl -n {w.namespace} describe deployment {w.name}" for w in backend.workloads]
    return Finding(
        code=DNS_NOT_READY,
        title=f"No replica of the DNS server behind Service {backend.key} is ready: {whys}",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in pods)),
        consequence_of=tuple(Hop(k, n) for k in kinds for n in nodes),
        remediation=(
            Remediation(
                "See what its pods wait for, or what they crash on (often the Corefile)",
                (*look, *logs, *(() if pods else wants)),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"Service {backend.key} has a ready endpoint",
    )
