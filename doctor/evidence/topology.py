"""Build the map of addresses that paths are predicted on."""

from collections.abc import Container, Iterable

from doctor.bundle.schema import FlowRecord
from doctor.evidence.finders import flannel_conf
from doctor.evidence.resolving import upstreams
from doctor.evidence.states import ingresses, load_balancers
from doctor.evidence.world import World
from doctor.model.evidence import Ingresses
from doctor.model.flow import Purpose
from doctor.model.kube import EndpointSlice, Ingress
from doctor.model.resolver import ROOT
from doctor.model.target import host_matches
from doctor.path.topology import Pod, Route, Service, Topology

__all__ = ["overlay", "topology"]


def overlay(world: World) -> str:
    """Name the outer protocol of pod traffic between nodes; empty where it is routed."""
    _, conf = flannel_conf(world)
    return f"udp/{conf.port}" if conf and conf.port else ""


def topology(world: World) -> Topology:
    """Map the cluster."""
    services = {key: _service(world, key) for key in world.services}
    table = load_balancers(world)
    nodes = {a.address: n.name for n in world.nodes for a in n.status.addresses or ()}
    vips = {
        vip: services[s.key]
        for s in world.services.values()
        for vip in (*s.vips, *(s.spec.external_ips or ()))
        if vip not in nodes
    }
    return Topology(
        nodes=nodes,
        pods={
            p.status.pod_ip: Pod(key=p.key, node=p.node)
            for p in world.pods
            if p.status.pod_ip and not p.spec.host_network
        },
        services={
            s.spec.cluster_ip: services[key]
            for key, s in world.services.items()
            if s.spec.cluster_ip not in ("", "None")
        },
        vips=vips,
        announcers={v: n for s in table.services for v in s.vips if (n := table.announcer(s))},
        overlay=overlay(world),
        hosts=_hosts(world, services),
        resolvers=tuple(dict.fromkeys(u.address for u in upstreams(world).items if u.zone == ROOT)),
        proxies=_proxies(world, {*nodes, *vips}),
    )


def _service(world: World, key: str) -> Service:
    """Reduce a Service to its ready endpoints, all of them and by port."""
    slices = world.slices.get(key, [])
    spec = world.services[key].spec
    return Service(
        key=key,
        endpoints=_ready(slices),
        by_port={
            p.port: _ready(slices, {q.name for q in spec.ports or () if q.port == p.port})
            for p in spec.ports or ()
        },
        near_from_outside=spec.external_traffic_policy == "Local",
    )


def _ready(
    slices: Iterable[EndpointSlice], names: Container[str] | None = None
) -> tuple[tuple[str, int], ...]:
    """Return the ready endpoints of slices, of the ports with some names or of all ports."""
    ready = {
        (address, port.port or 0)
        for s in slices
        for port in s.ports or ()
        if names is None or port.name in names
        for e in s.endpoints or ()
        if e.ready
        for address in e.addresses
    }
    return tuple(sorted(ready))


def _hosts(world: World, services: dict[str, Service]) -> dict[str, Route]:
    """Lay out where each HTTP host leads."""
    table = ingresses(world)
    fronts = tuple(services[k] for c in table.controllers for k in c.services)
    names = {r.host for i in table.items for r in i.spec.rules or () if r.host}
    wanted = dict.fromkeys((*table.hosts, *sorted(names)))
    return {h.lower(): Route(fronts, _backends(table, services, h)) for h in wanted}


def _backends(table: Ingresses, services: dict[str, Service], host: str) -> tuple[Service, ...]:
    """Return the Services that rules for a host name."""
    keys = (key for item in table.items for key in _keys(item, host))
    return tuple(services.get(k, Service(key=k)) for k in dict.fromkeys(keys))


def _keys(item: Ingress, host: str) -> list[str]:
    """Name the Services of an Ingress's rules for a host."""
    backends = [
        path.backend.service
        for rule in item.spec.rules or ()
        if host_matches(rule.host, host)
        for path in (rule.http.paths if rule.http else ())
    ]
    return [f"{item.namespace}/{b.name}" for b in backends if b]


def _proxies(world: World, inside: set[str]) -> tuple[str, ...]:
    """Return the addresses that targets were dialled at and that are not the cluster's own."""
    dialled = (
        r.observation.flow.address
        for r in world.of(FlowRecord)
        if r.observation.flow.purpose is Purpose.TARGET
    )
    return tuple(sorted({a for a in dialled if a and a not in inside}))
