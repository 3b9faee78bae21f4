"""What iptables-save prints."""

import shlex
from collections.abc import Iterator
from itertools import pairwise

from doctor.model.node import FilterRule

__all__ = ["parse_chains", "parse_drops"]

_BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")
_KNOWN = {"-A", "-p", "-m", "-j", "--dport", "--dports", "--reject-with", "--comment"}
_ANY_PORT = (0, 65535)
_LONGEST = 1000
_DIGITS = 5


def parse_drops(text: str) -> tuple[FilterRule, ...]:
    """List the rules of the filter table's built-in chains that drop or reject, in order.

    Rules in chains of other programs (KUBE-*, FLANNEL-*) are left out: these are the programs'
    own, and stand for faults of theirs. A chain's DROP policy counts as its last rule.
    """
    return tuple(_drops(_table(text, "filter")))


def parse_chains(text: str, table: str) -> tuple[str, ...]:
    """List the chains of one table."""
    lines = _table(text, table)
    return tuple(line[1:].split()[0] for line in lines if line.startswith(":"))


def _table(text: str, name: str) -> list[str]:
    """Cut out the lines of one table."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("*"):
            inside = line[1:].strip() == name
        elif inside and line != "COMMIT":
            lines.append(line)
    return lines


def _drops(lines: list[str]) -> Iterator[FilterRule]:
    """Yield the dropping rules of a table's lines, then dropping policies."""
    for line in lines:
        words = _words(line)
        if words[:1] == ["-A"] and words[1:2] and words[1] in _BUILT_IN:
            action = _after(words, "-j")
            if action in ("DROP", "REJECT"):
                yield _rule(words, action, line)
    for line in lines:
        chain, _, policy = line[1:].partition(" ")
        if line.startswith(":") and chain in _BUILT_IN and policy.startswith("DROP"):
            yield FilterRule(
                chain=chain, action="DROP", protocol="", ports=_ANY_PORT,
                text=f"-P {chain} DROP", narrow=True,
            )  # fmt: skip


def _rule(words: list[str], action: str, line: str) -> FilterRule:
    """Reduce one rule."""
    options = [w for w in words if w.startswith("-")]
    return FilterRule(
        chain=words[1],
        action=action,
        protocol=_after(words, "-p"),
        ports=_ports(_after(words, "--dport") or _after(words, "--dports")),
        text=line[:_LONGEST],
        narrow="!" in words or any(o not in _KNOWN for o in options),
    )


def _ports(text: str) -> tuple[int, int]:
    """Read ``53``, ``30000:32767`` or a list (of which the span is kept)."""
    words = text.replace(",", ":").split(":")
    numbers = [int(n) for n in words if n.isdecimal() and len(n) <= _DIGITS]
    return (min(numbers), max(numbers)) if numbers else _ANY_PORT


def _after(words: list[str], option: str) -> str:
    """Return the word after an option; empty where the option is absent."""
    return next((b for a, b in pairwise(words) if a == option), "")


def _words(line: str) -> list[str]:
    """Split a line as iptables-restore would."""
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
