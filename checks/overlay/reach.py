"""Checks of the way between pods: pod network, forwarding, and what carries it between nodes."""

from collections.abc import Iterable, Iterator

import msgspec

from checks.common import drops_all, ids
from checks.overlay.between import broken_between, let_pass
from checks.overlay.classes import PAIR, Class, Pair, Pairs
from checks.overlay.codes import (
    OVERLAY_BACKEND_MISMATCH,
    OVERLAY_DEVICE_BROKEN,
    OVERLAY_FDB_WRONG,
    OVERLAY_FORWARD_DROPPED,
    OVERLAY_FORWARD_REJECTED,
    OVERLAY_HOST_FIREWALL,
    OVERLAY_IP_FORWARD_OFF,
    OVERLAY_NEIGHBOUR_WRONG,
    OVERLAY_NOT_DECAPSULATED,
    OVERLAY_PATH_BROKEN,
    OVERLAY_PORT_IN_USE,
    OVERLAY_PORT_MISMATCH,
    OVERLAY_PUBLIC_IP_STALE,
    OVERLAY_PUBLIC_IP_WRONG,
    OVERLAY_ROUTE_MISSING,
    OVERLAY_ROUTE_SHADOWED,
    OVERLAY_ROUTED_FILTERED,
    OVERLAY_RP_FILTER_DROPS,
    OVERLAY_UDP_CHECKSUM_BROKEN,
    OVERLAY_UDP_FILTERED,
    OVERLAY_VNI_MISMATCH,
    OVERLAY_VTEP_MAC_CHANGED,
    POD_NETWORK_BROKEN,
    UNDERLAY_UNREACHABLE,
    VERIFY,
)
from checks.overlay.forwarding import forwarding_findings, forwards, not_forwarding, unexplained
from checks.overlay.unreachable import unreachable_nodes
from checks.overlay.world import World, all_lost, answered, any_answer, is_lost, starts_on
from doctor.contract import check
from doctor.model.evidence import Counters, Flannel, Mesh, NodeNetworks, Nodes
from doctor.model.finding import Confidence, Finding, Remediation, Risk
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind

__all__ = ["pod_to_pod"]


DNS = 53
DROPPED = "all"
"""What a rule that drops everything is known to drop: no fault of a port or a tunnel is meant."""


@check(
    id="overlay.pod-to-pod",
    title="Pods reach pods on every node",
    codes=(
        UNDERLAY_UNREACHABLE,
        OVERLAY_BACKEND_MISMATCH,
        OVERLAY_PORT_IN_USE,
        OVERLAY_PORT_MISMATCH,
        OVERLAY_VNI_MISMATCH,
        OVERLAY_VTEP_MAC_CHANGED,
        OVERLAY_ROUTE_SHADOWED,
        OVERLAY_NEIGHBOUR_WRONG,
        OVERLAY_FDB_WRONG,
        OVERLAY_FORWARD_REJECTED,
        OVERLAY_NOT_DECAPSULATED,
        OVERLAY_UDP_CHECKSUM_BROKEN,
        OVERLAY_RP_FILTER_DROPS,
        OVERLAY_ROUTE_MISSING,
        OVERLAY_PUBLIC_IP_STALE,
        OVERLAY_PUBLIC_IP_WRONG,
        OVERLAY_DEVICE_BROKEN,
        OVERLAY_HOST_FIREWALL,
        OVERLAY_UDP_FILTERED,
        OVERLAY_ROUTED_FILTERED,
        OVERLAY_IP_FORWARD_OFF,
        OVERLAY_FORWARD_DROPPED,
        POD_NETWORK_BROKEN,
        OVERLAY_PATH_BROKEN,
    ),
)
def pod_to_pod(
    nodes: Nodes,
    mesh: Mesh,
    networks: NodeNetworks | None,
    flannel: Flannel | None,
    counters: Counters | None,
) -> Iterator[Finding]:
    """Pods reach pods on every node.

    What it looks at:
        TCP from pods and from nodes to pods of other nodes, TCP between the nodes' own addresses
        as a control; the nodes' routes, interfaces, entries for each other and filter rules; and
        where pods give no answer, what both nodes count while one sends the other a burst.

    Why it matters:
        CoreDNS, webhooks and every Service with an endpoint on another node depend on it.

    What proves it:
        All flows between two nodes stay without an answer in both directions while the nodes'
        own addresses answer. A single answer exonerates what carries the two nodes' pod traffic.
        Nothing reaches a node where neither its kubelet's port nor a ping is answered from any other.
        Flows from the node itself pass no FORWARD chain of that node: they tell the two apart.
        Counters tell whether a burst leaves, arrives, is dropped by a rule, or is taken out of
        its wrapping, and which way it is lost.

    Look-alikes:
        A pod that hangs: it does not answer on its own node either. A broken underlay: the nodes
        do not reach each other at all. A dropped port 53: other ports pass. A kubelet that is
        down refuses, and forwards all the same.

    Remediation:
        Open the port in the security group or firewall, allow the pod addresses on the ports,
        restore route, device or forwarding on the node that is named.

    Sources:
        Flannel documentation, "Backends" and "Troubleshooting"; OpenStack documentation, "Security
        groups" and "Allowed address pairs"; Kubernetes documentation, "Cluster Networking".
    """
    if len(nodes.linux) < PAIR:
        return
    world = World(
        nodes, mesh, networks or NodeNetworks(), flannel or Flannel(), counters or Counters()
    )
    shut = [r.node for r in world.networks.items if drops_all(r)]
    yield from (_after(f, shut) for f in _broken(world))


