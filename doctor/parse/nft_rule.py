"""One rule of nft, as the list of statements that ``nft -json`` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from doctor.model.netfilter import Action, Rule
from doctor.parse.nft_text import plain, rule_text

__all__ = ["Elements", "comment_of", "parts_of", "read_rules", "verdict_of"]

Fields = dict[str, Any]

_MOST = 4096
_MOST_IN_ALL = 50_000
_LONGEST = 1000
_ALL_BITS = 0xFFFFFFFF
_VERDICTS = {
    "accept": Action.ACCEPT,
    "drop": Action.DROP,
    "reject": Action.REJECT,
    "return": Action.RETURN,
    "jump": Action.JUMP,
    "goto": Action.GOTO,
    "masquerade": Action.MASQUERADE,
    "snat": Action.SNAT,
    "dnat": Action.DNAT,
    "redirect": Action.DNAT,
    "queue": Action.UNKNOWN,
    "tproxy": Action.UNKNOWN,
    "fwd": Action.UNKNOWN,
    "synproxy": Action.UNKNOWN,
}
_NO_CONDITION = {"counter", "log", "mangle", "notrack", "set", "ct helper", "ct timeout", "dup"}
_OPERATORS = ("==", "in", "!=")
_FIELDS = {
    ("ip", "saddr"): "sources",
    ("ip", "daddr"): "destinations",
    ("ip", "protocol"): "protocols",
    ("meta", "l4proto"): "protocols",
    ("meta", "iifname"): "inputs",
    ("meta", "iif"): "inputs",
    ("meta", "oifname"): "outputs",
    ("meta", "oif"): "outputs",
    ("meta", "mark"): "mark",
    ("meta", "nfproto"): "family",
    ("ct", "state"): "states",
    **{(p, "dport"): "ports" for p in ("tcp", "udp", "sctp", "th")},
    **{(p, "sport"): "source_ports" for p in ("tcp", "udp", "sctp", "th")},
}


class Elements:
    """The elements of a table's sets and maps, by name; those of a map are pairs.

    Rules may name the same large set many times: how much is written out in all is bounded.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.named: dict[str, list[object]] = {}
        self._left = _MOST_IN_ALL

    def written_out(self, name: str) -> list[object] | None:
        """Return the elements for one rule; None where there are too many, or none of that name."""
        found = self.named.get(name)
        if found is None or len(found) > min(_MOST, self._left):
            return None
        self._left -= len(found)
        return found


class _OtherFamilyError(Exception):
    """A rule is for IPv6 only."""


def read_rules(statements: list[object], elements: Elements) -> tuple[Rule, ...]:
    """Reduce a rule to what is understood of it.

    Args:
        statements: Matches, verdicts and the rest, in order.
        elements: The elements of the table's sets and maps.

    Returns:
        The rule; one for each verdict where it looks its verdict up; none for one that matches
        nothing of IPv4. Comment and handle are not among the statements.
    """
    try:
        return tuple(_read(statements, elements))
    except _OtherFamilyError:
        return ()


def _read(statements: list[object], elements: Elements) -> Iterator[Rule]:
    """Walk the statements; a verdict ends a rule."""
    fields: Fields = {"action": Action.NONE, "text": rule_text(statements)}
    for statement in statements:
        name, content = _only(statement)
        if name == "match":
            match = _mapping(content)
            _condition(
                fields, match.get("left"), match.get("right"), _word(match.get("op")), elements
            )
        elif name == "vmap":
            yield from _looked_up(fields, _mapping(content), elements)
            fields["action"] = Action.NONE
        elif name in _VERDICTS:
            _decide(fields, name, content)
        else:
            _note(fields, name, content)
    if fields["action"] is not Action.NONE or not _has_map(statements):
        yield Rule(**fields)


def _has_map(statements: list[object]) -> bool:
    """Say whether a rule looks its verdict up."""
    return any(_only(s)[0] == "vmap" for s in statements)


def _only(statement: object) -> tuple[str, object]:
    """Return the name and content of a statement, which is an object with one key."""
    if isinstance(statement, dict) and len(statement) == 1:
        ((name, content),) = statement.items()
        return str(name), content
    return (statement, None) if isinstance(statement, str) else ("", None)


