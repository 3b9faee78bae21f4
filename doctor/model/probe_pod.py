"""Probe pods: what they would be started from, and what runs have left behind."""

from enum import StrEnum

import msgspec

__all__ = ["LABEL", "MANAGER", "PREFIX", "Choice", "Fate", "Leftover", "NodeImages", "Sweep"]

LABEL = "app.kubernetes.io/managed-by"
MANAGER = "wwwm-doctor"
PREFIX = f"{MANAGER}-"
"""What the names of all that is made begin with."""


class Choice(msgspec.Struct, frozen=True):
    """An image that a probe pod may be started from.

    Args:
        image: Its reference, as the node knows it.
        reason: Why it is thought to be on the node and to have a shell.
    """

    image: str
    reason: str


class NodeImages(msgspec.Struct, frozen=True):
    """What a probe pod on a node would be started from.

    Args:
        node: The node's name.
        choices: The images, in the order in which they would be tried.
        reason: Why there is none; empty where there is one.
    """

    node: str
    choices: tuple[Choice, ...] = ()
    reason: str = ""


class Fate(StrEnum):
    """What became of something that a run left behind."""

    REMOVED = "removed"
    LIVE = "left alone"
    GOING = "on its way out"
    STUCK = "stuck"
    REFUSED = "not removed"


class Leftover(msgspec.Struct, frozen=True):
    """Something that a run made: a namespace, or a pod in somebody else's.

    Args:
        what: ``namespace wwwm-doctor-5f0c`` or ``pod shop/wwwm-doctor-5f0c-91d2``.
        fate: What became of it.
        detail: Why, in one line.
    """

    what: str
    fate: Fate
    detail: str = ""


class Sweep(msgspec.Struct, frozen=True):
    """What a clean-up found.

    Args:
        found: All that runs left, and what became of it.
        unseen: What could not be looked for, and why.
    """

    found: tuple[Leftover, ...] = ()
    unseen: tuple[str, ...] = ()
