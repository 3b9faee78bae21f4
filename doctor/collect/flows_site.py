"""Plan the flows of the site: load balancer, ingress, and what a visitor does. Pure."""

from collections.abc import Iterable, Iterator

from doctor.bundle.schema import GapRecord
from doctor.collect.flow import (
    MACHINE,
    MOST_VANTAGES,
    Stage,
    flow,
    on_link,
    some,
)
from doctor.evidence.tables import Source, Tables, Wave, tables_of
from doctor.model.address import is_address, is_ipv4
from doctor.model.evidence import Ingresses, LoadBalancers, NodeNetworks
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import Service
from doctor.model.target import Target, parse_target
from doctor.model.verdict import Gap

__all__ = [
    "MOST_ADDRESSES",
    "MOST_DERIVED",
    "derived_targets",
    "ingress",
    "left_out",
    "not_asked",
    "plan_handshakes",
    "plan_names",
    "plan_targets",
    "plan_traces",
    "plan_upstreams",
    "vip",
]

MOST_DERIVED = 16
"""So many hosts of Ingresses, and so many Services with an address, are asked when no URL is given:
each that is out of reach costs a worker four seconds."""

MOST_ADDRESSES = 4
"""At so many addresses of its name a URL is asked."""

_HTTP_PORT = 80
_DNS_PORT = 53
_MOST_TRACES = 6
_SIZES = (0, 1500)


def vip(stage: Stage) -> Iterator[Flow]:
    """Who owns the VIP, asked of the segment; and TCP to it from this machine."""
    table = stage.tables.get(LoadBalancers)
    networks = stage.tables.get(NodeNetworks)
    for service in _wanted(table)[:MOST_DERIVED]:
        for vip in service.vips:
            yield from _arp(stage, networks, vip, table.announcer(service))
            yield from _arp_here(stage, vip)
            port = next((p.port for p in service.spec.ports or () if p.protocol == "TCP"), 0)
            for vantage in stage.outside if port else ():
                yield flow(Purpose.VIP, vantage, FlowKind.TCP, vip, port, subject=service.key)


def _wanted(table: LoadBalancers) -> list[Service]:
    """Return the Services of interest that have an address, by their names."""
    found = [s for s in table.services if s.key in table.wanted and s.vips]
    return sorted(found, key=lambda s: s.key)


def _arp(stage: Stage, networks: NodeNetworks, vip: str, announcer: str) -> Iterator[Flow]:
    """ARP for a VIP from nodes it is on-link of, and for another node as the control."""
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    askers = [n for n in stage.nodes if n != announcer][:MOST_VANTAGES]
    for node in askers:
        found = networks.of(node)
        device = on_link(found.links, vip) if found else ""
        if not device:
            continue
        vantage = Vantage(VantageKind.NODE, node)
        yield flow(Purpose.VIP_ARP, vantage, FlowKind.ARP, vip, name=device, subject=vip)
        for other, address in addresses.items():
            if other != node and found and on_link(found.links, address) == device:
                yield flow(
                    Purpose.ARP_CONTROL, vantage, FlowKind.ARP, address, name=device, subject=other
                )
                break


def _arp_here(stage: Stage, vip: str) -> Iterator[Flow]:
    """ARP for a VIP from this machine, where it is on that segment and is no node itself."""
    device = stage.segments.get(vip, "")
    nodes = {n.name: n.address for n in stage.tables.world.linux}
    beside = next((n for n, a in nodes.items() if a and stage.segments.get(a) == device), "")
    if device and beside:
        yield flow(Purpose.VIP_ARP, MACHINE, FlowKind.ARP, vip, name=device, subject=vip)
        yield flow(
            Purpose.ARP_CONTROL, MACHINE, FlowKind.ARP, nodes[beside], name=device, subject=beside
        )


def derived_targets(tables: Tables) -> tuple[tuple[Target, str], ...]:
    """Derive targets from the Ingress hosts, each with the load balancer address to dial.

    Of many, it is the first hosts of all Ingresses before the second ones of any.
    """
    table = tables.get(Ingresses)
    services = tables.world.services
    vips = [v for c in table.controllers for k in c.services for v in services[k].vips]
    hosts = _hosts(table)[:MOST_DERIVED]
    return tuple((parse_target(f"http://{h}/"), vips[0]) for h in hosts) if vips else ()


