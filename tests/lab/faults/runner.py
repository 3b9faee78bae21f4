"""Putting a fault in and taking it out again."""

import time

from tests.lab.faults.model import Fault
from tests.lab.lab import Lab
from tests.lab.shell import LabError, poll


def put_in(lab: Lab, fault: Fault, seconds: float = 90) -> float:
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


def mend(lab: Lab, fault: Fault, seconds: float = 90) -> float:
    """Take a fault out and wait until the lab is healthy.

    Returns:
        The seconds this took.
    """
    began = time.monotonic()
    fault.heal(lab)
    lab.wait_healthy(seconds)
    return time.monotonic() - began
