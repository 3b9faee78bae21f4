"""What iproute2's ``ip`` prints with ``-json``."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from doctor.model.node import Link, Neighbour, PolicyRule, Route, Traffic

__all__ = ["decode", "parse_links", "parse_neighbours", "parse_policy_rules", "parse_routes"]

T = TypeVar("T")

_HOST_OWN = ("local", "broadcast", "multicast", "anycast")


class _AddrInfo(msgspec.Struct):
    """An address, as iproute2 prints it."""

    family: str = ""
    local: str = ""
    prefixlen: int = 0


class _Vxlan(msgspec.Struct):
    """Details of a VXLAN device."""

    id: int = 0
    port: int = 0
    local: str = ""
    link: str | None = None
    learning: bool | None = None


class _Port(msgspec.Struct):
    """Details of a bridge's port."""

    hairpin: bool | None = None


class _LinkInfo(msgspec.Struct):
    """The kind of a device; details are decoded only for kinds that are understood."""

    info_kind: str = ""
    info_data: msgspec.Raw = msgspec.Raw(b"{}")
    info_slave_kind: str = ""
    info_slave_data: msgspec.Raw = msgspec.Raw(b"{}")


class _Counts(msgspec.Struct):
    """What a device counted in one direction."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0
    dropped: int = 0


class _Stats(msgspec.Struct):
    """What a device counted."""

    rx: _Counts = msgspec.field(default_factory=_Counts)
    tx: _Counts = msgspec.field(default_factory=_Counts)


class _Link(msgspec.Struct):
    """A device, as iproute2 prints it."""

    ifname: str = ""
    ifindex: int = 0
    flags: tuple[str, ...] = ()
    mtu: int = 0
    operstate: str = ""
    address: str = ""
    master: str = ""
    link_index: int = 0
    addr_info: tuple[_AddrInfo, ...] = ()
    linkinfo: _LinkInfo = msgspec.field(default_factory=_LinkInfo)
    stats64: _Stats | None = None


class _Metrics(msgspec.Struct):
    """What is set for a route."""

    mtu: int = 0


class _Via(msgspec.Struct):
    """A gateway of another family."""

    host: str = ""


class _Hop(msgspec.Struct):
    """One of a route's next hops."""

    dev: str = ""
    gateway: str = ""
    via: _Via = msgspec.field(default_factory=_Via)
    flags: tuple[str, ...] = ()


class _Route(msgspec.Struct):
    """A route, as iproute2 prints it."""

    dst: str = ""
    type: str = "unicast"
    dev: str = ""
    gateway: str = ""
    via: _Via = msgspec.field(default_factory=_Via)
    table: str = "main"
    metric: int = 0
    prefsrc: str = ""
    flags: tuple[str, ...] = ()
    metrics: tuple[_Metrics, ...] = ()
    nexthops: tuple[_Hop, ...] = ()


class _Rule(msgspec.Struct):
    """A rule of policy routing, as iproute2 prints it."""

    priority: int = 0
    src: str = "all"
    srclen: int | None = None
    dst: str = "all"
    dstlen: int | None = None
    table: str = ""
    action: str = "lookup"
    fwmark: str = ""
    fwmask: str = ""
    iif: str = ""
    oif: str = ""
    not_: object = msgspec.field(name="not", default=False)


class _Neighbour(msgspec.Struct):
    """An entry of the ARP table, as iproute2 prints it."""

    dst: str = ""
    dev: str = ""
    lladdr: str = ""
    state: tuple[str, ...] = ()


def decode(text: str | bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON, with one kind of error for all that may be wrong.

    Raises:
        msgspec.DecodeError: The text is no JSON, or not of this kind.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error


def parse_links(text: str) -> tuple[Link, ...]:
    """Read ``ip -json -details -statistics address``; without ``-statistics`` nothing is counted.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    return tuple(_link(raw) for raw in decode(text, list[_Link]) if raw.ifname)


def _link(raw: _Link) -> Link:
    """Reduce one interface."""
    info = raw.linkinfo
    vxlan = decode(info.info_data, _Vxlan) if info.info_kind == "vxlan" else _Vxlan()
    port = decode(info.info_slave_data, _Port) if info.info_slave_kind == "bridge" else _Port()
    return Link(
        name=raw.ifname,
        up="UP" in raw.flags,
        mtu=raw.mtu,
        mac=raw.address,
        addresses=tuple(
            f"{a.local}/{a.prefixlen}" for a in raw.addr_info if a.family == "inet" and a.local
        ),
        vxlan_id=vxlan.id,
        vxlan_port=vxlan.port,
        vxlan_local=vxlan.local,
        vxlan_device=vxlan.link or "",
        vxlan_learning=vxlan.learning,
        index=raw.ifindex,
        kind=info.info_kind,
        state=raw.operstate,
        carrier="LOWER_UP" in raw.flags,
        master=raw.master,
        peer_index=raw.link_index if info.info_kind == "veth" else 0,
        hairpin=port.hairpin,
        received=_traffic(raw.stats64.rx) if raw.stats64 else None,
        sent=_traffic(raw.stats64.tx) if raw.stats64 else None,
    )


def _traffic(raw: _Counts) -> Traffic:
    """Copy what was counted."""
    return Traffic(raw.packets, raw.bytes, raw.errors, raw.dropped)


def parse_routes(text: str) -> tuple[Route, ...]:
    """Read ``ip -json -4 route``, of one table or of all; the host's own addresses are left out.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    raw = decode(text, list[_Route])
    return tuple(route for r in raw if r.dst and r.type not in _HOST_OWN for route in _routes(r))


def _routes(raw: _Route) -> Iterator[Route]:
    """Reduce one route, to one for each of its next hops."""
    own = _Hop(dev=raw.dev, gateway=raw.gateway, via=raw.via, flags=raw.flags)
    for hop in raw.nexthops or (own,):
        yield Route(
            destination=raw.dst,
            device=hop.dev,
            gateway=hop.gateway or hop.via.host,
            kind=raw.type,
            table=raw.table,
            metric=raw.metric,
            mtu=next((m.mtu for m in raw.metrics if m.mtu), 0),
            source=raw.prefsrc,
            onlink="onlink" in hop.flags,
            dead="dead" in hop.flags,
        )


def parse_policy_rules(text: str) -> tuple[PolicyRule, ...]:
    """Read ``ip -json -4 rule``.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    return tuple(
        PolicyRule(
            priority=r.priority,
            table=r.table,
            action=r.action,
            source=r.src if r.srclen is None else f"{r.src}/{r.srclen}",
            destination=r.dst if r.dstlen is None else f"{r.dst}/{r.dstlen}",
            mark=f"{r.fwmark}/{r.fwmask}" if r.fwmask else r.fwmark,
            input=r.iif,
            output=r.oif,
            inverted=r.not_ is not False,
        )
        for r in decode(text, list[_Rule])
    )


def parse_neighbours(text: str) -> tuple[Neighbour, ...]:
    """Read ``ip -json -4 neigh``.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    return tuple(
        Neighbour(address=n.dst, device=n.dev, mac=n.lladdr, state=" ".join(n.state))
        for n in decode(text, list[_Neighbour])
        if n.dst
    )
