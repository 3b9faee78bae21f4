"""Whether the redirects of a site lead anywhere, followed at the address that was asked."""

import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import msgspec

__all__ = ["Head", "leads_nowhere"]

_MOST = 10
"""Redirects that are followed; whether a longer row of them has an end is not known."""

_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}
_MOVED = (301, 302, 303, 307, 308)


class Head(msgspec.Struct, frozen=True):
    """The head of an answer.

    Args:
        status: Its status.
        server: The ``Server`` header.
        location: The ``Location`` header.
        keeps: Whether it sets a cookie: the next request may then be answered otherwise.
    """

    status: int
    server: str = ""
    location: str = ""
    keeps: bool = False

    @property
    def moved(self) -> bool:
        """Whether it sends on whoever asked, who has nothing new to ask with."""
        return self.status in _MOVED and bool(self.location) and not self.keeps


def leads_nowhere(url: str, head: Head, ask: Callable[[str], Head | None]) -> bool:
    """Say whether redirects come back to a URL that was asked already.

    They are followed while they stay with the host, within a bound of number and of time.

    Args:
        url: What was asked.
        head: What came.
        ask: Asks for another URL of the same host; None where it fails.
    """
    until = time.monotonic() + _SECONDS
    asked = {_plain(url)}
    following: Head | None = head
    while following is not None and following.moved:
        target = _plain(following.location, url)
        if not target or _host(target) != _host(url):
            return False
        if target in asked:
            return True
        if len(asked) > _MOST or time.monotonic() > until:
            return False
        asked.add(target)
        url = target
        following = ask(target)
    return False


def _host(url: str) -> str:
    """Return a URL's host as it is compared."""
    return (urlsplit(url).hostname or "").rstrip(".")


def _plain(url: str, base: str = "") -> str:
    """Write a URL as it is compared, without its fragment; empty where it is none of the web's."""
    try:
        parts = urlsplit(urljoin(base, url))
        default = _PORTS.get(parts.scheme)
        port = parts.port or default
    except ValueError:
        return ""
    if default is None or not parts.hostname:
        return ""
    authority = parts.hostname.rstrip(".") + (f":{port}" if port != default else "")
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{authority}{parts.path or '/'}{query}"
