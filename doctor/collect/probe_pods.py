"""Probe pods: one per node, unprivileged, from an image that is already there, always removed."""

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar

import msgspec

from doctor.bundle.schema import ProbePodRecord
from doctor.collect.kube import Api, ApiAnswer
from doctor.evidence.finders import flannel_daemonsets, kube_proxy_daemonset
from doctor.evidence.world import World
from doctor.model.kube import Event, Node, Pod, Toleration

T = TypeVar("T", Pod, Event)

__all__ = ["LABEL", "PORT", "ProbePodSet", "choose_image", "probe_pods"]

LABEL = "app.kubernetes.io/managed-by"
MANAGER = "wwwm-doctor"
PORT = 20053
"""Where a probe pod answers TCP: any free port above 1023 does, as the pod has its own address."""

_START_SECONDS = 12.0
_ACCOUNT_SECONDS = 4.0
_GONE_SECONDS = 6.0
_POLL = 0.3
_SOONEST = 0.7
"""No container starts, and none goes, in less: asking earlier only costs requests."""
_LIFETIME = 300
_DEAD_REASONS = {
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}


class _List(msgspec.Struct):
    """A LIST of a small namespace, its items undecoded."""

    items: list[msgspec.Raw] = []


class ProbePodSet(msgspec.Struct, frozen=True):
    """Probe pods that were asked for, and what became of each.

    Args:
        namespace: The namespace they are in.
        records: One per node asked for.
    """

    namespace: str
    records: tuple[ProbePodRecord, ...]

    @property
    def running(self) -> tuple[ProbePodRecord, ...]:
        """Those that can be used."""
        return tuple(r for r in self.records if r.address)


def pod_name(node: str) -> str:
    """Name the probe pod of a node."""
    return f"probe-{node}"[:63].rstrip("-.")


def choose_image(world: World, node: Node, given: str | None = None) -> str:
    """Choose an image that is on a node and has a shell; empty where none is known.

    flannel's comes first: it has a shell and network tools. A pod that runs there proves that the
    image is there; the kubelet's own list is cut to fifty.
    """
    if given:
        return given
    templates = flannel_daemonsets(world)
    wanted = [c.image for d in templates for c in d.spec.template.spec.containers]
    wanted += [c.image for p in world.pods if "flannel" in p.name for c in p.spec.containers]
    here = {c.image for p in world.pods if p.node == node.name for c in p.spec.containers}
    listed = {n for i in node.status.images or () for n in i.names or ()}
    found = (i for i in dict.fromkeys(wanted) if i in here or i in listed)
    return next(found, "")


@contextlib.contextmanager
def probe_pods(
    api: Api,
    world: World,
    images: dict[str, str],
    note: Callable[[str], None],
    warn: Callable[[str], None],
) -> Iterator[ProbePodSet]:
    """Start probe pods on nodes, and remove them whatever happens.

    Args:
        api: The API server.
        world: The cluster.
        images: Image by node name; an empty one is reported as not startable.
        note: Called with a line on progress.
        warn: Called with a line on what is left in the cluster.
    """
    namespace = f"{MANAGER}-{secrets.token_hex(4)}"
    made = True
    try:
        note("starting probe pods")
        answer = _make_namespace(api, namespace)
        # Without an answer it may be there all the same.
        made = answer.ok or not answer.status
        if not answer.ok:
            refused = f"namespace {namespace} could not be created: {answer.reason}"
            yield ProbePodSet(namespace, tuple(ProbePodRecord(n, reason=refused) for n in images))
            return
        tolerations = _tolerations(world)
        failed = _create(api, namespace, images, tolerations)
        yield ProbePodSet(namespace, _await(api, namespace, images, failed))
    finally:
        if made:
            _clean_up(api, namespace, note, warn)


def _clean_up(
    api: Api, namespace: str, note: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Remove what was made, and say what could not be removed."""
    note("removing probe pods")
    with _undisturbed():
        left = _remove(api, namespace)
    if left:
        warn(left)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C or SIGTERM cut off the clean-up, which is bounded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_namespace(api: Api, name: str) -> ApiAnswer:
    """Create the run's own namespace."""
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL: MANAGER}},
    }
    return api.call("POST", "/api/v1/namespaces", body)


def _tolerations(world: World) -> list[dict[str, str]]:
    """Mirror what kube-proxy tolerates, so that a probe runs wherever service traffic does."""
    daemonset = kube_proxy_daemonset(world)
    found = daemonset.spec.template.spec.tolerations if daemonset else None
    mirrored: list[dict[str, str]] = [
        msgspec.to_builtins(t) for t in found or (Toleration(operator="Exists"),)
    ]
    return mirrored


