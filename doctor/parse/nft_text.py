"""What ``nft -json`` prints, written as nft itself would write it: for people to recognise."""

from collections.abc import Mapping

__all__ = ["plain", "rule_text"]

_LONGEST = 1000
_MOST = 16
_DEEPEST = 8
_JOINED = {"range": "-", "concat": " . ", "&": " & ", "|": " | ", "^": " ^ "}
_FORMS = {
    "match": "{left} {op} {right}",
    "payload": "{protocol} {field}",
    "meta": "meta {key}",
    "ct": "ct {key}",
    "prefix": "{addr}/{len}",
    "jump": "jump {target}",
    "goto": "goto {target}",
    "vmap": "{key} vmap {data}",
    "mangle": "{key} set {value}",
    "reject": "reject with {type} {expr}",
    "limit": "limit rate {rate}/{per}",
    "elem": "{val}",
}
_KEYS = (
    *("left", "op", "right", "protocol", "field", "key", "data", "value", "target", "addr", "port"),
    *("len", "type", "expr", "rate", "per", "val"),
)


def rule_text(statements: list[object]) -> str:
    """Write a rule without its counter, shortened."""
    shown = (s for s in statements if not (isinstance(s, dict) and "counter" in s))
    return " ".join(plain(s) for s in shown)[:_LONGEST]


def plain(value: object, depth: int = 0) -> str:
    """Write a value or a statement; what is not known by its name."""
    match value:
        case bool() | None:
            return ""
        case str() | int() | float():
            return str(value)[:_LONGEST]
        case [*parts] if depth < _DEEPEST:
            return ",".join(plain(p, depth + 1) for p in parts[:_MOST])
        case dict() if len(value) == 1 and depth < _DEEPEST:
            ((name, content),) = value.items()
            return _named(str(name), content, depth + 1)
    return "…"


def _named(name: str, content: object, depth: int) -> str:
    """Write an object with one key."""
    told: Mapping[str, object] = content if isinstance(content, dict) else {}
    parts = [plain(p, depth) for p in (content if isinstance(content, list) else ())[:_MOST]]
    said = {key: plain(told.get(key), depth) for key in _KEYS}
    said["op"] = said["op"] if said["op"] not in ("==", "in") else ""
    if name in _JOINED and parts:
        return _JOINED[name].join(parts)
    if name == "set" and parts:
        return f"{{ {', '.join(parts)} }}"
    if name in ("dnat", "snat"):
        return f"{name} to {':'.join(w for w in (said['addr'], said['port']) if w)}"
    if name == "meta" and said["key"] in ("iifname", "oifname"):
        return said["key"]
    if name in _FORMS and told:
        return " ".join(_FORMS[name].format_map(said).split())
    return name[:_LONGEST]
