"""Rules of any of a node's filters that keep queries from CoreDNS there."""

from collections.abc import Iterable

from doctor.model.evidence import EndpointAddress, NodeNetworks, Nodes
from doctor.model.failure import Failure
from doctor.model.filtering import Met, Packet, surely_dropped
from doctor.model.flow import Observation, VantageKind
from doctor.model.netfilter import Action
from doctor.model.node import NodeNetwork

__all__ = ["fence"]

_BRIDGE = "cni0"


def fence(
    networks: NodeNetworks,
    nodes: Nodes,
    endpoint: EndpointAddress,
    lost: Iterable[Observation],
    passed: Iterable[Observation],
) -> tuple[Met, ...]:
    """Find the rules on an endpoint's node that surely drop queries from other nodes.

    Args:
        networks: What was read inside the nodes.
        nodes: The nodes.
        endpoint: The replica of CoreDNS.
        lost: The queries to it that got no answer.
        passed: Those from other nodes that did, and connections to another port of it.

    Returns:
        The rules; none where a query is dropped by nothing that was read, or where one of the rules
        would have dropped what passed.
    """
    read = networks.of(endpoint.node)
    if read is None:
        return ()
    met = [_fitting(_met(read, nodes, endpoint, o), o) for o in lost]
    stopped = any(_met(read, nodes, endpoint, o) for o in passed)
    found = tuple(dict.fromkeys(m for m in met if m))
    return found if found and None not in met and not stopped else ()


def _met(
    read: NodeNetwork, nodes: Nodes, endpoint: EndpointAddress, seen: Observation
) -> Met | None:
    """Return what surely drops the first packet of a flow where it is forwarded to a pod."""
    start, own = nodes.named(seen.flow.vantage.node), nodes.named(read.node)
    if start is None or start.name == read.node:
        return None
    protocol, _, port = seen.flow.protocol.partition("/")
    tunnels = [i.name for i in read.links if i.vxlan_id or i.vxlan_port]
    routed = seen.flow.vantage.kind is VantageKind.NODE and not tunnels
    packet = Packet(
        protocol,
        int(port or 0),
        start.address if routed else start.pod_cidr,
        endpoint.address,
        tunnels[0] if tunnels else read.device(own.address if own else ""),
        _BRIDGE,
    )
    return surely_dropped(read.tables, ("forward",), packet)


def _fitting(met: Met | None, seen: Observation) -> Met | None:
    """Pass a rule on that explains how a query failed: one that rejects is heard of."""
    told = seen.failure is not Failure.TIMEOUT
    return met if met and (met.action is Action.REJECT) is told else None
