"""The end of a run's time."""

import pytest

from doctor.collect.deadline import Deadline


@pytest.mark.parametrize(
    ("now", "passed", "short", "long"),
    [(0, False, 4, 10), (9, False, 1, 1), (10, True, 0.05, 0.05), (99, True, 0.05, 0.05)],
)
def test_a_wait_is_cut_to_what_is_left(now: float, passed: bool, short: float, long: float) -> None:  # noqa: FBT001
    clock = iter([0.0])
    deadline = Deadline(10, lambda: next(clock, now))
    assert deadline.passed is passed
    assert (deadline.bound(4), deadline.bound(40)) == (short, long)
    assert "10 s" in deadline.reason


def test_it_can_be_cut_and_not_put_off() -> None:
    times = [0.0, 4.0, 4.0, 20.0, 20.0]
    deadline = Deadline(10, lambda: times.pop(0))
    deadline.cut()
    assert deadline.left == 0
    deadline.cut()
    assert deadline.left == -16
    assert times == []
