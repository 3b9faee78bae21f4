"""One rule of iptables, as words in the order in which iptables-save prints them."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from doctor.model.netfilter import Action, Ports, Rule

__all__ = ["read_rule"]

_LONGEST = 300
_DIGITS = 5
_TARGETS = {
    "": Action.NONE,
    "ACCEPT": Action.ACCEPT,
    "DROP": Action.DROP,
    "REJECT": Action.REJECT,
    "RETURN": Action.RETURN,
    "MASQUERADE": Action.MASQUERADE,
    "SNAT": Action.SNAT,
    "DNAT": Action.DNAT,
    "REDIRECT": Action.DNAT,
    "MARK": Action.MARK,
    "CONNMARK": Action.MARK,
    **dict.fromkeys(
        ("LOG", "NFLOG", "TRACE", "CT", "NOTRACK", "TCPMSS", "CLASSIFY", "DSCP", "TOS", "TTL"),
        Action.NONE,
    ),
}
_MODULES = {"tcp", "udp", "sctp", "multiport", "comment", "conntrack", "state", "mark", "nfacct"}
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0|[1-9]\d{0,9}", re.ASCII)

Field = tuple[str, Any]


def read_rule(words: tuple[str, ...], chains: frozenset[str]) -> Rule:
    """Reduce a rule to what is understood of it.

    Args:
        words: The words after the chain's name.
        chains: Names of the table's chains: another name as target is not understood.

    Returns:
        The rule, without counters and text.
    """
    fields: dict[str, Any] = {"action": Action.NONE}
    inverted: list[str] = []
    negated, position = False, 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            name = words[position] if position < len(words) else ""
            fields |= _target(word, name, words[position + 1 :], chains)
            break
        value = words[position] if position < len(words) else ""
        read = _OPTIONS.get(word)
        field = read(value) if read else None
        if field is None:
            # an option of its own, or the value of one that is not understood
            fields["other"] = True
        else:
            position += 1
            name, content = field
            if name in fields:
                fields["other"] = True
            elif name:
                fields[name] = content
                inverted += [name] if negated else []
        negated = False
    return Rule(**fields, inverted=tuple(inverted))


def _target(
    option: str, name: str, rest: tuple[str, ...], chains: frozenset[str]
) -> dict[str, Any]:
    """Read what a rule does."""
    if name in chains:
        return {"action": Action.GOTO if option == "-g" else Action.JUMP, "target": name}
    action = _TARGETS.get(name, Action.UNKNOWN)
    told = dict(pairwise(rest))
    address = told.get("--to-destination") or told.get("--to-source") or told.get("--to-ports", "")
    return {"action": action, "target": address[:_LONGEST]}


def _words(name: str, *, lower: bool = False) -> Callable[[str], Field | None]:
    """Make a reader of a list of words."""

    def read(value: str) -> Field | None:
        return (name, tuple((value.lower() if lower else value).split(","))) if value else None

    return read


def _device(name: str) -> Callable[[str], Field | None]:
    """Make a reader of a device's name; ``+`` stands for any rest."""

    def read(value: str) -> Field | None:
        return (name, (value[:-1] + "*" if value.endswith("+") else value,)) if value else None

    return read


def _protocol(value: str) -> Field | None:
    """Read a protocol; ``all`` is no condition."""
    return ("", None) if value in ("all", "0") else ("protocols", (value,)) if value else None


def _ports(name: str) -> Callable[[str], Field | None]:
    """Make a reader of ports: ``53``, ``30000:32767``, or a list of these."""

    def read(value: str) -> Field | None:
        ranges: list[tuple[int, int]] = []
        for part in value.split(","):
            first, colon, last = part.partition(":")
            ends = (first or "0", (last or "65535") if colon else first)
            if not all(e.isdecimal() and len(e) <= _DIGITS for e in ends):
                return None
            ranges.append((int(ends[0]), int(ends[1])))
        found: Ports = tuple(ranges)
        return name, found

    return read


def _mark(value: str) -> Field | None:
    """Read ``0x4000/0x4000``."""
    number, _, mask = value.partition("/")
    if not all(_NUMBER.fullmatch(n) for n in (number, mask or "0")):
        return None
    return "mark", (int(number, 0), int(mask, 0) if mask else 0xFFFFFFFF)


def _module(value: str) -> Field | None:
    """Read a module's name: those that are understood add no condition by themselves."""
    return ("", None) if value in _MODULES else None


def _nothing(value: str) -> Field | None:
    """Pass over an option that is no condition."""
    return ("", None) if value else None


def _comment(value: str) -> Field | None:
    """Keep what was written beside the rule, shortened."""
    return "comment", value[:_LONGEST]


_OPTIONS: dict[str, Callable[[str], Field | None]] = {
    "-p": _protocol,
    "-s": _words("sources"),
    "-d": _words("destinations"),
    "-i": _device("inputs"),
    "-o": _device("outputs"),
    "--dport": _ports("ports"),
    "--dports": _ports("ports"),
    "--sport": _ports("source_ports"),
    "--sports": _ports("source_ports"),
    "--ctstate": _words("states", lower=True),
    "--state": _words("states", lower=True),
    "--mark": _mark,
    "--comment": _comment,
    "--nfacct-name": _nothing,
    "-m": _module,
}
