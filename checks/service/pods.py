"""Why the pods behind a Service are no ready endpoints: what they do, and what they answer."""

from collections.abc import Iterable

from checks.common import and_list, ids
from checks.service.shared import look, pod_ids
from doctor.model.evidence import Backend, BackendFlows, EgressFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "POD_CODES",
    "SERVICE_PODS_CRASHING",
    "SERVICE_PODS_NOT_READY",
    "SERVICE_PODS_NOT_STARTED",
    "crashing",
    "not_ready",
    "not_started",
]

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
POD_CODES = (SERVICE_PODS_NOT_STARTED, SERVICE_PODS_CRASHING, SERVICE_PODS_NOT_READY)
_ERROR_STATUS = 400
_SERVICE_LABELS = 2


def not_started(backend: Backend, pods: tuple[Pod, ...]) -> Finding:
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
        evidence=pod_ids(backend, pods),
        consequence_of=_places(pods, HopKind.FLANNEL, HopKind.NODE, HopKind.POD_NETWORK),
        remediation=(look(backend, pods, "Mend what keeps the pods from starting", logs=False),),
        falsifier=f"a pod of {backend.key} runs",
    )


def crashing(backend: Backend, pods: tuple[Pod, ...], egress: EgressFlows | None) -> Finding:
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
        evidence=(*pod_ids(backend, pods), *failed),
        flows=failed,
        consequence_of=_behind(pods),
        remediation=(look(backend, pods, "Read why the pods end, and mend that"),),
        falsifier=f"a pod of {backend.key} runs on and becomes ready",
    )


def not_ready(
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
        evidence=(*pod_ids(backend, pods), *ids(asked), *(() if silent else failed)),
        confidence=confidence,
        flows=failed,
        consequence_of=_behind(pods),
        remediation=(look(backend, pods, "Read why the application is not ready, and mend that"),),
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


def _behind(pods: tuple[Pod, ...]) -> tuple[Hop, ...]:
    """List what keeps pods from running well: what they depend on, themselves, and where they are."""
    return (
        *_dependencies(pods),
        *(Hop(HopKind.POD, p.key) for p in pods),
        *_places(pods, HopKind.NODE, HopKind.POD_NETWORK),
    )


def _places(pods: Iterable[Pod], *kinds: HopKind) -> tuple[Hop, ...]:
    """List hops of the nodes that pods are on."""
    return tuple(
        Hop(kind, node) for node in sorted({p.node for p in pods} - {""}) for kind in kinds
    )
