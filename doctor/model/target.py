"""Targets: the URLs that should work."""

import ipaddress
import re
import string
from urllib.parse import quote, urlsplit

import msgspec

__all__ = ["Target", "host_matches", "parse_target"]

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST = 253


class Target(msgspec.Struct, frozen=True):
    """A URL, taken apart.

    Args:
        url: As it was given.
        scheme: ``http`` or ``https``.
        host: Host in lower case and ASCII, without port and trailing dot.
        port: The port dialled.
        path: Path with query, in ASCII; never empty.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """What a browser sends as Host: the port only where it is not the scheme's own."""
        return self.host if _PORTS[self.scheme] == self.port else f"{self.host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ValueError: It is no http or https URL with a host; the message says what is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host")
    if parts.username or parts.password:
        raise ValueError("a URL with a user name or password is not accepted")
    try:
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} has no valid port") from error
    if not port:
        raise ValueError(f"{url!r} has no valid port: nothing can be reached at port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(
        url=url,
        scheme=parts.scheme,
        host=_ascii(parts.hostname.rstrip("."), url),
        port=port,
        path=quote(path, safe=string.punctuation),
    )


def _ascii(host: str, url: str) -> str:
    """Write a host as it goes over the wire: names of other scripts in their ASCII form."""
    try:
        found = host.encode("idna").decode()
    except UnicodeError:
        found = ""
    if not _is_name(found) and not _is_ipv6(found):
        raise ValueError(f"{url!r} names no valid host")
    return found


def _is_name(host: str) -> bool:
    """Say whether a host is an IPv4 address or a name; underscores do occur in names."""
    return len(host) <= _LONGEST and _NAME.fullmatch(host) is not None


def _is_ipv6(host: str) -> bool:
    """Say whether a host is an IPv6 address; one with a zone means nothing elsewhere."""
    try:
        return not ipaddress.IPv6Address(host).scope_id
    except ValueError:
        return False


def host_matches(rule: str, host: str) -> bool:
    """Say whether an Ingress rule's host matches: exact, or a wildcard for one label."""
    rule, host = rule.lower().rstrip("."), host.lower().rstrip(".")
    if rule in ("", host):
        return True
    return rule.startswith("*.") and "." in host and rule[2:] == host.partition(".")[2]
