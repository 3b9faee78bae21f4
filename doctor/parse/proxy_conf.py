"""What kube-proxy is told: the lines of its configuration and of its kubeconfig that are kept."""

import re
from urllib.parse import urlsplit

import msgspec

__all__ = ["ProxyConf", "parse_proxy_conf", "parse_server", "server_place"]

_HTTPS_PORT = 443

_LINE = re.compile(r"^\s*(mode|clusterCIDR|detectLocalMode):[ \t]*(\S{0,200})", re.MULTILINE)
_SERVER = re.compile(r"^\s*(?:-\s+)?server:[ \t]*(\S{1,300})\s*$", re.MULTILINE)


class ProxyConf(msgspec.Struct, frozen=True):
    """kube-proxy's configuration; a field is None where the line was not there.

    Args:
        mode: ``iptables``, ``nftables``, ``ipvs``; empty for the platform's default.
        cluster_cidr: The networks that it takes for pods', separated by commas.
        detect_local: How it tells traffic of the node's own pods; empty for by ``cluster_cidr``.
    """

    mode: str | None = None
    cluster_cidr: str | None = None
    detect_local: str | None = None


def parse_proxy_conf(text: str) -> ProxyConf:
    """Read ``config.conf``; of a line that stands there twice the first counts."""
    found: dict[str, str] = {}
    for name, value in _LINE.findall(text):
        found.setdefault(name, _bare(value))
    return ProxyConf(
        mode=found.get("mode"),
        cluster_cidr=found.get("clusterCIDR"),
        detect_local=found.get("detectLocalMode"),
    )


def parse_server(text: str) -> str:
    """Read the URL of the API server out of ``kubeconfig.conf``; empty where there is none."""
    found = _SERVER.search(text)
    return _bare(found.group(1)) if found else ""


def server_place(url: str) -> tuple[str, int]:
    """Read host and port out of a server's URL; no host where it is none."""
    try:
        parts = urlsplit(url)
        place = parts.hostname or "", parts.port or _HTTPS_PORT
    except ValueError:
        return "", 0
    return place


def _bare(value: str) -> str:
    """Take quotes off a value; ``null`` is empty."""
    bare = value.strip("\"'")
    return "" if bare in ("null", "~") else bare
