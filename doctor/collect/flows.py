"""Plan the flows of a run: which questions are asked, from where. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from doctor.bundle.schema import ProbePodRecord
from doctor.evidence.measurements import dependants
from doctor.evidence.tables import Source, Tables, Wave
from doctor.model.evidence import (
    Backend,
    Backends,
    DnsService,
    EndpointAddress,
    Ingresses,
    LoadBalancers,
    NodeNetworks,
    Webhooks,
)
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import Pod, Service
from doctor.model.node import Link
from doctor.model.target import Target, parse_target

__all__ = ["Stage", "derived_targets", "plan", "plan_egress", "plan_targets", "plan_upstreams"]

_NEIGHBOURS = 4
"""Each node is tried against so many others, in a ring: cost grows with nodes, not their square."""

_MOST_ENDPOINTS = 4
_MOST_VANTAGES = 8
_MOST_EGRESS = 12
_KUBELET_PORT = 10250
_HTTP_PORT = 80
_MACHINE = Vantage(VantageKind.MACHINE)
_NOT_UPLINKS = ("lo", "cni", "flannel", "veth", "docker", "cali", "kube-", "tunl", "br-")


class Stage(msgspec.Struct, frozen=True):
    """What is known when flows are planned.

    Args:
        tables: Evidence so far: states, node facts, probe pods.
        nodes: Nodes that can be entered.
        pods: Nodes with a running probe pod.
        waves: What is wanted.
    """

    tables: Tables
    nodes: tuple[str, ...]
    pods: tuple[str, ...]
    waves: frozenset[Source]

    @property
    def vantages(self) -> tuple[Vantage, ...]:
        """All vantages inside the cluster."""
        return (
            *(Vantage(VantageKind.POD, n) for n in self.pods),
            *(Vantage(VantageKind.NODE, n) for n in self.nodes),
        )


def flow(  # noqa: PLR0913 - these are a flow's parts
    purpose: Purpose,
    vantage: Vantage,
    kind: FlowKind,
    address: str,
    port: int = 0,
    *,
    name: str = "",
    path: str = "/",
    subject: str = "",
) -> Flow:
    """Make a flow with an id that says what it is."""
    where = f"{vantage.kind}@{vantage.node}" if vantage.node else str(vantage.kind)
    to = f"{address}:{port}" if port else address
    tail = "" if kind in (FlowKind.TCP, FlowKind.DNS_TCP, FlowKind.DNS_UDP) else f":{name}"
    if purpose in (Purpose.EGRESS, Purpose.EGRESS_NAME):
        tail = f":{subject}"
    if kind is FlowKind.HTTP:
        tail += path
    return Flow(
        id=f"{purpose}:{where}>{kind}:{to}{tail}",
        purpose=purpose,
        vantage=vantage,
        kind=kind,
        address=address,
        port=port,
        name=name,
        path=path,
        subject=subject,
    )


def plan(stage: Stage) -> tuple[Flow, ...]:
    """Plan all flows that need nothing but states and node facts, each id once."""
    planners = {
        Wave.MESH: _mesh,
        Wave.DNS: _dns,
        Wave.SERVICE_IP: _service_ip,
        Wave.WEBHOOK: _webhook,
        Wave.BACKEND: _backend,
        Wave.VIP: _vip,
        Wave.INGRESS: _ingress,
        Wave.EGRESS: _egress_names,
    }
    flows = (f for wave, make in planners.items() if wave in stage.waves for f in make(stage))
    return tuple({f.id: f for f in flows}.values())


def _ring(names: tuple[str, ...], of: str) -> tuple[str, ...]:
    """Return the next few names after one, in a ring."""
    ordered = sorted(names)
    start = ordered.index(of) + 1 if of in ordered else 0
    return tuple((ordered[start:] + ordered[:start])[:_NEIGHBOURS])


def _mesh(stage: Stage) -> Iterator[Flow]:
    """Every node to its next few, by pod address, and by node address as the control."""
    targets = _pod_targets(stage)
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    for vantage in stage.vantages:
        for other in dict.fromkeys((*_ring(tuple(addresses), vantage.node), vantage.node)):
            for address, port in _tried(targets.get(other, ()), vantage, other):
                yield flow(Purpose.MESH, vantage, FlowKind.TCP, address, port, subject=other)
            if vantage.kind is VantageKind.NODE and other != vantage.node:
                yield flow(
                    Purpose.UNDERLAY,
                    vantage,
                    FlowKind.TCP,
                    addresses[other],
                    _KUBELET_PORT,
                    subject=other,
                )


def _tried(
    targets: tuple[tuple[str, int], ...], vantage: Vantage, other: str
) -> tuple[tuple[str, int], ...]:
    """A probe pod dialling itself crosses nothing: on its own node it tries another pod."""
    own = vantage.kind is VantageKind.POD and vantage.node == other
    return targets[1:2] if own else targets[:1]


def _pod_targets(stage: Stage) -> dict[str, tuple[tuple[str, int], ...]]:
    """Per node, addresses that answer TCP: the probe pod's first, then a ready endpoint's."""
    found: dict[str, list[tuple[str, int]]] = {n.name: [] for n in stage.tables.world.linux}
    for record in stage.tables.world.of(ProbePodRecord):
        if record.address:
            found.setdefault(record.node, []).append((record.address, record.port))
    world = stage.tables.world
    pods = {p.status.pod_ip: p for p in world.pods if p.ready and not p.spec.host_network}
    for key in sorted(world.slices):
        for item in world.slices[key]:
            for port in item.ports or ():
                for endpoint in item.endpoints or ():
                    pod = pods.get(next(iter(endpoint.addresses), ""))
                    if pod and endpoint.ready and port.protocol == "TCP" and port.port:
                        found.setdefault(pod.node, []).append((pod.status.pod_ip, port.port))
    return {node: tuple(addresses) for node, addresses in found.items()}


def _dns(stage: Stage) -> Iterator[Flow]:
    """From every vantage, to the Service and to every replica, over UDP and TCP."""
    table = stage.tables.get(DnsService)
    if table.backend is None or table.backend.service is None:
        return
    name = f"kubernetes.default.svc.{table.domain}."
    key = table.backend.key
    replicas = _some(table.backend.ready)
    for vantage in stage.vantages:
        for address, port in [
            (table.backend.service.spec.cluster_ip, 53),
            *((r.address, r.port) for r in replicas),
        ]:
            for kind in (FlowKind.DNS_UDP, FlowKind.DNS_TCP):
                yield flow(Purpose.DNS, vantage, kind, address, port, name=name, subject=key)
        for replica in replicas if table.control_port else ():
            yield flow(
                Purpose.DNS_CONTROL,
                vantage,
                FlowKind.TCP,
                replica.address,
                table.control_port,
                subject=key,
            )


def _some(endpoints: Iterable[EndpointAddress]) -> tuple[EndpointAddress, ...]:
    """Bound the endpoints that are tried, always the same ones, each address once."""
    unique = {e.address: e for e in sorted(endpoints, key=lambda e: (e.node, e.address))}
    return tuple(unique.values())[:_MOST_ENDPOINTS]


def _service_ip(stage: Stage) -> Iterator[Flow]:
    """The API server at its ClusterIP, and directly."""
    backend = stage.tables.world.backend("default/kubernetes")
    if backend.service is None or backend.port is None:
        return
    address, port = backend.service.spec.cluster_ip, backend.port.port
    for vantage in stage.vantages:
        yield flow(
            Purpose.SERVICE_IP, vantage, FlowKind.TCP, address, port, subject="default/kubernetes"
        )
        for endpoint in _some(backend.ready):
            yield flow(
                Purpose.API_DIRECT,
                vantage,
                FlowKind.TCP,
                endpoint.address,
                endpoint.port,
                subject="default/kubernetes",
            )


def _webhook(stage: Stage) -> Iterator[Flow]:
    """From control-plane nodes, as the API server dials: the ClusterIP, and each endpoint."""
    planes = [n.name for n in stage.tables.world.nodes if n.control_plane]
    backends = {w.backend.key: w.backend for w in stage.tables.get(Webhooks).items}
    for node in (n for n in planes if n in stage.nodes):
        vantage = Vantage(VantageKind.NODE, node)
        for backend in backends.values():
            if backend.service is None or backend.port is None or not backend.ready:
                continue
            yield flow(
                Purpose.WEBHOOK,
                vantage,
                FlowKind.TCP,
                backend.service.spec.cluster_ip,
                backend.port.port,
                subject=backend.key,
            )
            yield from _to_endpoints(Purpose.WEBHOOK, vantage, backend)


def _to_endpoints(purpose: Purpose, vantage: Vantage, backend: Backend) -> Iterator[Flow]:
    """TCP to a backend's ready endpoints."""
    for endpoint in _some(backend.ready):
        yield flow(
            purpose, vantage, FlowKind.TCP, endpoint.address, endpoint.port, subject=backend.key
        )


