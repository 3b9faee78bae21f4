"""What flannel set up on a node for another one, compared with what that one published.

For each other node there are three entries: a route to its pod network through its VXLAN device's
address, the hardware address of that, and at which node's address frames for it are to be sent.
"""

from ipaddress import IPv4Address, IPv4Network

from checks.overlay.codes import (
    OVERLAY_FDB_WRONG,
    OVERLAY_NEIGHBOUR_WRONG,
    OVERLAY_PUBLIC_IP_STALE,
    OVERLAY_PUBLIC_IP_WRONG,
    OVERLAY_ROUTE_MISSING,
    OVERLAY_ROUTE_SHADOWED,
    VERIFY,
)
from checks.overlay.published import published, vtep
from checks.overlay.world import Fault, World, restart
from doctor.model.address import specific_network
from doctor.model.finding import Code, Confidence, Remediation, Risk
from doctor.model.kube import PUBLIC_IP
from doctor.model.node import NodeNetwork, Route

__all__ = ["address_fault", "entry_fault", "route_fault"]

_ALL_FRAMES = "00:00:00:00:00:00"


def route_fault(world: World, at: str, to: str) -> Fault | None:
    """Look for the route to another node's pods, and for one that takes their traffic elsewhere."""
    read, peer = world.networks.of(at), world.nodes.named(to)
    if not world.flannel.daemonsets or not read or not read.routes or not peer:
        return None
    own = world.nodes.named(at)
    cidr, mine = specific_network(peer.pod_cidr), specific_network(own.pod_cidr if own else "")
    if cidr is None or (mine and mine.overlaps(cidr)):
        return None
    evidence = (read.evidence, f"api:nodes/{to}")
    wrong = _elsewhere(world, read, cidr, to)
    if wrong:
        return Fault(
            OVERLAY_ROUTE_SHADOWED,
            f"A route of node {at} leads pods of node {to} elsewhere: {_written(wrong)}",
            evidence,
            _delete(world, at, wrong, cidr),
            to=to,
        )
    if any(_covers(r, cidr) for r in read.routes):
        return None
    return Fault(
        OVERLAY_ROUTE_MISSING,
        f"Node {at} has no route to the pod network {cidr} of node {to}",
        evidence,
        restart(world, at, f"Let flannel on {at} set its routes again"),
        to=to,
    )


def _covers(route: Route, cidr: IPv4Network) -> bool:
    """Say whether a route, the default aside, leads to all of a network."""
    ours = specific_network(route.destination)
    return ours is not None and cidr.subnet_of(ours)


def _elsewhere(world: World, read: NodeNetwork, cidr: IPv4Network, to: str) -> Route | None:
    """Return the route that is taken to pods of a node in place of flannel's; None if there is none.

    Of routes that hold an address the longest wins, then the lowest metric; those of the main
    table only are compared.
    """
    dark = tuple(r for r in read.other_routes if r.table == "main" and r.kind != "throw")
    routes = [r for r in (*read.routes, *dark) if not r.dead]
    pods = [o.flow.address for o in world.mesh.observations if o.flow.subject == to]
    tried = [IPv4Address(a) for a in dict.fromkeys(pods) if _within(a, cidr)]
    for address in tried or [cidr.network_address + 1]:
        holding = [
            (net.prefixlen, -r.metric, r)
            for r in routes
            if (net := specific_network(r.destination)) and address in net
        ]
        best = max(holding, key=lambda h: h[:2], default=None)
        if best and best[0] >= cidr.prefixlen and not _is_flannels(world, read, best[2], to):
            return best[2]
    return None


def _within(address: str, cidr: IPv4Network) -> bool:
    """Say whether an address is one of a network's."""
    try:
        return IPv4Address(address) in cidr
    except ValueError:
        return False


def _is_flannels(world: World, read: NodeNetwork, route: Route, to: str) -> bool:
    """Say whether a route leads through the VXLAN device, or straight to the other node."""
    device = vtep(world, read)
    peer = world.nodes.named(to)
    straight = peer.addresses if peer else ()
    through = device is not None and route.device == device.name
    return route.kind == "unicast" and (not route.device or through or route.gateway in straight)


def _written(route: Route) -> str:
    """Write a route as ``ip route`` does."""
    words = [route.kind] if route.kind != "unicast" else []
    words.append(route.destination)
    words += ["via", route.gateway] if route.gateway else []
    words += ["dev", route.device] if route.device and route.kind == "unicast" else []
    words += ["metric", str(route.metric)] if route.metric else []
    return " ".join(words)


