"""The end of a run's time."""

from doctor.collect.deadline import Deadline


def test_a_wait_is_cut_to_what_is_left() -> None:
    now = 100.0
    deadline = Deadline(10, lambda: now)
    assert not deadline.passed
    assert deadline.bound(4) == 4
    assert deadline.bound(40) == 10
    now = 109.0
    assert deadline.bound(4) == 1
    now = 110.0
    assert deadline.passed
    assert deadline.bound(4) == 0.05
    assert "10 s" in deadline.reason
