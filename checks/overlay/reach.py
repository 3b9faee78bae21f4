"""Checks of the way between pods: pod network, forwarding, and what carries it between nodes."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import NamedTuple

from checks.common import and_list, ids, security_group
from checks.overlay.classes import PAIR, Class, Pair, Pairs, classes
from doctor.contract import check
from doctor.model.evidence import Flannel, Mesh, NodeNetworks, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.link import Link
from doctor.model.node import FilterRule

__all__ = [
    "OVERLAY_DEVICE_BROKEN",
    "OVERLAY_FORWARD_DROPPED",
    "OVERLAY_HOST_FIREWALL",
    "OVERLAY_IP_FORWARD_OFF",
    "OVERLAY_PATH_BROKEN",
    "OVERLAY_PUBLIC_IP_WRONG",
    "OVERLAY_ROUTED_FILTERED",
    "OVERLAY_ROUTE_MISSING",
    "OVERLAY_UDP_FILTERED",
    "POD_NETWORK_BROKEN",
    "UNDERLAY_UNREACHABLE",
    "VERIFY",
    "pod_to_pod",
]


def _code(name: str, meaning: str) -> Code:
    """Make a code of this link."""
    return Code(name, Link.OVERLAY, meaning)


UNDERLAY_UNREACHABLE = _code(
    "UNDERLAY_UNREACHABLE", "Nodes do not reach each other's own addresses either."
)
OVERLAY_UDP_FILTERED = _code(
    "OVERLAY_UDP_FILTERED",
    "VXLAN's UDP port is dropped between nodes that reach each other otherwise.",
)
OVERLAY_HOST_FIREWALL = _code(
    "OVERLAY_HOST_FIREWALL", "A firewall rule on a node drops VXLAN's UDP port."
)
OVERLAY_DEVICE_BROKEN = _code(
    "OVERLAY_DEVICE_BROKEN", "A node's VXLAN device is missing, down or set up differently."
)
OVERLAY_PUBLIC_IP_WRONG = _code(
    "OVERLAY_PUBLIC_IP_WRONG", "Flannel told the other nodes an address at which a node is not."
)
OVERLAY_ROUTE_MISSING = _code(
    "OVERLAY_ROUTE_MISSING", "A node has no route to another node's pod network."
)
OVERLAY_ROUTED_FILTERED = _code(
    "OVERLAY_ROUTED_FILTERED",
    "Packets with pod addresses are dropped between nodes that reach each other otherwise.",
)
OVERLAY_FORWARD_DROPPED = _code(
    "OVERLAY_FORWARD_DROPPED", "A node drops what it should forward for its pods."
)
OVERLAY_IP_FORWARD_OFF = _code(
    "OVERLAY_IP_FORWARD_OFF", "A node does not forward packets: net.ipv4.ip_forward is 0."
)
OVERLAY_PATH_BROKEN = _code(
    "OVERLAY_PATH_BROKEN", "Pods of two nodes do not reach each other; where it ends is not clear."
)
POD_NETWORK_BROKEN = _code(
    "POD_NETWORK_BROKEN", "Pods of a node are out of reach on that node itself."
)

VERIFY = "wwwm-doctor check overlay"
DNS = 53
PUBLIC_IP = "flannel.alpha.coreos.com/public-ip"
BACKEND_DATA = "flannel.alpha.coreos.com/backend-data"


class _World(NamedTuple):
    """All that is judged here."""

    nodes: Nodes
    mesh: Mesh
    networks: NodeNetworks
    flannel: Flannel


class _Fault(NamedTuple):
    """What was read on one node that breaks pod traffic to and from it."""

    code: Code
    text: str
    evidence: tuple[str, ...]
    remediation: Remediation
    confidence: Confidence = Confidence.CERTAIN


@check(
    id="overlay.pod-to-pod",
    title="Pods reach pods on every node",
    codes=(
        UNDERLAY_UNREACHABLE,
        OVERLAY_ROUTE_MISSING,
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
    nodes: Nodes, mesh: Mesh, networks: NodeNetworks | None, flannel: Flannel | None
) -> Iterator[Finding]:
    """Pods reach pods on every node.

    What it looks at:
        TCP from pods and from nodes to pods of other nodes, TCP between the nodes' own addresses
        as a control, and the nodes' routes, interfaces and filter rules.

    Why it matters:
        CoreDNS, webhooks and every Service with an endpoint on another node depend on it.

    What proves it:
        All flows between two nodes stay without an answer in both directions while the nodes'
        own addresses answer. A single answer exonerates what carries the two nodes' pod traffic.
        Flows from the node itself pass no FORWARD chain of that node: they tell the two apart.

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
    world = _World(nodes, mesh, networks or NodeNetworks(), flannel or Flannel())
    dead = _dead_pod_networks(mesh)
    for name, lost in dead.items():
        yield _pod_network(name, lost, on_node=True)
    cross = _cross(world, dead)
    forward = _forward(world, cross)
    yield from _forwarding(world, forward)
    for name, lost in _isolated(mesh, cross, set(dead) | set(forward)).items():
        yield _pod_network(name, lost, on_node=False)
    pairs = _pairs(cross)
    broken = {p: _unexplained(f, forward) for p, f in pairs.items() if not _any_answer(f)}
    broken = {p: f for p, f in broken.items() if f}
    yield from _between(world, pairs, broken)
    yield from _one_way(world, cross, set(broken), set(forward))