def _controller_nodes(stage: Stage) -> tuple[str, ...]:
    """Return the nodes on which ingress controllers run."""
    controllers = stage.tables.get(Ingresses).controllers
    return tuple(sorted({p.node for c in controllers for p in c.pods if p.ready}))


def _backend(stage: Stage) -> Iterator[Flow]:
    """To what stands behind the Ingresses, from where the controllers run; readiness repeated."""
    places = _controller_nodes(stage)[:_MOST_VANTAGES]
    table = stage.tables.get(Backends)
    for backend in table.items:
        for node in places:
            kind = VantageKind.POD if node in stage.pods else VantageKind.NODE
            if node in stage.pods or node in stage.nodes:
                yield from _to_endpoints(Purpose.BACKEND, Vantage(kind, node), backend)
        for pod in backend.pods[:_MOST_ENDPOINTS]:
            if pod.node in stage.nodes and not pod.ready and pod.status.pod_ip:
                yield from _readiness(pod)


def _readiness(pod: Pod) -> Iterator[Flow]:
    """Repeat the kubelet's readiness request, from where the kubelet sends it."""
    for container in pod.spec.containers:
        request = container.readiness_probe.http_get if container.readiness_probe else None
        ports = {p.name: p.container_port for p in container.ports or ()}
        if request is None or request.scheme.upper() != "HTTP":
            continue
        port = ports.get(str(request.port), 0) or (
            int(request.port) if str(request.port).isdecimal() else 0
        )
        if port:
            yield flow(
                Purpose.READINESS,
                Vantage(VantageKind.NODE, pod.node),
                FlowKind.HTTP,
                pod.status.pod_ip,
                port,
                name=pod.status.pod_ip,
                path=request.path or "/",
                subject=pod.key,
            )


