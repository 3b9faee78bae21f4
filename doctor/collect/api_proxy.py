"""The proxy between this machine and the API server, if one is set."""

import os
import re
from typing import Any

import urllib3

from doctor.errors import ClusterError

__all__ = ["route", "without_userinfo"]

_PORTS = {"http": 80, "https": 443}
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)


def route(configuration: Any, source: str) -> str:
    """Settle by which proxy requests go, and see that it can be used.

    Args:
        configuration: A ``kubernetes.client.Configuration`` with its server; its proxy is put into
            the form that both requests and exec channels understand.
        source: Which field sets the proxy; empty where only the environment may.

    Returns:
        The proxy's URL without userinfo, and where it is set; empty where none is used.

    Raises:
        ClusterError: It is no URL of a proxy that can be used.
    """
    from kubernetes.client.rest import should_bypass_proxies

    if not configuration.proxy:
        return ""
    given = str(configuration.proxy)
    if should_bypass_proxies(configuration.host, configuration.no_proxy or ""):
        # an exec channel has rules of its own on who is excepted, but knows this one
        configuration.no_proxy = "*"
        return ""
    where = source or _variable(str(configuration.host), given)
    shown = without_userinfo(given)
    if given.lower().startswith("socks"):
        raise ClusterError(f"{where}: {shown!r}: SOCKS proxies are not supported, HTTP ones are")
    url = _usable(given)
    if url is None:
        raise ClusterError(f"{where}: {shown!r} is no proxy's URL such as http://HOST:PORT")
    configuration.proxy = url
    return f"{shown if '://' in given else f'http://{shown}'} ({where})"


def without_userinfo(url: str) -> str:
    """Return a URL, or what should be one, without user name and password."""
    return _USERINFO.sub(lambda found: found[1] or "", url)


def _usable(given: str) -> str | None:
    """Return a proxy's URL with scheme and port, None where it is none.

    As curl and Go do, take HOST:PORT for HTTP; a bare word is more likely to be a mistake.
    """
    bare = "://" not in given
    try:
        found = urllib3.util.parse_url(f"http://{given}" if bare else given)
    except urllib3.exceptions.LocationParseError:
        return None
    if found.scheme not in _PORTS or not found.host or found.port == 0:
        return None
    if found.port is None and bare:
        return None
    # an exec channel does not know the schemes' own ports
    return found._replace(port=found.port or _PORTS[found.scheme]).url


def _variable(server: str, value: str) -> str:
    """Return the name of the variable that sets the proxy, as it is written."""
    wanted = (f"{server.partition(':')[0].lower()}_proxy", "all_proxy")
    found = [v for w in wanted for v in os.environ if v.lower() == w and os.environ[v] == value]
    return next(iter(found), wanted[0])