def _answered(seen: Observation) -> bool:
    """Say whether anything came back: a refusal crosses the network as well as an answer."""
    return seen.ok or seen.failure in {Failure.CONNECTION_REFUSED, Failure.CONNECTION_RESET}


def _lost(seen: Observation) -> bool:
    """Say whether nothing came back."""
    return seen.failure is not None and seen.failure.unanswered


def _any_answer(flows: Iterable[Observation]) -> bool:
    """Say whether one of the flows was answered."""
    return any(_answered(o) for o in flows)


def _all_lost(flows: list[Observation]) -> bool:
    """Say whether there are flows, and none of them was answered."""
    return bool(flows) and all(_lost(o) for o in flows)


def _local(mesh: Mesh, name: str, kind: VantageKind | None = None) -> list[Observation]:
    """Select the flows that stay on one node."""
    return [o for o in mesh.of(Purpose.MESH, vantage=kind, subject=name) if _from(o) == name]


def _from(seen: Observation) -> str:
    """Name the node that a flow starts on."""
    return seen.flow.vantage.node


def _dead_pod_networks(mesh: Mesh) -> dict[str, list[Observation]]:
    """Find nodes that do not even reach their own pods, nor does anyone else."""
    names = sorted({_from(o) for o in mesh.of(Purpose.MESH, vantage=VantageKind.NODE)})
    return {
        n: _local(mesh, n)
        for n in names
        if _all_lost(_local(mesh, n))
        and _local(mesh, n, VantageKind.NODE)
        and not _any_answer(mesh.of(Purpose.MESH, subject=n))
        and not _any_answer(
            o for o in mesh.of(Purpose.MESH, vantage=VantageKind.POD) if _from(o) == n
        )
    }


def _isolated(
    mesh: Mesh, cross: list[Observation], blamed: set[str]
) -> dict[str, list[Observation]]:
    """Find nodes whose pods do not reach each other, forwarding aside."""
    found: dict[str, list[Observation]] = {}
    for name in sorted({_from(o) for o in mesh.of(Purpose.MESH)} - blamed):
        here = _local(mesh, name, VantageKind.POD)
        out = [o for o in cross if _from(o) == name and o.flow.vantage.kind is VantageKind.POD]
        control = _any_answer(_local(mesh, name, VantageKind.NODE))
        if _all_lost(here) and control and (len(here) > 1 or _all_lost(out)):
            found[name] = here
    return found


def _cross(world: _World, dead: Iterable[str]) -> list[Observation]:
    """Select the flows between nodes towards pods that are not known to hang."""
    routed, gone = not world.mesh.overlay, set(dead)
    flows = world.mesh.of(Purpose.MESH)
    alive = {o.flow.address for o in flows if _answered(o)}
    hang = {o.flow.address for o in flows if _from(o) == o.flow.subject and _lost(o)} - alive
    return [
        o
        for o in flows
        if _from(o) != o.flow.subject
        and o.flow.vantage.kind is not VantageKind.MACHINE
        # what is lost where pings are lost, too, is no filter's work
        and (_answered(o) or (_lost(o) and not world.mesh.loses(_from(o), o.flow.subject)))
        and o.flow.address not in hang
        and o.flow.subject not in gone
        and not (o.flow.vantage.kind is VantageKind.POD and _from(o) in gone)
        and not (routed and o.flow.port == DNS)  # a filter on that port is for the check of DNS
    ]


