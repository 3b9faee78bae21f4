"""The protocol that Services on the way are offered for."""

import json
from collections.abc import Iterator

from checks.common import and_list
from checks.service.shared import mend
from doctor.contract import check
from doctor.model.evidence import Backend, Backends
from doctor.model.finding import Code, Finding, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Service, ServicePort
from doctor.model.link import Link

__all__ = ["SERVICE_PROTOCOL_MISMATCH", "protocol"]

SERVICE_PROTOCOL_MISMATCH = Code(
    "SERVICE_PROTOCOL_MISMATCH",
    Link.SERVICE,
    "The Service offers its port for UDP or SCTP, while its visitors and its pods speak TCP.",
)
_ITS_CONTROLLER = "ingress controller "


@check(
    id="service.protocol",
    title="Services on the way offer their ports for TCP",
    codes=(SERVICE_PROTOCOL_MISMATCH,),
    essential=False,
)
def protocol(table: Backends) -> Iterator[Finding]:
    """Services on the way offer their ports for TCP.

    What it looks at:
        The protocol of the ports that Ingresses name and ingress controllers are reached at, against
        the protocol that the pods' containers declare for the port behind it.

    Why it matters:
        HTTP travels by TCP. kube-proxy writes rules for the one protocol that a port is offered for,
        so connections to a port for UDP meet no rule: nobody answers, or somebody else does.

    What proves it:
        The Service has no port of that number for TCP, and its containers declare the port behind it
        for TCP and not for the Service's protocol.

    Look-alikes:
        HTTP/3 has a port for UDP beside the one for TCP, of the same number. A Service whose selector
        or targetPort is wrong has no endpoint; here it has some, of the wrong kind.

    Remediation:
        Set the port's protocol to TCP.

    Sources:
        Kubernetes documentation, "Service", "Protocols for Services", "Debug Services".
    """
    seen: set[tuple[str, int]] = set()
    for backend in table.items:
        service, port = backend.service, backend.port
        if service is None or port is None or (backend.key, port.port) in seen:
            continue
        seen.add((backend.key, port.port))
        if _wrong(backend, service, port):
            yield _finding(backend, service, port)


def _wrong(backend: Backend, service: Service, port: ServicePort) -> bool:
    """Say whether a port is offered for a protocol that its pods do not speak there."""
    same = {p.protocol for p in service.spec.ports or () if p.port == port.port}
    target = port.target_port or port.port
    declared = {
        p.protocol
        for pod in backend.pods
        for c in pod.spec.containers
        for p in c.ports or ()
        if target in (p.name, p.container_port, str(p.container_port))
    }
    return "TCP" not in same and "TCP" in declared and port.protocol not in declared


def _finding(backend: Backend, service: Service, port: ServicePort) -> Finding:
    """Say that a port is offered for the wrong protocol.

    Most controllers dial the pods behind an Ingress themselves, whatever the Service says.
    """
    namespace, _, name = backend.key.partition("/")
    index = (service.spec.ports or ()).index(port)
    step = {"op": "replace", "path": f"/spec/ports/{index}/protocol", "value": "TCP"}
    broken = any(r.startswith(_ITS_CONTROLLER) for r in backend.referrers)
    return Finding(
        code=SERVICE_PROTOCOL_MISMATCH,
        title=(
            f"Service {backend.key} offers port {port.port} for {port.protocol}, while its pods "
            f"listen there for TCP, and {and_list(backend.referrers)} speaks HTTP"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in backend.pods[:3])),
        severity=Severity.FAIL if broken else Severity.WARN,
        remediation=(
            mend(
                f"Offer port {port.port} of {backend.key} for TCP",
                f"kubectl -n {namespace} patch service {name} --type=json "
                f"-p '{json.dumps([step])}'",
                risk=Risk.SAFE,
            ),
        ),
        falsifier=f"Service {backend.key} has a port {port.port} for TCP",
    )
