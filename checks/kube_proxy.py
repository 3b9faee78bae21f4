"""Checks of kube-proxy: that it runs on every node, and that Service addresses work there."""

from collections.abc import Iterator

from checks.common import and_list, ids
from doctor.contract import check
from doctor.model.evidence import KubeProxy, NodeNetworks, Nodes, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import DaemonSet, Pod
from doctor.model.link import Link

__all__ = [
    "CHECKS",
    "KUBE_PROXY_NOT_ON_NODE",
    "KUBE_PROXY_NOT_READY",
    "KUBE_PROXY_RULES_MISSING",
    "SERVICE_IP_DEAD",
    "on_every_node",
    "service_ip",
]

KUBE_PROXY_NOT_ON_NODE = Code(
    "KUBE_PROXY_NOT_ON_NODE",
    Link.KUBE_PROXY,
    "No kube-proxy pod exists on a Linux node: Services are not, or no longer, kept up there.",
)
KUBE_PROXY_NOT_READY = Code(
    "KUBE_PROXY_NOT_READY",
    Link.KUBE_PROXY,
    "kube-proxy's pod on a node exists and is not ready.",
)
KUBE_PROXY_RULES_MISSING = Code(
    "KUBE_PROXY_RULES_MISSING",
    Link.KUBE_PROXY,
    "kube-proxy runs on a node, but the rules that it should have written there do not work.",
)
SERVICE_IP_DEAD = Code(
    "SERVICE_IP_DEAD",
    Link.KUBE_PROXY,
    "Service addresses do not answer from a node that reaches what stands behind them.",
)
VERIFY = "wwwm-doctor check kube-proxy"
IPTABLES = {"", "iptables"}


@check(
    id="kube-proxy.on-every-node",
    title="kube-proxy runs and is ready on every Linux node",
    codes=(KUBE_PROXY_NOT_ON_NODE, KUBE_PROXY_NOT_READY),
)
def on_every_node(
    nodes: Nodes, proxy: KubeProxy, flows: ServiceIpFlows | None
) -> Iterator[Finding]:
    """kube-proxy runs and is ready on every Linux node.

    What it looks at:
        kube-proxy's DaemonSet and pods against the Linux nodes, and whether a Service address
        still answers there.

    Why it matters:
        kube-proxy turns Service addresses into pods' on each node. Its rules outlive it, so a node
        without it works on with yesterday's endpoints, until it restarts or a pod moves.

    What proves it:
        No pod of the DaemonSet is bound to the node, or the one there is not ready.

    Look-alikes:
        A cluster without the DaemonSet has replaced kube-proxy: no finding. A node whose kubelet is
        silent is explained by the node. Where Services still answer by old rules, it is a warning.

    Remediation:
        Let the DaemonSet reach the node, or mend what its pod crashes on.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies", "Debug Services", "DaemonSet".
    """
    owner = proxy.daemonset
    if owner is None or any(g.essential for g in proxy.gaps):
        return
    current = [p for p in proxy.pods if p.status.phase not in {"Failed", "Succeeded"}]
    groups: dict[tuple[Code, str, Severity], list[str]] = {}
    for name in nodes.linux:
        here = [p for p in current if p.node == name]
        settled = [p for p in here if not p.metadata.deletion_timestamp]
        if not here:
            groups.setdefault((KUBE_PROXY_NOT_ON_NODE, "", _weight(flows, name)), []).append(name)
        elif settled and not any(p.ready for p in settled):
            key = (KUBE_PROXY_NOT_READY, _reason(settled[0]), _weight(flows, name))
            groups.setdefault(key, []).append(name)
    for (code, reason, severity), names in groups.items():
        for hop, after in _hops(nodes, names):
            yield Finding(
                code=code,
                title=f"{_title(owner, names, reason, len(nodes.linux))}; {_cost(flows, names, severity)}",
                hop=hop,
                evidence=_evidence(owner, current, names, flows),
                severity=severity,
                consequence_of=after,
                remediation=(_mend(owner, [p for p in current if p.node in names]),),
                falsifier=f"A kube-proxy pod is ready on {and_list(names)}",
            )


