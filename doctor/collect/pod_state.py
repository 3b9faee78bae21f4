"""What has become of a probe pod, from what the API server says of it: pure."""

import re
from collections.abc import Iterable

import msgspec

from doctor.collect.pod_manifest import HOST_PATHS
from doctor.model.kube import Condition, Event, Item, KubeObject

__all__ = ["Outcome", "SeenPod", "outcome"]

_MOST = 600
_MOUNT = re.compile(r'for volume "([\w-]+)" : hostPath type check failed')

_OTHER_IMAGE = frozenset(
    {
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    }
)
"""Why a container waits that another image may not wait for."""
_NO_USE = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
"""Why a container waits that no other image helps against: somebody makes it pull."""


class _Waiting(KubeObject, frozen=True):
    """Why a container waits."""

    reason: str = ""
    message: str = ""


class _Terminated(KubeObject, frozen=True):
    """How a container ended."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0


class _Running(KubeObject, frozen=True):
    """That a container runs."""


class _State(KubeObject, frozen=True):
    """The state of a container."""

    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _Container(KubeObject, frozen=True):
    """Status of a container."""

    state: _State = _State()


class _Spec(KubeObject, frozen=True):
    """Spec of a pod, as far as it is looked at while it starts."""

    node_name: str = ""


class _Status(KubeObject, frozen=True):
    """Status of a pod, as far as it is looked at while it starts."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    start_time: str | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[_Container, ...] | None = None


class SeenPod(Item, frozen=True):
    """A probe pod, as it was seen while it starts or goes."""

    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def taken_up(self) -> bool:
        """Whether a kubelet has taken notice of it."""
        status = self.status
        known = any(c.type != "PodScheduled" for c in status.conditions or ())
        return bool(known or status.start_time or status.host_ip)

    @property
    def has_network(self) -> bool:
        """Whether its sandbox stands, with its network."""
        found = (c.status for c in self.status.conditions or () if _SANDBOX in c.type)
        return "True" in found or bool(self.status.pod_ip)

    def condition(self, kind: str) -> Condition | None:
        """Return a condition that is True."""
        found = (c for c in self.status.conditions or () if c.type == kind and c.status == "True")
        return next(found, None)


_SANDBOX = "PodReadyToStartContainers"


class Outcome(msgspec.Struct, frozen=True):
    """What a probe pod has come to.

    Args:
        address: Its address; empty where it does not run.
        reason: Why it does not run and never will, in one line; empty where it runs.
        other_image: Whether one from another image may run.
        without: Names of the volumes that the node has nothing for: one without them may run.
    """

    address: str = ""
    reason: str = ""
    other_image: bool = False
    without: frozenset[str] = frozenset()


def outcome(pod: SeenPod, events: Iterable[Event]) -> Outcome | None:
    """Say what a probe pod has come to; None while it may still start.

    Args:
        pod: The pod.
        events: Warnings; those about other pods are left out of account.
    """
    if pod.metadata.deletion_timestamp:
        why = pod.condition("DisruptionTarget")
        said = f"{why.reason}: {why.message}" if why else "who did it is not known"
        return _never(f"the pod was removed by somebody else ({said.strip(': ')})")
    if pod.condition("Ready") and pod.status.pod_ip:
        return Outcome(address=pod.status.pod_ip)
    states = [c.state for c in pod.status.container_statuses or ()]
    return (
        _ended(pod, [s.terminated for s in states if s.terminated])
        or _waiting([s.waiting for s in states if s.waiting])
        or _warned(pod, events)
    )


def _never(reason: str, *, other_image: bool = False) -> Outcome:
    """Say why a pod does not run and never will."""
    return Outcome(reason=" ".join(reason.split())[:_MOST], other_image=other_image)


def _ended(pod: SeenPod, ended: list[_Terminated]) -> Outcome | None:
    """Judge a pod that has ended: the kubelet refused or evicted it, or its shell did not last."""
    over = pod.status.phase in ("Failed", "Succeeded")
    if over and (pod.status.reason or not ended):
        text = f"{pod.status.reason}: {pod.status.message}".strip(": ")
        return _never(text or f"the pod {pod.status.phase.lower()}")
    if ended:
        text = f"{ended[0].reason or 'ended'} (exit code {ended[0].exit_code}): {ended[0].message}"
        return _never(text.rstrip(": "), other_image=True)
    return None


def _waiting(waiting: list[_Waiting]) -> Outcome | None:
    """Judge a container that waits for what will not come."""
    for found in waiting:
        if found.reason in _OTHER_IMAGE | _NO_USE:
            text = f"{found.reason}: {found.message}".rstrip(": ")
            return _never(text, other_image=found.reason in _OTHER_IMAGE)
    return None


def _warned(pod: SeenPod, events: Iterable[Event]) -> Outcome | None:
    """Judge by what the kubelet warns of: no sandbox, nothing to mount."""
    own = [e for e in events if e.involved_object.name == pod.name]
    for event in own:
        if event.reason == "FailedCreatePodSandBox":
            return _never(event.message or event.reason)
    mounts = [_MOUNT.search(e.message) for e in own if e.reason == "FailedMount"]
    absent = frozenset(m[1] for m in mounts if m) & HOST_PATHS.keys()
    if absent:
        paths = ", ".join(sorted(HOST_PATHS[n] for n in absent))
        return Outcome(reason=f"the node has no {paths}", without=absent)
    return None