def _hosts(table: Ingresses) -> list[str]:
    """List the hosts that Ingresses are for, each once."""
    ranked = sorted(
        (
            (place, f"{i.namespace}/{i.name}", r.host.lower())
            for i in table.items
            for place, r in enumerate(i.spec.rules or ())
            if r.host and not r.host.startswith("*")
        ),
        key=lambda found: found[:2],
    )
    return list(dict.fromkeys(host for _, _, host in ranked))


def left_out(tables: Tables, waves: Iterable[Source]) -> Iterator[GapRecord]:
    """Say what is not asked, as there is too much of it.

    Args:
        tables: Evidence so far.
        waves: What is wanted.
    """
    hosts = 0 if tables.world.bundle.question.targets else len(_hosts(tables.get(Ingresses)))
    vips = len(_wanted(tables.get(LoadBalancers))) if Wave.VIP in waves else 0
    for wave, purpose, count, what in (
        (Wave.TARGET, Purpose.TARGET, hosts, "Ingress hosts"),
        (Wave.INGRESS, Purpose.INGRESS, hosts, "Ingress hosts"),
        (Wave.VIP, Purpose.VIP, vips, "Services of type LoadBalancer"),
    ):
        more = count - MOST_DERIVED
        if wave in waves and more > 0:
            gap = Gap(
                needs=f"{purpose} probes of the other {more} of {count} {what}",
                reason=f"no more than {MOST_DERIVED} are asked in one run; --url names others",
                essential=False,
            )
            yield GapRecord(gap=gap, tables=tables_of([purpose]))


def plan_targets(tables: Tables, resolved: dict[str, tuple[str, ...]]) -> tuple[Flow, ...]:
    """What a visitor does: ask each URL at the addresses that its name resolves to.

    Args:
        tables: Evidence so far.
        resolved: IPv4 addresses by host, in the resolver's order, for the URLs that were asked for.
    """
    given = tables.world.bundle.question.targets
    pairs = (
        [(t, a) for t in given for a in resolved.get(t.host, ())[:MOST_ADDRESSES]]
        if given
        else list(derived_targets(tables))
    )
    return tuple(_request(Purpose.TARGET, MACHINE, t, address, t.port) for t, address in pairs)


def not_asked(named: Iterable[Observation]) -> Iterator[GapRecord]:
    """Say at which addresses of their names URLs are not asked.

    Args:
        named: What the names of the URLs resolve to.
    """
    for o in named:
        fourth = [a for a in o.answers if is_ipv4(a)]
        missing = fourth[MOST_ADDRESSES:] or [a for a in o.answers if a not in fourth]
        if missing:
            why = f"no more than {MOST_ADDRESSES} addresses of a name are asked"
            gap = Gap(
                needs=f"requests for {o.flow.subject} at {', '.join(missing[:MOST_ADDRESSES])}"
                + (f" and {len(missing) - MOST_ADDRESSES} more" * (len(missing) > MOST_ADDRESSES)),
                reason=why if fourth else "the name has IPv6 addresses only; IPv6 is not measured",
                essential=not fourth,
            )
            yield GapRecord(gap=gap, tables=tables_of([Purpose.TARGET]))


def plan_names(targets: tuple[Target, ...], resolvers: tuple[str, ...]) -> tuple[Flow, ...]:
    """Ask each resolver of this machine for each URL's name, over UDP and TCP."""
    return tuple(
        flow(Purpose.NAME, MACHINE, kind, resolver, _DNS_PORT, name=f"{t.host}.", subject=t.url)
        for t in targets
        if not is_address(t.host)
        for resolver in resolvers
        for kind in (FlowKind.DNS_UDP, FlowKind.DNS_TCP)
    )