def _weight(flows: ServiceIpFlows | None, name: str) -> Severity:
    """Weigh a node's missing kube-proxy: Services that still answer make it a warning."""
    seen = _from(flows, Purpose.SERVICE_IP, name)
    return Severity.WARN if seen and all(o.ok for o in seen) else Severity.FAIL


def _from(flows: ServiceIpFlows | None, purpose: Purpose, name: str) -> list[Observation]:
    """Select the flows that start on a node."""
    return [o for o in flows.of(purpose) if o.flow.vantage.node == name] if flows else []


def _reason(pod: Pod) -> str:
    """Say why a pod is not ready."""
    return pod.waiting or pod.status.reason or f"{pod.status.phase or 'Unknown'} and not ready"


def _hops(nodes: Nodes, names: list[str]) -> Iterator[tuple[Hop, tuple[Hop, ...]]]:
    """Give one hop for all Linux nodes, else one per node: the first explains the others."""
    if len(names) > 1 and set(names) == set(nodes.linux):
        yield Hop(HopKind.KUBE_PROXY, ANY), ()
        return
    first = (Hop(HopKind.KUBE_PROXY, names[0]),)
    for name in names:
        down = (Hop(HopKind.NODE, name),) if nodes.down(name) else ()
        yield Hop(HopKind.KUBE_PROXY, name), down + (first if name != names[0] else ())


def _title(owner: DaemonSet, names: list[str], reason: str, total: int) -> str:
    """Say where kube-proxy is not, or is not ready."""
    if reason:
        return f"kube-proxy is not ready on {and_list(names)}: {reason}"
    wanted = owner.status.desired_number_scheduled
    return (
        f"kube-proxy does not run on {and_list(names)}: its DaemonSet {owner.key} wants {wanted} "
        f"pods for {total} Linux nodes"
    )


def _cost(flows: ServiceIpFlows | None, names: list[str], severity: Severity) -> str:
    """Say what that costs, as far as it was seen."""
    if severity is Severity.WARN:
        return "Services still answer there by the rules it left behind"
    seen = [o for n in names for o in _from(flows, Purpose.SERVICE_IP, n)]
    return "Service addresses do not answer there" if seen else "Services are not kept up there"


def _evidence(
    owner: DaemonSet, pods: list[Pod], names: list[str], flows: ServiceIpFlows | None
) -> tuple[str, ...]:
    """Cite the DaemonSet, the nodes, the pods there and the flows from there."""
    return (
        f"api:daemonsets/{owner.key}",
        *(f"api:nodes/{n}" for n in names),
        *(f"api:pods/{p.key}" for p in pods if p.node in names),
        *(i for n in names for i in ids(_from(flows, Purpose.SERVICE_IP, n))),
    )


def _mend(owner: DaemonSet, pods: list[Pod]) -> Remediation:
    """Say how to get kube-proxy to run: let it reach the node, or see why it fails."""
    namespace, name = owner.namespace, owner.name
    spec = "{.spec.template.spec"
    look = f"'{spec}.affinity}}{spec}.nodeSelector}}{spec}.tolerations}}'"
    if pods:
        logs = [f"kubectl -n {namespace} logs {p.name} --previous" for p in pods[:3]]
        again = [f"kubectl -n {namespace} delete pod {p.name}" for p in pods[:3]]
        title = "Read its last words, mend what they name, and start it again"
        return Remediation(title, (*logs, *again), Risk.SAFE, VERIFY)
    at = '{"op":"add","path":"/spec/template/spec'
    patch = (
        f'[{at}/affinity","value":{{}}}},'
        f'{at}/nodeSelector","value":{{"kubernetes.io/os":"linux"}}}},'
        f'{at}/tolerations","value":[{{"operator":"Exists"}}]}}]'
    )
    return Remediation(
        title=f"See what keeps {owner.key} off the node, and let it run on every Linux node",
        commands=(
            f"kubectl -n {namespace} get daemonset {name} -o jsonpath={look}",
            f"kubectl -n {namespace} patch daemonset {name} --type=json -p '{patch}'",
            f"kubectl -n {namespace} rollout status daemonset {name} --timeout=180s",
        ),
        risk=Risk.DISRUPTIVE,
        verify=VERIFY,
    )


