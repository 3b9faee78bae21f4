"""Rules of a node that drop what pods send, or what carries that between nodes."""

from collections import Counter
from collections.abc import Iterable

from checks.common import removal
from checks.overlay.codes import VERIFY
from checks.overlay.published import published, vtep
from checks.overlay.world import World, starts_on
from doctor.model.filtering import Met, Packet, dropped, surely_dropped
from doctor.model.finding import Remediation, Risk
from doctor.model.flow import Observation, VantageKind

__all__ = ["forward_rules", "outer_rule", "remove"]

_ARRIVING = ("prerouting", "input")
_LEAVING = ("output", "postrouting")
_FORWARDED = ("prerouting", "forward", "postrouting")
_BRIDGE = "cni0"


def forward_rules(world: World, name: str, flows: Iterable[Observation]) -> list[Met]:
    """Return the rules of a node that drop all these flows or their answers, the surest first."""
    flows = list(flows)
    read = world.networks.of(name)
    if read is None:
        return []
    found: Counter[Met] = Counter()
    for seen in flows:
        packets = _packets(world, name, seen)
        hits = (dropped(read.tables, hook, p) for p in packets for hook in _FORWARDED)
        found.update({m for m in hits if m})
    return sorted((m for m, n in found.items() if n == len(flows)), key=lambda m: not m.certain)


def _packets(world: World, name: str, seen: Observation) -> tuple[Packet, Packet]:
    """Describe what a node is to forward of a flow, and of the answer."""
    read = world.networks.of(name)
    device = vtep(world, read) if read and world.mesh.overlay else None
    other = device.name if device else ""
    leaves = starts_on(seen) == name and seen.flow.vantage.kind is VantageKind.POD
    inward, outward = (_BRIDGE, other) if leaves else (other, _BRIDGE)
    protocol, _, port = seen.flow.protocol.partition("/")
    source = _source(world, seen)
    ask = Packet(protocol, int(port or 0) or None, source, seen.flow.address, inward, outward)
    answer = Packet(protocol, None, seen.flow.address, source, outward, inward, state="established")
    return ask, answer


def _source(world: World, seen: Observation) -> str:
    """Return the network, or the address, that a flow comes from."""
    node = world.nodes.named(starts_on(seen))
    routed = seen.flow.vantage.kind is VantageKind.NODE and not world.mesh.overlay
    if node is None:
        return ""
    return node.address if routed else node.pod_cidr


def outer_rule(world: World, at: str, to: str, *, arriving: bool) -> Met | None:
    """Return the rule of a node that surely drops what carries pods' packets from another, or to it."""
    read, own, peer = world.networks.of(at), world.nodes.named(at), world.nodes.named(to)
    protocol, _, port = world.mesh.overlay.partition("/")
    if read is None or own is None or peer is None or not port.isdecimal():
        return None
    mine, theirs = (published(n).address or n.address for n in (own, peer))
    uplink = read.device(mine)
    if arriving:
        packet = Packet(protocol, int(port), theirs, mine, uplink)
        return surely_dropped(read.tables, _ARRIVING, packet)
    packet = Packet(protocol, int(port), mine, theirs, output=uplink)
    return surely_dropped(read.tables, _LEAVING, packet)


def remove(world: World, name: str, met: Met) -> Remediation:
    """Say how to take a rule out of a node's filter."""
    return Remediation(
        title=f"Remove the rule on {name}, and from whatever would write it again",
        commands=(removal(world.flannel.enter(name), met),),
        risk=Risk.SAFE,
        verify=VERIFY,
    )
