"""Predict the hops that a flow crosses, the reply's included."""

from collections.abc import Iterable, Iterator

import msgspec

from doctor.model.flow import Flow, FlowKind, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.path.topology import Pod, Route, Service, Topology

__all__ = ["Path", "predict"]


class Path(msgspec.Struct, frozen=True):
    """The hops of a flow, in order, each once.

    Args:
        hops: All that it may cross. A Service stands for all its endpoints: which of them a packet
            meets is not known beforehand, so the ways to all are listed.
        certain: Those that it crosses whichever endpoint it meets.
    """

    hops: tuple[Hop, ...]
    certain: tuple[Hop, ...]


class _Either(msgspec.Struct, frozen=True):
    """Ways of which a packet takes one."""

    ways: tuple[tuple["_Step", ...], ...]


_Step = Hop | _Either
_Steps = Iterator[_Step]
Ends = tuple[tuple[str, int], ...]


def predict(flow: Flow, topology: Topology) -> Path:
    """Predict the path of a flow."""
    steps = tuple(_hops(flow, topology))
    return Path(tuple(dict.fromkeys(_all(steps))), tuple(dict.fromkeys(_certain(steps))))


def _all(steps: Iterable[_Step]) -> Iterator[Hop]:
    """Yield the hops of all ways."""
    for step in steps:
        if isinstance(step, Hop):
            yield step
        else:
            for way in step.ways:
                yield from _all(way)


def _certain(steps: Iterable[_Step]) -> Iterator[Hop]:
    """Yield the hops that every way has."""
    for step in steps:
        if isinstance(step, Hop):
            yield step
        elif step.ways:
            first, *others = (tuple(_certain(way)) for way in step.ways)
            shared = set(first).intersection(*others)
            yield from (h for h in first if h in shared)


def _either(ways: Iterable[_Steps]) -> _Either:
    """Join ways of which a packet takes one."""
    return _Either(tuple(tuple(way) for way in ways))


def _hops(flow: Flow, topology: Topology) -> _Steps:
    """Yield the steps of a flow, with repetitions."""
    if flow.vantage.kind is VantageKind.POD:
        yield Hop(HopKind.POD_NETWORK, flow.vantage.node)
    if flow.kind is FlowKind.ARP:
        yield Hop(HopKind.ARP, flow.address)
    elif flow.kind is FlowKind.RESOLVE:
        yield Hop(HopKind.DNS_NAME, flow.name)
    elif flow.purpose is Purpose.TARGET:
        yield from _target(flow, topology)
    elif flow.purpose is Purpose.NODE_PORT:
        yield from _to_node_port(flow, topology)
    elif flow.purpose in (Purpose.EGRESS, Purpose.EGRESS_NAME, Purpose.RESOLVER):
        yield from _outside(flow, topology)
    else:
        yield from _to(flow, flow.address, topology)
        if flow.purpose in (Purpose.FORWARDED, Purpose.SEARCH):
            yield _either(_handed_on(flow.address, u, topology) for u in topology.resolvers)
            yield _perhaps_handed_on(flow.address, topology)
        if flow.purpose in (Purpose.INGRESS, Purpose.UPSTREAM):
            yield from _behind(flow, flow.address, topology)


def _to(flow: Flow, address: str, topology: Topology) -> _Steps:
    """Yield the hops from the flow's vantage to an address of the cluster."""
    node = flow.vantage.node
    if address in topology.nodes:
        there = topology.nodes[address]
        yield from _to_node(node, there, flow.protocol, from_pod=_forwards(flow))
    elif address in topology.pods:
        pod = topology.pods[address]
        yield from _to_pod(node, pod, flow.protocol, topology, from_pod=_forwards(flow))
    elif address in topology.services:
        yield from _to_service(node, topology.services[address], flow, topology)
    elif address in topology.vips:
        yield from _to_vip(address, flow, topology)
    elif flow.purpose is Purpose.UPSTREAM:
        yield from _to_unassigned(flow, topology)


def _to_node(node: str, there: str, protocol: str, *, from_pod: bool) -> _Steps:
    """Yield the path to a node's own address; what a pod sends to another node is forwarded."""
    if from_pod and node:
        yield Hop(HopKind.HOST_INPUT if node == there else HopKind.FORWARD, node, protocol)
    yield from _between(node, there, protocol)


