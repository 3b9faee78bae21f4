"""nginx's configuration, as ``nginx -T`` prints it.

Only what decides where a request goes is kept; all other directives are dropped unread, so that
credentials in a configuration go nowhere.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from posixpath import dirname, join

import msgspec

from doctor.model.proxy import ProxyServer

__all__ = ["parse_nginx"]

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*|("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|(?:\\.|\$\{|[^\s{;])+))""",
    re.DOTALL,
)
"""Quotes and braces are punctuation where a word begins; inside one, only ``;`` and ``{`` end it."""
_FILE = re.compile(r"^# configuration file (.+):(?:\n|\Z)", re.MULTILINE)
_OPEN, _CLOSE = "{", "}"
_ENDS = (";", _OPEN)
_SCHEME_PORT = {"http": 80, "https": 443}
_LAST_PORT = 65535
_DEEPEST = 16


class _Directive(msgspec.Struct):
    """A directive: its words, where it stands, and its block."""

    words: list[str]
    where: str
    block: "list[_Directive]"


def parse_nginx(text: str) -> tuple[ProxyServer, ...]:
    """List what each server block's locations forward where.

    ``nginx -T`` prints every file once, with its ``include`` directives unresolved: the files are
    put together here. A file that none includes is taken as it stands.
    """
    files = {name: _parse(name, body) for name, body in _files(text)}
    main = next(iter(files), "")
    seen: set[str] = {main}
    tree = _whole(files.get(main, []), files, dirname(main), seen)
    tree += [d for name, own in files.items() if name not in seen for d in own]
    upstreams = {d.words[1]: d for d in _walk(tree, "upstream") if len(d.words) > 1}
    outer = _Directive(words=["http"], where="", block=[])
    outer.block = [c for d in _walk(tree, "http") for c in d.block]
    return tuple(
        found
        for server in _walk(tree, "server")
        if server.block
        for found in _locations(server, outer, upstreams)
    )


def _whole(
    tree: list[_Directive],
    files: dict[str, list[_Directive]],
    folder: str,
    seen: set[str],
    depth: int = 0,
) -> list[_Directive]:
    """Put included files where they are included; patterns are relative to the main file."""
    if depth > _DEEPEST:
        return tree
    found: list[_Directive] = []
    for directive in tree:
        if directive.words[0] == "include" and len(directive.words) > 1:
            pattern = join(folder, directive.words[1])
            for name in [n for n in files if fnmatchcase(n, pattern)]:
                seen.add(name)
                others = {n: own for n, own in files.items() if n != name}
                found += _whole(files[name], others, folder, seen, depth + 1)
        else:
            block = _whole(directive.block, files, folder, seen, depth + 1)
            found.append(_Directive(words=directive.words, where=directive.where, block=block))
    return found


