"""CoreDNS's Corefile: the grammar of Caddy's first version, as far as names and braces go."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from doctor.model.resolver import ROOT, Corefile, Plugin, ServerBlock

__all__ = ["parse_corefile", "reduce_corefile"]

_MOST_CHARS = 200_000
_MOST_BLOCKS = 200
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[^\s]+')
_KEY = re.compile(r"(?:(?:dns|tls|grpc|https)://)?(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?")
_PORTS = {"tls": 853, "grpc": 443, "https": 443}
_LAST_PORT = 65535
_CUT = "# cut"
_VARIABLE = re.compile(r"\{\$|\{%")
"""What begins the name of an environment variable, whose value is not known."""

_JUDGED = frozenset({"kubernetes", "forward", "proxy", "loop", "cache", "ready", "health"})
"""Directives that are kept with their words; of others only the name: it may hold a key."""

_LINES = frozenset(
    {
        *("fallthrough", "pods", "ttl", "noendpoints", "namespaces", "endpoint_pod_names"),
        *("except", "policy", "max_concurrent", "force_tcp", "prefer_udp", "health_check"),
        *("max_fails", "expire", "success", "denial", "servfail", "serve_stale", "disable"),
    }
)


class _Word(msgspec.Struct, frozen=True):
    """One word, and the line that it stands on."""

    text: str
    line: int


def parse_corefile(text: str) -> Corefile:
    """Read server blocks; what is not understood makes it not whole. Never raises.

    Snippets are not followed, nor are imported files or variables: what they hold is not known.
    """
    words = list(_words(text[:_MOST_CHARS]))
    blocks: list[ServerBlock] = []
    whole = len(text) <= _MOST_CHARS and f"\n{_CUT}" not in f"\n{text}"
    at = 0
    while at < len(words) and len(blocks) < _MOST_BLOCKS:
        start = at
        while at < len(words) and words[at].text != "{":
            at += 1
        keys = [w.text for w in words[start:at]]
        end = _closing(words, at)
        whole = whole and at < len(words) and words[end - 1].text == "}" and bool(keys)
        whole = whole and not any(k.startswith("(") or k == "import" for k in keys)
        if keys and at < len(words) and not keys[0].startswith("("):
            plugins = tuple(_plugins(words[at + 1 : end - 1]))
            whole = whole and not any(p.name in ("import", "}") for p in plugins)
            blocks += _blocks(keys, plugins)
        at = end
    whole = whole and not any(_VARIABLE.search(w.text) for w in words)
    return Corefile(tuple(blocks), whole and at >= len(words))


def reduce_corefile(text: str) -> str:
    """Write down only what is judged of a Corefile: other directives may hold keys."""
    parsed = parse_corefile(text)
    lines = [] if parsed.whole else [_CUT]
    for block in parsed.blocks:
        lines.append(" ".join(f"{_quoted(z)}:{block.port}" for z in block.zones) + " {")
        for plugin in block.plugins:
            # where braces do not match, any word may look like a directive's name
            if parsed.whole or plugin.name in _JUDGED:
                lines += _reduced(plugin)
        lines.append("}")
    return "\n".join(lines) + ("\n" if lines else "")


def _words(text: str) -> Iterator[_Word]:
    """Cut text into words; a comment runs from a ``#`` that begins a word to the line's end."""
    for number, line in enumerate(text.split("\n")):
        for found in _TOKEN.finditer(line):
            word = found.group()
            if word.startswith("#"):
                break
            quoted = len(word) > 1 and word[0] == word[-1] == '"'
            yield _Word(word[1:-1].replace('\\"', '"') if quoted else word, number)


def _closing(words: list[_Word], at: int) -> int:
    """Return the position after the brace that closes the one at a position, or after the end."""
    depth = 0
    for n in range(at, len(words)):
        depth += {"{": 1, "}": -1}.get(words[n].text, 0)
        if depth <= 0:
            return n + 1
    return max(len(words), at + 1)


def _plugins(words: list[_Word]) -> Iterator[Plugin]:
    """Read the directives of a block: one begins a line, and may have braces of its own."""
    at = 0
    while at < len(words):
        line, start = words[at].line, at
        while at < len(words) and words[at].line == line and words[at].text != "{":
            at += 1
        name, *args = [w.text for w in words[start:at]] or ["}"]
        lines: tuple[tuple[str, ...], ...] = ()
        if at < len(words) and words[at].text == "{" and words[at].line == line:
            end = _closing(words, at)
            lines = _rows(words[at + 1 : end - 1])
            at = end
        elif at == start:
            at += 1
        yield Plugin(name, tuple(args), lines)


def _rows(words: Iterable[_Word]) -> tuple[tuple[str, ...], ...]:
    """Gather words by their line."""
    rows: dict[int, list[str]] = {}
    for word in words:
        rows.setdefault(word.line, []).append(word.text)
    return tuple(tuple(row) for row in rows.values())


def _blocks(keys: list[str], plugins: tuple[Plugin, ...]) -> Iterator[ServerBlock]:
    """Make a block of each port that a block's keys name."""
    by_port: dict[int, list[str]] = {}
    for key in keys:
        word = key.rstrip(",")
        found = _KEY.fullmatch(word)
        if not word or not found:
            continue
        scheme = word.partition("://")[0] if "://" in word else ""
        port = int(found.group(2) or _PORTS.get(scheme, 53))
        if 0 < port <= _LAST_PORT:
            by_port.setdefault(port, []).append(found.group(1).lower().rstrip(".") or ROOT)
    for port, zones in by_port.items():
        yield ServerBlock(tuple(dict.fromkeys(zones)), port, plugins)


def _reduced(plugin: Plugin) -> Iterator[str]:
    """Write one directive again, as far as it is judged."""
    if plugin.name not in _JUDGED:
        yield f"  {_quoted(plugin.name)}"
        return
    head = " ".join(map(_quoted, (plugin.name, *map(_address, plugin.args))))
    rows = [row for row in plugin.lines if row and row[0] in _LINES]
    yield f"  {head}" + (" {" if rows else "")
    for row in rows:
        yield f"    {' '.join(map(_quoted, row))}"
    if rows:
        yield "  }"


def _address(word: str) -> str:
    """Cut the path off an address: it may be a customer's own."""
    scheme, slashes, rest = word.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}" if slashes else word


def _quoted(word: str) -> str:
    """Write a word so that it is read as one again."""
    plain = word and not any(c.isspace() for c in word) and word not in "{}" and word[0] not in '"#'
    return word if plain else '"' + word.replace("\\", "").replace('"', '\\"') + '"'
