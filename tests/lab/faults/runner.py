"""Putting a fault or another condition in and taking it out again."""

import time
from collections.abc import Callable
from typing import Protocol

from tests.lab.lab import Lab
from tests.lab.shape import Shape
from tests.lab.shell import LabError, poll


class Change(Protocol):
    """What can be done to a lab, and undone."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def fits(self) -> Callable[[Shape], bool]:
        """Whether it can be done to a lab of a shape."""

    @property
    def inject(self) -> Callable[[Lab], None]:
        """Do it."""

    @property
    def settled(self) -> Callable[[Lab], bool]:
        """Whether it shows."""

    @property
    def heal(self) -> Callable[[Lab], None]:
        """Undo it."""


def put_in(lab: Lab, fault: Change, seconds: float = 90) -> float:
    """Put a fault in and wait until it bites.

    Returns:
        The seconds this took.

    Raises:
        LabError: The fault does not fit this lab, or does not bite in time.
    """
    if not fault.fits(lab.shape):
        raise LabError(f"{fault.name} cannot be put into a lab of shape {lab.shape.name}")
    began = time.monotonic()
    fault.inject(lab)
    poll(lambda: fault.settled(lab), seconds=seconds, what=f"{fault.name} to bite", every=0.2)
    return time.monotonic() - began


def mend(lab: Lab, fault: Change, seconds: float = 90) -> float:
    """Take a fault out and wait until the lab is healthy.

    Returns:
        The seconds this took.
    """
    began = time.monotonic()
    fault.heal(lab)
    lab.wait_healthy(seconds)
    return time.monotonic() - began
