"""Packets that are too large for what carries pods' traffic between nodes."""

import re
from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.tunnel import carries, ends, port, tunnelled
from tests.lab.lab import Lab
from tests.lab.shape import Shape

BLACKHOLE: Final = "vxlan-mtu-blackhole"
INCONSISTENT: Final = "mtu-inconsistent-pod-vs-flannel"
LARGEST: Final = 1450
_NARROW: Final = 1400
_ALIKE: Final = (BLACKHOLE, INCONSISTENT, "sg-drops-8472")
_CODES: Final = {BLACKHOLE: "OVERLAY_MTU_TOO_LARGE", INCONSISTENT: "OVERLAY_MTU_INCONSISTENT"}


def _forbidden(name: str) -> frozenset[str]:
    """All other links' codes, and those of what looks alike."""
    others = set(_CODES.values()) - {_CODES[name]}
    return all_but("OVERLAY_") | others | {"OVERLAY_UDP_FILTERED", "UNDERLAY_*"}


def _several(shape: Shape) -> bool:
    return tunnelled(shape) and len(shape.nodes) > 2


def _inject_hole(lab: Lab) -> None:
    large = f"udp dport {port(lab.shape)} meta length > {LARGEST}"
    lab.fabric_rules(BLACKHOLE, f"{large} counter drop\n")


def _heal_hole(lab: Lab) -> None:
    lab.fabric_rules(BLACKHOLE, None)


def _small_ones_pass(lab: Lab) -> bool:
    """Whether small packets pass the tunnel, and those of full size do not."""
    one, last = ends(lab)
    full = ("-M", "do", "-s", str(lab.shape.pod_mtu - 28))
    return carries(one, last) and not carries(one, last, *full)


def _uplink_mtu(lab: Lab) -> int:
    said = ends(lab)[1].run("ip", "-o", "link", "show", "eth0").stdout
    found = re.search(r" mtu (\d+) ", said)
    return int(found[1]) if found else 0


def _set_uplink(lab: Lab, mtu: int) -> None:
    ends(lab)[1].run("ip", "link", "set", "dev", "eth0", "mtu", str(mtu))


def _narrowed(lab: Lab) -> bool:
    return _uplink_mtu(lab) == _NARROW and _small_ones_pass(lab)


FAULTS: Final = (
    Fault(
        name=BLACKHOLE,
        link="overlay",
        story=(
            "The network between the nodes drops VXLAN's packets of full size without a word, and"
            " passes the nodes' own."
        ),
        expected=frozenset({_CODES[BLACKHOLE]}),
        names=lambda lab: (str(lab.shape.pod_mtu), f"*>*:udp/{port(lab.shape)}"),
        forbidden=_forbidden(BLACKHOLE),
        lookalikes=tuple(a for a in _ALIKE if a != BLACKHOLE),
        fits=_several,
        inject=_inject_hole,
        settled=_small_ones_pass,
        heal=_heal_hole,
    ),
    Fault(
        name=INCONSISTENT,
        link="overlay",
        story="The MTU of a worker's interface was lowered under the pods that run there.",
        expected=frozenset({_CODES[INCONSISTENT]}),
        names=lambda lab: (ends(lab)[1].fqdn, str(lab.shape.pod_mtu), str(_NARROW - 50)),
        forbidden=_forbidden(INCONSISTENT),
        lookalikes=tuple(a for a in _ALIKE if a != INCONSISTENT),
        fits=_several,
        inject=lambda lab: _set_uplink(lab, _NARROW),
        settled=_narrowed,
        heal=lambda lab: _set_uplink(lab, 1500),
    ),
)
