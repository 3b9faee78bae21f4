"""One result of the accuracy run, and how it is judged. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tests.lab.faults import Fault

__all__ = ["HEALTHY", "Row", "extra", "rank"]

HEALTHY = "healthy"
"""The name of the row about a lab that nothing ails."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault, one pair of faults, or the healthy lab, in one shape.

    Args:
        commit: What was measured.
        shape: In which lab.
        name: The fault; two joined by ``+``; or ``healthy``.
        kind: ``fault``, ``decoy``, ``pair`` or ``healthy``.
        link: The link of the fault.
        ranks: Per true cause its place among the diagnoses, 1 for the first; 0 where it is none.
        codes: The codes of the diagnoses, with the URL.
        untold: The codes without it.
        false: The codes of diagnoses that blame what is innocent, with and without the URL.
        seconds: What the run with the URL took.
        seconds_untold: What the one without took.
        remedy: What came of the remedy as printed; empty where none was to be tried.
        remedy_seconds: Until the doctor was content.
        verified: Whether the printed command that verifies the fix ended well; None if unknown.
        said: What commands and doctor said where it did not heal.
        error: Why there is no result.
    """

    commit: str
    shape: str
    name: str
    kind: str
    link: str = ""
    ranks: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    seconds: float = 0.0
    seconds_untold: float = 0.0
    remedy: str = ""
    remedy_seconds: float = 0.0
    verified: bool | None = None
    said: str = ""
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is the result of."""
        return (self.shape, self.name)

    @property
    def found(self) -> bool:
        """Whether the cause was named first; of two causes, whether both and nothing else were."""
        if self.kind == "pair":
            return all(self.ranks) and not self.false and len(self.codes) == len(self.ranks)
        return self.ranks == (1,)

    @property
    def slowest(self) -> float:
        """The seconds of the longer run."""
        return max(self.seconds, self.seconds_untold)


def rank(fault: Fault, names: Iterable[str], diagnoses: Sequence[dict[str, Any]]) -> int:
    """The place of a true cause among the diagnoses, from 1 on; 0 where none names it."""
    wanted = tuple(names)
    for place, diagnosis in enumerate(diagnoses, 1):
        text = f"{diagnosis['title']} {diagnosis['hop']}"
        if diagnosis["code"] in fault.expected and all(n in text for n in wanted):
            return place
    return 0


def extra(faults: Iterable[Fault], codes: Iterable[str]) -> tuple[str, ...]:
    """The codes that none of the faults explains."""
    expected = frozenset().union(*(f.expected for f in faults))
    return tuple(c for c in codes if c not in expected)
