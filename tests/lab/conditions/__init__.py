"""Circumstances under which the doctor has to behave: they are no fault of the path's, or not only.

A fault is there to be named; under a condition it matters what is said of what could not be looked
at, that nothing is waited for, and that nothing stays.
"""

from typing import Final

from tests.lab.conditions import admission, aggregation, nodes, underlay
from tests.lab.conditions.model import Condition

__all__ = ["CONDITIONS", "Condition"]

_GROUPS: Final = (aggregation, admission, nodes, underlay)

CONDITIONS: Final[dict[str, Condition]] = {
    condition.name: condition for group in _GROUPS for condition in group.CONDITIONS
}
