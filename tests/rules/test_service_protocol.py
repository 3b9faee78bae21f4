"""Services that are offered for another protocol than their pods speak, and those that offer both."""

import pytest

from checks.service.protocol import protocol
from doctor.model.evidence import Backend, Backends
from doctor.model.finding import Severity
from doctor.model.kube import Container, ContainerPort, Meta, Pod, PodSpec, ServicePort
from tests.rules.factories import findings, said
from tests.rules.factories_site import service

UDP = ServicePort(port=80, protocol="UDP", target_port="web")
TCP = ServicePort(port=80, protocol="TCP", target_port="web")
BY_NUMBER = ServicePort(port=80, protocol="UDP", target_port=8000)
BARE = ServicePort(port=8000, protocol="SCTP")
FRONT, BEHIND = "ingress controller traefik", "Ingress shop/web"
WEB = ContainerPort(container_port=8000, name="web")
QUIC = ContainerPort(container_port=8000, name="web", protocol="UDP")
WRONG = {("SERVICE_PROTOCOL_MISMATCH", "service:shop/web")}


def offered(
    *ports: ServicePort, declared: tuple[ContainerPort, ...] = (WEB,), who: str = FRONT
) -> Backends:
    """Make a Service with these ports, whose pods declare others."""
    container = Container(name="main", ports=declared)
    pod = Pod(metadata=Meta(name="web-1", namespace="shop"), spec=PodSpec(containers=(container,)))
    own = Backend("shop/web", service(ports=ports), ports[0], pods=(pod,), referrers=(who,))
    return Backends(items=(own, own))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (offered(TCP), set()),
        (offered(UDP), WRONG),
        (offered(BY_NUMBER), WRONG),
        (offered(BARE), WRONG),
        # HTTP/3 beside HTTP
        (offered(UDP, TCP), set()),
        (offered(UDP, declared=(WEB, QUIC)), set()),
        # what the pods speak there is not known
        (offered(UDP, declared=()), set()),
        (offered(UDP, declared=(ContainerPort(container_port=9000, name="other"),)), set()),
        (Backends(items=(Backend("shop/web", None, None),)), set()),
    ],
)
def test_protocols(table: Backends, expected: set[tuple[str, str]]) -> None:
    found = findings(protocol, table)
    assert said(found) == expected
    assert len(found) == len(expected)


def test_a_controller_that_dials_pods_itself_makes_it_a_warning() -> None:
    (found,) = findings(protocol, offered(UDP, who=BEHIND))
    assert found.severity is Severity.WARN
    (found,) = findings(protocol, offered(UDP))
    assert found.severity is Severity.FAIL
    assert "/spec/ports/0/protocol" in found.remediation[0].commands[0]
