"""The end of a run's time, which every wait asks for what is left of it."""

import time
from collections.abc import Callable

__all__ = ["Deadline"]


class Deadline:
    """A moment after which nothing more is begun.

    Args:
        seconds: How long from now.
        clock: Seconds that only ever grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting."""
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """How many seconds are left; negative once it has passed."""
        return self._end - self._clock()

    def cut(self) -> None:
        """Let the time be up: the run was interrupted, and whoever still waits stops."""
        self._end = min(self._end, self._clock())

    @property
    def reason(self) -> str:
        """Why something was not done, once it has passed."""
        return f"the run's deadline of {self.seconds:g} s had passed (--deadline)"

    def bound(self, seconds: float) -> float:
        """Return how long a wait may be: as wished, but not beyond the end, and never zero."""
        return max(0.05, min(seconds, self.left))
