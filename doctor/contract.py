"""What a check is: a typed pure function with metadata.

A check's signature names the evidence it needs; ``T | None`` marks evidence that helps but whose
absence costs nothing. The engine decides PASS, INSUFFICIENT, SKIPPED, MASKED and CRASHED; a check
only yields findings.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import ParamSpec

import msgspec

from doctor.model.evidence import Evidence
from doctor.model.finding import Code, Finding
from doctor.model.link import Link

__all__ = ["SECTIONS", "Check", "Need", "check"]

P = ParamSpec("P")

SECTIONS = (
    "What it looks at",
    "Why it matters",
    "What proves it",
    "Look-alikes",
    "Remediation",
    "Sources",
)


class Need(msgspec.Struct, frozen=True):
    """One piece of evidence that a check asks for."""

    parameter: str
    type: type[Evidence]
    required: bool


class Check(msgspec.Struct, frozen=True):
    """A check, ready to be run.

    Args:
        id: ``dns.udp-and-tcp``: the link, a dot, and a name.
        link: The link it belongs to.
        title: A positive statement of health.
        codes: All that it may say.
        needs: The evidence it asks for, read from its signature.
        judge: The function.
        docs: Its docstring: the sections of SECTIONS in that order.
        essential: Whether the answer is incomplete without it (exit code 5).
    """

    id: str
    link: Link
    title: str
    codes: tuple[Code, ...]
    needs: tuple[Need, ...]
    judge: Callable[..., Iterator[Finding]]
    docs: str
    essential: bool = True


def check(
    *, id: str, title: str, codes: tuple[Code, ...], essential: bool = True
) -> Callable[[Callable[P, Iterator[Finding]]], Check]:
    """Make a check of a generator function.

    Args:
        id: The link, a dot, and a name.
        title: A positive statement of health.
        codes: All that it may say.
        essential: Whether the answer is incomplete without it.

    Raises:
        TypeError: A parameter is not annotated with a type of evidence.
    """

    def wrap(judge: Callable[P, Iterator[Finding]]) -> Check:
        return Check(
            id=id,
            link=Link(id.partition(".")[0]),
            title=title,
            codes=codes,
            needs=_needs(judge),
            judge=judge,
            docs=inspect.getdoc(judge) or "",
            essential=essential,
        )

    return wrap


def _needs(judge: Callable[P, Iterator[Finding]]) -> tuple[Need, ...]:
    """Read the needs from a signature."""
    hints = typing.get_type_hints(judge)
    hints.pop("return", None)
    return tuple(_need(name, hint) for name, hint in hints.items())


def _need(name: str, hint: object) -> Need:
    """Understand one annotation: a type of evidence, or one or None."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [o for o in options if isinstance(o, type) and issubclass(o, Evidence)]
    if len(kinds) != 1 or len(options) - len(kinds) > 1:
        raise TypeError(f"parameter {name}: {hint} is not a type of evidence")
    return Need(parameter=name, type=kinds[0], required=len(options) == 1)
