"""Links between nodes that lose some packets, or those that are too large for them."""

import re
from functools import partial
from typing import Final

from tests.lab.conditions.model import Condition
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import Shape

LOSS: Final = "underlay-loss"
SMALL_FRAMES: Final = "underlay-small-frames"
PERCENT: Final = 35
LARGEST: Final = 1400
_MEASURED: Final = 60
# flood pings of root's, at a pace that a small machine keeps
_PACE: Final = "0.005"


def two_workers(shape: Shape) -> bool:
    """Fit shapes where a link between workers can be bad and the control plane's is not."""
    return len(shape.nodes) > 2


def ends(lab: Lab) -> tuple[Node, Node]:
    """The two nodes whose link is bad."""
    first, second = list(lab.nodes.values())[-2:]
    return first, second


def _between(lab: Lab, match: str) -> str:
    """Drop what matches, both ways."""
    one, other = (node.tap for node in ends(lab))
    ways = ((one, other), (other, one))
    return "".join(f'iifname "{a}" oifname "{b}" {match} counter drop\n' for a, b in ways)


def _inject_loss(lab: Lab) -> None:
    lab.fabric_rules(LOSS, _between(lab, f"numgen random mod 100 < {PERCENT}"))


def _inject_small(lab: Lab) -> None:
    lab.fabric_rules(SMALL_FRAMES, _between(lab, f"meta length > {LARGEST}"))


def received(lab: Lab, size: int, count: int = 1) -> int:
    """How many of some pings of a size, not to be fragmented, are answered by the other end."""
    one, other = ends(lab)
    options = ("-q", "-c", str(count), "-i", _PACE, "-W", "1", "-M", "do", "-s", str(size - 28))
    said = one.run("ping", *options, other.address, check=False).stdout
    found = re.search(r"(\d+) received", said)
    return int(found[1]) if found else 0


def _settled_loss(lab: Lab) -> bool:
    """Both ways together lose more than half: some pings are answered, and many are not."""
    return 0 < received(lab, 100, _MEASURED) < _MEASURED * 0.75


def _settled_small(lab: Lab) -> bool:
    return received(lab, LARGEST) == 1 and received(lab, LARGEST + 1) == 0


def _heal(name: str, lab: Lab) -> None:
    lab.fabric_rules(name, None)


CONDITIONS: Final = (
    Condition(
        name=LOSS,
        story="A link between two workers loses a third of all packets.",
        complete=True,
        finds=frozenset({"UNDERLAY_LOSSY"}),
        fits=two_workers,
        inject=_inject_loss,
        settled=_settled_loss,
        heal=partial(_heal, LOSS),
    ),
    Condition(
        name=SMALL_FRAMES,
        story="A link between two workers drops packets of more than 1400 bytes, silently.",
        complete=True,
        finds=frozenset({"UNDERLAY_MTU_TOO_SMALL"}),
        fits=two_workers,
        inject=_inject_small,
        settled=_settled_small,
        heal=partial(_heal, SMALL_FRAMES),
    ),
)
