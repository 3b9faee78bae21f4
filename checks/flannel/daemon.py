"""The check that flannel runs on every node; why it does not is ``causes``'s."""

from collections.abc import Iterator

from checks.common import and_list, everywhere, node_hops
from checks.flannel.causes import Cause, cause_of
from checks.flannel.codes import (
    FLANNEL_API_UNREACHABLE,
    FLANNEL_BR_NETFILTER_MISSING,
    FLANNEL_NETCONF_INVALID,
    FLANNEL_NOT_ON_NODE,
    FLANNEL_NOT_READY,
    FLANNEL_PODCIDR_EXHAUSTED,
    FLANNEL_PODCIDR_UNASSIGNED,
    FLANNEL_RBAC_DENIED,
    VERIFY,
)
from checks.flannel.mending import mend
from checks.flannel.subnet import outside_network
from doctor.contract import check
from doctor.model.evidence import Flannel, Logs, Nodes, ProbePods
from doctor.model.finding import Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod

__all__ = ["on_every_node"]


@check(
    id="flannel.on-every-node",
    title="Flannel runs and is ready on every Linux node",
    codes=(
        FLANNEL_NOT_ON_NODE,
        FLANNEL_NOT_READY,
        FLANNEL_PODCIDR_UNASSIGNED,
        FLANNEL_PODCIDR_EXHAUSTED,
        FLANNEL_NETCONF_INVALID,
        FLANNEL_RBAC_DENIED,
        FLANNEL_API_UNREACHABLE,
        FLANNEL_BR_NETFILTER_MISSING,
    ),
)
def on_every_node(
    nodes: Nodes, flannel: Flannel, probes: ProbePods | None, logs: Logs
) -> Iterator[Finding]:
    """Flannel runs and is ready on every Linux node.

    What it looks at:
        Flannel's DaemonSets and pods against the Linux nodes, what became of the probe pods, and the
        last words of flannel's pods that are not ready.

    Why it matters:
        The CNI plugin reads a file that only a running flannel writes. Where flannel does not run,
        pods stay in ContainerCreating and the node's routes to others grow stale.

    What proves it:
        No flannel pod is bound to the node and the DaemonSet wants fewer pods than there are
        nodes, or the pod there is not ready. A probe pod that could not start for want of
        subnet.env confirms it. Why a pod is not ready is what it said last, or what its node
        lacks; where neither tells, only that it is not ready is said.

    Look-alikes:
        An old FailedCreatePodSandBox event on a node where flannel is ready again: no finding,
        since events alone are never judged. A virtual node, or one of KubeEdge, runs no flannel on
        purpose. A node whose kubelet is silent: explained by the node.
        A node without podCIDR: none is assigned, or none is left, as all of the controller
        manager's range is taken by other nodes. An API
        server that forbids is none that is out of reach; where kube-proxy is missing on the node,
        flannel cannot reach it, and kube-proxy is to blame.

    Remediation:
        Let the DaemonSet reach the node, or mend what its pod crashes on. Never write subnet.env.

    Sources:
        Flannel documentation, "Kubernetes" and "Troubleshooting"; Kubernetes documentation,
        "DaemonSet".
    """
    if not flannel.daemonsets or any(g.essential for g in flannel.gaps):
        return
    current = [p for p in flannel.pods if p.status.phase not in {"Failed", "Succeeded"}]
    wanted = [n for n in nodes.linux if n in nodes.networked or _wants_flannel(probes, n)]
    missing = [n for n in wanted if not any(p.node == n for p in current)]
    if missing:
        yield from _missing(nodes, flannel, missing, probes)
    failing: list[tuple[Pod, Cause]] = []
    for node in nodes.linux:
        here = [p for p in current if p.node == node and not p.metadata.deletion_timestamp]
        if here and not any(p.ready for p in here):
            failing.append((here[0], cause_of(nodes, flannel, logs, here[0])))
    for cause, pods in _alike(failing, logs):
        yield from _not_ready(nodes, flannel, cause, pods, logs)


def _wants_flannel(probes: ProbePods | None, node: str) -> bool:
    """Say whether a probe pod on a node waits for flannel's file: it has flannel's plugin."""
    failed = probes.failed(node) if probes else None
    return failed is not None and "subnet.env" in failed.reason


