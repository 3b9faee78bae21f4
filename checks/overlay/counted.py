"""What counters tell of a burst that one node sent another: where it was lost, and which way."""

from checks.overlay.classes import Class, Pair
from checks.overlay.codes import (
    OVERLAY_HOST_FIREWALL,
    OVERLAY_NOT_DECAPSULATED,
    OVERLAY_RP_FILTER_DROPS,
    OVERLAY_UDP_CHECKSUM_BROKEN,
    VERIFY,
)
from checks.overlay.world import Fault, World
from doctor.model.counters import Burst
from doctor.model.finding import Remediation, Risk

__all__ = ["burst_fault", "carried", "one_way", "reverse_path_fault"]


def burst_fault(world: World, at: str, to: str) -> Fault | None:
    """Say what becomes, at a node, of what another one sends it, or it sends the other."""
    arriving, leaving = world.counters.way(to, at), world.counters.way(at, to)
    if arriving and (hit := _hit(world, arriving, at)):
        return hit
    if leaving and (hit := _hit(world, leaving, at)):
        return hit._replace(to=to)
    if arriving is None:
        return None
    return reverse_path_fault(world, at, to) or _damaged(arriving) or _untaken(world, arriving)


def _hit(world: World, burst: Burst, at: str) -> Fault | None:
    """Find the rule of a node that counted a burst, and dropped or rejected it."""
    if burst.most(burst.taken):
        return None
    hit = next((h for h in burst.hits if h.node == at), None)
    if hit is None:
        return None
    port = world.mesh.overlay.replace("/", " ").upper()
    look = f"{world.flannel.enter(at)} iptables-save -c"
    table, _, chain = hit.chain.partition(" ")
    delete = f"{world.flannel.enter(at)} iptables -t {table} -D{hit.text.removeprefix('-A')}"
    return Fault(
        OVERLAY_HOST_FIREWALL,
        f"A firewall rule of node {at} counted {hit.packets} packets while {burst.sender} sent "
        f"{burst.sent} in {port} to {burst.receiver}, and ended them in {chain}: {hit.text}",
        burst.evidence,
        Remediation(
            f"Remove the rule on {at}, and from whatever would write it again",
            (look, delete),
            Risk.SAFE,
            VERIFY,
        ),
    )


def reverse_path_fault(world: World, at: str, to: str) -> Fault | None:
    """Say that a node drops what comes in by another device than the way back leads out by."""
    burst = world.counters.way(to, at)
    if burst is None or burst.most(burst.taken) or not burst.most(burst.wrong_way):
        return None
    read = world.networks.of(at)
    strict = [
        s.name
        for s in (read.sysctls if read else None) or ()
        if s.name.endswith(".rp_filter") and s.value == 1
    ]
    peer = world.nodes.named(to)
    settings = strict or ["net.ipv4.conf.all.rp_filter"]
    return Fault(
        OVERLAY_RP_FILTER_DROPS,
        f"Node {at} drops what comes from node {to}, since its way back leads by another device "
        f"({burst.wrong_way} packets, {settings[0]} is 1)",
        burst.evidence,
        Remediation(
            f"Let {at} take what has another way back, or make the two ways one",
            (
                f"ssh {at} ip route get {peer.address if peer else to}",
                *(f"ssh {at} sudo sysctl -w {_slashed(s)}=2" for s in settings),
            ),
            Risk.SAFE,
            VERIFY,
        ),
    )


def _slashed(name: str) -> str:
    """Write a setting with slashes: a device's name may hold a dot."""
    inner = name.removeprefix("net.ipv4.conf.").removesuffix(".rp_filter")
    return f"net/ipv4/conf/{inner}/rp_filter"


def _damaged(burst: Burst) -> Fault | None:
    """Say that what arrives has a wrong checksum."""
    if burst.most(burst.taken) or not burst.most(burst.damaged):
        return None
    sender = burst.sender
    off = "ethtool -K flannel.1 tx-checksum-ip-generic off"
    return Fault(
        OVERLAY_UDP_CHECKSUM_BROKEN,
        f"What node {sender} sends to node {burst.receiver} arrives with a wrong UDP checksum "
        f"({burst.damaged} of {burst.sent} packets)",
        burst.evidence,
        Remediation(
            f"Let the kernel of {sender} compute checksums itself, now and after a reboot",
            (f"ssh {sender} sudo {off}",),
            Risk.SAFE,
            VERIFY,
        ),
    )


def _untaken(world: World, burst: Burst) -> Fault | None:
    """Say that a node's VXLAN device takes nothing of what arrives at the node."""
    if burst.taken is None or burst.most(burst.taken) or not burst.arrives:
        return None
    at = burst.receiver
    return Fault(
        OVERLAY_NOT_DECAPSULATED,
        f"{world.mesh.overlay.replace('/', ' ').upper()} from node {burst.sender} arrives at node "
        f"{at}, and its VXLAN device takes nothing of it",
        burst.evidence,
        Remediation(
            "Compare number and port of the VXLAN devices at both ends",
            tuple(
                f"{world.flannel.enter(n)} ip -d link show type vxlan" for n in (burst.sender, at)
            ),
            Risk.SAFE,
            VERIFY,
        ),
    )


def carried(world: World, pair: Pair) -> bool:
    """Say whether bursts were received both ways: then the tunnel is whole."""
    bursts = [world.counters.way(*way) for way in (pair, pair[::-1])]
    return all(b is not None and b.most(b.taken) for b in bursts)


def one_way(world: World, pairs: list[Pair]) -> list[Class]:
    """Return the ways that lose what is sent although the same two nodes' way back carries.

    Each stands for one receiver that hears nobody, one sender that nobody hears, or one way.
    """
    lost: dict[Pair, Pair] = {}
    for pair in pairs:
        for a, b in (pair, pair[::-1]):
            there, back = world.counters.way(a, b), world.counters.way(b, a)
            if there and back and there.lost_between and back.most(back.taken):
                lost[(a, b)] = pair
    found: list[Class] = []
    for end in (1, 0):
        for name in sorted({way[end] for way in lost}):
            mine = [w for w in lost if w[end] == name]
            around = [p for p in pairs if name in p]
            if len(mine) > 1 and len(mine) == len(around):
                where = f"*>{name}" if end else f"{name}>*"
                words = f"from the other nodes to {name}" if end else f"from {name} to the others"
                found.append(Class(where, words, [lost.pop(w) for w in mine], (name,)))
    for (a, b), pair in sorted(lost.items()):
        found.append(Class(f"{a}>{b}", f"from {a} to {b}", [pair], (a, b)))
    return found
