"""What the ready endpoints of Services answer."""

from collections.abc import Iterator

from checks.common import and_list, ids, sharing, told_instead
from checks.service.shared import look, mend
from doctor.contract import check
from doctor.model.evidence import Backend, BackendFlows, Backends, EndpointAddress, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Role
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link

__all__ = ["SERVICE_ENDPOINT_SILENT", "SERVICE_TARGET_REFUSES", "endpoints"]

SERVICE_TARGET_REFUSES = Code(
    "SERVICE_TARGET_REFUSES",
    Link.SERVICE,
    "Ready pods behind the Service refuse connections to its target port.",
)
SERVICE_ENDPOINT_SILENT = Code(
    "SERVICE_ENDPOINT_SILENT",
    Link.SERVICE,
    "A ready endpoint of the Service does not answer from some node.",
    Role.SYMPTOM,
)


@check(
    id="service.endpoints",
    title="Ready endpoints accept connections from the nodes",
    codes=(SERVICE_TARGET_REFUSES, SERVICE_ENDPOINT_SILENT),
)
def endpoints(
    table: Backends, flows: BackendFlows, nodes: Nodes | None = None
) -> Iterator[Finding]:
    """Connect to the ready endpoints of Services that targets cross.

    What it looks at:
        TCP connections from the nodes to each ready endpoint of these Services.

    Why it matters:
        An endpoint is listed as soon as its pod is ready, whether or not anything listens on the
        port that the Service sends to.

    What proves it:
        A refusal from every node that asked: the packet arrived, and nothing listens there.
        No answer at all is only a symptom, of a filter or of a broken path.

    Look-alikes:
        A Service without endpoints is refused, too, at its ClusterIP, by kube-proxy: here the
        pods themselves are asked. A dropped packet is silent, never a refusal.

    Remediation:
        Set targetPort to the port that the container listens on, or have the process listen
        on all addresses in place of 127.0.0.1.

    Sources:
        Kubernetes: Debug Services, "Is the Service's targetPort right"; EndpointSlices.
    """
    seen: set[str] = set()
    for backend in table.items:
        if backend.key in seen:
            continue
        seen.add(backend.key)
        asked = [(e, _towards(e, flows, backend.key)) for e in backend.ready]
        yield from _refused(backend, nodes, [(e, o) for e, o in asked if _all_refused(o)])
        yield from _silent(backend, [o for _, seen_from in asked for o in seen_from])


def _towards(endpoint: EndpointAddress, flows: BackendFlows, key: str) -> tuple[Observation, ...]:
    """Select the connections to one endpoint of a Service."""
    found = flows.of(Purpose.BACKEND, subject=key, address=endpoint.address)
    return tuple(o for o in found if o.flow.port == endpoint.port)


def _all_refused(seen: tuple[Observation, ...]) -> bool:
    """Say whether every connection was refused."""
    return bool(seen) and all(o.failure is Failure.CONNECTION_REFUSED for o in seen)


def _refused(
    backend: Backend,
    nodes: Nodes | None,
    refused: list[tuple[EndpointAddress, tuple[Observation, ...]]],
) -> Iterator[Finding]:
    """Say that ready endpoints refuse connections."""
    if not refused:
        return
    port = refused[0][0].port
    pods = and_list(e.pod or e.address for e, _ in refused)
    declared = _declared(backend)
    whole = len(refused) == len(backend.ready)
    first = refused[0][0]
    hop = Hop(HopKind.POD, first.pod or first.address, f"tcp/{port}")
    yield Finding(
        code=SERVICE_TARGET_REFUSES,
        title=(
            f"Service {backend.key} sends to port {port} of {pods}, where nothing listens"
            + (f": the containers declare {and_list(map(str, declared))}" if declared else "")
        ),
        hop=Hop(HopKind.SERVICE, backend.key) if whole else hop,
        evidence=(f"api:services/{backend.key}", *(i for _, o in refused for i in ids(o))),
        consequence_of=sharing(nodes, (e.node for e, _ in refused)),
        remediation=(_retarget(backend, declared - {port}),),
        falsifier=f"a connection to port {port} of {pods} is accepted",
    )


def _declared(backend: Backend) -> frozenset[int]:
    """List the TCP ports that the pods behind a Service declare."""
    containers = [c for p in backend.pods for c in p.spec.containers]
    ports = (p for c in containers for p in c.ports or ())
    return frozenset(p.container_port for p in ports if p.protocol == "TCP")


def _retarget(backend: Backend, others: frozenset[int]) -> Remediation:
    """Point a Service at the port that its pods declare, where that is one."""
    namespace, _, name = backend.key.partition("/")
    ports = (backend.service.spec.ports if backend.service else None) or ()
    if len(others) != 1 or backend.port not in ports:
        command = f"kubectl -n {namespace} get service {name} -o yaml"
        return mend(f"Set targetPort of {backend.key} to the port its process has", command)
    number, index = next(iter(others)), ports.index(backend.port)
    steps = f'[{{"op":"replace","path":"/spec/ports/{index}/targetPort","value":{number}}}]'
    return mend(
        f"Point Service {backend.key} at port {number}, which its pods declare",
        f"kubectl -n {namespace} patch service {name} --type=json -p '{steps}'",
    )


def _silent(backend: Backend, seen: list[Observation]) -> Iterator[Finding]:
    """Say that ready endpoints do not answer."""
    silent = [o for o in seen if o.failure and o.failure.unanswered]
    if not silent:
        return
    key_of = {e.address: e.pod or e.address for e in backend.ready}
    first = silent[0].flow
    pods = and_list(key_of[o.flow.address] for o in silent)
    yield Finding(
        code=SERVICE_ENDPOINT_SILENT,
        title=(
            f"{pods} behind Service {backend.key} give no answer on TCP {first.port} to "
            f"{and_list(str(o.flow.vantage) for o in silent)}{told_instead(silent)}"
        ),
        hop=Hop(HopKind.POD, key_of[first.address], first.protocol),
        evidence=ids(silent),
        confidence=Confidence.LIKELY,
        flows=ids(silent),
        remediation=(
            look(backend, backend.pods, "Look for a NetworkPolicy or a filter before the pods"),
        ),
        falsifier=f"a connection to {first.address}:{first.port} from there is answered",
    )
