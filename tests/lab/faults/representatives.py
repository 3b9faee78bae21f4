"""Which faults stand for all: what `make test` puts into a lab; goldens replay the others."""

from collections.abc import Iterable
from typing import Final

from tests.lab.faults import FAULTS
from tests.lab.faults.lookalikes import LOOKALIKES
from tests.lab.faults.model import Fault
from tests.lab.shape import ARTICLE, Shape

__all__ = ["DECOY", "covered_by", "needs_of", "representatives"]

DECOY: Final = "decoy"
"""The need for something that only looks like a fault."""


def covered_by(fault: Fault) -> frozenset[str]:
    """What a fault can stand for: its link, the sets of look-alikes that it is in, or a decoy."""
    sets = {name for name, alike in LOOKALIKES.items() if fault.name in alike.members}
    return frozenset({DECOY if fault.decoy else fault.link, *sets})


def needs_of(shape: Shape) -> frozenset[str]:
    """All that somebody has to stand for in a lab of this shape."""
    return frozenset().union(*(covered_by(f) for f in FAULTS.values() if f.fits(shape)))


def representatives(shape: Shape) -> tuple[Fault, ...]:
    """Return few faults that stand for each link and each set of look-alikes, in order.

    What the article's lab cannot show is taken first, then the one that stands for most; among equals
    the first of the catalogue, but of decoys the last, as those of the first links wait longest.
    """
    fitting = [f for f in FAULTS.values() if f.fits(shape)]
    left = needs_of(shape)
    chosen: set[str] = set()
    while left:
        useful = [f for f in _preferred(fitting) if covered_by(f) & left]
        best = max(useful, key=lambda f: (_own(f), len(covered_by(f) & left)))
        chosen.add(best.name)
        left -= covered_by(best)
    for fault in fitting:
        others = (covered_by(f) for f in fitting if f.name in chosen - {fault.name})
        if fault.name in chosen and frozenset().union(*others) >= needs_of(shape):
            chosen.remove(fault.name)
    return tuple(f for f in fitting if f.name in chosen)


def _own(fault: Fault) -> bool:
    """Say whether a fault is one of those that are not to be had in the article's lab."""
    return not fault.fits(ARTICLE)


def _preferred(faults: Iterable[Fault]) -> list[Fault]:
    """Order faults, those first that are rather taken."""
    listed = list(faults)
    return [f for f in listed if not f.decoy] + [f for f in reversed(listed) if f.decoy]
