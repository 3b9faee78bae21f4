"""Makers of Services, and of kube-proxy's rules for them on the nodes of a healthy cluster."""

from collections.abc import Iterable

import msgspec

from doctor.model.evidence import Backend, EndpointAddress, NodeNetworks
from doctor.model.kube import Meta, Service, ServicePort, ServiceSpec
from doctor.model.netfilter import Action, ServiceEntry
from doctor.model.node import NodeNetwork
from doctor.model.node_state import ProxyHealth
from doctor.model.proxying import ProxiedServices
from tests.rules.factories import DNS_IP, DNS_KEY, NAMES, ONE, PODS, TWO, network, networks

API_KEY = "default/kubernetes"
HOOK_KEY = "guard/policy"
NOW = "2026-01-01T12:00:00Z"
LATELY = "2026-01-01T11:59:58Z"
LONG_AGO = "2026-01-01T11:50:00Z"
HEALTHY = ProxyHealth("iptables", 200, NOW, NOW, eligible=True, ipv4_updated=LONG_AGO)
FRESH = msgspec.structs.replace(HEALTHY, ipv4_updated=LATELY)
HUNG = ProxyHealth(reason="it did not end in time")
BEHIND = msgspec.structs.replace(FRESH, status=503)


def service_port(  # noqa: PLR0913 - a Service has many parts
    key: str = DNS_KEY,
    address: str = DNS_IP,
    port: int = 53,
    *,
    protocol: str = "UDP",
    on: Iterable[str] = (ONE, TWO),
    unready: Iterable[str] = (),
    internal: str = "",
) -> Backend:
    """Make one port of a Service, with a ready endpoint on each of some nodes."""
    namespace, _, name = key.partition("/")
    ports = (ServicePort(port=port, protocol=protocol),)
    spec = ServiceSpec(cluster_ip=address, ports=ports, internal_traffic_policy=internal)
    ready = [EndpointAddress(PODS[n], port, ready=True, node=n) for n in on]
    others = [EndpointAddress(PODS[n], port, ready=False, node=n) for n in unready]
    meta = Meta(name=name, namespace=namespace)
    return Backend(key, Service(metadata=meta, spec=spec), ports[0], endpoints=(*ready, *others))


def addressed(item: Backend, first: str, each: tuple[str, ...] | None) -> Backend:
    """Give a Service other addresses of its own."""
    service = item.service or Service()
    spec = msgspec.structs.replace(service.spec, cluster_ip=first, cluster_ips=each)
    return msgspec.structs.replace(item, service=msgspec.structs.replace(service, spec=spec))


def proxied(*items: Backend) -> ProxiedServices:
    """Make the table: the DNS Service, or others in its place."""
    return ProxiedServices(items=items or (service_port(),), dns=DNS_KEY, webhooks=(HOOK_KEY,))


def entry(
    *endpoints: str,
    address: str = DNS_IP,
    port: int = 53,
    protocol: str = "udp",
    refusal: Action | None = None,
) -> ServiceEntry:
    """Make what rules do with one port of a Service."""
    return ServiceEntry(address, protocol, port, endpoints=endpoints, refusal=refusal)


RIGHT = entry(f"{PODS[ONE]}:53", f"{PODS[TWO]}:53")


def ruled(
    name: str, *entries: ServiceEntry, health: ProxyHealth | None = HEALTHY, **more: object
) -> NodeNetwork:
    """Make a node with such entries, and what kube-proxy says of itself there."""
    parts: dict[str, object] = {"services": entries, "proxy": health, **more}
    return msgspec.structs.replace(network(name), **parts)


def all_ruled(*changed: NodeNetwork) -> NodeNetworks:
    """Make the table of nodes, right on all but those that are given."""
    return networks(*(ruled(n, RIGHT) for n in NAMES), *changed)
