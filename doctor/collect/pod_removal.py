"""Removing what one run has made: its pods, by force where they do not go, and its namespace."""

import time
from http import HTTPStatus

from doctor.collect.kube import Api, ApiAnswer
from doctor.collect.pod_list import items_of, listed
from doctor.collect.pod_owner import RUN, Run
from doctor.collect.pod_space import Space
from doctor.collect.pod_state import SeenPod
from doctor.collect.pod_watch import Pace

__all__ = ["delete_options", "remove"]

_UNSETTLED_SECONDS = 2.0
"""How long a creation that nobody waited for may still be under way."""
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_FORBIDDEN = (HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED)
_NO_ADDRESS = "fieldSelector=status.podIP%3D"


def remove(api: Api, run: Run, space: Space, pace: Pace) -> str:
    """Remove what a run has made in a namespace; nothing else there is touched.

    A namespace of its own is told to go first: whatever happens then, nothing new comes into it.

    Args:
        api: The API server; it is asked after the run's deadline, too.
        run: The run.
        space: The namespace, and what was asked for in it.
        pace: How long is waited for what.

    Returns:
        What is left, and how to remove it; empty where nothing is.
    """
    limit = time.monotonic() + pace.gone
    namespace = _delete_namespace(api, space) if space.asked else None
    if namespace and namespace.status == HTTPStatus.NOT_FOUND and not space.known:
        namespace = _delete_late(api, space, pace)
    left = _remove_pods(api, run, space, pace) if space.pods else ""
    if namespace is None:
        return left
    # only a namespace that is told to go takes along what is left in it
    while not _gone(namespace) and time.monotonic() < limit:
        time.sleep(pace.poll)
        namespace = _delete_namespace(api, space)
    if _gone(namespace):
        return ""
    name = space.name
    return f"could not remove namespace {name}: {namespace.reason}; kubectl delete ns {name}"


def delete_options(grace: int) -> dict[str, object]:
    """Write what a deletion is asked with; 0 seconds of grace do not wait for the kubelet."""
    return {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace}


def _delete_namespace(api: Api, space: Space) -> ApiAnswer:
    """Tell a namespace to go."""
    return api.call("DELETE", space.path, late=True)


def _gone(answer: ApiAnswer) -> bool:
    """Say whether a deletion was taken up, or there is nothing to delete."""
    return answer.ok or answer.status in _GONE


def _delete_late(api: Api, space: Space, pace: Pace) -> ApiAnswer:
    """Delete a namespace whose creation was broken off: it may come to be only now."""
    limit = time.monotonic() + min(_UNSETTLED_SECONDS, pace.gone)
    while True:
        time.sleep(pace.poll)
        answer = _delete_namespace(api, space)
        if answer.status != HTTPStatus.NOT_FOUND or time.monotonic() >= limit:
            return answer


def _remove_pods(api: Api, run: Run, space: Space, pace: Pace) -> str:
    """Delete the run's pods in a namespace and wait until they are gone, within a bound."""
    limit = time.monotonic() + pace.gone
    own = f"{space.path}/pods?labelSelector={run.selector}"
    answer = _delete_pods(api, run, space, 1)
    while not answer.ok and answer.status not in _GONE and time.monotonic() < limit:
        time.sleep(pace.poll)
        answer = _delete_pods(api, run, space, 1)
    deleted = items_of(answer, SeenPod)
    if any(not p.status.pod_ip for p in deleted):
        # they have never run: there is nothing that could end in an orderly way
        api.call("DELETE", f"{own}&{_NO_ADDRESS}", delete_options(0), late=True)
    if any(p.status.pod_ip for p in deleted):
        time.sleep(pace.soonest)
    if _have_gone(api, own, space, pace, limit):
        return ""
    # with a broken CNI a sandbox cannot be taken down in an orderly way
    answer = _delete_pods(api, run, space, 0)
    left = listed(api, own, SeenPod, late=True)[1]
    if (answer.ok and not left) or answer.status == HTTPStatus.NOT_FOUND:
        return ""
    what = ", ".join(p.name for p in left) or "pods"
    command = f"kubectl -n {space.name} delete pod -l {RUN}={run.id} --force"
    return f"could not remove {what} in namespace {space.name}: {answer.reason}; {command}"


def _have_gone(api: Api, path: str, space: Space, pace: Pace, limit: float) -> bool:
    """Wait until no pod is left, and none can come to be that nobody has waited for."""
    settled = time.monotonic() + (0.0 if space.known else min(_UNSETTLED_SECONDS, pace.gone))
    while True:
        answer, pods = listed(api, path, SeenPod, late=True)
        now = time.monotonic()
        if answer.ok and not pods and now >= settled:
            return True
        if now >= limit or answer.status in _FORBIDDEN:
            return False
        time.sleep(pace.poll)


def _delete_pods(api: Api, run: Run, space: Space, grace: int) -> ApiAnswer:
    """Delete the run's pods in a namespace at once, or one by one where only that is allowed."""
    path = f"{space.path}/pods"
    options = delete_options(grace)
    answer = api.call("DELETE", f"{path}?labelSelector={run.selector}", options, late=True)
    if answer.status not in _FORBIDDEN:
        return answer
    answers = [api.call("DELETE", f"{path}/{n}", options, late=True) for n in space.pods]
    return next((a for a in answers if not _gone(a)), ApiAnswer(status=HTTPStatus.OK))
