"""What is broken between nodes: the underlay, what was read on a node, or a filter."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from checks.common import and_list, ids, security_group_rules, sharing
from checks.overlay.classes import Class, Pair, Pairs, classes
from checks.overlay.codes import (
    OVERLAY_HOST_FIREWALL,
    OVERLAY_PATH_BROKEN,
    OVERLAY_ROUTED_FILTERED,
    OVERLAY_UDP_FILTERED,
    UNDERLAY_UNREACHABLE,
    VERIFY,
)
from checks.overlay.counted import burst_fault, carried, one_way, reverse_path_fault
from checks.overlay.device import backend_fault, device_fault
from checks.overlay.firewall import firewall_fault
from checks.overlay.peers import address_fault, entry_fault, route_fault
from checks.overlay.world import Fault, World, carrier_known, control_flows, underlay_answers
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.node import NodeNetwork

__all__ = ["broken_between", "let_pass"]

_Look = Callable[[World, str, str], Fault | None]
_LOOKS: tuple[_Look, ...] = (
    backend_fault,
    device_fault,
    route_fault,
    address_fault,
    entry_fault,
    firewall_fault,
    burst_fault,
)
"""What is read at both ends of a broken path, what brings others about first."""


def broken_between(world: World, pairs: Pairs, broken: Pairs) -> Iterator[Finding]:
    """Say what is broken between nodes: the underlay, what was read on a node, or a filter."""
    down = [p for p in broken if underlay_answers(world, p) is False]
    read = {
        p: f
        for p in broken
        if (f := _at_ends(world, p, (reverse_path_fault,) if p in down else _LOOKS))
    }
    down = [p for p in down if p not in read]
    rest = [p for p in broken if p not in down and p not in read]
    known = [p for p in rest if underlay_answers(world, p) and carrier_known(world)]
    sure = [p for p in known if not carried(world, p)]
    routed = not world.mesh.overlay
    code = OVERLAY_ROUTED_FILTERED if routed else OVERLAY_UDP_FILTERED
    yield from _read_on_nodes(world, read, pairs, broken)
    directed = one_way(world, sure)
    for group in directed:
        yield _one_direction(world, group, broken)
    sure = [p for p in sure if not any(p in g.pairs for g in directed)]
    rest = [p for p in rest if p not in known or carried(world, p)]
    for what, chosen in (
        (UNDERLAY_UNREACHABLE, down),
        (code, sure),
        (OVERLAY_PATH_BROKEN, rest),
    ):
        for group in classes(len(world.nodes.linux), chosen, list(pairs)):
            yield _in_between(world, what, group, broken)


def _in_between(world: World, code: Code, group: Class, broken: Pairs) -> Finding:
    """Say what a class of hops between nodes loses."""
    flows = ids(o for p in group.pairs for o in broken[p])
    port = world.mesh.overlay.replace("/", " ").upper() or "everything with a pod's address"
    titles = {
        UNDERLAY_UNREACHABLE: f"Nothing passes between {group.words}: neither pods nor TCP 10250 "
        "of the nodes' own addresses answer",
        OVERLAY_UDP_FILTERED: f"{port} is dropped between {group.words}",
        OVERLAY_ROUTED_FILTERED: f"Packets with pod addresses are dropped between {group.words}, "
        "though the nodes' own addresses answer",
        OVERLAY_PATH_BROKEN: f"Pods do not reach each other between {group.words}",
    }
    read = [r for n in {n for p in group.pairs for n in p} if (r := world.networks.of(n))]
    sure = len(read) == len({n for p in group.pairs for n in p}) and all(
        _compared(world, r) for r in read
    )
    underlay = code is UNDERLAY_UNREACHABLE
    whole = group.where == "*>*" and len(group.pairs) > 1
    kind = HopKind.NODE if underlay else HopKind.FLANNEL
    scope = ((ANY,) if not read and not underlay else ()) if whole else group.nodes
    controls = ids(control_flows(world, group.pairs))
    return Finding(
        code=code,
        title=titles[code],
        hop=Hop(HopKind.UNDERLAY, group.where, "" if underlay else world.mesh.overlay),
        evidence=flows
        + controls
        + _counted(world, group.pairs)
        + tuple(sorted(r.evidence for r in read)),
        confidence=Confidence.CERTAIN
        if underlay or (sure and code is not OVERLAY_PATH_BROKEN)
        else Confidence.LIKELY,
        flows=flows,
        consequence_of=() if sure and not underlay else tuple(Hop(kind, n) for n in scope),
        remediation=let_pass(world, code, group),
        falsifier=f"A pod reaches a pod on another node between {group.words}",
    )


def _compared(world: World, read: NodeNetwork) -> bool:
    """Say whether what was set up on a node, and for it, could be compared with what it should be."""
    node = world.nodes.named(read.node)
    entries = not world.mesh.overlay or (read.neighbours is not None and read.fdb is not None)
    return bool(node and node.pod_cidr and read.tools and read.links and read.routes and entries)


def _one_direction(world: World, group: Class, broken: Pairs) -> Finding:
    """Say that one way is lost and the way back is not."""
    made = _in_between(world, OVERLAY_UDP_FILTERED, group, broken)
    receivers = group.where.partition(">")[2].replace("*", "").split(",")
    port = world.mesh.overlay.replace("/", " ").upper()
    return msgspec.structs.replace(
        made,
        title=f"{port} is dropped {group.words}, and passes the other way",
        # what a security group does not admit is dropped where it would arrive
        remediation=let_pass(world, OVERLAY_UDP_FILTERED, group, receivers[0]),
        falsifier=f"A pod reaches a pod on another node {group.words}",
    )


def _counted(world: World, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """List the evidence of the bursts between some nodes."""
    ways = [w for p in pairs for w in (p, p[::-1])]
    return tuple(e for w in ways if (b := world.counters.way(*w)) for e in b.evidence[:1])


def let_pass(world: World, code: Code, group: Class, first: str = "") -> tuple[Remediation, ...]:
    """Say how to let the traffic of a class of hops pass, best where it arrives."""
    ends = sorted({n for p in group.pairs for n in p})
    nodes = [n for n in world.nodes.items if n.name in ends and n.address]
    nodes.sort(key=lambda n: n.name != first)
    port = "openstack port list --fixed-ip ip-address={} -f value -c ID"
    if code is OVERLAY_UDP_FILTERED:
        protocol, _, number = world.mesh.overlay.partition("/")
        title = f"Allow {protocol.upper()} {number} among the nodes in their security group"
        rule = f"--protocol {protocol} --dst-port {number} --remote-group {{group}}"
        commands = [c for n in nodes[:1] for c in security_group_rules(n.address, rule)]
    elif code is OVERLAY_ROUTED_FILTERED:
        title = "Allow each node's pod network as an allowed address pair of its port"
        commands = [
            f"openstack port set --allowed-address ip-address={n.pod_cidr} "
            f'"$({port.format(n.address)})"'
            for n in nodes
            if n.pod_cidr
        ]
    else:
        title = "See how far packets get between the nodes, and whether the link is up"
        commands = [
            f"ssh {a} ping -c 3 {n.address}" for a in ends[:1] for n in nodes if n.name != a
        ]
        commands.append(f"kubectl get nodes -o wide {' '.join(ends)}")
    return (Remediation(title, tuple(commands), Risk.SAFE, VERIFY),)


def _at_ends(world: World, pair: Pair, looks: Iterable[_Look]) -> list[tuple[str, Fault]]:
    """Return the first kind of fault that was read on either node of a pair."""
    for read in looks:
        found = [(a, read(world, a, b)) for a, b in (pair, pair[::-1])]
        faults = [(n, f) for n, f in found if f]
        if faults:
            return faults
    return []


def _read_on_nodes(
    world: World, read: dict[Pair, list[tuple[str, Fault]]], pairs: Pairs, broken: Pairs
) -> Iterator[Finding]:
    """Say what was read on nodes that breaks these pairs, once per node or once for all."""
    for code in dict.fromkeys(f[0][1].code for f in read.values()):
        mine: dict[Pair, dict[str, Fault]] = {
            p: dict(f) for p, f in read.items() if f[0][1].code is code
        }
        guilty = sorted({n for f in mine.values() for n in f})
        if len(guilty) > 1 and set(guilty) == {n for p in mine for n in p}:
            where = "*>*" if set(mine) == set(broken) == set(pairs) else ""
            if where:
                yield _stated(world, where, guilty, mine, broken)
                continue
        if len(guilty) > 1 and (to := _shared_target(mine)):
            yield _stated(world, f"{','.join(guilty)}>{to}", guilty, mine, broken)
            continue
        while mine:
            name = max(guilty, key=lambda n: sum(n in f for f in mine.values()))
            own = {p: f for p, f in mine.items() if name in f}
            whole = all(p in broken for p in pairs if name in p)
            where = _where(name, own, whole=whole)
            yield _stated(world, where, [name], own, broken)
            mine = {p: f for p, f in mine.items() if p not in own}


def _shared_target(faults: dict[Pair, dict[str, Fault]]) -> str:
    """Name the one node that all of these faults keep others from; empty where they are several."""
    targets = {f.to for found in faults.values() for f in found.values()}
    return targets.pop() if len(targets) == 1 else ""


def _where(name: str, own: dict[Pair, dict[str, Fault]], *, whole: bool) -> str:
    """Name the hops that faults of one node break: what it sends, or all between it and others."""
    others = sorted({n for p in own for n in p if n != name})
    if all(f[name].to for f in own.values()):
        return f"{name}>*" if whole and len(others) > 1 else f"{name}>{','.join(others)}"
    return f"*>{name}" if whole or len(own) > 1 else f"{others[0]}>{name}"


def _stated(
    world: World,
    where: str,
    guilty: list[str],
    faults: dict[Pair, dict[str, Fault]],
    broken: Pairs,
) -> Finding:
    """Say what was read on a node, or on each, that breaks pod traffic."""
    each = list({(n, f[n].text): f[n] for f in faults.values() for n in guilty if n in f}.values())
    first = each[0]
    return Finding(
        code=first.code,
        title="; ".join(dict.fromkeys(f.text for f in each[:4])),
        hop=Hop(HopKind.UNDERLAY, where, "" if _all_is_lost(world, faults) else world.mesh.overlay),
        evidence=tuple(
            dict.fromkeys(
                (*(e for f in each for e in f.evidence), *ids(o for p in faults for o in broken[p]))
            )
        ),
        confidence=first.confidence,
        consequence_of=()
        if first.code is OVERLAY_HOST_FIREWALL
        else (
            *(Hop(HopKind.FLANNEL, n) for n in guilty),
            *sharing(world.nodes, sorted({n for p in faults for n in p})),
        ),
        remediation=tuple(dict.fromkeys(f.remediation for f in each)),
        falsifier=f"Pods on {and_list(guilty)} answer pods on other nodes with this left as it is",
    )


def _all_is_lost(world: World, pairs: Iterable[Pair]) -> bool:
    """Say whether not even the nodes' own addresses answer each other."""
    return all(underlay_answers(world, p) is False for p in pairs)
