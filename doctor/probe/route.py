"""Which interface an address is on-link of, and which are this machine's own, by its routes."""

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
import sys

__all__ = ["interface_towards", "is_local"]

# Of Linux's headers: Python names none of these.
_RTM_GETROUTE, _RTM_NEWROUTE, _NLM_F_REQUEST = 26, 24, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_SIOCGIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8927
_IFF_NOARP, _ETHERNET = 0x80, 1
_IPV4_BITS = 32

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, prefixes, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")


def interface_towards(address: str) -> str:
    """Name the interface of this machine on whose segment an address is, if that segment knows ARP.

    Args:
        address: An IPv4 address.

    Returns:
        The interface; empty where there is no route, where the route has a gateway, and where the
        address is this machine's own.
    """
    try:
        wanted = ipaddress.IPv4Address(address).packed
        index = _on_link(_ask(wanted))
        name = socket.if_indextoname(index) if index else ""
    except (OSError, ValueError, struct.error):
        return ""
    return name if name and _speaks_arp(name) else ""


def is_local(address: str) -> bool:
    """Say whether packets to an address end on this machine: it is one of its own.

    Whether it can be bound says less: where net.ipv4.ip_nonlocal_bind is set, every one can.

    Args:
        address: An IPv4 or IPv6 address.
    """
    try:
        return _type(_ask(ipaddress.ip_address(address).packed)) == _RTN_LOCAL
    except (OSError, ValueError, struct.error):
        return False


def _ask(address: bytes) -> bytes:
    """Ask the kernel for its route to an address, over netlink; return its message."""
    bits = 8 * len(address)
    family = socket.AF_INET if bits == _IPV4_BITS else socket.AF_INET6
    body = _ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address), _RTA_DST) + address
    length = _HEADER.size + len(body)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1)
        kernel.bind((0, 0))
        kernel.send(_HEADER.pack(length, _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body)
        return kernel.recv(65536)


def _on_link(message: bytes) -> int:
    """Read the kernel's answer: the interface's index; 0 where the address is not on-link."""
    if _type(message) != _RTN_UNICAST:
        return 0
    length = _HEADER.unpack_from(message)[0]
    attributes = _attributes(message[_HEADER.size + _ROUTE.size : length])
    if {_RTA_GATEWAY, _RTA_VIA} & set(attributes):
        return 0
    return int.from_bytes(attributes.get(_RTA_OIF, b""), sys.byteorder)


def _type(message: bytes) -> int:
    """Read the kernel's answer: the route's type; 0 where there is no route."""
    if _HEADER.unpack_from(message)[1] != _RTM_NEWROUTE:
        return 0
    return int(_ROUTE.unpack_from(message, _HEADER.size)[7])


def _attributes(rest: bytes) -> dict[int, bytes]:
    """Take netlink attributes apart, by their type."""
    found = {}
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[(length + 3) & ~3 :]
    return found


def _speaks_arp(name: str) -> bool:
    """Say whether an interface is an Ethernet on which ARP is spoken."""
    request = struct.pack("16s24x", os.fsencode(name))
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        hardware = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFHWADDR, request))[0]
        flags = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
        return hardware == _ETHERNET and not flags & _IFF_NOARP
    return False
