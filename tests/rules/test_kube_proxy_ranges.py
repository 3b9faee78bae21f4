"""Networks that somebody else has, too, and networks without a free address."""

import msgspec
import pytest

from checks.kube_proxy.ranges import overlaps, room
from doctor.model.evidence import Nodes
from doctor.model.finding import Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Address, NodeStatus
from doctor.model.node import Link, NodeNetwork, Route
from doctor.model.proxying import ProxiedServices
from doctor.model.verdict import Gap
from tests.rules.factories import (
    ADDRESSES,
    ONE,
    TWO,
    findings,
    flannel,
    network,
    networks,
    node,
    nodes,
    said,
)

SERVICES, PODS, FULL = "SERVICE_CIDR_OVERLAPS", "POD_CIDR_OVERLAPS", "SERVICE_CIDR_EXHAUSTED"
RANGE = "10.96.0.0/12"


def taken(count: int, *ranges: str, outside: bool = False) -> ProxiedServices:
    """Take so many addresses of a network of Services."""
    addresses = [f"10.96.0.{i + 1}" for i in range(count)] + ["10.200.0.1"] * outside
    return ProxiedServices(ranges=ranges or (RANGE,), taken=tuple(addresses))


def lan(address: str) -> Nodes:
    """Give a node another address."""
    status = NodeStatus(addresses=(Address("InternalIP", address),))
    return nodes(msgspec.structs.replace(node(ONE), status=status))


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route("0.0.0.0/0", "eth0", "172.20.112.1"), set()),
        (Route("default", "eth0", "172.20.112.1"), set()),
        (Route("10.96.5.0/24", "eth0", "172.20.112.1"), {(SERVICES, 10)}),
        (Route("10.96.5.5", "eth0"), {(SERVICES, 10)}),
        (Route("10.244.77.0/24", "eth0", "172.20.112.1"), {(PODS, 10)}),
        # it contains the network: whoever made it knows of no conflict
        (Route("10.0.0.0/8", "eth0", "172.20.112.1"), set()),
        # told to choose the right card for Services
        (Route(RANGE, "eth0"), set()),
        # flannel's own, and those to pods by other nodes
        (Route("10.244.2.0/24", "flannel.1", "10.244.2.0"), set()),
        (Route("10.244.2.0/24", "eth0", ADDRESSES[TWO]), set()),
        (Route("10.244.1.0/24", "cni0"), set()),
        # what another CNI plugin left, or still serves
        (Route("10.244.77.0/26", "vxlan.calico", "10.244.77.0", onlink=True), set()),
        (Route("10.244.77.0/24", "cilium_host", "10.244.77.17"), set()),
        (Route("fd00::/64", "eth0"), set()),
        (Route("nonsense", "eth0"), set()),
    ],
)
def test_routes(route: Route, expected: set[tuple[str, int]]) -> None:
    read = msgspec.structs.replace(network(ONE), routes=(route,))
    found = findings(overlaps, taken(3), networks(read), nodes(), flannel())
    assert {(f.code.name, 10) for f in found} == expected
    assert {f.severity for f in found} <= {Severity.WARN}
    assert all(f"ip route del {route.destination}" in f.remediation[0].commands[0] for f in found)


def _known(*addresses: Address, **annotations: str) -> Nodes:
    """Make the nodes, one with other addresses before its own, or an annotation of flannel's."""
    made = node(TWO, **annotations)
    status = NodeStatus(addresses=(*addresses, *(made.status.addresses or ())))
    return nodes(msgspec.structs.replace(made, status=status))


PUBLIC = "198.51.100.12"
SECOND = msgspec.structs.replace(
    network(TWO), links=(*network(TWO).links, Link("eth1", addresses=(f"{PUBLIC}/24",)))
)


