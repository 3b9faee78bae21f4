"""What ``nft -json list`` prints: tables, chains, rules, sets and maps."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable
from doctor.parse.ip_json import decode
from doctor.parse.nft_rule import Elements, read_rules

__all__ = ["NftTable", "nft_rule_tables", "parse_nft"]

_PER_SERVICE = ("service-", "external-", "endpoint-", "firewall-")
_POLICIES = {"drop": Action.DROP}


class _Table(msgspec.Struct):
    """A table, as nft prints it."""

    family: str = ""
    name: str = ""


class _Chain(msgspec.Struct):
    """A chain, as nft prints it."""

    family: str = ""
    table: str = ""
    name: str = ""
    type: str = ""
    hook: str = ""
    prio: int = 0
    policy: str = ""


class _Rule(msgspec.Struct):
    """A rule, as nft prints it."""

    family: str = ""
    table: str = ""
    chain: str = ""
    handle: int = 0
    comment: str = ""
    expr: list[object] = msgspec.field(default_factory=list)


class _Set(msgspec.Struct):
    """A set or map, as nft prints it."""

    family: str = ""
    table: str = ""
    name: str = ""
    elem: list[object] = msgspec.field(default_factory=list)


class _Item(msgspec.Struct):
    """One of the objects of the list."""

    table: _Table | None = None
    chain: _Chain | None = None
    rule: _Rule | None = None
    set: _Set | None = None
    map: _Set | None = None


class _Listing(msgspec.Struct):
    """The whole output."""

    nftables: list[_Item]


class NftTable(msgspec.Struct):
    """One table: its chains, its rules by chain, and the elements of its sets and maps."""

    family: str
    name: str
    chains: list[_Chain] = msgspec.field(default_factory=list)
    rules: dict[str, list[_Rule]] = msgspec.field(default_factory=lambda: defaultdict(list))
    elements: Elements = msgspec.field(default_factory=Elements)


def parse_nft(text: str) -> tuple[NftTable, ...]:
    """Read ``nft -json list ruleset``, or of one table.

    Raises:
        msgspec.DecodeError: The text is not what nft prints, or it was cut.
    """
    tables: dict[tuple[str, str], NftTable] = {}
    for item in decode(text, _Listing).nftables:
        if item.table:
            key = (item.table.family, item.table.name)
            tables.setdefault(key, NftTable(*key))
        elif item.chain:
            _home(tables, item.chain).chains.append(item.chain)
        elif item.rule:
            _home(tables, item.rule).rules[item.rule.chain].append(item.rule)
        elif found := item.set or item.map:
            _home(tables, found).elements.named[found.name] = found.elem
    return tuple(tables.values())


def _home(tables: dict[tuple[str, str], NftTable], of: _Chain | _Rule | _Set) -> NftTable:
    """Return the table that an object belongs to."""
    key = (of.family, of.table)
    return tables.setdefault(key, NftTable(*key))


def nft_rule_tables(tables: Iterable[NftTable]) -> tuple[RuleTable, ...]:
    """Reduce all rules to what is understood of them.

    Chains that kube-proxy makes per Service and endpoint are left out: they are read as entries of
    Services.
    """
    return tuple(
        RuleTable(
            origin=Origin.NFT, family=t.family, name=t.name, chains=tuple(_chains(t)), whole=True
        )
        for t in tables
    )


def _chains(table: NftTable) -> Iterator[Chain]:
    """Reduce a table's chains."""
    for chain in table.chains:
        if _per_service(table, chain.name):
            continue
        yield Chain(
            name=chain.name,
            rules=tuple(_rules(table, chain.name)),
            hook=chain.hook,
            kind=chain.type,
            priority=chain.prio,
            policy=_POLICIES.get(chain.policy, Action.ACCEPT),
        )


def _rules(table: NftTable, chain: str) -> Iterator[Rule]:
    """Reduce a chain's rules; one that looks its verdict up becomes several."""
    for rule in table.rules.get(chain, ()):
        for found in read_rules(rule.expr, table.elements):
            if _per_service(table, found.target):
                continue
            yield msgspec.structs.replace(found, comment=rule.comment[:300], handle=rule.handle)


def _per_service(table: NftTable, chain: str) -> bool:
    """Say whether kube-proxy made a chain for one Service or endpoint, whose name is in it."""
    return table.name == "kube-proxy" and chain.startswith(_PER_SERVICE) and "/" in chain