def _pairs(cross: list[Observation]) -> Pairs:
    """Sort flows by the two nodes that they run between, whichever the direction."""
    pairs: Pairs = {}
    for seen in cross:
        a, b = sorted((_from(seen), seen.flow.subject))
        pairs.setdefault((a, b), []).append(seen)
    return pairs


def _forwards(seen: Observation, name: str) -> bool:
    """Say whether a flow passes the FORWARD chain of a node."""
    outgoing = seen.flow.vantage.kind is VantageKind.POD and _from(seen) == name
    return outgoing or seen.flow.subject == name


def _unexplained(flows: list[Observation], forward: Iterable[str]) -> list[Observation]:
    """Leave out the flows that pass a node which does not forward; none left: all explained."""
    left = [o for o in flows if not any(_forwards(o, n) for n in forward)]
    return flows if left else []


def _networks(world: _World) -> list[str]:
    """List the networks that pods and nodes have addresses in."""
    found = [n.spec.pod_cidr or "" for n in world.nodes.items]
    return [n for n in [*found, *(n.address for n in world.nodes.items)] if n]


def _forward_rule(world: _World, name: str, flows: list[Observation]) -> FilterRule | None:
    """Return the rule of a node's FORWARD chain that fits how all these flows failed."""
    rules = {
        world.networks.dropping(name, "FORWARD", o.flow.protocol, _networks(world)) for o in flows
    }
    rule = rules.pop() if len(rules) == 1 else None
    failures = {o.failure for o in flows}
    told = not failures.isdisjoint({Failure.NO_ROUTE, Failure.HOST_PROHIBITED})
    rejected = told or Failure.NETWORK_UNREACHABLE in failures
    if rule and (rejected if rule.action == "REJECT" else not told):
        return rule
    read = world.networks.of(name)
    policies = (r for r in (read.drops if read else ()) if r.text.startswith("-P FORWARD"))
    return None if told else next(policies, None)


def _forward(world: _World, cross: list[Observation]) -> dict[str, list[Observation]]:
    """Find the nodes that do not forward for their pods, with the flows that show it."""
    names = sorted({n for o in cross for n in (_from(o), o.flow.subject)})
    through = {n: [o for o in cross if _forwards(o, n)] for n in names}
    lost = {n: f for n, f in through.items() if _all_lost(f)}
    stated = [n for n, f in lost.items() if _states(world, n, f)]
    found: dict[str, list[Observation]] = {}
    for name, flows in lost.items():
        near = [o for o in cross if name in (_from(o), o.flow.subject)]
        leaves = any(o.flow.vantage.kind is VantageKind.POD and _from(o) == name for o in flows)
        told = name in stated and not _unexplained_any(near, stated)
        if (_any_answer(near) and (leaves or name in stated)) or told:
            found[name] = flows
    return found


def _unexplained_any(flows: list[Observation], forward: list[str]) -> bool:
    """Say whether a lost flow passes none of the nodes that do not forward."""
    return any(_lost(o) and not any(_forwards(o, n) for n in forward) for o in flows)


def _states(world: _World, name: str, flows: list[Observation]) -> bool:
    """Say whether what was read on a node shows that it does not forward."""
    read, rule = world.networks.of(name), _forward_rule(world, name, flows)
    off = read is not None and read.ip_forward is False
    return off or (rule is not None and not rule.text.startswith("-P"))


def _remove(world: _World, name: str, rule: FilterRule) -> Remediation:
    """Say how to take a rule out of a node's filter."""
    enter = world.flannel.enter(name)
    if rule.text.startswith("-A "):
        commands: tuple[str, ...] = (f"{enter} iptables -D{rule.text[2:]}",)
    elif rule.text.startswith("-P "):
        commands = (f"{enter} iptables -P {rule.chain} ACCEPT",)
    else:
        commands = (f"{enter} iptables -S {rule.chain}",)
    return Remediation(
        title=f"Remove the rule on {name}, and from whatever would write it again",
        commands=commands,
        risk=Risk.SAFE,
        verify=VERIFY,
    )


