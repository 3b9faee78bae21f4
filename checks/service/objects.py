"""What the objects say of the Services behind Ingresses and controllers."""

import json
from collections.abc import Iterator
from difflib import get_close_matches

from checks.common import and_list
from checks.service.pods import POD_CODES, crashing, not_ready, not_started
from checks.service.shared import edits, mend, referrer_ids
from doctor.contract import check
from doctor.model.evidence import Backend, BackendFlows, Backends, EgressFlows
from doctor.model.finding import Code, Finding, Risk
from doctor.model.flow import Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "SERVICE_MISSING",
    "SERVICE_PORT_MISSING",
    "SERVICE_SCALED_TO_ZERO",
    "SERVICE_SELECTOR_MATCHES_NOTHING",
    "SERVICE_TARGET_PORT_UNKNOWN",
    "backends",
]

SERVICE_MISSING = Code(
    "SERVICE_MISSING", Link.SERVICE, "An Ingress refers to a Service that does not exist."
)
SERVICE_PORT_MISSING = Code(
    "SERVICE_PORT_MISSING", Link.SERVICE, "The port asked for is none of the Service's ports."
)
SERVICE_SCALED_TO_ZERO = Code(
    "SERVICE_SCALED_TO_ZERO", Link.SERVICE, "The workload behind the Service has zero replicas."
)
SERVICE_SELECTOR_MATCHES_NOTHING = Code(
    "SERVICE_SELECTOR_MATCHES_NOTHING", Link.SERVICE, "The Service's selector matches no pod."
)
SERVICE_TARGET_PORT_UNKNOWN = Code(
    "SERVICE_TARGET_PORT_UNKNOWN",
    Link.SERVICE,
    "The Service's targetPort is a name that no container of its pods gives to a port.",
)

_OBJECT_CODES = (
    SERVICE_MISSING,
    SERVICE_PORT_MISSING,
    SERVICE_SCALED_TO_ZERO,
    SERVICE_SELECTOR_MATCHES_NOTHING,
    SERVICE_TARGET_PORT_UNKNOWN,
    *POD_CODES,
)
_OVER = ("Succeeded", "Failed")


@check(
    id="service.backends",
    title="Each Service on the way has a ready endpoint",
    codes=_OBJECT_CODES,
)
def backends(
    table: Backends, flows: BackendFlows | None, egress: EgressFlows | None
) -> Iterator[Finding]:
    """Judge the Services that targets cross by their objects.

    What it looks at:
        Each Service that an Ingress sends requests to, and those in front of ingress controllers:
        its ports and selector, its endpoints, the pods it selects and their workloads. Where pods
        run and are not ready, the kubelet's readiness request, repeated from the pod's own node.

    Why it matters:
        kube-proxy refuses connections to a Service without a ready endpoint, and controllers
        answer 503 (ingress-nginx) or 404 (Traefik) for it, although the network is in order.

    What proves it:
        The objects themselves: no such Service or port, no pod that the selector matches, a
        workload of zero replicas, containers that wait or crash. A pod that answers its readiness
        request with an error shows that the network reaches it, and that it refuses of itself.

    Look-alikes:
        Traefik's 404 for a Service without endpoints looks like a wrong host or class.
        Pods that have no network wait in ContainerCreating: flannel's or the node's fault.
        Pods that cannot reach a database crash, or report themselves unhealthy: egress or DNS.
        Where one endpoint is ready the Service works, and nothing is said.

    Remediation:
        Correct the name, port or selector; scale the workload up; read the pods' logs and
        mend what they depend on.

    Sources:
        Kubernetes: Debug Services; Service; Configure Liveness, Readiness and Startup Probes.
        Traefik: Kubernetes Ingress provider. ingress-nginx: Troubleshooting.
    """
    if table.lacks("services"):
        return
    seen: set[str] = set()
    for backend in table.items:
        if backend.service is None or backend.port is None:
            yield from _unknown(backend, seen)
        elif not _judged(table, backend) or backend.key in seen:
            continue
        else:
            seen.add(backend.key)
            yield from _without_endpoint(backend, table, flows, egress)


def _judged(table: Backends, backend: Backend) -> bool:
    """Say whether the absence of a ready endpoint is known, and means something."""
    external = backend.service is not None and backend.service.spec.type == "ExternalName"
    return not (external or backend.ready or table.lacks("endpointslices", "pods"))


