"""What the cluster's objects say of the pod network: who has an address, who waits for one."""

from doctor.evidence.world import World
from doctor.model.evidence import PodAddress, StuckPod
from doctor.model.kube import OTHER_NETWORK, Event, Pod

__all__ = ["addressed_pods", "assigner_arguments", "stuck_pods"]

_SANDBOX = "FailedCreatePodSandBox"
_CONTROLLER_MANAGER = "kube-controller-manager"


def addressed_pods(world: World) -> tuple[PodAddress, ...]:
    """List the pods that have an address of the pod network, but those that asked for another."""
    return tuple(
        PodAddress(p.key, p.node, p.status.pod_ip, p.metadata.creation_timestamp or "")
        for p in world.pods
        if p.status.pod_ip
        and not p.spec.host_network
        and not p.metadata.deletion_timestamp
        and OTHER_NETWORK not in p.annotations
    )


def stuck_pods(world: World) -> tuple[StuckPod, ...]:
    """List the pods that wait for a network now, with the last event that says why.

    An event of a pod that has an address by now, or is gone, tells of what is over.
    """
    last: dict[str, Event] = {}
    for event in world.warnings:
        if event.reason == _SANDBOX and event.involved_object.kind == "Pod":
            key = f"{event.involved_object.namespace}/{event.involved_object.name}"
            if key not in last or _time(event) >= _time(last[key]):
                last[key] = event
    return tuple(
        StuckPod(p.key, p.node, last[p.key].message, f"api:events/{last[p.key].key}")
        for p in world.pods
        if p.key in last and _waits(p)
    )


def _waits(pod: Pod) -> bool:
    """Say whether a pod is bound to a node and has no address there yet."""
    return bool(pod.node) and not pod.status.pod_ip and not pod.metadata.deletion_timestamp


def _time(event: Event) -> str:
    """Return when an event was seen last."""
    return event.last_timestamp or event.event_time or ""


def assigner_arguments(world: World) -> tuple[str, ...]:
    """Return the arguments of the controller manager that are about podCIDRs."""
    return next(
        (
            c.args or ()
            for p in world.pods
            if p.labels.get("component") == _CONTROLLER_MANAGER
            for c in p.spec.containers
        ),
        (),
    )
