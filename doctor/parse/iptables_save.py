"""What iptables-save prints, with or without counters (``-c``)."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable
from doctor.model.node import FilterRule
from doctor.parse.iptables_rule import read_rule

__all__ = [
    "Saved",
    "SavedChain",
    "SavedRule",
    "chain_names",
    "drops",
    "read_saved",
    "rule_tables",
    "shorten_tables",
]

_BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")
_KNOWN = {"-A", "-p", "-m", "-j", "--dport", "--dports", "--reject-with", "--comment"}
_ANY_PORT = (0, 65535)
_LONGEST = 1000
_LONGEST_LINE = 8192
_DIGITS = 5
_COUNTS = re.compile(r"\[(\d{1,20}):(\d{1,20})\]", re.ASCII)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)', re.DOTALL)
_QUOTE = re.compile(r'\\.|(")')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CUT = "# cut here"
_PER_SERVICE = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-")
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_SOURCE_NAT = 100
_POLICIES = {"ACCEPT": Action.ACCEPT, "DROP": Action.DROP}


class SavedRule(msgspec.Struct, frozen=True):
    """A rule, cut into words; ``line`` is what was printed, without counters."""

    chain: str
    words: tuple[str, ...]
    line: str
    packets: int | None = None
    bytes: int | None = None


class SavedChain(msgspec.Struct, frozen=True):
    """A chain's head; ``policy`` is ``-`` for chains that are not built in."""

    name: str
    policy: str
    packets: int | None = None


class Saved(msgspec.Struct, frozen=True):
    """One table as it was printed.

    Args:
        name: ``filter``, ``nat``, …
        legacy: Whether it is of the legacy kind, by what is printed above it.
        chains: In the order of the output.
        rules: In the order of the output.
        whole: Whether its end was printed, and nothing was cut out of it.
    """

    name: str
    legacy: bool
    chains: tuple[SavedChain, ...]
    rules: tuple[SavedRule, ...]
    whole: bool


def read_saved(text: str) -> tuple[Saved, ...]:
    """Cut an output into tables, chains and words.

    A line in which a quotation is open goes on: a comment may hold a line that looks like a rule.
    """
    tables: list[Saved] = []
    name, legacy, whole = "", True, True
    chains: list[SavedChain] = []
    rules: list[SavedRule] = []
    for line in (*_lines(text), "*"):
        if line.startswith("*") or line == "COMMIT":
            if name:
                done = whole and line == "COMMIT"
                tables.append(Saved(name, legacy, tuple(chains), tuple(rules), done))
            name, whole, chains, rules = line[1:].strip() if line != "COMMIT" else "", True, [], []
        elif line.startswith("# Generated"):
            legacy = "(nf_tables)" not in line
        elif line.startswith(_CUT):
            whole = False
        elif line.startswith(":") and (chain := _chain(line)):
            chains.append(chain)
        elif rule := _saved_rule(line):
            rules.append(rule)
    return tuple(tables)


def _lines(text: str) -> Iterator[str]:
    """Join physical lines over which a quotation runs; after one that does not end, say so."""
    parts: list[str] = []
    length, open_ = 0, False
    for line in text.split("\n"):
        parts.append(line)
        length += len(line) + 1
        if '"' in line and sum(1 for found in _QUOTE.finditer(line) if found.group(1)) % 2:
            open_ = not open_
        if not open_ or length > _LONGEST_LINE:
            yield "\n".join(parts)
            if open_:
                yield _CUT
            parts, length, open_ = [], 0, False
    yield from ("\n".join(parts), _CUT) if open_ else ()


def _chain(line: str) -> SavedChain | None:
    """Read ``:INPUT ACCEPT [7:420]``."""
    words = line[1:].split()
    if len(words) < 2:  # noqa: PLR2004 - a name and a policy
        return None
    counts = _COUNTS.fullmatch(words[2]) if words[2:] else None
    return SavedChain(words[0], words[1], int(counts.group(1)) if counts else None)


def _saved_rule(line: str) -> SavedRule | None:
    """Read a rule, with or without its counters before it."""
    counts = _COUNTS.match(line)
    rest = line[counts.end() :].lstrip() if counts else line
    words = _words(rest)
    if words[:1] != ("-A",) or not words[1:]:
        return None
    return SavedRule(
        chain=words[1],
        words=words[2:],
        line=rest[:_LONGEST],
        packets=int(counts.group(1)) if counts else None,
        bytes=int(counts.group(2)) if counts else None,
    )


def _words(line: str) -> tuple[str, ...]:
    """Split a rule as iptables-restore would; of an overlong one it is left open what follows."""
    found = (
        _ESCAPED.sub(r"\1", quoted) if quoted or not bare else bare
        for quoted, bare in _WORD.findall(line[:_LONGEST_LINE])
    )
    return (*found, *(("--more",) if len(line) > _LONGEST_LINE else ()))