def _after(finding: Finding, shut: Iterable[str]) -> Finding:
    """Have what is broken at a node come of the rule there that drops everything."""
    ends = finding.hop.where.replace(">", ",").split(",")
    hops = tuple(Hop(HopKind.UNDERLAY, f"{ANY}>{n}", DROPPED) for n in shut if n in ends)
    return msgspec.structs.replace(finding, consequence_of=(*finding.consequence_of, *hops))


def _broken(world: World) -> Iterator[Finding]:
    """Say what is broken between pods."""
    mesh = world.mesh
    dead = _dead_pod_networks(mesh)
    for name, lost in dead.items():
        yield _pod_network(name, lost, on_node=True)
    cross = _cross(world, dead)
    forward = not_forwarding(world, cross)
    yield from forwarding_findings(world, forward)
    for name, lost in _isolated(mesh, cross, set(dead) | set(forward)).items():
        yield _pod_network(name, lost, on_node=False)
    pairs = _pairs(cross)
    yield from unreachable_nodes(world, {*dead, *(n for p in pairs for n in p)})
    broken = {p: unexplained(f, forward) for p, f in pairs.items() if not any_answer(f)}
    broken = {p: f for p, f in broken.items() if f}
    yield from broken_between(world, pairs, broken)
    yield from _one_way(world, cross, set(broken), set(forward))


def _local(mesh: Mesh, name: str, kind: VantageKind | None = None) -> list[Observation]:
    """Select the flows that stay on one node."""
    return [o for o in mesh.of(Purpose.MESH, vantage=kind, subject=name) if starts_on(o) == name]


def _dead_pod_networks(mesh: Mesh) -> dict[str, list[Observation]]:
    """Find nodes that do not even reach their own pods, nor does anyone else."""
    names = sorted({starts_on(o) for o in mesh.of(Purpose.MESH, vantage=VantageKind.NODE)})
    return {
        n: _local(mesh, n)
        for n in names
        if all_lost(_local(mesh, n))
        and _local(mesh, n, VantageKind.NODE)
        and not any_answer(mesh.of(Purpose.MESH, subject=n))
        and not any_answer(
            o for o in mesh.of(Purpose.MESH, vantage=VantageKind.POD) if starts_on(o) == n
        )
    }


def _isolated(
    mesh: Mesh, cross: list[Observation], blamed: set[str]
) -> dict[str, list[Observation]]:
    """Find nodes whose pods do not reach each other, forwarding aside."""
    found: dict[str, list[Observation]] = {}
    for name in sorted({starts_on(o) for o in mesh.of(Purpose.MESH)} - blamed):
        here = _local(mesh, name, VantageKind.POD)
        out = [o for o in cross if starts_on(o) == name and o.flow.vantage.kind is VantageKind.POD]
        control = any_answer(_local(mesh, name, VantageKind.NODE))
        if all_lost(here) and control and (len(here) > 1 or all_lost(out)):
            found[name] = here
    return found


