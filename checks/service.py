"""The Services behind Ingresses and controllers: do they have endpoints, and do those answer?"""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from checks.common import and_list, ids, told_instead
from doctor.contract import Check, check
from doctor.model.evidence import Backend, BackendFlows, Backends, EgressFlows, EndpointAddress
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Role
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "CHECKS",
    "SERVICE_ENDPOINT_SILENT",
    "SERVICE_MISSING",
    "SERVICE_PODS_CRASHING",
    "SERVICE_PODS_NOT_READY",
    "SERVICE_PODS_NOT_STARTED",
    "SERVICE_PORT_MISSING",
    "SERVICE_SCALED_TO_ZERO",
    "SERVICE_SELECTOR_MATCHES_NOTHING",
    "SERVICE_TARGET_PORT_UNKNOWN",
    "SERVICE_TARGET_REFUSES",
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
SERVICE_PODS_NOT_STARTED = Code(
    "SERVICE_PODS_NOT_STARTED", Link.SERVICE, "No pod behind the Service has started."
)
SERVICE_PODS_CRASHING = Code(
    "SERVICE_PODS_CRASHING", Link.SERVICE, "The pods behind the Service end with an error."
)
SERVICE_PODS_NOT_READY = Code(
    "SERVICE_PODS_NOT_READY",
    Link.SERVICE,
    "The pods behind the Service run, and none of them is ready.",
)
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

_OBJECT_CODES = (
    SERVICE_MISSING,
    SERVICE_PORT_MISSING,
    SERVICE_SCALED_TO_ZERO,
    SERVICE_SELECTOR_MATCHES_NOTHING,
    SERVICE_TARGET_PORT_UNKNOWN,
    SERVICE_PODS_NOT_STARTED,
    SERVICE_PODS_CRASHING,
    SERVICE_PODS_NOT_READY,
)
_VERIFY = "wwwm-doctor check service"
_OVER = ("Succeeded", "Failed")
_ERROR_STATUS = 400
_SERVICE_LABELS = 2


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


@check(
    id="service.endpoints",
    title="Ready endpoints accept connections from the nodes",
    codes=(SERVICE_TARGET_REFUSES, SERVICE_ENDPOINT_SILENT),
)
def endpoints(table: Backends, flows: BackendFlows) -> Iterator[Finding]:
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
        yield from _refused(backend, [(e, o) for e, o in asked if _all_refused(o)])
        yield from _silent(backend, [o for _, seen_from in asked for o in seen_from])


CHECKS: tuple[Check, ...] = (backends, endpoints)


