"""Checks that CoreDNS runs."""

from collections.abc import Iterator

from checks.common import and_list
from checks.dns.api import Around, cut_off
from checks.dns.codes import VERIFY, dns_code
from checks.dns.placing import DNS_UNSCHEDULABLE, unschedulable
from checks.dns.words import DNS_API_UNREACHABLE, SAID, by_words, by_words_of_config
from doctor.contract import check
from doctor.model.evidence import (
    Backend,
    DnsService,
    Flannel,
    Logs,
    NodeNetworks,
    Nodes,
    ServiceIpFlows,
)
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.resolver import DNS_PORT

__all__ = [
    "DNS_NOT_READY",
    "DNS_OUT_OF_MEMORY",
    "DNS_SCALED_TO_ZERO",
    "DNS_SELECTOR_MATCHES_NOTHING",
    "DNS_SERVICE_MISSING",
    "DNS_SERVICE_PORT_MISSING",
    "running",
]

DNS_SERVICE_MISSING = dns_code("DNS_SERVICE_MISSING", "The cluster has no DNS Service.")
DNS_SCALED_TO_ZERO = dns_code("DNS_SCALED_TO_ZERO", "What runs the DNS server wants no pod of it.")
DNS_SELECTOR_MATCHES_NOTHING = dns_code(
    "DNS_SELECTOR_MATCHES_NOTHING", "The DNS Service's selector matches no pod."
)
DNS_SERVICE_PORT_MISSING = dns_code(
    "DNS_SERVICE_PORT_MISSING", "The DNS Service has no port 53 for UDP, or none for TCP."
)
DNS_OUT_OF_MEMORY = dns_code(
    "DNS_OUT_OF_MEMORY", "The DNS server is killed because it needs more memory than its limit."
)
DNS_NOT_READY = dns_code("DNS_NOT_READY", "No replica of the DNS server is ready.")


@check(
    id="dns.running",
    title="CoreDNS runs, and its Service leads to it",
    codes=(
        DNS_SERVICE_MISSING,
        DNS_SCALED_TO_ZERO,
        DNS_SELECTOR_MATCHES_NOTHING,
        DNS_SERVICE_PORT_MISSING,
        DNS_UNSCHEDULABLE,
        DNS_OUT_OF_MEMORY,
        *SAID,
        DNS_NOT_READY,
    ),
)
def running(
    dns: DnsService,
    nodes: Nodes | None = None,
    logs: Logs | None = None,
    flows: ServiceIpFlows | None = None,
    networks: NodeNetworks | None = None,
    flannel: Flannel | None = None,
) -> Iterator[Finding]:
    """CoreDNS runs, and its Service leads to it.

    What it looks at:
        The DNS Service, its ports and endpoints, the pods its selector matches, their Deployment,
        and what keeps pods off the nodes.

    Why it matters:
        Without a ready endpoint every lookup in the cluster fails at once.

    What proves it:
        No endpoint is ready, and the objects say why: no replica wanted, no pod selected, no node
        without a taint that the pods do not tolerate, or pods that are not ready, with the
        kubelet's reason. A Service that lacks a port passes nothing to it. Of CoreDNS that waits for
        the API server: pods beside it do not reach that either, while their node does, and a rule.

    Look-alikes:
        One replica of several that is not ready costs nothing: no finding, unless it waits for an
        API server that its node's pods do not reach. Pods that are not ready because their node, its
        flannel or its kube-proxy is broken are explained by that.

    Remediation:
        Scale the Deployment up, restore the selector, or mend what its pods crash on.

    Sources:
        Kubernetes documentation, "Debugging DNS Resolution" and "Debug Services".
    """
    around = Around(logs, nodes, flows, networks, flannel, dns.corefile)
    if dns.absent or any(g.essential for g in dns.gaps):
        return
    backend = dns.backend
    if backend is None or backend.service is None:
        yield _no_service(backend.key if backend else "kube-system/kube-dns")
        return
    yield from _ports(backend)
    if not backend.ready and (backend.endpoints or backend.service.spec.selector):
        yield _no_endpoint(backend, around)
    elif killed := _killed(backend):
        yield _out_of_memory(backend, killed, Severity.WARN)
    else:
        yield from _some_fail(backend, around)


def _finding(
    code: Code,
    key: str,
    title: str,
    more: tuple[str, ...],
    mend: Remediation,
    *,
    falsifier: str = "",
) -> Finding:
    """Make a finding about the DNS Service."""
    return Finding(
        code=code,
        title=title,
        hop=Hop(HopKind.SERVICE, key),
        evidence=(f"api:services/{key}", *more),
        remediation=(mend,),
        falsifier=falsifier or f"Service {key} has a ready endpoint",
    )


def _addon() -> Remediation:
    """Say how kubeadm installs CoreDNS."""
    command = "kubeadm init phase addon coredns"
    return Remediation("Install CoreDNS and its Service again", (command,), Risk.SAFE, VERIFY)


def _no_service(key: str) -> Finding:
    """Say that there is no DNS Service."""
    title = f"There is no DNS Service: {key} does not exist, so no name resolves in the cluster"
    return _finding(DNS_SERVICE_MISSING, key, title, (), _addon())


