"""Checks of how well the way between nodes carries: packets of full size, and all of them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from checks.common import ids
from checks.overlay.classes import PAIR, Class, Pair, Pairs, classes
from checks.overlay.codes import VERIFY
from checks.overlay.mtu import WRAPPING, Room, no_room
from doctor.contract import check
from doctor.model.evidence import Flannel, NodeNetworks, Nodes, Pings
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link

__all__ = [
    "OVERLAY_LOSSY",
    "OVERLAY_MTU_INCONSISTENT",
    "OVERLAY_MTU_TOO_LARGE",
    "UNDERLAY_LOSSY",
    "UNDERLAY_MTU_TOO_SMALL",
    "quality",
]

UNDERLAY_MTU_TOO_SMALL = Code(
    "UNDERLAY_MTU_TOO_SMALL",
    Link.OVERLAY,
    "The network between nodes drops packets of the size that the nodes' interfaces promise.",
)
OVERLAY_MTU_TOO_LARGE = Code(
    "OVERLAY_MTU_TOO_LARGE",
    Link.OVERLAY,
    "Pods send packets that are too large for what carries them between the nodes.",
)
OVERLAY_MTU_INCONSISTENT = Code(
    "OVERLAY_MTU_INCONSISTENT",
    Link.OVERLAY,
    "A node gives its pods an MTU for which the interface that carries them has no room.",
)
UNDERLAY_LOSSY = Code(
    "UNDERLAY_LOSSY", Link.OVERLAY, "A part of the packets between nodes is lost."
)
OVERLAY_LOSSY = Code(
    "OVERLAY_LOSSY",
    Link.OVERLAY,
    "A part of the packets between pods of different nodes is lost, and none between the nodes.",
)

_LEAST_LOST = 2
_LEAST_LOST_IN_ALL = 3
"""A busy machine may be late with one packet each way: two that are missing are not yet loss."""

_LEAST_SHARE = 0.05
_FAILING_SHARE = 0.3
"""From here on connections fail, and are not only slow: three SYNs in a row are lost now and then."""


class _Kind(NamedTuple):
    """What is asked between nodes, or between a node and another one's pod."""

    purpose: Purpose
    ends: str
    what: str
    too_large: Code
    lossy: Code


@check(
    id="overlay.quality",
    title="Packets of full size cross between nodes, and none is lost",
    codes=(
        UNDERLAY_MTU_TOO_SMALL,
        OVERLAY_MTU_INCONSISTENT,
        OVERLAY_MTU_TOO_LARGE,
        UNDERLAY_LOSSY,
        OVERLAY_LOSSY,
    ),
    essential=False,
)
def quality(
    nodes: Nodes, pings: Pings, flannel: Flannel | None, networks: NodeNetworks | None
) -> Iterator[Finding]:
    """Packets of full size cross between nodes, and none is lost.

    What it looks at:
        The MTU of the nodes' devices, and
        pings between nodes, and from nodes to pods of other nodes: small ones, a fixed number of
        which is counted, and ones as large as the interface promises, which must not be
        fragmented.

    Why it matters:
        Where only small packets pass, connections open and then hang: TLS handshakes, large
        answers. Where a part is lost, everything works, only slowly.

    What proves it:
        All large pings stay without an answer, or a router says that they are too big, while all
        small ones between the same two nodes are answered. Loss: some of the small ones that one
        node sends are answered and some are not; nothing is sent again to make up for it.

    Look-alikes:
        A filter that drops every ping, or those that one node sends: then the small ones fail,
        too, and nothing is concluded, although connections may stand.
        A node whose own devices do not fit together: its interface's MTU is smaller than that of
        the VXLAN device above it, as after a change under running pods.
        If the nodes' own packets are cut down as well, the network between them is at fault, not
        the pods' MTU; if the pods' largest ones pass all the same, it is a warning. A broken path
        loses all packets: that is another check's.

    Remediation:
        Raise the MTU of the network between the nodes, or lower that of flannel's backend and
        recreate the pods; look for the loss at the switch, the cable or the host.

    Sources:
        Flannel documentation, "Backends" (MTU); RFC 1191 and RFC 4821, path MTU discovery;
        OpenStack documentation, "MTU considerations".
    """
    if len(nodes.linux) < PAIR:
        return
    overlay = pings.overlay
    underlay = _Kind(
        Purpose.UNDERLAY_SIZE,
        "the nodes' own addresses",
        "",
        UNDERLAY_MTU_TOO_SMALL,
        UNDERLAY_LOSSY,
    )
    pods = _Kind(Purpose.MESH_SIZE, "pods", overlay, OVERLAY_MTU_TOO_LARGE, OVERLAY_LOSSY)
    count = len(nodes.linux)
    explained: set[Pair] = set()
    for kind in (underlay, pods):
        seen = _pairs(pings.of(kind.purpose))
        large = {p: f for p, f in seen.items() if p not in explained and _cut(f)}
        for group in classes(count, list(large), list(seen)):
            hurts = kind is pods or any(_cut(_of(pings, p)) for p in group.pairs)
            made = _too_large(kind, group, large, nodes, flannel or Flannel())
            if kind is pods and (odd := no_room(nodes, networks or NodeNetworks(), group)):
                made = _inconsistent(made, odd)
            yield made if hurts else msgspec.structs.replace(made, severity=Severity.WARN)
        lossy = {p: f for p, f in seen.items() if p not in explained and _loses(f)}
        for group in classes(count, list(lossy), list(seen)):
            if _lost(lossy, group) < _LEAST_LOST_IN_ALL:
                continue
            sure = kind is pods or any(_loses(_of(pings, p)) for p in group.pairs)
            yield _lossy(kind, group, lossy, nodes, fails=sure)
        explained |= {*large, *lossy}