def _manifest(node: str, image: str, tolerations: list[dict[str, str]]) -> dict[str, object]:
    """Write a pod that Pod Security's restricted profile admits."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(node), "labels": {LABEL: MANAGER}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFETIME,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": tolerations,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "runAsGroup": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "imagePullPolicy": "Never",
                    # Ends at SIGTERM by itself: PID 1 has no default action for it.
                    "command": [
                        "sh",
                        "-c",
                        f"trap 'exit 0' TERM; nc -ll -p {PORT} -e true & while :; do wait; sleep 1; done",
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def _create(
    api: Api, namespace: str, images: dict[str, str], tolerations: list[dict[str, str]]
) -> dict[str, str]:
    """Create the pods; return why some were refused.

    A new namespace has no default service account for a moment, and admission wants one.
    """
    failed: dict[str, str] = {}
    limit = time.monotonic() + _ACCOUNT_SECONDS
    for node, image in images.items():
        if not image:
            failed[node] = "no image with a shell is known to be on the node (--probe-image)"
            continue
        body = _manifest(node, image, tolerations)
        answer = _post(api, namespace, body)
        while _no_account(answer) and time.monotonic() < limit:
            time.sleep(_POLL / 2)
            answer = _post(api, namespace, body)
        if not answer.ok:
            failed[node] = answer.reason
    return failed


def _post(api: Api, namespace: str, body: dict[str, object]) -> ApiAnswer:
    """Create one pod."""
    return api.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)


def _no_account(answer: ApiAnswer) -> bool:
    """Say whether a creation was refused for want of the service account."""
    return (
        answer.status == HTTPStatus.FORBIDDEN
        and "error looking up service account" in answer.reason
    )


def _await(
    api: Api, namespace: str, images: dict[str, str], failed: dict[str, str]
) -> tuple[ProbePodRecord, ...]:
    """Wait until every pod runs or is known not to, within a bound."""
    done = {n: ProbePodRecord(node=n, image=images[n], reason=r) for n, r in failed.items()}
    limit = time.monotonic() + api.deadline.bound(_START_SECONDS)
    time.sleep(_SOONEST)
    while len(done) < len(images) and time.monotonic() < limit:
        pods = {p.node: p for p in _list(api, f"/api/v1/namespaces/{namespace}/pods", Pod)}
        waiting = [n for n in images if n not in done]
        stuck = [n for n in waiting if n not in pods or not _running(pods[n])]
        events = _list(api, f"/api/v1/namespaces/{namespace}/events", Event) if stuck else []
        for node in waiting:
            record = _state(node, images[node], pods.get(node), events)
            if record:
                done[node] = record
        if len(done) < len(images):
            time.sleep(_POLL)
    late = f"not running after {_START_SECONDS:g} s"
    return tuple(
        done.get(n) or ProbePodRecord(node=n, image=i, reason=late) for n, i in images.items()
    )


def _list(api: Api, path: str, kind: type[T], *, late: bool = False) -> list[T]:
    """LIST a small namespace; empty where that fails."""
    answer = api.call("GET", path, late=late)
    if not answer.ok:
        return []
    try:
        items = msgspec.json.decode(answer.body, type=_List).items
        return [msgspec.json.decode(i, type=kind) for i in items]
    except msgspec.DecodeError:
        return []


def _running(pod: Pod) -> bool:
    """Say whether a pod runs and has an address."""
    return pod.ready and bool(pod.status.pod_ip)


def _state(node: str, image: str, pod: Pod | None, events: list[Event]) -> ProbePodRecord | None:
    """Judge one pod: usable, never going to be, or (None) still starting."""
    if pod is None:
        return None
    if _running(pod):
        return ProbePodRecord(node=node, address=pod.status.pod_ip, port=PORT, image=image)
    if pod.status.phase == "Failed":
        reason = f"{pod.status.reason}: {pod.status.message}".strip(": ") or "the pod failed"
        return ProbePodRecord(node=node, image=image, reason=reason[:400])
    if pod.waiting in _DEAD_REASONS:
        return ProbePodRecord(node=node, image=image, reason=f"{pod.waiting} ({image})")
    sandbox = [
        e.message
        for e in events
        if e.reason == "FailedCreatePodSandBox" and e.involved_object.name == pod.name
    ]
    return ProbePodRecord(node=node, image=image, reason=sandbox[0][:600]) if sandbox else None


def _remove(api: Api, namespace: str) -> str:
    """Delete the pods, by force where they do not go, then their namespace.

    Returns:
        What is left, and how to remove it; empty where nothing is.
    """
    path = f"/api/v1/namespaces/{namespace}"
    pods = _list(api, f"{path}/pods", Pod, late=True)
    never_started = [p for p in pods if not p.status.pod_ip]
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1}
    api.call("DELETE", f"{path}/pods", options, late=True)
    for pod in never_started:
        _force(api, path, pod)
    limit = time.monotonic() + _GONE_SECONDS
    time.sleep(_SOONEST if pods else 0.0)
    while pods and time.monotonic() < limit:
        time.sleep(_POLL)
        pods = _list(api, f"{path}/pods", Pod, late=True)
    for pod in pods:
        _force(api, path, pod)
    # The namespace itself is empty now; its controller lets five seconds pass before it ends it.
    answer = api.call("DELETE", path, late=True)
    while not _gone(answer) and time.monotonic() < limit:
        time.sleep(_POLL)
        answer = api.call("DELETE", path, late=True)
    if _gone(answer):
        return ""
    return f"could not remove namespace {namespace}: {answer.reason}; kubectl delete ns {namespace}"


def _gone(answer: ApiAnswer) -> bool:
    """Say whether a deletion was taken up, or there is nothing to delete."""
    return answer.ok or answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


def _force(api: Api, path: str, pod: Pod) -> None:
    """Delete a pod at once: with a broken CNI its sandbox cannot be taken down in an orderly way."""
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    api.call("DELETE", f"{path}/pods/{pod.name}", options, late=True)
