"""Having the scheduler put a pod where a fault wants it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.lab.faults.objects import forget, note, noted
from tests.lab.lab import Lab
from tests.lab.node import Node

_NOTE: Final = "cordoned"


@contextmanager
def cordoned(lab: Lab, fault: str, nodes: Sequence[Node]) -> Generator[None]:
    """Let no new pod onto some nodes for a while."""
    names = [node.fqdn for node in nodes]
    if names:
        note(lab, fault, _NOTE, " ".join(names))
        lab.kubectl("cordon", *names)
    try:
        yield
    finally:
        uncordon(lab, fault)


def uncordon(lab: Lab, fault: str) -> None:
    """Open the nodes again that a fault may have left closed."""
    if names := noted(lab, fault, _NOTE):
        lab.kubectl("uncordon", *names.split())
        forget(lab, fault, _NOTE)