def _word(value: object) -> str:
    """Return a word; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def _mapping(content: object) -> Mapping[str, object]:
    """Return an object; an empty one for anything else."""
    return content if isinstance(content, dict) else {}


def _decide(fields: Fields, name: str, content: object) -> None:
    """Write down a verdict."""
    told = _mapping(content)
    fields["action"] = _VERDICTS[name]
    address, port = plain(told.get("addr", "")), told.get("port")
    written = f"{address}:{port}" if isinstance(port, int) else address
    fields["target"] = plain(told.get("target", "")) or written


def _note(fields: Fields, name: str, content: object) -> None:
    """Write down what is no match and no verdict."""
    told = _mapping(content)
    if name == "counter" and isinstance(told.get("packets"), int):
        fields["packets"], fields["bytes"] = told.get("packets"), told.get("bytes")
    elif name == "mangle" and _key(told.get("key")) == ("meta", "mark"):
        fields["action"] = Action.MARK
    elif name == "xt" and told.get("type") == "target":
        fields["action"] = Action.UNKNOWN
    elif name not in _NO_CONDITION:
        fields["other"] = True


def _key(left: object) -> tuple[str, str]:
    """Name what a match looks at; empty words where that is not understood."""
    name, content = _only(left)
    told = _mapping(content)
    if name == "payload":
        return _word(told.get("protocol")), _word(told.get("field"))
    return (name, _word(told.get("key"))) if name in ("meta", "ct") else ("", "")


def _condition(fields: Fields, left: object, right: object, op: str, elements: Elements) -> None:
    """Add one condition."""
    name, content = _only(left)
    mask = _ALL_BITS
    if name == "&" and isinstance(content, list) and len(content) == 2:  # noqa: PLR2004 - two sides
        left, bits = content
        mask = bits if isinstance(bits, int) else 0
    key = _key(left)
    field = _FIELDS.get(key, "") if mask == _ALL_BITS or key == ("meta", "mark") else ""
    values = _values(right, elements)
    if key[0] == "ip6":
        raise _OtherFamilyError
    if key[0] in ("tcp", "udp", "sctp"):
        fields.setdefault("protocols", (key[0],))
    if field == "family" and values in (["ipv4"], ["ipv6"]):
        if (values == ["ipv6"]) is (op != "!="):
            raise _OtherFamilyError
        return
    found = _typed(field, values, mask) if values is not None and op in _OPERATORS else None
    if found is None or (field in fields and (fields[field] != found or op == "!=")):
        fields["other"] = True
    elif field not in fields:
        fields[field] = found
        fields["inverted"] = (*fields.get("inverted", ()), *((field,) if op == "!=" else ()))


def _typed(field: str, values: list[object], mask: int) -> object | None:
    """Give values the type of their field; None where that cannot be done."""
    if field == "family":
        return None
    if field in ("ports", "source_ports"):
        ranges = [_range(v) for v in values]
        return tuple(ranges) if ranges and None not in ranges else None
    if field == "mark":
        value = values[0] if len(values) == 1 else None
        return (value, mask) if isinstance(value, int) else None
    return tuple(plain(v) for v in values) if field and values else None


def _range(value: object) -> tuple[int, int] | None:
    """Read a port or a range of ports."""
    _, ends = _only(value) if isinstance(value, dict) else ("", [value, value])
    match ends:
        case [int(first), int(last)]:
            return first, last
        case _:
            return None


def _values(right: object, elements: Elements) -> list[object] | None:
    """List what a match compares with; None where it is too much, or a set is not known."""
    if isinstance(right, str) and right.startswith("@"):
        found: object = elements.written_out(right[1:])
    else:
        found = _only(right)[1] if _only(right)[0] == "set" else right
    values = found if isinstance(found, list) else [found]
    values = [_mapping(_only(v)[1]).get("val") if _only(v)[0] == "elem" else v for v in values]
    return values if found is not None and len(values) <= _MOST else None


def parts_of(key: object) -> tuple[object, list[object]]:
    """Take the key of a set's or map's element apart: the key itself, and its fields."""
    name, content = _only(key)
    if name == "elem":
        key = _mapping(content).get("val")
        name, content = _only(key)
    return key, content if name == "concat" and isinstance(content, list) else [key]


def verdict_of(content: object) -> tuple[Action, str]:
    """Read a verdict that stands in a map: what it does, and the chain that it names."""
    name, told = _only(content)
    return _VERDICTS.get(name, Action.UNKNOWN), plain(_mapping(told).get("target", ""))


def comment_of(key: object) -> str:
    """Return what was written beside an element."""
    name, content = _only(key)
    return plain(_mapping(content).get("comment", "")) if name == "elem" else ""


def _looked_up(fields: Fields, told: Mapping[str, object], elements: Elements) -> Iterator[Rule]:
    """Make a rule of each entry of a map of verdicts."""
    entries = _values(told.get("data"), elements)
    name, content = _only(told.get("key"))
    keys = content if name == "concat" and isinstance(content, list) else [told.get("key")]
    if entries is None:
        yield Rule(**{**fields, "action": Action.UNKNOWN})
        return
    for entry in entries:
        if isinstance(entry, list) and len(entry) == 2:  # noqa: PLR2004 - key and verdict
            yield _entry(fields, keys, *entry)


def _entry(fields: Fields, keys: list[object], wanted: object, verdict: object) -> Rule:
    """Make a rule of one entry."""
    wanted, values = parts_of(wanted)
    own = dict(fields)
    for key, value in zip(keys, values, strict=False):
        _condition(own, key, value, "==", Elements())
    if len(keys) != len(values):
        own["other"] = True
    decision, told = _only(verdict)
    if decision in _VERDICTS:
        _decide(own, decision, told)
        own["text"] = f"{own['text']} ({plain(wanted)} : {plain(verdict)})"[:_LONGEST]
    return Rule(**own)