def _handed_on(replica: str, resolver: str, topology: Topology) -> _Steps:
    """Yield the way of a question that a replica of CoreDNS hands on to a resolver."""
    if replica in topology.pods:
        yield from _replica_out(topology.pods[replica].node)
    yield Hop(HopKind.EGRESS, resolver, "udp/53")


def _perhaps_handed_on(service: str, topology: Topology) -> _Either:
    """Join the ways out of the replicas behind a DNS Service; an answer that is kept takes none."""
    ends = topology.services[service].endpoints if service in topology.services else ()
    nodes = {topology.pods[a].node for a, _ in ends if a in topology.pods}
    return _either((*(_replica_out(n) for n in sorted(nodes)), iter(())))


def _replica_out(node: str) -> _Steps:
    """Yield what a node does with questions that a replica of CoreDNS sends out of the cluster.

    Rules may translate the addresses of some pods and not of others, such as older ones.
    """
    yield Hop(HopKind.FORWARD, node, "udp/53")
    yield Hop(HopKind.MASQUERADE, node, "dns")


def _forwards(flow: Flow) -> bool:
    """Say whether the packet is forwarded by its first node, rather than sent by it."""
    return flow.vantage.kind is not VantageKind.NODE


def _between(a: str, b: str, protocol: str) -> _Steps:
    """Yield the underlay in both directions; nothing within a node or from this machine."""
    if a and b and a != b:
        yield Hop(HopKind.UNDERLAY, f"{a}>{b}", protocol)
        yield Hop(HopKind.UNDERLAY, f"{b}>{a}", protocol)


def _to_pod(node: str, pod: Pod, protocol: str, topology: Topology, *, from_pod: bool) -> _Steps:
    """Yield the path to one pod, the reply's hops included."""
    if from_pod and node:
        yield Hop(HopKind.FORWARD, node, protocol)
    if node != pod.node:
        yield from _between(node, pod.node, topology.overlay or protocol)
        yield Hop(HopKind.FORWARD, pod.node, protocol)
    yield Hop(HopKind.POD_NETWORK, pod.node)
    yield Hop(HopKind.POD, pod.key, protocol)


def _to_service(node: str, service: Service, flow: Flow, topology: Topology) -> _Steps:
    """Yield translation on the vantage's node, the Service, and the paths to its endpoints."""
    if node:
        yield Hop(HopKind.KUBE_PROXY, node)
    yield Hop(HopKind.SERVICE, service.key)
    ends = service.towards(flow.port)
    if service.near and node:
        ends = _near(node, ends, topology)
    yield _ways(node, ends, flow.protocol, topology, from_pod=_forwards(flow))


def _near(node: str, ends: Ends, topology: Topology) -> Ends:
    """Select the endpoints on a node."""
    pods, nodes = topology.pods, topology.nodes
    return tuple(e for e in ends if (pods[e[0]].node if e[0] in pods else nodes.get(e[0])) == node)


def _ways(node: str, ends: Ends, protocol: str, topology: Topology, *, from_pod: bool) -> _Either:
    """Join the paths from a node to the endpoints of a Service."""
    kind = protocol.partition("/")[0]
    return _either(
        _endpoint(node, address, f"{kind}/{port}", topology, from_pod=from_pod)
        for address, port in ends
    )


def _endpoint(
    node: str, address: str, protocol: str, topology: Topology, *, from_pod: bool
) -> _Steps:
    """Yield the path from a node to one endpoint, a pod's or a node's own."""
    if address in topology.pods:
        yield from _to_pod(node, topology.pods[address], protocol, topology, from_pod=from_pod)
    elif address in topology.nodes:
        yield from _to_node(node, topology.nodes[address], protocol, from_pod=from_pod)


def _to_vip(address: str, flow: Flow, topology: Topology) -> _Steps:
    """Yield the path to a load balancer's address.

    A node translates it by itself and never asks who owns it; all others meet the announcer.
    """
    service = topology.vips[address]
    node = flow.vantage.node
    if not node:
        yield Hop(HopKind.ASSIGN, service.key)
        yield Hop(HopKind.ANNOUNCE, address)
        yield Hop(HopKind.ARP, address)
        node = topology.announcers.get(address, "")
    yield Hop(HopKind.KUBE_PROXY, node or ANY)
    yield Hop(HopKind.SERVICE, service.key)
    ends = service.towards(flow.port)
    if service.near_from_outside and node and not flow.vantage.node:
        ends = _near(node, ends, topology)
    yield _ways(node, ends, flow.protocol, topology, from_pod=True)