def _forwarding(world: _World, forward: dict[str, list[Observation]]) -> Iterator[Finding]:
    """Say which nodes do not forward: each for itself, or all at once."""
    faults = {n: _forward_fault(world, n, f) for n, f in forward.items()}
    codes = {f.code.name for f in faults.values()}
    every = len(codes) == 1 and len(faults) > 1 and set(faults) == set(world.nodes.linux)
    for group in [list(faults)] if every else [[n] for n in faults]:
        flows = [o for n in group for o in forward[n]]
        first = faults[group[0]]
        likewise = f" (likewise on {and_list(group[1:])})" if every else ""
        certain = all(faults[n].confidence is Confidence.CERTAIN for n in group)
        yield Finding(
            code=first.code,
            title=first.text + likewise,
            hop=Hop(HopKind.FORWARD, ANY if every else group[0]),
            evidence=(*dict.fromkeys(ids(flows)), *(e for n in group for e in faults[n].evidence)),
            confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
            flows=() if certain else tuple(dict.fromkeys(ids(flows))),
            remediation=tuple(faults[n].remediation for n in group),
            falsifier=f"A pod on {and_list(group)} reaches a pod on another node",
        )


def _forward_fault(world: _World, name: str, flows: list[Observation]) -> _Fault:
    """Say why a node does not forward, as far as it was read."""
    read, rule = world.networks.of(name), _forward_rule(world, name, flows)
    evidence = (read.evidence,) if read else ()
    if read and read.ip_forward is False:
        on = "net.ipv4.ip_forward=1"
        commands = (
            f"ssh {name} sudo sysctl -w {on}",
            f'ssh {name} "echo {on} | sudo tee /etc/sysctl.d/99-kubernetes.conf"',
        )
        return _Fault(
            OVERLAY_IP_FORWARD_OFF,
            f"Node {name} does not forward pod traffic: net.ipv4.ip_forward is 0",
            evidence,
            Remediation(f"Let {name} forward", commands, Risk.SAFE, VERIFY),
        )
    if rule:
        return _Fault(
            OVERLAY_FORWARD_DROPPED,
            f"Node {name} drops pod traffic in its FORWARD chain: {rule.text}",
            evidence,
            _remove(world, name, rule),
        )
    look = (f"{world.flannel.enter(name)} iptables -v -n -L FORWARD",)
    return _Fault(
        OVERLAY_FORWARD_DROPPED,
        f"Node {name} drops what it should forward for its pods: from the node itself to pods "
        "passes",
        evidence,
        Remediation(f"See which rule of {name} drops", look, Risk.SAFE, VERIFY),
        Confidence.LIKELY,
    )


def _pod_network(name: str, flows: list[Observation], *, on_node: bool) -> Finding:
    """Say that pods of a node are out of reach on the node itself."""
    who = "the node itself" if on_node else "other pods there"
    return Finding(
        code=POD_NETWORK_BROKEN,
        title=f"Pods on {name} are out of reach even for {who}: cni0 or the pods' links are broken",
        hop=Hop(HopKind.POD_NETWORK, name),
        evidence=ids(flows),
        confidence=Confidence.CERTAIN if len(flows) > 1 else Confidence.LIKELY,
        consequence_of=(Hop(HopKind.FLANNEL, name), Hop(HopKind.NODE, name)),
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


def _underlay(world: _World, pair: Pair) -> bool | None:
    """Say whether two nodes reach each other's own addresses; None where it was not seen."""
    flows = _controls(world, [pair])
    if _any_answer(flows):
        return True
    return False if any(_lost(o) for o in flows) else None


def _between(world: _World, pairs: Pairs, broken: Pairs) -> Iterator[Finding]:
    """Say what is broken between nodes: the underlay, what was read on a node, or a filter."""
    down = [p for p in broken if _underlay(world, p) is False]
    read = {p: f for p in broken if p not in down and (f := _at_ends(world, p))}
    rest = [p for p in broken if p not in down and p not in read]
    sure = [p for p in rest if _underlay(world, p) and _known(world)]
    routed = not world.mesh.overlay
    code = OVERLAY_ROUTED_FILTERED if routed else OVERLAY_UDP_FILTERED
    yield from _read_on_nodes(world, read, pairs, broken)
    for what, chosen in (
        (UNDERLAY_UNREACHABLE, down),
        (code, sure),
        (OVERLAY_PATH_BROKEN, [p for p in rest if p not in sure]),
    ):
        for group in classes(len(world.nodes.linux), chosen, list(pairs)):
            yield _in_between(world, what, group, broken)


def _known(world: _World) -> bool:
    """Say whether it is known what carries pod traffic between nodes."""
    return bool(world.mesh.overlay) or world.flannel.backend == "host-gw"


def _in_between(world: _World, code: Code, group: Class, broken: Pairs) -> Finding:
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
        r.tools and r.links for r in read
    )
    underlay = code is UNDERLAY_UNREACHABLE
    whole = group.where == "*>*" and len(group.pairs) > 1
    kind = HopKind.NODE if underlay else HopKind.FLANNEL
    scope = ((ANY,) if not read and not underlay else ()) if whole else group.nodes
    controls = ids(_controls(world, group.pairs))
    return Finding(
        code=code,
        title=titles[code],
        hop=Hop(HopKind.UNDERLAY, group.where, "" if underlay else world.mesh.overlay),
        evidence=flows + controls + tuple(sorted(r.evidence for r in read)),
        confidence=Confidence.CERTAIN
        if underlay or (sure and code is not OVERLAY_PATH_BROKEN)
        else Confidence.LIKELY,
        flows=flows,
        consequence_of=() if sure and not underlay else tuple(Hop(kind, n) for n in scope),
        remediation=_mend(world, code, group),
        falsifier=f"A pod reaches a pod on another node between {group.words}",
    )