def _vip(stage: Stage) -> Iterator[Flow]:
    """Who owns the VIP, asked of the segment; and TCP to it from this machine."""
    table = stage.tables.get(LoadBalancers)
    networks = stage.tables.get(NodeNetworks)
    for service in _wanted(table):
        for vip in service.vips:
            yield from _arp(stage, networks, vip, table.announcer(service))
            port = next((p.port for p in service.spec.ports or () if p.protocol == "TCP"), 0)
            if port:
                yield flow(Purpose.VIP, _MACHINE, FlowKind.TCP, vip, port, subject=service.key)


def _wanted(table: LoadBalancers) -> list[Service]:
    """Return the Services of interest that have an address."""
    return [s for s in table.services if s.key in table.wanted and s.vips]


def _arp(stage: Stage, networks: NodeNetworks, vip: str, announcer: str) -> Iterator[Flow]:
    """ARP for a VIP from nodes it is on-link of, and for another node as the control."""
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    askers = [n for n in stage.nodes if n != announcer][:_MOST_VANTAGES]
    for node in askers:
        found = networks.of(node)
        device = _on_link(found.links, vip) if found else ""
        if not device:
            continue
        vantage = Vantage(VantageKind.NODE, node)
        yield flow(Purpose.VIP_ARP, vantage, FlowKind.ARP, vip, name=device, subject=vip)
        for other, address in addresses.items():
            if other != node and found and _on_link(found.links, address) == device:
                yield flow(
                    Purpose.ARP_CONTROL, vantage, FlowKind.ARP, address, name=device, subject=other
                )
                break


def _on_link(links: Iterable[Link], address: str) -> str:
    """Return the uplink whose network holds an address; empty where none does."""
    wanted = ipaddress.ip_address(address)
    for link in links:
        if link.name.startswith(_NOT_UPLINKS):
            continue
        if any(wanted in ipaddress.ip_interface(own).network for own in link.addresses):
            return link.name
    return ""


def derived_targets(tables: Tables) -> tuple[tuple[Target, str], ...]:
    """Derive targets from the Ingress hosts, each with the load balancer address to dial."""
    table = tables.get(Ingresses)
    services = tables.world.services
    vips = [v for c in table.controllers for k in c.services for v in services[k].vips]
    names = dict.fromkeys(
        r.host.lower()
        for i in table.items
        for r in i.spec.rules or ()
        if r.host and not r.host.startswith("*")
    )
    return tuple((parse_target(f"http://{h}/"), vips[0]) for h in names) if vips else ()


def plan_targets(tables: Tables, resolved: dict[str, tuple[str, ...]]) -> tuple[Flow, ...]:
    """What a visitor does: ask each URL at the address that its name resolves to.

    Args:
        tables: Evidence so far.
        resolved: Addresses by host, for the URLs that were asked for.
    """
    given = tables.world.bundle.question.targets
    pairs = (
        [(t, a) for t in given for a in resolved.get(t.host, ())[:1]]
        if given
        else list(derived_targets(tables))
    )
    return tuple(_request(Purpose.TARGET, t, address, t.port) for t, address in pairs)


