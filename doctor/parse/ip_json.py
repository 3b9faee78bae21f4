"""What iproute2 prints with ``-json``."""

from typing import TypeVar

import msgspec

from doctor.model.node import Link, Route

__all__ = ["parse_links", "parse_routes"]

T = TypeVar("T")


class _AddrInfo(msgspec.Struct):
    """An address, as iproute2 prints it."""

    family: str = ""
    local: str = ""
    prefixlen: int = 0


class _InfoData(msgspec.Struct):
    """Details of a VXLAN device."""

    id: int = 0
    port: int = 0


class _LinkInfo(msgspec.Struct):
    """The kind of a device."""

    info_kind: str = ""
    info_data: _InfoData | None = None


class _Link(msgspec.Struct):
    """A device, as iproute2 prints it."""

    ifname: str = ""
    flags: tuple[str, ...] = ()
    mtu: int = 0
    address: str = ""
    addr_info: tuple[_AddrInfo, ...] = ()
    linkinfo: _LinkInfo | None = None


class _Route(msgspec.Struct):
    """A route, as iproute2 prints it."""

    dst: str = ""
    dev: str = ""
    gateway: str = ""


def parse_links(text: str) -> tuple[Link, ...]:
    """Read ``ip -json -details address``.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    return tuple(_link(raw) for raw in _decode(text, list[_Link]) if raw.ifname)


def _decode(text: str, kind: type[T]) -> T:
    """Decode, with one kind of error for all that may be wrong."""
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error


def _link(raw: _Link) -> Link:
    """Reduce one interface."""
    vxlan = raw.linkinfo.info_data if raw.linkinfo and raw.linkinfo.info_kind == "vxlan" else None
    return Link(
        name=raw.ifname,
        up="UP" in raw.flags,
        mtu=raw.mtu,
        mac=raw.address,
        addresses=tuple(
            f"{a.local}/{a.prefixlen}" for a in raw.addr_info if a.family == "inet" and a.local
        ),
        vxlan_id=vxlan.id if vxlan else 0,
        vxlan_port=vxlan.port if vxlan else 0,
    )


def parse_routes(text: str) -> tuple[Route, ...]:
    """Read ``ip -json -4 route``.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    raw = _decode(text, list[_Route])
    return tuple(Route(destination=r.dst, device=r.dev, gateway=r.gateway) for r in raw if r.dst)
