"""Node ports on the way: kept to their node, filtered, or broken for another reason."""

import msgspec
import pytest

from checks.host_proxy.node_port import node_port
from doctor.model.evidence import Backend, BackendFlows, Backends, EndpointAddress, Proxy
from doctor.model.evidence import TargetFlows as Targets
from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import Meta, Service, ServicePort, ServiceSpec
from tests.rules.factories import ADDRESSES, MASTER, ONE, PODS, findings, nodes, said, seen, vantage

URL = "http://shop.example:8080/"
PORT = 30080
LOCAL, FILTERED = "SERVICE_EXTERNAL_TRAFFIC_LOCAL", "NODE_PORT_FILTERED"
HOP = "host-proxy:172.20.112.50:tcp/8080"
HERE = Vantage(VantageKind.MACHINE)


def asked(
    purpose: Purpose, address: str, port: int, failure: Failure | None = None, status: int = 0
) -> Observation:
    """Ask for the site somewhere, from this machine."""
    found = seen(purpose, HERE, address, port, failure, subject=URL, kind=FlowKind.HTTP)
    return msgspec.structs.replace(found, status=status)


def visited(status: int = 502) -> Targets:
    """Visit the site through the proxy."""
    found = asked(Purpose.TARGET, "172.20.112.50", 8080, status=status)
    return Targets(observations=(found,), urls=(URL,))


def past(failure: Failure | None, address: str = ADDRESSES[MASTER], port: int = PORT) -> Proxy:
    """Ask past the proxy, at its upstream."""
    status = 0 if failure else 200
    return Proxy(observations=(asked(Purpose.UPSTREAM, address, port, failure, status),))


def front(policy: str = "Cluster", *, on: tuple[str, ...] = (ONE,), port: int = PORT) -> Backends:
    """Make the Service in front of the controller."""
    ports = (ServicePort(port=80, node_port=port),)
    spec = ServiceSpec(type="NodePort", ports=ports, external_traffic_policy=policy)
    ready = tuple(EndpointAddress(PODS[n], 8000, ready=True, node=n) for n in on)
    service = Service(metadata=Meta(name="front", namespace="edge"), spec=spec)
    return Backends(items=(Backend("edge/front", service, ports[0], endpoints=ready),))


def inside(failure: Failure | None = None, on: str = MASTER) -> BackendFlows:
    """Ask a node's own port on the node."""
    found = seen(Purpose.NODE_PORT, vantage("node", on), ADDRESSES[on], PORT, failure)
    return BackendFlows(observations=(found,))


SILENT = past(Failure.TIMEOUT)


@pytest.mark.parametrize(
    ("targets", "proxy", "table", "own", "expected"),
    [
        (visited(), SILENT, front("Local"), inside(), {(LOCAL, HOP)}),
        (visited(), SILENT, front("Local"), None, {(LOCAL, HOP)}),
        (visited(), SILENT, front(), inside(), {(FILTERED, HOP)}),
        # Local, and an endpoint is there: a filter
        (visited(), SILENT, front("Local", on=(MASTER,)), inside(), {(FILTERED, HOP)}),
        # no endpoint at all, or dead on the node as well: another fault
        (visited(), SILENT, front("Local", on=()), inside(Failure.TIMEOUT), set()),
        (visited(), SILENT, front(), inside(Failure.CONNECTION_REFUSED), set()),
        (visited(), SILENT, front(), inside(on=ONE), set()),
        (visited(), SILENT, front(), None, set()),
        (visited(), past(Failure.CONNECTION_REFUSED), front(), inside(), set()),
        # all is well, or it is the proxy that is not
        (visited(200), SILENT, front("Local"), inside(), set()),
        (visited(), past(None), front("Local"), inside(), set()),
        (visited(), past(Failure.UNKNOWN), front("Local"), inside(), set()),
        # no node port
        (visited(), past(Failure.TIMEOUT, port=80), front("Local"), inside(), set()),
        (visited(), past(Failure.TIMEOUT, "172.20.112.230"), front("Local"), inside(), set()),
        (visited(), None, front("Local"), inside(), set()),
    ],
)
def test_node_ports(
    targets: Targets,
    proxy: Proxy | None,
    table: Backends,
    own: BackendFlows | None,
    expected: set[tuple[str, str]],
) -> None:
    assert said(findings(node_port, targets, proxy, table, nodes(), own)) == expected


def test_a_url_that_is_a_node_port_itself() -> None:
    direct = asked(Purpose.TARGET, ADDRESSES[MASTER], PORT, Failure.TIMEOUT)
    table = Targets(observations=(direct,), urls=(URL,))
    (found,) = findings(node_port, table, None, front("Local"), nodes(), None)
    assert found.code.name == LOCAL
    assert "externalTrafficPolicy" in found.remediation[0].commands[0]
    assert ONE in found.title
