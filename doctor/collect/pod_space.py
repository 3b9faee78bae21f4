"""Where probe pods live: a namespace of the run's own, one that was given, or ``default``."""

import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from doctor.collect.kube import Api, ApiAnswer
from doctor.collect.pod_manifest import Wanted, altered, namespace_body, pod_body
from doctor.collect.pod_owner import Run
from doctor.evidence.world import World
from doctor.model.kube import APIService

__all__ = ["Space", "choose_space", "open_space", "post_pod"]

_FALLBACK = "default"
_ACCOUNT_SECONDS = 4.0
_POLL = 0.1


class Space(msgspec.Struct):
    """A namespace that probe pods of one kind are started in.

    Args:
        name: Its name.
        own: Whether this run makes it.
        host: Whether it is for pods on the nodes' own network.
        asked: Whether its creation was asked for.
        known: Whether all that was asked for was answered: else more may come to be, or not.
        pods: Names of the pods whose creation was asked for.
        refusal: Why no pod can be started in it.
    """

    name: str
    own: bool
    host: bool = False
    asked: bool = False
    known: bool = True
    pods: list[str] = []
    refusal: str = ""

    @property
    def path(self) -> str:
        """Its path in the API."""
        return f"/api/v1/namespaces/{quote(self.name, safe='')}"


def choose_space(api: Api, world: World, run: Run, given: str | None, *, host: bool) -> Space:
    """Choose the namespace; what speaks against it is its refusal.

    A namespace whose APIServices are not all available cannot be deleted: it would stick in
    Terminating. Then ``default`` is used, unless a NetworkPolicy there might be measured.

    Args:
        api: The API server.
        world: The cluster.
        run: The run.
        given: The namespace that the user chose.
        host: Whether it is for pods on the nodes' own network.
    """
    if given:
        return Space(given, own=False, host=host)
    away = next((s for s in world.items("apiservices", APIService) if s.unavailable), None)
    if away is None:
        return Space(f"{run.namespace}-host" if host else run.namespace, own=True, host=host)
    policies = f"/apis/networking.k8s.io/v1/namespaces/{_FALLBACK}/networkpolicies"
    answer, found = api.pages(policies)
    but = f"{_FALLBACK} has NetworkPolicies" if found else ""
    but = but or ("" if answer.ok else f"whether {_FALLBACK} has NetworkPolicies: {answer.reason}")
    refusal = (
        f"APIService {away.name} is unavailable, so a namespace could not be removed again, and"
        f" {but} (--probe-namespace)"
    )
    return Space(_FALLBACK, own=False, host=host, refusal=refusal if but else "")


def open_space(
    api: Api, run: Run, space: Space, wanted: Wanted, stopped: Callable[[], bool]
) -> None:
    """Make a namespace if it is to be the run's own, and see what admission makes of a pod there.

    Args:
        api: The API server.
        run: The run.
        space: The namespace; what speaks against it is noted as its refusal.
        wanted: A pod that is to be started in it.
        stopped: Says whether to give up.
    """
    if space.refusal or stopped():
        return
    if space.own:
        space.asked, space.known = True, False
        level = "privileged" if space.host else "restricted"
        answer = api.call("POST", "/api/v1/namespaces", namespace_body(run, space.name, level))
        space.known = bool(answer.status)
        if not answer.ok:
            space.refusal = (
                f"namespace {space.name} could not be created: {answer.reason} (--probe-namespace)"
            )
            return
    space.refusal = _rehearse(api, run, space, wanted, stopped)


def _rehearse(api: Api, run: Run, space: Space, wanted: Wanted, stopped: Callable[[], bool]) -> str:
    """Have the API server admit a pod without creating it; say what speaks against it.

    A new namespace has no default service account for a moment, and admission wants one.
    """
    limit = time.monotonic() + api.deadline.bound(_ACCOUNT_SECONDS)
    answer = post_pod(api, run, space, wanted, rehearsal=True)
    while _no_account(answer) and time.monotonic() < limit and not stopped():
        time.sleep(_POLL)
        answer = post_pod(api, run, space, wanted, rehearsal=True)
    if not answer.ok:
        return answer.reason
    changed = altered(wanted, answer.body)
    return f"{changed}; so none is started in namespace {space.name}" if changed else ""


def post_pod(
    api: Api, run: Run, space: Space, wanted: Wanted, *, rehearsal: bool = False
) -> ApiAnswer:
    """Ask for one pod."""
    query = "?dryRun=All" if rehearsal else ""
    return api.call("POST", f"{space.path}/pods{query}", pod_body(run, wanted))


def _no_account(answer: ApiAnswer) -> bool:
    """Say whether a creation was refused for want of the service account."""
    return (
        answer.status == HTTPStatus.FORBIDDEN
        and "error looking up service account" in answer.reason
    )