@pytest.mark.parametrize(
    ("known", "more", "gateway", "expected"),
    [
        (_known(), (), PUBLIC, {PODS}),
        (_known(public_ip=PUBLIC), (), PUBLIC, set()),
        (_known(Address("InternalIP", "fd00::12")), (), ADDRESSES[TWO], set()),
        (_known(Address("ExternalIP", PUBLIC)), (), PUBLIC, set()),
        (_known(), (SECOND,), PUBLIC, set()),
        (_known(Address("InternalIP", "no address")), (), PUBLIC, {PODS}),
    ],
)
def test_flannels_routes_by_any_address_of_a_node(
    known: Nodes, more: tuple[NodeNetwork, ...], gateway: str, expected: set[str]
) -> None:
    """With host-gw or DirectRouting; flannel may use another interface than the kubelet."""
    route = Route("10.244.2.0/24", "eth1", gateway)
    read = networks(msgspec.structs.replace(network(ONE), routes=(route,)), *more)
    found = findings(overlaps, taken(3), read, known, flannel())
    assert {f.code.name for f in found} == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("172.20.112.77", set()),
        ("999.1.1.1/99", set()),
        ("fd00::7", set()),
        ("10.96.7.7", {(SERVICES, f"kube-proxy:*:{RANGE}")}),
        ("10.244.9.9", {(PODS, "kube-proxy:*:10.244.0.0/16")}),
    ],
)
def test_addresses_of_nodes(address: str, expected: set[tuple[str, str]]) -> None:
    found = findings(overlaps, taken(3), networks(), lan(address), flannel())
    assert said(found) == expected
    assert {f.severity for f in found} <= {Severity.FAIL}


def test_one_route_of_several_nodes_is_one_finding() -> None:
    route = (Route("10.96.5.0/24", "eth0", "172.20.112.1"),)
    read = [msgspec.structs.replace(network(n), routes=route) for n in (ONE, TWO)]
    (found,) = findings(overlaps, taken(3), networks(*read), nodes(), flannel())
    assert len(found.remediation[0].commands) == 2


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("10.244.2.0/25", (Hop(HopKind.UNDERLAY, f"{ONE}>{TWO}"),)),
        ("10.244.77.0/24", ()),
        ("10.96.5.0/24", ()),
    ],
)
def test_a_route_to_pods_that_are_there_is_the_overlays(
    destination: str, expected: tuple[Hop, ...]
) -> None:
    """Where the way to those pods is broken, this is why; a network that no node has breaks none."""
    route = (Route(destination, "eth0", "172.20.112.1"),)
    read = networks(msgspec.structs.replace(network(ONE), routes=route))
    (found,) = findings(overlaps, taken(3), read, nodes(), flannel())
    assert found.consequence_of == expected


def test_what_is_not_known_is_not_judged() -> None:
    route = (Route("10.96.5.0/24", "eth0", "172.20.112.1"),)
    read = networks(msgspec.structs.replace(network(ONE), routes=route))
    assert findings(overlaps, ProxiedServices(), read, nodes(), None) == []


@pytest.mark.parametrize(
    ("table", "severity"),
    [
        (taken(3), None),
        (taken(12, "10.96.0.0/28"), None),
        (taken(14, "10.96.0.0/28"), Severity.FAIL),
        (taken(246, "10.96.0.0/24"), Severity.WARN),
        (taken(14, "10.96.0.0/28", outside=True), None),
        (taken(14, "10.96.0.0/28", "10.200.0.0/28"), None),
        (taken(14, "nonsense"), None),
        (ProxiedServices(ranges=("10.96.0.0/28",), taken=("*", "10.244.0.0/33")), None),
        (taken(1, "10.96.0.0/32"), None),
        (ProxiedServices(taken=("10.96.0.1",)), None),
        (
            msgspec.structs.replace(
                taken(14, "10.96.0.0/28"),
                gaps=(Gap(needs="api:services", reason="forbidden", essential=True),),
            ),
            None,
        ),
    ],
)
def test_room(table: ProxiedServices, severity: Severity | None) -> None:
    """Not seen in a lab: an API server that runs keeps the network that it was made with."""
    found = findings(room, table)
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert {f.code.name for f in found} <= {FULL}