def _delete(world: World, at: str, route: Route, cidr: IPv4Network) -> Remediation:
    """Say how to take a route away; flannel sets its own again if that was replaced."""
    commands = [f"{world.flannel.enter(at)} ip route delete {_written(route)}"]
    if specific_network(route.destination) == cidr:
        commands += restart(world, at, "").commands
    return Remediation(
        f"Delete the route on {at}, and from whatever would write it again",
        tuple(commands),
        Risk.SAFE,
        VERIFY,
    )


def address_fault(world: World, at: str, _: str) -> Fault | None:
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
    # one that nobody told flannel to publish, and that the node has no more
    former = (
        bool(own)
        and said not in own
        and len(shared) == 1
        and not node.annotations.get(f"{PUBLIC_IP}-overwrite")
    )
    return Fault(
        OVERLAY_PUBLIC_IP_STALE if former else OVERLAY_PUBLIC_IP_WRONG,
        f"Flannel told the other nodes to reach node {at} at {said}, "
        + ("which no interface of it has any more: " if former else "but ")
        + f"its address is {node.address}",
        (f"api:nodes/{at}", *((read.evidence,) if read else ())),
        Remediation(
            f"Let flannel on {at} publish the node's own address",
            (
                f"kubectl annotate node {at} --overwrite {PUBLIC_IP}-overwrite- {PUBLIC_IP}={node.address}",
                *restart(world, at, "").commands,
            ),
            Risk.SAFE,
            VERIFY,
        ),
        Confidence.CERTAIN if own or len(shared) > 1 else Confidence.LIKELY,
    )


def entry_fault(world: World, at: str, to: str) -> Fault | None:
    """Compare a node's entries for another node's VXLAN device with what that one published."""
    read, peer = world.networks.of(at), world.nodes.named(to)
    told = published(peer)
    device = vtep(world, read) if read else None
    cidr = specific_network(peer.pod_cidr) if peer else None
    if not read or not device or not peer or not cidr or not told.mac or not told.address:
        return None
    route = next((r for r in read.routes if specific_network(r.destination) == cidr), None)
    if route is None or route.device != device.name or not route.gateway:
        return None
    wrong = _neighbour(read, device.name, route.gateway, told.mac)
    if wrong:
        return _entry(world, OVERLAY_NEIGHBOUR_WRONG, at, to, f"{wrong}, and flannel on {to} told "
                      f"{told.mac}")  # fmt: skip
    wrong = _forwarding(read, device.name, told.mac, told.address)
    if wrong:
        return _entry(world, OVERLAY_FDB_WRONG, at, to, wrong)
    return None


def _entry(world: World, code: Code, at: str, to: str, what: str) -> Fault:
    """Say that an entry of a node for another one is wrong."""
    return Fault(
        code,
        f"Node {at} does not send to pods of node {to}: {what}",
        (f"node:{at}", f"api:nodes/{to}"),
        restart(world, at, f"Let flannel on {at} set its entries for {to} again"),
        to=to,
    )


def _neighbour(read: NodeNetwork, device: str, gateway: str, mac: str) -> str:
    """Say what is wrong with the entry of the ARP table for another node's device."""
    if read.neighbours is None:
        return ""
    found = {n.mac.lower() for n in read.neighbours if (n.device, n.address) == (device, gateway)}
    if mac in found:
        return ""
    has = " and ".join(sorted(found - {""}))
    return (
        f"its entry for {gateway} on {device} is {has}"
        if has
        else (f"it has no entry for {gateway} on {device}")
    )


def _forwarding(read: NodeNetwork, device: str, mac: str, address: str) -> str:
    """Say what is wrong with the entry that says where frames for another node are sent."""
    if read.fdb is None:
        return ""
    mine = [e for e in read.fdb if e.device == device and e.remote]
    found = {e.remote for e in mine if e.mac.lower() == mac}
    # an entry for all frames serves any
    everywhere = {e.remote for e in mine if e.mac == _ALL_FRAMES}
    if address in found or (not found and address in everywhere):
        return ""
    if found:
        return f"{device} sends frames for {mac} to {' and '.join(sorted(found))} in place of {address}"
    return f"{device} does not know that frames for {mac} go to {address}"