def _controls(world: _World, pairs: Iterable[Pair]) -> list[Observation]:
    """Select the flows between the own addresses of these pairs of nodes."""
    ends = [set(p) for p in pairs]
    flows = world.mesh.of(Purpose.UNDERLAY)
    return [o for o in flows if {_from(o), o.flow.subject} in ends]


def _mend(world: _World, code: Code, group: Class) -> tuple[Remediation, ...]:
    """Say how to let the traffic of a class of hops pass."""
    ends = sorted({n for p in group.pairs for n in p})
    nodes = [n for n in world.nodes.items if n.name in ends and n.address]
    port = "openstack port list --fixed-ip ip-address={} -f value -c ID"
    if code is OVERLAY_UDP_FILTERED:
        protocol, _, number = world.mesh.overlay.partition("/")
        title = f"Allow {protocol.upper()} {number} among the nodes in their security group"
        commands = [security_group(n.address) for n in nodes[:1]]
        rule = f"--protocol {protocol} --dst-port {number} --remote-group"
        commands.append(
            f'openstack security group rule create {rule} "$SECURITY_GROUP" "$SECURITY_GROUP"'
        )
    elif code is OVERLAY_ROUTED_FILTERED:
        title = "Allow each node's pod network as an allowed address pair of its port"
        commands = [
            f"openstack port set --allowed-address ip-address={n.spec.pod_cidr} "
            f'"$({port.format(n.address)})"'
            for n in nodes
            if n.spec.pod_cidr
        ]
    else:
        title = "See how far packets get between the nodes, and whether the link is up"
        commands = [
            f"ssh {a} ping -c 3 {n.address}" for a in ends[:1] for n in nodes if n.name != a
        ]
        commands.append(f"kubectl get nodes -o wide {' '.join(ends)}")
    return (Remediation(title, tuple(commands), Risk.SAFE, VERIFY),)


def _at_ends(world: _World, pair: Pair) -> list[tuple[str, _Fault]]:
    """Return the first kind of fault that was read on either node of a pair."""
    # a device that is down takes its routes along
    for read in (_device, _route, _public_ip, _firewall):
        found = [(a, read(world, a, b)) for a, b in (pair, pair[::-1])]
        faults = [(n, f) for n, f in found if f]
        if faults:
            return faults
    return []


