"""What a condition is: data for the judge of a run, and functions for the lab."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.faults.model import anywhere, no_names
from tests.lab.lab import Lab
from tests.lab.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A circumstance that the doctor has to cope with.

    Attributes:
        name: Its name.
        story: What is so, in one sentence.
        finds: The codes that diagnoses may have and of which one must be there, as the condition
            is a fault, too; empty where nothing may be found; None where it is not settled yet
            what is to be said.
        says: Texts of which each occurs in a gap of the run's: what is missing, and why.
        complete: Whether the run can look at everything essential all the same.
        arguments: What the command line has to be given for the condition to matter.
        fits: Whether a lab of this shape can be brought into it.
        inject: Brings it about. May be repeated.
        settled: Whether it holds, by positive evidence.
        heal: Ends it, also from another process, half brought about or not at all.
    """

    name: str
    story: str
    finds: frozenset[str] | None = frozenset()
    says: Callable[[Lab], tuple[str, ...]] = no_names
    complete: bool = False
    arguments: tuple[str, ...] = ()
    fits: Callable[[Shape], bool] = anywhere
    inject: Callable[[Lab], None]
    settled: Callable[[Lab], bool]
    heal: Callable[[Lab], None]
