"""Whether pods reach the node that they run on: what they send it meets its INPUT chain."""

from collections.abc import Iterator

from checks.common import ids, written
from checks.overlay.codes import NODE_INPUT_DROPS_PODS
from checks.overlay.filters import remove
from checks.overlay.world import World, answered, is_lost
from doctor.contract import check
from doctor.model.evidence import Flannel, Mesh, NodeNetworks, Nodes, ServiceIpFlows
from doctor.model.filtering import Met, Packet, surely_dropped
from doctor.model.finding import Finding, Severity
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind

__all__ = ["own_node"]

_BRIDGE = "cni0"
_HOOKS = ("prerouting", "input")


@check(
    id="overlay.own-node",
    title="Pods reach the node that they run on",
    codes=(NODE_INPUT_DROPS_PODS,),
    essential=False,
)
def own_node(
    mesh: Mesh,
    networks: NodeNetworks,
    nodes: Nodes | None,
    flannel: Flannel | None,
    api: ServiceIpFlows | None,
) -> Iterator[Finding]:
    """Pods reach the node that they run on.

    What it looks at:
        TCP from a pod to the kubelet's port of its own node, and to the API server where that runs on
        the same node; the node's rules about what comes in from the bridge of its pods.

    Why it matters:
        What runs on a node's own network - the API server, a DNS cache, a metrics agent - is then out
        of reach for the pods beside it, and for no others.

    What proves it:
        The pod gets no answer from its own node, others get one from the same port, and a rule of the
        node drops what pods send to the node, whatever the port. Where only the kubelet's port is
        closed for pods, that is a precaution, and nothing is said.

    Look-alikes:
        A node that does not forward drops what pods send to others, and answers them itself. An API
        server that is down answers nobody.

    Remediation:
        Accept what the bridge of pods brings in before the rule, or remove the rule.

    Sources:
        Kubernetes documentation, "Cluster Networking" and "Ports and Protocols"; flannel-io/flannel
        issue 2116.
    """
    world = World(nodes or Nodes(), mesh, networks, flannel or Flannel())
    for seen in mesh.of(Purpose.OWN_NODE, vantage=VantageKind.POD):
        name = seen.flow.vantage.node
        if not is_lost(seen) or not _answers_others(world, name):
            continue
        rule = _rule(world, name, seen)
        lost = [o for o in (api.observations if api else ()) if is_lost(o) and _meets(o, name)]
        if rule and (lost or not (rule.rule and rule.rule.ports)):
            yield _drops(world, rule, [seen, *lost])


def _answers_others(world: World, name: str) -> bool:
    """Say whether another node got an answer from the same port."""
    return any(answered(o) for o in world.mesh.of(Purpose.UNDERLAY, subject=name))


def _meets(seen: Observation, name: str) -> bool:
    """Say whether a flow surely goes from a pod to its own node."""
    return any(h.kind is HopKind.HOST_INPUT and h.where == name for h in seen.certain)


def _rule(world: World, name: str, seen: Observation) -> Met | None:
    """Return what surely drops it on its way in."""
    read, own = world.networks.of(name), world.nodes.named(name)
    if read is None or not read.tools or not read.link(_BRIDGE):
        return None
    source = own.pod_cidr if own else ""
    packet = Packet("tcp", seen.flow.port, source, seen.flow.address, _BRIDGE)
    return surely_dropped(read.tables, _HOOKS, packet)


def _drops(world: World, rule: Met, lost: list[Observation]) -> Finding:
    """Say that a node drops what its own pods send it."""
    name = lost[0].flow.vantage.node
    api = len(lost) > 1
    what = "the API server there and the kubelet" if api else "what runs on its own network"
    return Finding(
        code=NODE_INPUT_DROPS_PODS,
        title=(
            f"Node {name} drops what its own pods send it, so they reach other nodes and not {what}: "
            f"{written(rule)}"
        ),
        hop=Hop(HopKind.HOST_INPUT, name),
        evidence=(
            *ids(lost),
            *ids(o for o in world.mesh.of(Purpose.UNDERLAY, subject=name) if answered(o)),
            f"node:{name}",
        ),
        severity=Severity.FAIL if api else Severity.WARN,
        remediation=(remove(world, name, rule),),
        falsifier=f"TCP {lost[0].flow.port} of {lost[0].flow.address} answers a pod on {name}",
    )
