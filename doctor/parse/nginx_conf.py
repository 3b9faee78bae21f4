"""nginx's configuration, as ``nginx -T`` prints it.

Only what decides where a request goes is kept; all other directives are dropped unread, so that
credentials in a configuration go nowhere.
"""

import re
from collections.abc import Iterator

import msgspec

from doctor.model.proxy import ProxyServer

__all__ = ["parse_nginx"]

_TOKEN = re.compile(r"""\s*(?:\#[^\n]*|("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};"']+))""")
_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_OPEN, _CLOSE = "{", "}"
_ENDS = (";", _OPEN)
_SCHEME_PORT = {"http": 80, "https": 443}


class _Directive(msgspec.Struct):
    words: list[str]
    where: str
    block: "list[_Directive]"


def parse_nginx(text: str) -> tuple[ProxyServer, ...]:
    """List what each server block's locations forward where.

    ``include`` is resolved by ``nginx -T`` itself, which prints every file; a file's directives are
    taken where they stand, at its own top level.
    """
    tree: list[_Directive] = []
    for name, body in _files(text):
        tree.extend(_parse(name, body))
    upstreams = {d.words[1]: d for d in _walk(tree, "upstream") if len(d.words) > 1}
    return tuple(
        found
        for server in _walk(tree, "server")
        if server.block
        for found in _locations(server, upstreams)
    )


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
            words.append(token.strip("\"'") if token[0] in "\"'" else token)
    return stack[0]


def _walk(tree: list[_Directive], name: str) -> Iterator[_Directive]:
    """Find directives by name, at any depth."""
    for directive in tree:
        if directive.words[0] == name:
            yield directive
        yield from _walk(directive.block, name)


def _locations(server: _Directive, upstreams: dict[str, _Directive]) -> Iterator[ProxyServer]:
    """Yield one entry per location that forwards; one without upstream if none does."""
    ports = tuple(sorted({_listen(d) for d in server.block if d.words[0] == "listen"} or {80}))
    names = tuple(w for d in server.block if d.words[0] == "server_name" for w in d.words[1:])
    passes = [
        (_prefix(d), p, [d, server])
        for d in server.block
        if d.words[0] == "location"
        for p in _walk(d.block, "proxy_pass")
    ]
    if not passes:
        yield ProxyServer(ports=ports, names=names, where=server.where)
    for prefix, directive, scopes in passes:
        yield _forward(ports, names, prefix, directive, scopes, upstreams)


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
    return ProxyServer(
        ports=ports,
        names=names,
        location=prefix,
        upstream_host=host,
        upstream_port=port,
        upstream_scheme=scheme,
        host_header=_host_header(scopes),
        where=directive.where,
    )


def _host_header(scopes: list[_Directive]) -> str:
    """Find what is sent as Host: inner scopes that set any header hide the outer ones."""
    for scope in scopes:
        headers = [d for d in scope.block if d.words[0] == "proxy_set_header" and d.words[2:]]
        if headers:
            return next(
                (d.words[2] for d in headers if d.words[1].lower() == "host"), "$proxy_host"
            )
    return "$proxy_host"


def _prefix(location: _Directive) -> str:
    """Return the prefix of a location, modifiers left out."""
    return location.words[-1] if len(location.words) > 1 else "/"


def _listen(directive: _Directive) -> int:
    """Read the port of a listen directive."""
    word = directive.words[1] if len(directive.words) > 1 else "80"
    port = word.rpartition(":")[2]
    return int(port) if port.isdecimal() else 80


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
    return (host, int(port)) if found and port.isdecimal() else (text, default)
