"""What kube-proxy's /proxyMode and /healthz answer."""

import re

import msgspec

from doctor.model.node_state import ProxyHealth

__all__ = ["parse_proxy_health"]

_STATUS = re.compile(r"HTTP/\d(?:\.\d)? (\d{3})(?!\d)", re.ASCII)
_MODES = ("iptables", "nftables", "ipvs", "kernelspace", "userspace")
_LONGEST = 40


class _Family(msgspec.Struct, rename="camel"):
    """What it says of one family of addresses."""

    last_updated: str = ""


class _Health(msgspec.Struct, rename="camel"):
    """The answer, as kube-proxy writes it."""

    last_updated: str = ""
    current_time: str = ""
    node_eligible: bool | None = None
    status: dict[str, _Family] = {}


def parse_proxy_health(mode: str, health: str, reason: str) -> ProxyHealth:
    """Read both answers, with their head lines.

    Args:
        mode: Answer to /proxyMode; empty where none came.
        health: Answer to /healthz; empty where none came.
        reason: Why there is none, in one line.
    """
    name = _body(mode)
    name = name if name in _MODES else ""
    answer = _STATUS.match(health)
    if answer is None:
        return ProxyHealth(mode=name, reason=reason or "the answer is none of HTTP")
    try:
        body = msgspec.json.decode(_body(health), type=_Health)
    except (msgspec.DecodeError, RecursionError):
        body = _Health()
    return ProxyHealth(
        mode=name,
        status=int(answer.group(1)),
        last_updated=body.last_updated[:_LONGEST],
        current_time=body.current_time[:_LONGEST],
        eligible=body.node_eligible,
        ipv4_updated=body.status.get("IPv4", _Family()).last_updated[:_LONGEST],
    )


def _body(answer: str) -> str:
    """Return what stands after an answer's empty line."""
    return answer.replace("\r\n", "\n").partition("\n\n")[2].strip()