def _missing(
    nodes: Nodes, flannel: Flannel, names: list[str], probes: ProbePods | None
) -> Iterator[Finding]:
    """Say on which nodes there is no flannel pod."""
    sets = flannel.daemonsets
    failed = [p for p in map(probes.failed, names) if p] if probes else []
    proof = [p for p in failed if "subnet.env" in p.reason]
    events = [e for e in flannel.events if "subnet.env" in e.message][:3]
    wanted = sum(d.status.desired_number_scheduled for d in sets)
    title = (
        f"Flannel does not run on {and_list(names)}: its DaemonSet {and_list(d.key for d in sets)} "
        f"wants {wanted} pods for {len(nodes.networked)} Linux nodes, and new pods there get no network"
        + (" (loadFlannelSubnetEnv: /run/flannel/subnet.env is absent)" if proof else "")
    )
    for hop, after in node_hops(HopKind.FLANNEL, nodes, names):
        yield Finding(
            code=FLANNEL_NOT_ON_NODE,
            title=title,
            hop=hop,
            evidence=(
                *(f"api:daemonsets/{d.key}" for d in sets),
                *(f"api:nodes/{n}" for n in names),
                *(p.evidence for p in proof),
                *(f"api:events/{e.key}" for e in events),
            ),
            consequence_of=after,
            remediation=tuple(
                _reach(nodes, names, d.namespace, d.name, only=len(sets) == 1) for d in sets
            ),
            falsifier=f"A flannel pod is ready on {and_list(names)}",
        )


def _reach(
    nodes: Nodes, needed: list[str], namespace: str, name: str, *, only: bool
) -> Remediation:
    """Say how to let a DaemonSet reach every node again."""
    spec = "{.spec.template.spec"
    look = f"'{spec}.affinity}}{spec}.nodeSelector}}{spec}.tolerations}}'"
    patch = everywhere(nodes, needed)
    heal = (
        f"kubectl -n {namespace} patch daemonset {name} --type=json -p '{patch}'",
        f"kubectl -n {namespace} rollout status daemonset {name} --timeout=180s",
    )
    return Remediation(
        title=f"See what keeps {namespace}/{name} off the node, and let it run on every Linux node",
        commands=(
            f"kubectl -n {namespace} get daemonset {name} -o jsonpath={look}",
            *(heal if only else ()),
        ),
        risk=Risk.DISRUPTIVE if only else Risk.SAFE,
        verify=VERIFY,
    )


def _alike(found: list[tuple[Pod, Cause]], logs: Logs) -> list[tuple[Cause, list[Pod]]]:
    """Group pods by cause; of those whose words were not read, the first cause found is taken.

    Only few logs are read, and pods of one DaemonSet rarely fail for two reasons at once.
    """
    deeper = [c for _, c in found if c.code is not FLANNEL_NOT_READY]
    groups: dict[tuple[str, str], tuple[Cause, list[Pod]]] = {}
    for pod, own in found:
        silent = own.code is FLANNEL_NOT_READY and not logs.of(pod.key)
        cause = deeper[0] if silent and deeper else own
        shared = cause.code.name, "" if cause.code is FLANNEL_RBAC_DENIED else cause.why
        groups.setdefault(shared, (cause, []))[1].append(pod)
    return list(groups.values())


def _not_ready(
    nodes: Nodes, flannel: Flannel, cause: Cause, pods: list[Pod], logs: Logs
) -> Iterator[Finding]:
    """Say where flannel's pods are not ready for one reason."""
    names = [p.node for p in pods]
    read = [x.evidence for p in pods for x in logs.of(p.key)]
    wrong = {n for n in names if outside_network(nodes, flannel, n)}
    proxied = cause.code is FLANNEL_API_UNREACHABLE
    for hop, after in node_hops(HopKind.FLANNEL, nodes, names):
        yield Finding(
            code=cause.code,
            title=f"Flannel is not ready on {and_list(names)}: {cause.why} "
            f"({and_list(p.key for p in pods)})",
            hop=hop,
            evidence=tuple(
                dict.fromkeys((*(f"api:pods/{p.key}" for p in pods), *cause.evidence, *read))
            ),
            consequence_of=(
                *after,
                *((hop,) if wrong else ()),
                # flannel asks the API server at its Service, which kube-proxy leads to
                *((Hop(HopKind.KUBE_PROXY, n) for n in names) if proxied else ()),
            ),
            remediation=(mend(nodes, flannel, cause, pods),),
            falsifier=f"The flannel pods on {and_list(names)} are ready",
        )