def plan_handshakes(requests: tuple[Flow, ...]) -> tuple[Flow, ...]:
    """Shake hands with each https URL, at the address that is asked."""
    return tuple(
        flow(
            Purpose.TARGET_TLS,
            MACHINE,
            FlowKind.TLS,
            f.address,
            f.port,
            name=parse_target(f.subject).host,
            subject=f.subject,
        )
        for f in requests
        if f.subject.startswith("https:")
    )


def plan_traces(seen: Iterable[Observation]) -> tuple[Flow, ...]:
    """See how far packets of this machine get, where a connection of its got no answer.

    Where the connection stood and the answer did not come, sizes are tried.
    """
    flows: dict[str, Flow] = {}
    for o in seen:
        asked = o.flow.vantage == MACHINE and o.flow.purpose is not Purpose.NAME
        if not asked or not o.flow.port or not (o.failure and o.failure.unanswered):
            continue
        found = (
            [_beside(o, FlowKind.TRACE, port=o.flow.port)]
            if o.phases is None
            else [_beside(o, FlowKind.PING, size=size) for size in _SIZES]
        )
        flows.update({f.id: f for f in found})
    return tuple(flows.values())[:_MOST_TRACES]


def _beside(o: Observation, kind: FlowKind, port: int = 0, size: int = 0) -> Flow:
    """Ask the address of a failed flow in another way."""
    return flow(
        Purpose.TRACE, MACHINE, kind, o.flow.address, port, subject=o.flow.subject, size=size
    )


def _request(purpose: Purpose, vantage: Vantage, target: Target, address: str, port: int) -> Flow:
    """One request for a target, at some address."""
    return flow(
        purpose,
        vantage,
        FlowKind.HTTP,
        address,
        port,
        name=target.host_header,
        path=target.path,
        subject=target.url,
    )


def plan_upstreams(
    tables: Tables,
    through: tuple[Flow, ...],
    upstreams: tuple[tuple[str, int], ...],
    vantage: Vantage,
) -> tuple[Flow, ...]:
    """The same request past the proxy: at its upstream, or at the load balancer's addresses.

    Args:
        tables: Evidence so far.
        through: The requests of a visitor.
        upstreams: Addresses and ports that the proxy forwards to.
        vantage: Where the proxy stands.
    """
    inside = {v for s in tables.world.services.values() for v in s.vips}
    fronts = [
        (vip, _HTTP_PORT)
        for c in tables.get(Ingresses).controllers
        for k in c.services
        for vip in tables.world.services[k].vips
    ]
    flows = (
        _request(Purpose.UPSTREAM, vantage, parse_target(f.subject), address, port)
        for f in through
        if f.address not in inside and tables.world.bundle.question.urls
        for address, port in dict.fromkeys((*upstreams, *fronts))
    )
    return tuple({f.id: f for f in flows}.values())


def ingress(stage: Stage) -> Iterator[Flow]:
    """Ask the controllers' pods themselves, from their own node and from others."""
    table = stage.tables.get(Ingresses)
    world = stage.tables.world
    wanted = world.bundle.question.targets or tuple(t for t, _ in derived_targets(stage.tables))
    for controller in table.controllers:
        for key in controller.services:
            backend = world.backend(key, _http_port(world.services[key]))
            for endpoint in some(backend.ready):
                for node in _near_first(stage.nodes, endpoint.node):
                    for target in wanted:
                        yield flow(
                            Purpose.INGRESS,
                            Vantage(VantageKind.NODE, node),
                            FlowKind.HTTP,
                            endpoint.address,
                            endpoint.port,
                            name=target.host,
                            path=target.path,
                            subject=target.host,
                        )


def _near_first(nodes: tuple[str, ...], near: str) -> tuple[str, ...]:
    """Order nodes with one first, and bound them."""
    return tuple(sorted(nodes, key=lambda n: (n != near, n)))[:3]


def _http_port(service: Service) -> str:
    """Choose the Service's port for plain HTTP; 0 matches none."""
    ports = service.spec.ports or ()
    named = [p for p in ports if p.port == _HTTP_PORT or p.name in ("http", "web")]
    return str(named[0].port) if named else "0"