def _request(purpose: Purpose, target: Target, address: str, port: int) -> Flow:
    """One request for a target, at some address."""
    return flow(
        purpose,
        _MACHINE,
        FlowKind.HTTP,
        address,
        port,
        name=target.host_header,
        path=target.path,
        subject=target.url,
    )


def plan_upstreams(
    tables: Tables, through: tuple[Flow, ...], upstreams: tuple[tuple[str, int], ...]
) -> tuple[Flow, ...]:
    """The same request past the proxy: at its upstream, or at the load balancer's addresses."""
    inside = {v for s in tables.world.services.values() for v in s.vips}
    fronts = [
        (vip, _HTTP_PORT)
        for c in tables.get(Ingresses).controllers
        for k in c.services
        for vip in tables.world.services[k].vips
    ]
    flows = (
        _request(Purpose.UPSTREAM, parse_target(f.subject), address, port)
        for f in through
        if f.address not in inside and tables.world.bundle.question.urls
        for address, port in dict.fromkeys((*upstreams, *fronts))
    )
    return tuple({f.id: f for f in flows}.values())


def _ingress(stage: Stage) -> Iterator[Flow]:
    """Ask the controllers' pods themselves, from their own node and from others."""
    table = stage.tables.get(Ingresses)
    world = stage.tables.world
    wanted = world.bundle.question.targets or tuple(t for t, _ in derived_targets(stage.tables))
    for controller in table.controllers:
        for key in controller.services:
            backend = world.backend(key, _http_port(world.services[key]))
            for endpoint in _some(backend.ready):
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


def _outside(stage: Stage) -> list[tuple[str, str, int, tuple[Pod, ...]]]:
    """List dependencies that are not Services of the cluster: subject, host, port, dependants."""
    services = stage.tables.world.services
    found = []
    for subject, pods in dependants(stage.tables.world).items():
        host, _, port = subject.rpartition(":")
        own = host in ("localhost", "0.0.0.0", "127.0.0.1")  # noqa: S104 - not bound
        if not own and not _inside(host, services):
            found.append((subject, host, int(port), pods))
    return found[:_MOST_EGRESS]


def _inside(host: str, services: dict[str, Service]) -> bool:
    """Say whether a host is a Service: by its address, or its name with as much as pods may write.

    That is ``name``, ``name.namespace``, ``name.namespace.svc`` and so on, and the same after a
    pod's own name.
    """
    words = host.split(".")
    if any(host in (s.name, s.spec.cluster_ip) for s in services.values()):
        return True
    return any(
        "/".join(part[1::-1]) in services and part[2:3] in ([], ["svc"])
        for part in (words, words[1:])
    )


def _egress_vantages(stage: Stage, pods: tuple[Pod, ...]) -> tuple[Vantage, ...]:
    """From where the dependants run, from other nodes too: in a pod, and on the node itself."""
    own = {p.node for p in pods if p.node}
    nodes = sorted({*stage.pods, *stage.nodes}, key=lambda n: (n not in own, n))[:3]
    return tuple(v for n in nodes for v in stage.vantages if v.node == n)


def _egress_names(stage: Stage) -> Iterator[Flow]:
    """Resolve what failing workloads depend on, as they would."""
    table = stage.tables.get(DnsService)
    service = table.backend.service if table.backend else None
    if service is None:
        return
    for subject, host, _, pods in _outside(stage):
        if _is_address(host):
            continue
        for vantage in _egress_vantages(stage, pods):
            if vantage.kind is VantageKind.POD:
                yield flow(
                    Purpose.EGRESS_NAME,
                    vantage,
                    FlowKind.DNS_UDP,
                    service.spec.cluster_ip,
                    53,
                    name=f"{host}.",
                    subject=subject,
                )


def _is_address(host: str) -> bool:
    """Say whether a host is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def plan_egress(stage: Stage, seen: Iterable[Observation]) -> tuple[Flow, ...]:
    """Connect to what the names resolved to, from pods and from nodes."""
    if Wave.EGRESS not in stage.waves:
        return ()
    resolved = {
        o.flow.subject: o.answers[0]
        for o in seen
        if o.flow.purpose is Purpose.EGRESS_NAME and o.answers
    }
    flows = (
        flow(Purpose.EGRESS, v, FlowKind.TCP, address, port, name=host, subject=subject)
        for subject, host, port, pods in _outside(stage)
        if (address := host if _is_address(host) else resolved.get(subject, ""))
        for v in _egress_vantages(stage, pods)
    )
    return tuple({f.id: f for f in flows}.values())
