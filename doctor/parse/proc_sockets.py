"""Sockets from /proc/net: the file's name, the local address and the state of each, one a line."""

import re
from ipaddress import IPv6Address

from doctor.model.node_state import Socket

__all__ = ["parse_sockets"]

_LINE = re.compile(r"(tcp|udp)6? ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})", re.ASCII)
_WORD = 8


def parse_sockets(text: str) -> tuple[Socket, ...]:
    """Read lines such as ``udp 00000000:2118``, each socket once; other lines are passed over.

    The kernel prints addresses as words of 32 bits in the processor's order, which is taken to be
    little-endian: Kubernetes runs on one processor of the other order, s390x.
    """
    found: dict[Socket, None] = {}
    for line in text.split("\n"):
        if match := _LINE.fullmatch(line.strip()):
            protocol, address, port = match.groups()
            found[Socket(protocol, _address(address), int(port, 16))] = None
    return tuple(found)


def _address(text: str) -> str:
    """Turn the words' bytes around."""
    words = (bytes.fromhex(text[i : i + _WORD])[::-1] for i in range(0, len(text), _WORD))
    raw = b"".join(words)
    if len(raw) == _WORD // 2:
        return ".".join(str(b) for b in raw)
    long = IPv6Address(raw)
    return str(long.ipv4_mapped or long)