def _of(pings: Pings, pair: Pair) -> list[Observation]:
    """Select the pings to pods between two nodes."""
    return _pairs(pings.of(Purpose.MESH_SIZE)).get(pair, [])


def _lost(lossy: Pairs, group: Class) -> int:
    """Count the small packets that are lost between the nodes of a class."""
    return sum(o.lost for p in group.pairs for o in _answered(lossy[p]))


def _pairs(flows: Iterable[Observation]) -> Pairs:
    """Sort flows by the two nodes that they run between: an answer crosses both ways."""
    pairs: Pairs = {}
    for seen in flows:
        a, b = sorted((seen.flow.vantage.node, seen.flow.subject))
        pairs.setdefault((a, b), []).append(seen)
    return pairs


def _small(flows: Iterable[Observation]) -> list[Observation]:
    """Select the pings of the tool's own size."""
    return [o for o in flows if not o.flow.size]


def _answered(flows: Iterable[Observation]) -> list[Observation]:
    """Select the small pings that were not filtered: one at least was answered."""
    return [o for o in _small(flows) if o.ok]


def _large(flows: Iterable[Observation]) -> list[Observation]:
    """Select the pings of full size."""
    return [o for o in flows if o.flow.size]


def _cut(flows: list[Observation]) -> bool:
    """Say whether only small packets pass between two nodes."""
    small, large = _small(flows), _large(flows)
    whole = bool(small) and all(o.ok for o in small) and not _loses(flows)
    gone = bool(large) and all(o.failure in (Failure.TOO_BIG, Failure.TIMEOUT) for o in large)
    return whole and gone


def _loses(flows: list[Observation]) -> bool:
    """Say whether a part of the small packets is lost, and more than a moment's."""
    small = _answered(flows)
    lost, sent = sum(o.lost for o in small), sum(o.sent for o in small)
    return lost >= _LEAST_LOST and lost >= _LEAST_SHARE * sent


def _too_large(kind: _Kind, group: Class, large: Pairs, nodes: Nodes, flannel: Flannel) -> Finding:
    """Say that packets of full size do not cross."""
    flows = [o for p in group.pairs for o in large[p]]
    size = max(o.flow.size for o in flows)
    told = sorted({o.icmp.source for o in flows if o.icmp})
    by = f" ({told[0]} says that they are too big)" if told else ""
    return Finding(
        code=kind.too_large,
        title=f"Packets of {size} bytes to {kind.ends} do not pass between {group.words}, small "
        f"ones do{by}",
        hop=Hop(HopKind.UNDERLAY, group.where, kind.what),
        evidence=ids(flows),
        confidence=Confidence.CERTAIN if told else Confidence.LIKELY,
        remediation=_smaller(group, size + (WRAPPING if kind.what else 0), nodes, flannel),
        falsifier=f"A ping of {size} bytes that must not be fragmented is answered between "
        f"{group.words}",
    )


