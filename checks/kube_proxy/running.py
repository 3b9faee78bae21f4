"""kube-proxy runs on every node."""

from collections.abc import Iterator

from checks.common import and_list, everywhere, ids, node_hops
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.evidence import KubeProxy, Nodes, ServiceIpFlows
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import HopKind
from doctor.model.kube import DaemonSet, Pod
from doctor.model.link import Link

__all__ = ["KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_NOT_READY", "on_every_node"]

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
        A cluster without the DaemonSet has replaced kube-proxy: no finding. A virtual node, or one
        of KubeEdge, runs none on purpose. A node whose kubelet is
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
    for name in nodes.networked:
        here = [p for p in current if p.node == name]
        settled = [p for p in here if not p.metadata.deletion_timestamp]
        if not here:
            groups.setdefault((KUBE_PROXY_NOT_ON_NODE, "", _weight(flows, name)), []).append(name)
        elif settled and not any(p.ready for p in settled):
            key = (KUBE_PROXY_NOT_READY, _reason(settled[0]), _weight(flows, name))
            groups.setdefault(key, []).append(name)
    for (code, reason, severity), names in groups.items():
        for hop, after in node_hops(HopKind.KUBE_PROXY, nodes, names):
            yield Finding(
                code=code,
                title=f"{_title(proxy, names, reason, len(nodes.networked))}; {_cost(flows, names, severity)}",
                hop=hop,
                evidence=_evidence(owner, current, names, flows),
                severity=severity,
                consequence_of=after,
                remediation=(_mend(nodes, names, owner, [p for p in current if p.node in names]),),
                falsifier=f"A kube-proxy pod is ready on {and_list(names)}",
            )


def _weight(flows: ServiceIpFlows | None, name: str) -> Severity:
    """Weigh a node's missing kube-proxy: Services that still answer make it a warning."""
    seen = seen_from(flows, Purpose.SERVICE_IP, name)
    return Severity.WARN if seen and all(o.ok for o in seen) else Severity.FAIL


def seen_from(flows: ServiceIpFlows | None, purpose: Purpose, name: str) -> list[Observation]:
    """Select the flows that start on a node."""
    return [o for o in flows.of(purpose) if o.flow.vantage.node == name] if flows else []


def _reason(pod: Pod) -> str:
    """Say why a pod is not ready."""
    return pod.waiting or pod.status.reason or f"{pod.status.phase or 'Unknown'} and not ready"


def _title(proxy: KubeProxy, names: list[str], reason: str, total: int) -> str:
    """Say where kube-proxy is not, or is not ready."""
    if reason:
        return f"kube-proxy is not ready on {and_list(names)}: {reason}"
    sets = [d for d in (proxy.daemonset, *proxy.more) if d]
    wanted = sum(d.status.desired_number_scheduled for d in sets)
    key = and_list(d.key for d in sets)
    return (
        f"kube-proxy does not run on {and_list(names)}: its DaemonSet {key} wants {wanted} "
        f"pods for {total} Linux nodes"
    )


def _cost(flows: ServiceIpFlows | None, names: list[str], severity: Severity) -> str:
    """Say what that costs, as far as it was seen."""
    if severity is Severity.WARN:
        return "Services still answer there by the rules it left behind"
    seen = [o for n in names for o in seen_from(flows, Purpose.SERVICE_IP, n)]
    return "Service addresses do not answer there" if seen else "Services are not kept up there"


def _evidence(
    owner: DaemonSet, pods: list[Pod], names: list[str], flows: ServiceIpFlows | None
) -> tuple[str, ...]:
    """Cite the DaemonSet, the nodes, the pods there and the flows from there."""
    return (
        f"api:daemonsets/{owner.key}",
        *(f"api:nodes/{n}" for n in names),
        *(f"api:pods/{p.key}" for p in pods if p.node in names),
        *(i for n in names for i in ids(seen_from(flows, Purpose.SERVICE_IP, n))),
    )


def _mend(nodes: Nodes, names: list[str], owner: DaemonSet, pods: list[Pod]) -> Remediation:
    """Say how to get kube-proxy to run: let it reach the node, or see why it fails."""
    namespace, name = owner.namespace, owner.name
    spec = "{.spec.template.spec"
    look = f"'{spec}.affinity}}{spec}.nodeSelector}}{spec}.tolerations}}'"
    if pods:
        logs = [f"kubectl -n {namespace} logs {p.name} --previous" for p in pods[:3]]
        again = [f"kubectl -n {namespace} delete pod {p.name}" for p in pods[:3]]
        title = "Read its last words, mend what they name, and start it again"
        return Remediation(title, (*logs, *again), Risk.SAFE, VERIFY)
    patch = everywhere(nodes, names)
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