def _ports(backend: Backend) -> Iterator[Finding]:
    """Say which port the Service lacks."""
    ports = (backend.service.spec.ports if backend.service else None) or ()
    there = {p.protocol for p in ports if p.port == DNS_PORT}
    missing = [p for p in ("UDP", "TCP") if p not in there]
    if not missing or not ports:
        return
    namespace, _, name = backend.key.partition("/")
    what = and_list(missing)
    adds = [
        '{{"op":"add","path":"/spec/ports/-","value":{{"name":"{}","port":53,"protocol":"{}",'
        '"targetPort":53}}}}'.format("dns" if p == "UDP" else "dns-tcp", p)
        for p in missing
    ]
    patch = f"kubectl -n {namespace} patch service {name} --type=json -p '[{','.join(adds)}]'"
    mend = Remediation(f"Add port 53 for {what} again", (patch,), Risk.SAFE, VERIFY)
    cost = "no lookup" if "UDP" in missing else "no answer that is too long for UDP"
    title = f"Service {backend.key} has no port 53 for {what}: {cost} comes through"
    wrong_if = f"Service {backend.key} has port 53 for {what}"
    yield _finding(DNS_SERVICE_PORT_MISSING, backend.key, title, (), mend, falsifier=wrong_if)


def _killed(backend: Backend) -> list[Pod]:
    """Select the pods that are not ready and were killed for their memory."""
    return [
        p
        for p in backend.pods
        if not p.ready
        and any(
            t is not None and t.reason == "OOMKilled"
            for s in p.status.container_statuses or ()
            for t in (s.state.terminated, s.last_state.terminated)
        )
    ]


def _out_of_memory(backend: Backend, killed: list[Pod], severity: Severity) -> Finding:
    """Say that pods are killed for their memory."""
    whole = severity is Severity.FAIL
    consequence = "no name resolves" if whole else "the others answer in their place"
    workloads = backend.workloads or ()
    limits = tuple(
        f"kubectl -n {w.namespace} set resources deployment {w.name} "
        f"-c {w.spec.template.spec.containers[0].name} --limits=memory=170Mi --requests=memory=70Mi"
        for w in workloads
        if w.spec.template.spec.containers
    )
    namespace = backend.key.partition("/")[0]
    look = tuple(f"kubectl -n {namespace} describe pod {p.name}" for p in killed[:2])
    return Finding(
        code=DNS_OUT_OF_MEMORY,
        title=f"{and_list(p.key for p in killed)} of the DNS server is killed for its memory "
        f"(OOMKilled): {consequence}",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in killed)),
        severity=severity,
        confidence=Confidence.CERTAIN,
        remediation=(Remediation("Raise the memory limit", limits or look, Risk.SAFE, VERIFY),),
        falsifier=f"Service {backend.key} keeps its ready endpoints for ten minutes",
    )


def _some_fail(backend: Backend, around: Around) -> Iterator[Finding]:
    """Say why some replicas crash, where their configuration is at fault: the next will, too.

    And which of them do not start for a way that none of their node's pods has.
    """
    if not backend.ready:
        return
    crashing = tuple(p for p in backend.pods if p.crashing)
    found = (
        by_words_of_config(backend, crashing, around.logs, around.corefile) if crashing else None
    )
    found = found or cut_off(backend, around)
    if found:
        yield found


def _no_endpoint(backend: Backend, around: Around) -> Finding:
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
        return _unwanted(backend) if backend.daemonsets else _no_match(backend)
    if found := unschedulable(backend, around.nodes.items if around.nodes else ()):
        return found
    if killed := _killed(backend):
        return _out_of_memory(backend, killed, Severity.FAIL)
    said = by_words(
        backend, tuple(p for p in backend.pods if not p.ready), around.logs, around.corefile
    )
    if said is None or said.code is DNS_API_UNREACHABLE:
        said = cut_off(backend, around) or said
    return said or _not_ready(backend)


def _unwanted(backend: Backend) -> Finding:
    """Say that DaemonSets run the DNS server, and no node is one of theirs."""
    key = and_list(d.key for d in backend.daemonsets)
    wanted = sum(d.status.desired_number_scheduled for d in backend.daemonsets)
    label = [
        f"kubectl label nodes -l kubernetes.io/os=linux --overwrite {k}={v}"
        for d in backend.daemonsets
        for k, v in sorted((d.spec.template.spec.node_selector or {}).items())
        if k != "kubernetes.io/os"
    ]
    look = [f"kubectl -n {d.namespace} describe daemonset {d.name}" for d in backend.daemonsets]
    title = f"DaemonSet {key} wants {wanted} pods: Service {backend.key} has no endpoint"
    mend = Remediation(
        f"Give nodes the labels that {key} asks for"
        if label
        else f"See what keeps {key} off nodes",
        tuple(label or look),
        Risk.SAFE,
        VERIFY,
    )
    more = tuple(f"api:daemonsets/{d.key}" for d in backend.daemonsets)
    code = DNS_NOT_READY if wanted else DNS_SCALED_TO_ZERO
    return _finding(code, backend.key, title, more, mend)


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