def _to_node_port(flow: Flow, topology: Topology) -> _Steps:
    """Yield the path to a Service by a port of a node, which that node translates."""
    node = topology.nodes.get(flow.address, "")
    yield from _between(flow.vantage.node, node, flow.protocol)
    yield Hop(HopKind.KUBE_PROXY, node or ANY)
    service = next((s for s in topology.services.values() if s.key == flow.subject), None)
    if service is None:
        return
    yield Hop(HopKind.SERVICE, service.key)
    ends = service.endpoints
    if service.near_from_outside:
        ends = _near(node, ends, topology)
    yield _ways(node, ends, flow.protocol, topology, from_pod=True)


def _to_unassigned(flow: Flow, topology: Topology) -> _Steps:
    """Yield the hops to an address that no load balancer has assigned, as a proxy's may be."""
    route = topology.hosts.get(flow.name.partition(":")[0].lower(), Route())
    for service in route.controllers:
        yield Hop(HopKind.ASSIGN, service.key)
        yield Hop(HopKind.SERVICE, service.key)


def _target(flow: Flow, topology: Topology) -> _Steps:
    """Yield what a visitor's request crosses, from the name to the application."""
    host = flow.name.partition(":")[0].lower()
    yield Hop(HopKind.DNS_NAME, host)
    if flow.address in topology.proxies:
        yield Hop(HopKind.HOST_PROXY, flow.address, f"tcp/{flow.port}")
    route = topology.hosts.get(host, Route())
    vips = [v for v, s in topology.vips.items() if s in route.controllers or not route.controllers]
    dialled = [flow.address] if flow.address in topology.vips else vips
    yield _either(_to_vip(vip, flow, topology) for vip in dialled)
    for service in route.controllers:
        if service not in topology.vips.values():
            yield Hop(HopKind.ASSIGN, service.key)
            yield Hop(HopKind.SERVICE, service.key)
    yield from _rules(host, route, topology)


def _rules(host: str, route: Route, topology: Topology) -> _Steps:
    """Yield the ingress rule, and the paths from the controllers to what stands behind it."""
    yield Hop(HopKind.INGRESS_RULE, host)
    pods = [topology.pods.get(a) for s in route.controllers for a, _ in s.endpoints]
    nodes = [p.node for p in pods if p] or [""]
    yield _backends(nodes, route, topology)


def _backends(nodes: Iterable[str], route: Route, topology: Topology) -> _Either:
    """Join the paths from controllers on some nodes to the Services behind a host."""
    return _either(_backend(n, s, topology) for s in route.backends for n in nodes)


def _backend(node: str, service: Service, topology: Topology) -> _Steps:
    """Yield a Service and the paths from a controller on a node to its endpoints."""
    yield Hop(HopKind.SERVICE, service.key)
    yield _ways(node, service.endpoints, "tcp", topology, from_pod=True)


def _behind(flow: Flow, address: str, topology: Topology) -> _Steps:
    """Yield what stands behind the ingress controller that a request was sent to."""
    host = flow.name.partition(":")[0].lower()
    route = topology.hosts.get(host, Route())
    pod = topology.pods.get(address)
    if pod is None:
        yield from _rules(host, route, topology)
        return
    yield Hop(HopKind.INGRESS_RULE, host)
    yield _backends([pod.node], route, topology)


def _outside(flow: Flow, topology: Topology) -> _Steps:
    """Yield the way out of the cluster; a name is asked of the cluster's DNS first."""
    if flow.purpose is Purpose.EGRESS_NAME:
        yield from _to(flow, flow.address, topology)
        yield from (Hop(HopKind.EGRESS, u, "udp/53") for u in topology.resolvers)
        yield _perhaps_handed_on(flow.address, topology)
        return
    if flow.vantage.kind is VantageKind.POD:
        yield Hop(HopKind.FORWARD, flow.vantage.node, flow.protocol)
        yield Hop(HopKind.MASQUERADE, flow.vantage.node)
    if flow.purpose is Purpose.RESOLVER:
        yield Hop(HopKind.EGRESS, flow.address, flow.protocol)
        return
    host, _, port = flow.subject.rpartition(":")
    yield Hop(HopKind.EGRESS, host, f"tcp/{port}")
