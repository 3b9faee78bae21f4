"""Plan the flows inside the cluster: pods, DNS, Services, webhooks, backends. Pure."""

from collections.abc import Iterator, Sequence

from doctor.bundle.schema import ProbePodRecord
from doctor.collect.flow import MOST_ENDPOINTS, MOST_VANTAGES, Stage, flow, some
from doctor.model.address import is_ipv4
from doctor.model.evidence import (
    Backend,
    Backends,
    DnsService,
    Ingresses,
    KubeProxy,
    NodeNetworks,
    Webhooks,
)
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.model.kube import Pod
from doctor.model.node import NodeNetwork
from doctor.parse.proxy_conf import server_place

__all__ = ["backend", "dns", "mesh", "proxy_api", "service_ip", "sizes", "webhook"]

_NEIGHBOURS = 4
"""Each node is tried against so many others, in a ring: cost grows with nodes, not their square."""

_SIZED = 2
"""So many of them are pinged: the paths are the same as those of the connections."""

_SAMPLES = 5
_LARGE_SAMPLES = 2
_DNS_SAMPLES = 3
_KUBELET_PORT = 10250


def mesh(stage: Stage) -> Iterator[Flow]:
    """Every node to its next few, by pod address, and by node address as the control."""
    targets = _pod_targets(stage)
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    for vantage in stage.vantages:
        for other in dict.fromkeys((*_ring(tuple(addresses), vantage.node), vantage.node)):
            for address, port in _tried(targets.get(other, ()), vantage, other):
                yield flow(Purpose.MESH, vantage, FlowKind.TCP, address, port, subject=other)
            if vantage.kind is VantageKind.POD and other == vantage.node and other in addresses:
                yield _kubelet(Purpose.OWN_NODE, vantage, addresses[other], other)
            if vantage.kind is VantageKind.NODE and other != vantage.node:
                yield _kubelet(Purpose.UNDERLAY, vantage, addresses[other], other)


def _kubelet(purpose: Purpose, vantage: Vantage, address: str, node: str) -> Flow:
    """To the port of a node that its kubelet listens on."""
    return flow(purpose, vantage, FlowKind.TCP, address, _KUBELET_PORT, subject=node)


def sizes(stage: Stage) -> Iterator[Flow]:
    """From each node to its next two and to a pod there: small pings, and ones of full size.

    The small ones are the control: where pings are filtered, the large ones prove nothing.
    """
    networks = stage.tables.get(NodeNetworks)
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    pods = {r.node: r.address for r in stage.tables.world.of(ProbePodRecord) if r.address}
    for node in stage.nodes:
        read, vantage = networks.of(node), Vantage(VantageKind.NODE, node)
        for other in _ring(tuple(addresses), node)[:_SIZED] if read else ():
            peer = networks.of(other)
            for purpose, address, size in (
                (
                    Purpose.UNDERLAY_SIZE,
                    addresses[other],
                    _smaller(
                        _uplink_mtu(read, addresses[node]), _uplink_mtu(peer, addresses[other])
                    ),
                ),
                (Purpose.MESH_SIZE, pods.get(other, ""), _smaller(_pod_mtu(read), _pod_mtu(peer))),
            ):
                if address and size:
                    yield from _pings(purpose, vantage, address, size, other)


def _pings(
    purpose: Purpose, vantage: Vantage, address: str, size: int, subject: str
) -> Iterator[Flow]:
    """A fixed number of small pings, and a few of full size."""
    for whole, samples in ((0, _SAMPLES), (size, _LARGE_SAMPLES)):
        yield flow(
            purpose,
            vantage,
            FlowKind.PING,
            address,
            subject=subject,
            size=whole,
            samples=samples,
        )


def _smaller(ours: int, theirs: int) -> int:
    """Return the size that both ends promise; 0 where nothing is known of ours."""
    return min(ours, theirs or ours)


def _uplink_mtu(read: NodeNetwork | None, address: str) -> int:
    """Return the MTU of the interface that has a node's own address; 0 where it was not read."""
    found = (
        link.mtu
        for link in (read.links if read else ())
        if address in {a.partition("/")[0] for a in link.addresses}
    )
    return next(found, 0)


def _pod_mtu(read: NodeNetwork | None) -> int:
    """Return the MTU that flannel gives to pods of a node; 0 where it was not read."""
    return read.subnet_env.mtu if read and read.subnet_env else 0


def _ring(names: tuple[str, ...], of: str) -> tuple[str, ...]:
    """Return the next few names after one, in a ring."""
    ordered = sorted(names)
    start = ordered.index(of) + 1 if of in ordered else 0
    return tuple((ordered[start:] + ordered[:start])[:_NEIGHBOURS])


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


def dns(stage: Stage) -> Iterator[Flow]:
    """From every vantage, to the Service and to every replica, over UDP and TCP."""
    table = stage.tables.get(DnsService)
    if table.backend is None or table.backend.service is None:
        return
    name = f"kubernetes.default.svc.{table.domain}."
    key = table.backend.key
    replicas = some(table.backend.ready)
    for vantage in stage.vantages:
        for address, port in [
            (table.backend.service.spec.cluster_ip, 53),
            *((r.address, r.port) for r in replicas),
        ]:
            for kind, samples in ((FlowKind.DNS_UDP, _DNS_SAMPLES), (FlowKind.DNS_TCP, 1)):
                yield flow(
                    Purpose.DNS,
                    vantage,
                    kind,
                    address,
                    port,
                    name=name,
                    subject=key,
                    samples=samples,
                )
        for replica in replicas if table.control_port else ():
            yield flow(
                Purpose.DNS_CONTROL,
                vantage,
                FlowKind.TCP,
                replica.address,
                table.control_port,
                subject=key,
            )