@check(
    id="kube-proxy.service-ip",
    title="Service addresses answer from every node",
    codes=(SERVICE_IP_DEAD, KUBE_PROXY_RULES_MISSING),
)
def service_ip(
    flows: ServiceIpFlows,
    nodes: Nodes | None,
    proxy: KubeProxy | None,
    networks: NodeNetworks | None,
) -> Iterator[Finding]:
    """Service addresses answer from every node.

    What it looks at:
        TCP to the API server's ClusterIP and to the API server itself, from pods and nodes alike.

    Why it matters:
        Every Service, CoreDNS's included, is reached by the same rules of the same node.

    What proves it:
        The ClusterIP fails while the API server's own address answers the same vantage in the same
        minute. The chains of the nat table tell whether the rules are there.

    Look-alikes:
        Where the direct connection fails too, the network below is broken: no finding here. A node
        without kube-proxy is said by kube-proxy.on-every-node, which explains this.

    Remediation:
        Restart kube-proxy on the node, and stop what flushed its rules.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies" and "Debug Services".
    """
    dead: dict[str, list[Observation]] = {}
    for seen in flows.of(Purpose.SERVICE_IP):
        vantage = seen.flow.vantage
        direct = [o for o in flows.of(Purpose.API_DIRECT) if o.flow.vantage == vantage]
        failed = seen.failure not in {None, Failure.UNKNOWN}
        if vantage.node and failed and direct and all(o.ok for o in direct):
            dead.setdefault(vantage.node, []).append(seen)
    groups: dict[tuple[Code, str], list[str]] = {}
    for name in sorted(dead):
        groups.setdefault(_kind(name, proxy, networks), []).append(name)
    for (code, why), names in groups.items():
        for hop, after in _hops(nodes or Nodes(), names):
            lost = [o for n in names for o in dead[n]]
            title = (
                f"Service address {and_list(o.flow.address for o in lost)} does not answer from "
                f"{and_list(names)}, though the API server behind it does" + (why and f": {why}")
            )
            yield Finding(
                code=code,
                title=title,
                hop=hop,
                evidence=_proofs(flows, lost, names, networks),
                confidence=Confidence.LIKELY if why else Confidence.CERTAIN,
                consequence_of=((hop,) if hop.where != ANY else ()) + after,
                remediation=(_again(proxy, names),),
                falsifier=f"The same address answers from {and_list(names)}",
            )


def _proofs(
    flows: ServiceIpFlows,
    lost: list[Observation],
    names: list[str],
    networks: NodeNetworks | None,
) -> tuple[str, ...]:
    """Cite the flows that failed, those that passed, and the chains that were read."""
    vantages = {o.flow.vantage for o in lost}
    direct = [o for o in flows.of(Purpose.API_DIRECT) if o.flow.vantage in vantages]
    read = [r.evidence for r in map(networks.of, names) if r] if networks else []
    return (*ids(lost), *ids(direct), *read)


def _again(proxy: KubeProxy | None, names: list[str]) -> Remediation:
    """Say how to let kube-proxy write its rules anew."""
    pods = [p for n in names if proxy and (p := proxy.on(n))]
    restart = [f"kubectl -n {p.namespace} delete pod {p.name}" for p in pods]
    look = [f"kubectl get pods -A -o wide --field-selector spec.nodeName={n}" for n in names]
    title = f"Let kube-proxy on {and_list(names)} write its rules anew"
    return Remediation(title, tuple(restart or look), Risk.SAFE, VERIFY)


def _kind(name: str, proxy: KubeProxy | None, networks: NodeNetworks | None) -> tuple[Code, str]:
    """Say whether kube-proxy's rules are missing although it is ready."""
    pod, read = proxy.on(name) if proxy else None, networks.of(name) if networks else None
    if not proxy or not pod or not pod.ready:
        return SERVICE_IP_DEAD, ""
    if not read or not read.tools or proxy.mode not in IPTABLES:
        return KUBE_PROXY_RULES_MISSING, "kube-proxy is ready there, so its rules are missing"
    if "KUBE-SERVICES" in read.nat_chains:
        return SERVICE_IP_DEAD, "kube-proxy is ready and its chain KUBE-SERVICES is there"
    return KUBE_PROXY_RULES_MISSING, "kube-proxy is ready, but there is no chain KUBE-SERVICES"


CHECKS = (on_every_node, service_ip)