def _inconsistent(made: Finding, odd: Room) -> Finding:
    """Say that a node itself promises its pods more than its interface has room for."""
    node, uplink, device = odd.node, odd.uplink, odd.device
    wrapping = WRAPPING if device.vxlan_id or device.vxlan_port else 0
    mends = list(made.remediation[1:])
    if odd.usual > uplink.mtu:
        command = f"ssh {node} sudo ip link set dev {uplink.name} mtu {odd.usual}"
        title = f"Give {uplink.name} of {node} the MTU of the other nodes, and keep it so"
        mends.insert(0, Remediation(title, (command,), Risk.DISRUPTIVE, VERIFY))
    return msgspec.structs.replace(
        made,
        code=OVERLAY_MTU_INCONSISTENT,
        title=f"{device.name} of node {node} promises pods {device.mtu} bytes, and {uplink.name} "
        f"below it has room for {uplink.mtu - wrapping}: packets of full size do not pass",
        hop=Hop(HopKind.UNDERLAY, f"*>{node}", made.hop.what),
        evidence=(*made.evidence, f"node:{node}"),
        confidence=Confidence.CERTAIN,
        remediation=tuple(mends) or made.remediation,
    )


def _address(nodes: Nodes, name: str) -> str:
    """Return a node's address, or its name for want of it."""
    found = nodes.named(name)
    return (found.address if found else "") or name


def _smaller(group: Class, size: int, nodes: Nodes, flannel: Flannel) -> tuple[Remediation, ...]:
    """Say how sizes are made to fit: that between nodes, or that of pods."""
    a, b = group.pairs[0]
    find = (
        f"for size in 1500 1450 1400 1350 1300 1250; do ssh {a} ping -M do -c 1 -W 1 "
        f"-s $((size - 28)) {_address(nodes, b)} >/dev/null && echo $size && break; done"
    )
    mends = [
        Remediation(
            f"See which size passes, and give the network between the nodes an MTU of {size}",
            (find,),
            Risk.SAFE,
            VERIFY,
        )
    ]
    if flannel.config:
        namespace, _, name = flannel.config.partition("/")
        restart = tuple(
            f"kubectl -n {d.namespace} rollout restart daemonset {d.name}"
            for d in flannel.daemonsets
        )
        edit = f'kubectl -n {namespace} edit configmap {name}  # Backend: add "MTU"'
        mends.append(
            Remediation(
                "Or lower flannel's MTU to what passes, then recreate the pods",
                (edit, *restart),
                Risk.DISRUPTIVE,
                VERIFY,
            )
        )
    return tuple(mends)


def _lossy(kind: _Kind, group: Class, lossy: Pairs, nodes: Nodes, *, fails: bool) -> Finding:
    """Say that a part of the packets is lost; how much it hurts, only what pods send tells.

    A node may limit how many pings it answers itself.
    """
    flows = [o for p in group.pairs for o in _answered(lossy[p])]
    lost, sent = sum(o.lost for o in flows), sum(o.sent for o in flows)
    a, b = group.pairs[0]
    return Finding(
        code=kind.lossy,
        title=f"{lost} of {sent} packets to {kind.ends} are lost between {group.words}",
        hop=Hop(HopKind.UNDERLAY, group.where, kind.what),
        evidence=ids(flows),
        severity=Severity.FAIL if fails and lost >= _FAILING_SHARE * sent else Severity.WARN,
        confidence=Confidence.LIKELY,
        remediation=(
            Remediation(
                "Look for errors and drops at the interfaces, then at the switch between them",
                (
                    f"ssh {a} ip -statistics link",
                    f"ssh {b} ip -statistics link",
                    f"ssh {a} sudo ping -c 100 -i 0.01 -q {_address(nodes, b)}",
                ),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"A hundred pings between {group.words} are all answered",
    )