def _read_on_nodes(
    world: _World, read: dict[Pair, list[tuple[str, _Fault]]], pairs: Pairs, broken: Pairs
) -> Iterator[Finding]:
    """Say what was read on nodes that breaks these pairs, once per node or once for all."""
    for code in (
        OVERLAY_ROUTE_MISSING,
        OVERLAY_PUBLIC_IP_WRONG,
        OVERLAY_DEVICE_BROKEN,
        OVERLAY_HOST_FIREWALL,
    ):
        mine = {p: dict(f) for p, f in read.items() if f[0][1].code is code}
        guilty = sorted({n for f in mine.values() for n in f})
        if len(guilty) > 1 and set(guilty) == {n for p in mine for n in p}:
            where = "*>*" if set(mine) == set(broken) == set(pairs) else ""
            if where:
                yield _stated(world, where, guilty, mine, broken)
                continue
        while mine:
            name = max(guilty, key=lambda n: sum(n in f for f in mine.values()))
            own = {p: f for p, f in mine.items() if name in f}
            ends = [n for p in own for n in p if n != name]
            whole = all(p in broken for p in pairs if name in p)
            where = f"*>{name}" if whole or len(own) > 1 else f"{ends[0]}>{name}"
            yield _stated(world, where, [name], own, broken)
            mine = {p: f for p, f in mine.items() if p not in own}


def _stated(
    world: _World,
    where: str,
    guilty: list[str],
    faults: dict[Pair, dict[str, _Fault]],
    broken: Pairs,
) -> Finding:
    """Say what was read on a node, or on each, that breaks pod traffic."""
    each = list({(n, f[n].text): f[n] for f in faults.values() for n in guilty if n in f}.values())
    first = each[0]
    return Finding(
        code=first.code,
        title="; ".join(dict.fromkeys(f.text for f in each[:4])),
        hop=Hop(HopKind.UNDERLAY, where, world.mesh.overlay),
        evidence=tuple(
            dict.fromkeys(
                (*(e for f in each for e in f.evidence), *ids(o for p in faults for o in broken[p]))
            )
        ),
        confidence=first.confidence,
        consequence_of=()
        if first.code is OVERLAY_HOST_FIREWALL
        else tuple(Hop(HopKind.FLANNEL, n) for n in guilty),
        remediation=tuple(dict.fromkeys(f.remediation for f in each)),
        falsifier=f"Pods on {and_list(guilty)} answer pods on other nodes with this left as it is",
    )


def _restart(world: _World, name: str, title: str) -> Remediation:
    """Say how to let flannel set a node up again."""
    pod = world.flannel.on(name)
    sets = world.flannel.daemonsets
    commands = (
        (f"kubectl -n {pod.namespace} delete pod {pod.name}",)
        if pod
        else tuple(f"kubectl -n {d.namespace} rollout restart daemonset {d.name}" for d in sets)
    )
    return Remediation(title, commands, Risk.SAFE, VERIFY)


def _route(world: _World, at: str, to: str) -> _Fault | None:
    """Look for the route to another node's pods."""
    read, peer = world.networks.of(at), world.nodes.named(to)
    if not world.flannel.daemonsets or not read or not read.routes or not peer:
        return None
    cidr = peer.spec.pod_cidr
    if not cidr or any(_contains(r.destination, cidr) for r in read.routes):
        return None
    return _Fault(
        OVERLAY_ROUTE_MISSING,
        f"Node {at} has no route to the pod network {cidr} of node {to}",
        (read.evidence, f"api:nodes/{to}"),
        _restart(world, at, f"Let flannel on {at} set its routes again"),
    )


def _contains(route: str, cidr: str) -> bool:
    """Say whether a route, the default aside, leads to a network."""
    try:
        ours, theirs = ip_network(route, strict=False), ip_network(cidr, strict=False)
    except ValueError:
        return False
    return ours.prefixlen > 0 and ours.overlaps(theirs) and ours.prefixlen <= theirs.prefixlen


def _public_ip(world: _World, at: str, _: str) -> _Fault | None:
    """Compare the address that flannel published with those that the node has."""
    node, read = world.nodes.named(at), world.networks.of(at)
    said = node.annotations.get(PUBLIC_IP, "") if node else ""
    if not node or not said or said == node.address:
        return None
    shared = [n.name for n in world.nodes.items if n.annotations.get(PUBLIC_IP) == said]
    links = read.links if read else ()
    own = {a.partition("/")[0] for link in links for a in link.addresses}
    if said in own and len(shared) == 1:
        return None
    return _Fault(
        OVERLAY_PUBLIC_IP_WRONG,
        f"Flannel told the other nodes to reach node {at} at {said}, but its address is "
        f"{node.address}",
        (f"api:nodes/{at}", *((read.evidence,) if read else ())),
        Remediation(
            f"Let flannel on {at} publish the node's own address",
            (
                f"kubectl annotate node {at} --overwrite {PUBLIC_IP}-overwrite- {PUBLIC_IP}={node.address}",
                *_restart(world, at, "").commands,
            ),
            Risk.SAFE,
            VERIFY,
        ),
        Confidence.CERTAIN if own or len(shared) > 1 else Confidence.LIKELY,
    )