# ---- what the objects say -----------------------------------------------------------------------


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
        evidence=(f"api:services/{backend.key}", *_referrer_ids(backend)),
        remediation=(
            _mend(
                f"Create Service {name} in {namespace}, or name an existing one in {who}",
                f"kubectl -n {namespace} get services",
                *_edits(backend),
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
        evidence=(f"api:services/{backend.key}", *_referrer_ids(backend)),
        remediation=(
            _mend(
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
    elif crashing := tuple(p for p in alive if p.crashing and not _speaks(p, flows)):
        yield _crashing(backend, crashing, egress)
    elif running := tuple(p for p in alive if p.status.phase == "Running" and not p.waiting):
        yield _not_ready(backend, running, flows, egress)
    else:
        yield _not_started(backend, alive)


def _speaks(pod: Pod, flows: BackendFlows | None) -> bool:
    """Say whether a pod answers its readiness request: it runs, whatever it did before."""
    asked = flows.of(Purpose.READINESS, subject=pod.key) if flows else ()
    return any(o.ok for o in asked)


def _no_pods(backend: Backend, table: Backends) -> Iterator[Finding]:
    """Judge a Service that selects no pod, or only such as are over."""
    if backend.scaled_to_zero:
        yield _scaled(backend)
    elif backend.pods or backend.workloads:
        yield _not_started(backend, backend.pods)
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
            _mend(
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
            _mend(
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
            _mend(
                f"Name the port that the pods of {backend.key} listen on",
                f"kubectl -n {namespace} patch service {name} --type=json -p '{steps}'",
            ),
        ),
        falsifier=f"a ready pod of {backend.key} declares a port named {target}",
    )


# ---- what the pods do ---------------------------------------------------------------------------


def _not_started(backend: Backend, pods: tuple[Pod, ...]) -> Finding:
    """Say that no pod has started."""
    why = and_list(_state(p) for p in pods)
    workloads = and_list(w.key for w in backend.workloads)
    return Finding(
        code=SERVICE_PODS_NOT_STARTED,
        title=(
            f"Service {backend.key} has no ready endpoint: "
            + (
                f"its pods {and_list(p.name for p in pods)} have not started ({why})"
                if pods
                else f"{workloads} has not one pod"
            )
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=_pod_ids(backend, pods),
        consequence_of=_places(pods, HopKind.FLANNEL, HopKind.NODE),
        remediation=(_look(backend, pods, "Mend what keeps the pods from starting", logs=False),),
        falsifier=f"a pod of {backend.key} runs",
    )


def _crashing(backend: Backend, pods: tuple[Pod, ...], egress: EgressFlows | None) -> Finding:
    """Say that pods end with an error."""
    needs = and_list(_targets(pods))
    failed = _failed_ways(pods, egress)
    return Finding(
        code=SERVICE_PODS_CRASHING,
        title=(
            f"Service {backend.key} has no ready endpoint: its pods "
            f"{and_list(p.name for p in pods)} crash again and again"
            + (f"; they depend on {needs}" if needs else "")
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(*_pod_ids(backend, pods), *failed),
        flows=failed,
        consequence_of=(*_dependencies(pods), *_places(pods, HopKind.NODE)),
        remediation=(_look(backend, pods, "Read why the pods end, and mend that"),),
        falsifier=f"a pod of {backend.key} runs on and becomes ready",
    )


def _not_ready(
    backend: Backend,
    pods: tuple[Pod, ...],
    flows: BackendFlows | None,
    egress: EgressFlows | None,
) -> Finding:
    """Say that pods run and are not ready, and what they answer."""
    asked = [o for p in pods for o in (flows.of(Purpose.READINESS, subject=p.key) if flows else ())]
    silent = ids(o for o in asked if o.failure and o.failure.unanswered)
    text, confidence = _answer(asked)
    failed = silent or _failed_ways(pods, egress)
    return Finding(
        code=SERVICE_PODS_NOT_READY,
        title=(
            f"Service {backend.key} has no ready endpoint: its pods "
            f"{and_list(p.name for p in pods)} run and are not ready{text}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(*_pod_ids(backend, pods), *ids(asked), *(() if silent else failed)),
        confidence=confidence,
        flows=failed,
        consequence_of=(*_dependencies(pods), *_places(pods, HopKind.NODE)),
        remediation=(_look(backend, pods, "Read why the application is not ready, and mend that"),),
        falsifier=f"a pod of {backend.key} answers its readiness probe and becomes Ready",
    )


def _answer(asked: list[Observation]) -> tuple[str, Confidence]:
    """Put into words what pods answer to their readiness request."""
    for o in asked:
        request = f"its readiness request GET {o.flow.path}"
        if o.ok and o.status >= _ERROR_STATUS:
            own = "the application's own reason, the network reaches it"
            return f": {o.flow.subject} answers {o.status} to {request} ({own})", Confidence.CERTAIN
        if o.failure is Failure.CONNECTION_REFUSED:
            none = f"nothing listens on its port {o.flow.port}"
            return f": {o.flow.subject} refuses {request}, for {none}", Confidence.CERTAIN
    if any(o.failure and o.failure.unanswered for o in asked):
        return ": their readiness request gets no answer", Confidence.LIKELY
    if any(o.ok for o in asked):
        return ": by now their readiness request is answered well", Confidence.LIKELY
    return ", for their readiness probe fails", Confidence.CERTAIN


def _state(pod: Pod) -> str:
    """Name what a pod waits for."""
    if pod.waiting or pod.status.reason:
        return pod.waiting or pod.status.reason
    unscheduled = any(c.reason == "Unschedulable" for c in pod.status.conditions or ())
    return "Unschedulable" if unscheduled else pod.status.phase or "Unknown"


def _targets(pods: Iterable[Pod]) -> tuple[str, ...]:
    """List what pods depend on, as ``host:port``."""
    found = (
        target
        for p in pods
        for c in p.spec.containers
        for d in c.dependencies or ()
        for target in d.targets
    )
    return tuple(sorted(set(found)))


def _dependencies(pods: tuple[Pod, ...]) -> tuple[Hop, ...]:
    """List the hops which, if broken, keep pods from what they depend on."""
    hops: list[Hop] = []
    for target in _targets(pods):
        host, _, port = target.rpartition(":")
        hops.append(Hop(HopKind.EGRESS, host, f"tcp/{port}"))
        labels = host.split(".")
        if len(labels) <= _SERVICE_LABELS or labels[2] == "svc":
            namespace = labels[1] if len(labels) > 1 else pods[0].namespace
            hops.append(Hop(HopKind.SERVICE, f"{namespace}/{labels[0]}"))
    return tuple(hops)


def _failed_ways(pods: tuple[Pod, ...], egress: EgressFlows | None) -> tuple[str, ...]:
    """List the failed flows towards what pods depend on, from pods on their nodes."""
    if egress is None:
        return ()
    targets, nodes = _targets(pods), {p.node for p in pods}
    asked = egress.of(Purpose.EGRESS, Purpose.EGRESS_NAME, vantage=VantageKind.POD)
    return ids(
        o for o in asked if o.failure and o.flow.subject in targets and o.flow.vantage.node in nodes
    )


def _places(pods: Iterable[Pod], *kinds: HopKind) -> tuple[Hop, ...]:
    """List hops of the nodes that pods are on."""
    return tuple(
        Hop(kind, node) for node in sorted({p.node for p in pods} - {""}) for kind in kinds
    )


# ---- what the endpoints answer ------------------------------------------------------------------


def _towards(endpoint: EndpointAddress, flows: BackendFlows, key: str) -> tuple[Observation, ...]:
    """Select the connections to one endpoint of a Service."""
    found = flows.of(Purpose.BACKEND, subject=key, address=endpoint.address)
    return tuple(o for o in found if o.flow.port == endpoint.port)


def _all_refused(seen: tuple[Observation, ...]) -> bool:
    """Say whether every connection was refused."""
    return bool(seen) and all(o.failure is Failure.CONNECTION_REFUSED for o in seen)


def _refused(
    backend: Backend, refused: list[tuple[EndpointAddress, tuple[Observation, ...]]]
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
        return _mend(f"Set targetPort of {backend.key} to the port its process has", command)
    number, index = next(iter(others)), ports.index(backend.port)
    steps = f'[{{"op":"replace","path":"/spec/ports/{index}/targetPort","value":{number}}}]'
    return _mend(
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
            _look(backend, backend.pods, "Look for a NetworkPolicy or a filter before the pods"),
        ),
        falsifier=f"a connection to {first.address}:{first.port} from there is answered",
    )


# ---- in common ----------------------------------------------------------------------------------


def _mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=risk, verify=_VERIFY)


def _look(backend: Backend, pods: tuple[Pod, ...], title: str, *, logs: bool = True) -> Remediation:
    """Make a remediation that begins with reading what a pod says."""
    namespace, _, name = backend.key.partition("/")
    if not pods:
        return _mend(title, f"kubectl -n {namespace} get events --sort-by=.lastTimestamp")
    first = pods[0]
    previous = " --previous" if first.crashing else ""
    return _mend(
        title,
        f"kubectl -n {namespace} describe pod {first.name}",
        *((f"kubectl -n {namespace} logs {first.name} --tail=50{previous}",) if logs else ()),
        f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}",
    )


def _pod_ids(backend: Backend, pods: Iterable[Pod]) -> tuple[str, ...]:
    """Cite a Service and its pods."""
    return (f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in pods))


def _referrer_ids(backend: Backend) -> tuple[str, ...]:
    """Cite the Ingresses among those who refer to a Service."""
    words = (r.split(" ", 1) for r in backend.referrers if r.startswith("Ingress "))
    return tuple(f"api:ingresses/{key}" for _, key in words)


def _edits(backend: Backend) -> tuple[str, ...]:
    """Open the Ingresses that refer to a Service."""
    keys = (i.removeprefix("api:ingresses/").partition("/") for i in _referrer_ids(backend))
    return tuple(f"kubectl -n {namespace} edit ingress {name}" for namespace, _, name in keys)