def service_ip(stage: Stage) -> Iterator[Flow]:
    """The API server at its ClusterIP, and directly."""
    backend = stage.tables.world.backend("default/kubernetes")
    if backend.service is None or backend.port is None:
        return
    address, port = backend.service.spec.cluster_ip, backend.port.port
    for vantage in stage.vantages:
        yield flow(
            Purpose.SERVICE_IP, vantage, FlowKind.TCP, address, port, subject="default/kubernetes"
        )
        for endpoint in some(backend.ready):
            yield flow(
                Purpose.API_DIRECT,
                vantage,
                FlowKind.TCP,
                endpoint.address,
                endpoint.port,
                subject="default/kubernetes",
            )


def proxy_api(stage: Stage) -> Iterator[Flow]:
    """The API server where kube-proxy is told to find it, if that is none of its endpoints."""
    host, port = server_place(stage.tables.get(KubeProxy).server)
    known = {(e.address, e.port) for e in stage.tables.world.backend("default/kubernetes").ready}
    if is_ipv4(host) and (host, port) not in known:
        for node in stage.nodes:
            vantage = Vantage(VantageKind.NODE, node)
            yield flow(Purpose.PROXY_API, vantage, FlowKind.TCP, host, port, subject="kube-proxy")


def webhook(stage: Stage) -> Iterator[Flow]:
    """From control-plane nodes, as the API server dials: the ClusterIP, and each endpoint.

    A certificate is the same wherever it is looked at: without such a node, others have it shown.
    """
    planes = [n.name for n in stage.tables.world.nodes if n.control_plane and n.name in stage.nodes]
    backends = {
        (w.backend.key, w.backend.port.port): w.backend
        for w in stage.tables.get(Webhooks).items
        if w.backend.service and w.backend.port and w.backend.ready
    }
    for (_, port), backend in backends.items():
        for vantage in (Vantage(VantageKind.NODE, node) for node in planes):
            address = backend.service.spec.cluster_ip if backend.service else ""
            yield flow(Purpose.WEBHOOK, vantage, FlowKind.TCP, address, port, subject=backend.key)
            yield from _to_endpoints(Purpose.WEBHOOK, vantage, backend)
        yield from _certificates(stage, planes, backend)


def _certificates(stage: Stage, planes: Sequence[str], backend: Backend) -> Iterator[Flow]:
    """Have a webhook's endpoints show their certificates."""
    namespace, _, name = backend.key.partition("/")
    for endpoint in some(backend.ready):
        vantages = [Vantage(VantageKind.NODE, n) for n in planes]
        for vantage in vantages or _stand_in(stage, endpoint.node):
            yield flow(
                Purpose.WEBHOOK_TLS,
                vantage,
                FlowKind.TLS,
                endpoint.address,
                endpoint.port,
                name=f"{name}.{namespace}.svc",
                subject=backend.key,
            )


def _stand_in(stage: Stage, near: str) -> list[Vantage]:
    """Choose one place inside the cluster, best on a node, where least lies in between."""
    places = (
        *(Vantage(VantageKind.NODE, n) for n in stage.nodes),
        *(Vantage(VantageKind.POD, n) for n in stage.pods),
    )
    return sorted(places, key=lambda v: v.node != near)[:1]


def _to_endpoints(purpose: Purpose, vantage: Vantage, backend: Backend) -> Iterator[Flow]:
    """TCP to a backend's ready endpoints."""
    for endpoint in some(backend.ready):
        yield flow(
            purpose, vantage, FlowKind.TCP, endpoint.address, endpoint.port, subject=backend.key
        )


def backend(stage: Stage) -> Iterator[Flow]:
    """To what stands behind the Ingresses, from where the controllers run; readiness repeated."""
    places = _controller_nodes(stage)[:MOST_VANTAGES]
    table = stage.tables.get(Backends)
    for backend in table.items:
        for node in places:
            kind = VantageKind.POD if node in stage.pods else VantageKind.NODE
            if node in stage.pods or node in stage.nodes:
                yield from _to_endpoints(Purpose.BACKEND, Vantage(kind, node), backend)
        if backend.port and backend.port.node_port and backend.port.protocol == "TCP":
            yield from _node_port(stage, backend.key, backend.port.node_port)
        for pod in backend.pods[:MOST_ENDPOINTS]:
            if pod.node in stage.nodes and not pod.ready and pod.status.pod_ip:
                yield from _readiness(pod)


def _node_port(stage: Stage, key: str, port: int) -> Iterator[Flow]:
    """Each node's own node port, from the node itself: whatever filters stand before it."""
    addresses = {n.name: n.address for n in stage.tables.world.linux if n.address}
    for node in stage.nodes[:MOST_VANTAGES]:
        if node in addresses:
            vantage = Vantage(VantageKind.NODE, node)
            yield flow(Purpose.NODE_PORT, vantage, FlowKind.TCP, addresses[node], port, subject=key)


def _controller_nodes(stage: Stage) -> tuple[str, ...]:
    """Return the nodes on which ingress controllers run."""
    controllers = stage.tables.get(Ingresses).controllers
    return tuple(sorted({p.node for c in controllers for p in c.pods if p.ready}))


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