def chain_names(saved: Iterable[Saved], table: str) -> tuple[str, ...]:
    """List the chains of one table, of whichever kind."""
    names = (c.name for s in saved if s.name == table for c in s.chains)
    return tuple(dict.fromkeys(names))


def drops(saved: Iterable[Saved]) -> tuple[FilterRule, ...]:
    """List the rules of the filter table's built-in chains that drop or reject, in order.

    Rules in chains of other programs (KUBE-*, FLANNEL-*) are left out: these are the programs'
    own, and stand for faults of theirs. A chain's DROP policy counts as its last rule.
    """
    return tuple(found for s in saved if s.name == "filter" for found in _drops(s))


def _drops(saved: Saved) -> Iterator[FilterRule]:
    """Yield the dropping rules of a table, then dropping policies."""
    for rule in saved.rules:
        action = _after(rule.words, "-j")
        if rule.chain in _BUILT_IN and action in ("DROP", "REJECT"):
            yield _drop(rule, action)
    for chain in saved.chains:
        if chain.name in _BUILT_IN and chain.policy == "DROP":
            yield FilterRule(
                chain=chain.name, action="DROP", protocol="", ports=_ANY_PORT,
                text=f"-P {chain.name} DROP", narrow=True,
            )  # fmt: skip


def _drop(rule: SavedRule, action: str) -> FilterRule:
    """Reduce one rule."""
    options = [w for w in rule.words if w.startswith("-")]
    return FilterRule(
        chain=rule.chain,
        action=action,
        protocol=_after(rule.words, "-p"),
        ports=_ports(_after(rule.words, "--dport") or _after(rule.words, "--dports")),
        text=rule.line,
        narrow="!" in rule.words or any(o not in _KNOWN for o in options),
    )


def _ports(text: str) -> tuple[int, int]:
    """Read ``53``, ``30000:32767`` or a list (of which the span is kept)."""
    words = text.replace(",", ":").split(":")
    numbers = [int(n) for n in words if n.isdecimal() and len(n) <= _DIGITS]
    return (min(numbers), max(numbers)) if numbers else _ANY_PORT


def _after(words: tuple[str, ...], option: str) -> str:
    """Return the word after an option; empty where the option is absent."""
    return next((b for a, b in pairwise(words) if a == option), "")


def rule_tables(saved: Iterable[Saved]) -> tuple[RuleTable, ...]:
    """Reduce all rules to what is understood of them.

    Chains that kube-proxy makes per Service and endpoint, and jumps to them, are left out: they are
    read as entries of Services.
    """
    return tuple(
        RuleTable(
            origin=Origin.IPTABLES_LEGACY if s.legacy else Origin.IPTABLES_NFT,
            family="ip",
            name=s.name,
            chains=tuple(_chains(s)),
            whole=s.whole,
        )
        for s in saved
    )


def _chains(saved: Saved) -> Iterator[Chain]:
    """Sort a table's rules into its chains."""
    nat = saved.name == "nat"
    names = frozenset(c.name for c in saved.chains)
    rules: dict[str, list[Rule]] = {c.name: [] for c in saved.chains}
    for found in saved.rules:
        rule = read_rule(found.words, names)
        if found.chain in rules and not (nat and rule.target.startswith(_PER_SERVICE)):
            counted = msgspec.structs.replace(
                rule, packets=found.packets, bytes=found.bytes, text=found.line
            )
            rules[found.chain].append(counted)
    for chain in saved.chains:
        if not (nat and chain.name.startswith(_PER_SERVICE)):
            yield _placed(saved.name, chain, tuple(rules[chain.name]))


def _placed(table: str, chain: SavedChain, rules: tuple[Rule, ...]) -> Chain:
    """Make a chain, at its hook if it is built in."""
    if chain.policy not in _POLICIES:
        return Chain(name=chain.name, rules=rules)
    late = table == "nat" and chain.name in ("INPUT", "POSTROUTING")
    return Chain(
        name=chain.name,
        rules=rules,
        hook=chain.name.lower(),
        kind="nat" if table == "nat" else "filter",
        priority=_SOURCE_NAT if late else _PRIORITIES.get(table, 0),
        policy=_POLICIES[chain.policy],
        packets=chain.packets,
    )


def shorten_tables(text: str, most: int) -> str:
    """Leave rules out of tables that are longer than ``most`` characters, and say so in them."""
    kept: list[str] = []
    size, cut = 0, False
    for line in text.split("\n"):
        if line.startswith("*"):
            size, cut = 0, False
        size += len(line) + 1
        if size > most and not cut and line.startswith(("[", "-A", ":")):
            kept.append(_CUT)
            cut = True
        if not cut or line.startswith("*") or line == "COMMIT":
            kept.append(line)
    return "\n".join(kept)