def _cross(world: World, dead: Iterable[str]) -> list[Observation]:
    """Select the flows between nodes towards pods that are not known to hang."""
    routed, gone = not world.mesh.overlay, set(dead)
    flows = world.mesh.of(Purpose.MESH)
    alive = {o.flow.address for o in flows if answered(o)}
    hang = {o.flow.address for o in flows if starts_on(o) == o.flow.subject and is_lost(o)} - alive
    return [
        o
        for o in flows
        if starts_on(o) != o.flow.subject
        and o.flow.vantage.kind is not VantageKind.MACHINE
        # what is lost where pings are lost, too, is no filter's work
        and (answered(o) or (is_lost(o) and not world.mesh.loses(starts_on(o), o.flow.subject)))
        and o.flow.address not in hang
        and o.flow.subject not in gone
        and not (o.flow.vantage.kind is VantageKind.POD and starts_on(o) in gone)
        and not (routed and o.flow.port == DNS)  # a filter on that port is for the check of DNS
    ]


def _pairs(cross: list[Observation]) -> Pairs:
    """Sort flows by the two nodes that they run between, whichever the direction."""
    pairs: Pairs = {}
    for seen in cross:
        a, b = sorted((starts_on(seen), seen.flow.subject))
        pairs.setdefault((a, b), []).append(seen)
    return pairs


def _pod_network(name: str, flows: list[Observation], *, on_node: bool) -> Finding:
    """Say that pods of a node are out of reach on the node itself."""
    who = "the node itself" if on_node else "other pods there"
    return Finding(
        code=POD_NETWORK_BROKEN,
        title=f"Pods on {name} are out of reach even for {who}: cni0 or the pods' links are broken",
        hop=Hop(HopKind.POD_NETWORK, name),
        evidence=ids(flows),
        confidence=Confidence.CERTAIN if len(flows) > 1 else Confidence.LIKELY,
        # what was read of the bridge and of pods' links says more than that they do not work
        consequence_of=tuple(
            Hop(kind, name) for kind in (HopKind.POD_NETWORK, HopKind.FLANNEL, HopKind.NODE)
        ),
        remediation=(
            Remediation(
                title=f"Look at the bridge of {name}, bring it up, and recreate the node's pods",
                commands=(
                    f"ssh {name} ip -d address show cni0",
                    f"ssh {name} bridge link show",
                    f"ssh {name} sudo ip link set cni0 up",
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"A pod on {name} answers on {name}",
    )


def _one_way(
    world: World, cross: list[Observation], broken: set[Pair], forward: set[str]
) -> Iterator[Finding]:
    """Say which ways fail although the same two nodes' pods answer otherwise."""
    alive = {o.flow.address for o in cross if answered(o)}
    ways: dict[tuple[str, str], list[Observation]] = {}
    for seen in cross:
        a, b = starts_on(seen), seen.flow.subject
        if (min(a, b), max(a, b)) not in broken and not any(forwards(seen, n) for n in forward):
            ways.setdefault((a, b), []).append(seen)
    for (a, b), flows in sorted(ways.items()):
        lost = [o for o in flows if o.flow.address in alive]
        if len(lost) > 1 and all_lost(flows):
            yield Finding(
                code=OVERLAY_PATH_BROKEN,
                title=f"Pods on {b} do not answer from {a}, though they answer others and the way "
                f"from {b} to {a} works",
                hop=Hop(HopKind.UNDERLAY, f"{a}>{b}", world.mesh.overlay),
                evidence=ids(flows),
                confidence=Confidence.LIKELY,
                flows=ids(flows),
                remediation=let_pass(
                    world, OVERLAY_PATH_BROKEN, Class("", "", [(min(a, b), max(a, b))], (a, b))
                ),
                falsifier=f"A pod on {b} answers from {a}",
            )