def _unknown(backend: Backend, seen: set[str]) -> Iterator[Finding]:
    """Say that a Service or its port does not exist, once."""
    said = backend.key if backend.service is None else f"{backend.key}:{backend.asked_port}"
    external = backend.service is not None and backend.service.spec.type == "ExternalName"
    if said not in seen and not external:
        seen.add(said)
        yield _missing(backend) if backend.service is None else _port_missing(backend)


def _missing(backend: Backend) -> Finding:
    """Say that a Service does not exist."""
    namespace, _, name = backend.key.partition("/")
    who = and_list(backend.referrers) or "something"
    return Finding(
        code=SERVICE_MISSING,
        title=f"Service {backend.key} does not exist, and {who} sends requests to it",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *referrer_ids(backend)),
        remediation=(
            mend(
                f"Create Service {name} in {namespace}, or name an existing one in {who}",
                f"kubectl -n {namespace} get services",
                *edits(backend),
                risk=Risk.DISRUPTIVE,
            ),
        ),
        falsifier=f"kubectl -n {namespace} get service {name} finds it",
    )


def _port_missing(backend: Backend) -> Finding:
    """Say that a Service lacks a port."""
    namespace, _, name = backend.key.partition("/")
    who = and_list(backend.referrers) or "something"
    there = (backend.service.spec.ports if backend.service else None) or ()
    ports = and_list(f"{p.port} ({p.name})" if p.name else str(p.port) for p in there)
    return Finding(
        code=SERVICE_PORT_MISSING,
        title=(
            f"Service {backend.key} has no port {backend.asked_port}, which {who} asks for: "
            f"its ports are {ports or 'none'}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *referrer_ids(backend)),
        remediation=(
            mend(
                f"Give Service {backend.key} that port, or have {who} ask for one that it has",
                *(_port_patch(backend) or (f"kubectl -n {namespace} get service {name} -o yaml",)),
            ),
        ),
        falsifier=f"kubectl -n {namespace} get service {name} lists port {backend.asked_port}",
    )


def _port_patch(backend: Backend) -> tuple[str, ...]:
    """Give a Service of one port the port that is asked for, as a second one."""
    ports = (backend.service.spec.ports if backend.service else None) or ()
    asked, (namespace, _, name) = backend.asked_port, backend.key.partition("/")
    if len(ports) != 1 or not asked:
        return ()
    steps: list[object] = []
    if not asked.isdecimal():
        steps.append({"op": "add", "path": "/spec/ports/0/name", "value": asked})
    else:
        if not ports[0].name:  # of several ports each has to have a name
            name_of_first = {"op": "add", "path": "/spec/ports/0/name"}
            steps.append(name_of_first | {"value": f"port-{ports[0].port}"})
        target = ports[0].target_port or ports[0].port
        value = {"name": f"port-{asked}", "port": int(asked), "targetPort": target}
        steps.append({"op": "add", "path": "/spec/ports/-", "value": value})
    return (f"kubectl -n {namespace} patch service {name} --type=json -p '{json.dumps(steps)}'",)


def _without_endpoint(
    backend: Backend, table: Backends, flows: BackendFlows | None, egress: EgressFlows | None
) -> Iterator[Finding]:
    """Say why a Service has no ready endpoint."""
    alive = tuple(
        p for p in backend.pods if p.status.phase not in _OVER and not p.metadata.deletion_timestamp
    )
    if not alive:
        yield from _no_pods(backend, table)
    elif any(p.ready for p in alive):
        yield from _target_name(backend, alive)
    elif ending := tuple(p for p in alive if p.crashing and not _speaks(p, flows)):
        yield crashing(backend, ending, egress)
    elif running := tuple(p for p in alive if p.status.phase == "Running" and not p.waiting):
        yield not_ready(backend, running, flows, egress)
    else:
        yield not_started(backend, alive)


def _speaks(pod: Pod, flows: BackendFlows | None) -> bool:
    """Say whether a pod answers its readiness request: it runs, whatever it did before."""
    asked = flows.of(Purpose.READINESS, subject=pod.key) if flows else ()
    return any(o.ok for o in asked)


def _no_pods(backend: Backend, table: Backends) -> Iterator[Finding]:
    """Judge a Service that selects no pod, or only such as are over."""
    if backend.scaled_to_zero:
        yield _scaled(backend)
    elif backend.pods or backend.workloads:
        yield not_started(backend, backend.pods)
    elif backend.nearly or not table.lacks("deployments", "statefulsets"):
        yield _nothing_selected(backend)


def _scaled(backend: Backend) -> Finding:
    """Say that the workload has no replicas."""
    names = [w.key for w in backend.scaled_to_zero]
    return Finding(
        code=SERVICE_SCALED_TO_ZERO,
        title=(
            f"Service {backend.key} has no endpoint: workload {and_list(names)} is scaled to zero"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(f"api:deployments/{n}" for n in names)),
        remediation=(
            mend(
                "Scale the workload up",
                *(
                    f"kubectl -n {w.namespace} scale deployment {w.name} --replicas=1"
                    for w in backend.scaled_to_zero
                ),
            ),
        ),
        falsifier=f"the spec of {and_list(names)} asks for a replica",
    )


def _nothing_selected(backend: Backend) -> Finding:
    """Say that the selector matches no pod, and which pods come near."""
    selector = (backend.service.spec.selector if backend.service else None) or {}
    namespace, _, name = backend.key.partition("/")
    wanted = _near_labels(backend, selector)
    near = and_list(f"{k}={p.labels[k]}" for p in backend.nearly for k in selector if k in p.labels)
    written = ", ".join(f"{k}={v}" for k, v in sorted(selector.items()))
    says = f"its selector {written} matches no pod" if selector else "it has no selector"
    patch = json.dumps({"spec": {"selector": wanted}})
    return Finding(
        code=SERVICE_SELECTOR_MATCHES_NOTHING,
        title=(
            f"Service {backend.key} has no endpoint: {says}"
            + (f", while pods in {namespace} have {near}" if near else "")
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(
            f"api:services/{backend.key}",
            *(f"api:pods/{p.key}" for p in backend.nearly[:3]),
        ),
        remediation=(
            mend(
                f"Let Service {backend.key} select the pods that are there",
                *(
                    (f"kubectl -n {namespace} patch service {name} --type=merge -p '{patch}'",)
                    if wanted
                    else (f"kubectl -n {namespace} get pods --show-labels",)
                ),
            ),
        ),
        falsifier=f"a pod in {namespace} has the labels {written or 'of an EndpointSlice'}",
    )


def _near_labels(backend: Backend, selector: dict[str, str]) -> dict[str, str]:
    """Find the labels to select by in place of the selector's, if there is no doubt about them."""
    found: dict[str, str] = {}
    for key, value in selector.items():
        there = sorted({p.labels[key] for p in backend.nearly if key in p.labels})
        if value in there:
            continue
        close = there if len(there) == 1 else get_close_matches(value, there, n=2)
        if len(close) != 1:
            return {}
        found[key] = close[0]
    chosen = {**selector, **found}
    fits = any(all(p.labels.get(k) == v for k, v in chosen.items()) for p in backend.nearly)
    return found if fits else {}


def _target_name(backend: Backend, alive: tuple[Pod, ...]) -> Iterator[Finding]:
    """Say that ready pods are no endpoints for want of a port of the targetPort's name."""
    target = backend.port.target_port if backend.port else 0
    containers = [c for p in alive if p.ready for c in p.spec.containers]
    names = [p.name for c in containers for p in c.ports or () if p.name]
    if not isinstance(target, str) or target.isdecimal() or target in names or not containers:
        return
    namespace, _, name = backend.key.partition("/")
    numbers = {p.container_port for c in containers for p in c.ports or () if p.protocol == "TCP"}
    value = next(iter(numbers)) if len(numbers) == 1 else '"$TARGET_PORT"'
    steps = f'[{{"op":"replace","path":"/spec/ports/0/targetPort","value":{value}}}]'
    yield Finding(
        code=SERVICE_TARGET_PORT_UNKNOWN,
        title=(
            f"Service {backend.key} has no endpoint: its targetPort {target} is the name of no "
            f"port of its pods, which name {and_list(names) or 'none'}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in alive[:3])),
        remediation=(
            mend(
                f"Name the port that the pods of {backend.key} listen on",
                f"kubectl -n {namespace} patch service {name} --type=json -p '{steps}'",
            ),
        ),
        falsifier=f"a ready pod of {backend.key} declares a port named {target}",
    )