def _files(text: str) -> Iterator[tuple[str, str]]:
    """Split the dump at its file headers."""
    parts = _FILE.split(text)
    if parts[0].strip():
        yield "nginx.conf", parts[0]
    yield from zip(parts[1::2], parts[2::2], strict=False)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Yield words and punctuation with their line numbers."""
    position, line = 0, 1
    while found := _TOKEN.match(text, position):
        start = found.start(1) if found.group(1) is not None else found.end()
        line += text.count("\n", position, start)
        if found.group(1) is not None:
            yield found.group(1), line
        line += text.count("\n", start, found.end())
        position = found.end()


def _parse(name: str, text: str) -> list[_Directive]:
    """Build the tree of directives of one file."""
    stack: list[list[_Directive]] = [[]]
    words: list[str] = []
    first = 0
    for token, line in _tokens(text):
        if token in _ENDS:
            made = _Directive(words=words, where=f"{name}:{first}", block=[])
            if words:
                stack[-1].append(made)
            if token == _OPEN:
                stack.append(made.block)
            words = []
        elif token == _CLOSE:
            words = []
            if len(stack) > 1:
                stack.pop()
        else:
            first = first if words else line
            words.append(token[1:-1] if token[0] in "\"'" and token[1:] else token)
    return stack[0]


def _walk(tree: list[_Directive], name: str) -> Iterator[_Directive]:
    """Find directives by name, at any depth, in the order in which they are written."""
    waiting = tree[::-1]
    while waiting:
        directive = waiting.pop()
        if directive.words[0] == name:
            yield directive
        waiting.extend(reversed(directive.block))


def _locations(
    server: _Directive, outer: _Directive, upstreams: dict[str, _Directive]
) -> Iterator[ProxyServer]:
    """Yield one entry per location that forwards; one without upstream if none does."""
    ports = tuple(sorted({_listen(d) for d in server.block if d.words[0] == "listen"} or {80}))
    names = tuple(w for d in server.block if d.words[0] == "server_name" for w in d.words[1:])
    passes = [
        found
        for d in server.block
        if d.words[0] == "location"
        for found in _passes(_prefix(d), [d, server, outer])
    ]
    if not passes:
        yield ProxyServer(ports=ports, names=names, where=server.where)
    for prefix, directive, scopes in passes:
        yield _forward(ports, names, prefix, directive, scopes, upstreams)


def _passes(
    prefix: str, scopes: list[_Directive]
) -> Iterator[tuple[str, _Directive, list[_Directive]]]:
    """Yield what forwards inside a location, with its prefix and its scopes, the inner ones first."""
    for directive in scopes[0].block:
        if directive.words[0] == "proxy_pass":
            yield prefix, directive, scopes
        elif directive.block and len(scopes) < _DEEPEST:
            inner = _prefix(directive) if directive.words[0] == "location" else prefix
            yield from _passes(inner, [directive, *scopes])


def _forward(
    ports: tuple[int, ...],
    names: tuple[str, ...],
    prefix: str,
    directive: _Directive,
    scopes: list[_Directive],
    upstreams: dict[str, _Directive],
) -> ProxyServer:
    """Describe one proxy_pass."""
    scheme, host, port = _target(directive.words[1] if len(directive.words) > 1 else "")
    servers = list(_walk(upstreams[host].block, "server")) if host in upstreams else []
    if servers and len(servers[0].words) > 1:
        host, port = _host_port(servers[0].words[1], _SCHEME_PORT.get(scheme, 80))
    header, said = _host_header(scopes)
    return ProxyServer(
        ports=ports,
        names=names,
        location=prefix,
        upstream_host=host,
        upstream_port=port,
        upstream_scheme=scheme,
        host_header=header,
        header_where=said,
        where=directive.where,
    )


def _host_header(scopes: list[_Directive]) -> tuple[str, str]:
    """Find what is sent as Host, and where: inner scopes that set any header hide the outer ones."""
    for scope in scopes:
        headers = [d for d in scope.block if d.words[0] == "proxy_set_header" and d.words[2:]]
        if headers:
            found = (d for d in headers if d.words[1].lower() == "host")
            return next(((d.words[2], d.where) for d in found), ("$proxy_host", ""))
    return "$proxy_host", ""


def _prefix(location: _Directive) -> str:
    """Return the prefix of a location, modifiers left out."""
    return location.words[-1] if len(location.words) > 1 else "/"


def _listen(directive: _Directive) -> int:
    """Read the port of a listen directive."""
    word = directive.words[1] if len(directive.words) > 1 else "80"
    port = word.rpartition(":")[2]
    return _number(port) or 80


def _number(text: str) -> int:
    """Read a port; 0 where it is none."""
    number = int(text) if text.isdecimal() and len(text) <= len(str(_LAST_PORT)) else 0
    return number if number <= _LAST_PORT else 0


def _target(url: str) -> tuple[str, str, int]:
    """Split a proxy_pass URL."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "http", url, 80
    host, port = _host_port(rest.partition("/")[0], _SCHEME_PORT.get(scheme, 80))
    return scheme, host, port


def _host_port(text: str, default: int) -> tuple[str, int]:
    """Split ``host:port``."""
    host, found, port = text.rpartition(":")
    return (host, _number(port)) if found and _number(port) else (text, default)