def _device(world: _World, at: str, _: str) -> _Fault | None:
    """Look at the VXLAN device of a node."""
    read, node = world.networks.of(at), world.nodes.named(at)
    _, _, port = world.mesh.overlay.partition("/")
    if not world.flannel.daemonsets or not port or not read or not read.links or not node:
        return None
    device = next((i for i in read.links if i.vxlan_id or i.vxlan_port), None)
    published = node.annotations.get(BACKEND_DATA, "").lower()
    if device is None:
        what = f"Node {at} has no VXLAN device: flannel has not made it"
    elif not device.up:
        what = f"The VXLAN device {device.name} of node {at} is down"
    elif device.vxlan_port and str(device.vxlan_port) != port:
        what = f"{device.name} of node {at} uses UDP {device.vxlan_port} in place of {port}"
    elif device.mac and "vtepmac" in published and device.mac.lower() not in published:
        what = f"{device.name} of node {at} has the address {device.mac}, and flannel told another"
    else:
        return None
    title = f"Let flannel on {at} make its device again"
    again = _restart(world, at, title).commands
    delete = f"{world.flannel.enter(at)} ip link delete {device.name}" if device else ""
    commands = (delete, *again) if delete else again
    return _Fault(
        OVERLAY_DEVICE_BROKEN,
        what,
        (read.evidence, f"api:nodes/{at}"),
        Remediation(title, commands, Risk.SAFE, VERIFY),
    )


def _firewall(world: _World, at: str, _: str) -> _Fault | None:
    """Look for a rule on a node that drops the overlay's port."""
    overlay, read = world.mesh.overlay, world.networks.of(at)
    rule = world.networks.dropping(at, "INPUT", overlay, _networks(world)) if overlay else None
    rule = rule or (
        world.networks.dropping(at, "OUTPUT", overlay, _networks(world)) if overlay else None
    )
    if rule is None or read is None:
        return None
    named = rule.ports != (0, 65535)
    protocol, _, port = overlay.partition("/")
    accept = f"iptables -I {rule.chain} -p {protocol} --dport {port} -j ACCEPT"
    mend = Remediation(
        f"Let node {at} take {protocol.upper()} {port}",
        (f"{world.flannel.enter(at)} {accept}",),
        Risk.SAFE,
        VERIFY,
    )
    return _Fault(
        OVERLAY_HOST_FIREWALL,
        f"A firewall rule of node {at} drops {protocol.upper()} {port}, which carries pod traffic "
        f"between nodes: {rule.text}",
        (read.evidence,),
        _remove(world, at, rule) if named else mend,
        Confidence.CERTAIN if named else Confidence.LIKELY,
    )


def _one_way(
    world: _World, cross: list[Observation], broken: set[Pair], forward: set[str]
) -> Iterator[Finding]:
    """Say which ways fail although the same two nodes' pods answer otherwise."""
    alive = {o.flow.address for o in cross if _answered(o)}
    ways: dict[tuple[str, str], list[Observation]] = {}
    for seen in cross:
        a, b = _from(seen), seen.flow.subject
        if (min(a, b), max(a, b)) not in broken and not any(_forwards(seen, n) for n in forward):
            ways.setdefault((a, b), []).append(seen)
    for (a, b), flows in sorted(ways.items()):
        lost = [o for o in flows if o.flow.address in alive]
        if len(lost) > 1 and _all_lost(flows):
            yield Finding(
                code=OVERLAY_PATH_BROKEN,
                title=f"Pods on {b} do not answer from {a}, though they answer others and the way "
                f"from {b} to {a} works",
                hop=Hop(HopKind.UNDERLAY, f"{a}>{b}", world.mesh.overlay),
                evidence=ids(flows),
                confidence=Confidence.LIKELY,
                flows=ids(flows),
                remediation=_mend(
                    world, OVERLAY_PATH_BROKEN, Class("", "", [(min(a, b), max(a, b))], (a, b))
                ),
                falsifier=f"A pod on {b} answers from {a}",
            )
