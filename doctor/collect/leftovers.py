"""What killed runs have left in the cluster: finding it, and removing it."""

import datetime as dt
import time
from collections.abc import Container, Iterator
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from doctor.collect.kube import Api
from doctor.collect.pod_list import decoded
from doctor.collect.pod_owner import RUN, end_of, lives, owner_of
from doctor.collect.pod_removal import delete_options
from doctor.collect.pod_state import SeenPod
from doctor.errors import ClusterError
from doctor.model.kube import Condition, Item, KubeObject, Meta
from doctor.model.probe_pod import LABEL, MANAGER, PREFIX, Fate, Leftover, Sweep

__all__ = ["SweepPace", "sweep"]

_SELECTOR = f"labelSelector={quote(LABEL, safe='')}%3D{MANAGER}"
_FAILURES = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
)
"""Conditions of a namespace that does not go by itself."""
_REMAINDERS = ("NamespaceFinalizersRemaining", "NamespaceContentRemaining")
"""Conditions that a namespace has for a moment while it goes, or for ever."""
_MOST_TEXT = 300


class SweepPace(msgspec.Struct, frozen=True):
    """How long is waited for what, in seconds.

    Args:
        poll: Between two looks.
        gone: In this time a pod goes, or is removed by force.
        longest: In this time a namespace goes, or is said to be stuck.
    """

    poll: float = 0.5
    gone: float = 6.0
    longest: float = 20.0


class _Status(KubeObject, frozen=True):
    """Status of a namespace."""

    conditions: tuple[Condition, ...] | None = None


class _Namespace(Item, frozen=True):
    """A namespace."""

    status: _Status = _Status()

    @property
    def going(self) -> bool:
        """Whether it was told to go already."""
        return bool(self.metadata.deletion_timestamp)

    def trouble(self, *kinds: str) -> str:
        """Say why it does not go, if a condition of these kinds does."""
        found = {c.type: c.message for c in self.status.conditions or () if c.status == "True"}
        return " ".join(next((found[k] for k in kinds if k in found), "").split())[:_MOST_TEXT]


class _Found(msgspec.Struct, frozen=True):
    """All that runs have made, as far as it could be looked for."""

    namespaces: tuple[_Namespace, ...] = ()
    pods: tuple[SeenPod, ...] = ()
    unseen: dict[str, str] = {}

    @property
    def uids(self) -> frozenset[str]:
        """What there is, told apart from what may have the same name later."""
        return frozenset(i.metadata.uid for i in (*self.namespaces, *self.pods))


class _Plan(msgspec.Struct, frozen=True):
    """What is to become of what was found.

    Args:
        kept: What is left alone.
        namespaces: What is to go.
        strays: Pods to go that are in somebody else's namespace.
        inside: Pods to go along with their namespaces.
    """

    kept: tuple[Leftover, ...]
    namespaces: tuple[_Namespace, ...]
    strays: tuple[SeenPod, ...]
    inside: tuple[SeenPod, ...]

    @property
    def pods(self) -> tuple[SeenPod, ...]:
        """All pods to go."""
        return (*self.inside, *self.strays)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do: what is to go was told so, and holds no pod."""
        return not self.pods and all(n.going for n in self.namespaces)

    def without(self, refused: Container[str]) -> "_Plan":
        """Leave out what the API server would not remove."""
        return _Plan(
            kept=self.kept,
            namespaces=tuple(n for n in self.namespaces if n.metadata.uid not in refused),
            strays=tuple(p for p in self.strays if p.metadata.uid not in refused),
            inside=tuple(p for p in self.inside if p.metadata.uid not in refused),
        )


def sweep(
    api: Api,
    *,
    everything: bool = False,
    namespace: str | None = None,
    pace: SweepPace | None = None,
) -> Sweep:
    """Remove what runs have left that are no longer alive.

    A namespace is a run's if its name and its label say so, and so is a pod in any other one. What
    belongs to a process that is alive on this machine is left alone, and so is what belongs to
    another machine's until its pods have ended by themselves.

    Args:
        api: The API server.
        everything: Whether to remove other machines' at once.
        namespace: Look for pods in this namespace only; None for everywhere.
        pace: How long is waited for what.

    Raises:
        ClusterError: Nothing can be looked for.
    """
    found = _find(api, namespace)
    unseen = tuple(f"{kind}: {reason}" for kind, reason in found.unseen.items())
    if len(unseen) == (1 if namespace else 2):
        raise ClusterError(f"nothing can be looked for: {'; '.join(unseen)}")
    plan = _plan(found, dt.datetime.now(dt.UTC), everything=everything)
    refused = {} if plan.idle else _delete(api, plan)
    going = plan.without(refused)
    left = found if going.idle else _wait(api, namespace, found, going, pace or SweepPace())
    report = _report(plan, left, refused, waited=not going.idle)
    return Sweep((*plan.kept, *report), unseen)


def _find(api: Api, namespace: str | None) -> _Found:
    """Look for namespaces and pods with both marks: the label, and the name."""
    unseen = {}
    namespaces: list[_Namespace] = []
    if namespace is None:
        answer, raw = api.pages(f"/api/v1/namespaces?{_SELECTOR}")
        namespaces = [n for n in decoded(raw, _Namespace) if _is_ours(n)]
        if not answer.ok:
            unseen["namespaces"] = answer.reason
    where = f"namespaces/{quote(namespace, safe='')}/pods" if namespace else "pods"
    answer, raw = api.pages(f"/api/v1/{where}?{_SELECTOR}")
    pods = [p for p in decoded(raw, SeenPod) if _is_ours(p) and RUN in p.labels]
    if not answer.ok:
        unseen["pods"] = answer.reason
    return _Found(tuple(namespaces), tuple(pods), unseen)


def _is_ours(item: Item) -> bool:
    """Say whether something has both marks."""
    return item.name.startswith(PREFIX) and item.labels.get(LABEL) == MANAGER


def _plan(found: _Found, now: dt.datetime, *, everything: bool) -> _Plan:
    """Decide what goes."""
    own = {n.name for n in found.namespaces}
    strays = tuple(p for p in found.pods if p.namespace not in own)
    items: tuple[Item, ...] = (*found.namespaces, *strays)
    alive = {i.metadata.uid: _alive(i.metadata, now, everything=everything) for i in items}
    kept = [i for i in items if alive[i.metadata.uid]]
    dead = tuple(n for n in found.namespaces if not alive[n.metadata.uid])
    names = {n.name for n in dead}
    return _Plan(
        kept=tuple(Leftover(_called(i), Fate.LIVE, alive[i.metadata.uid]) for i in kept),
        namespaces=dead,
        strays=tuple(p for p in strays if not alive[p.metadata.uid]),
        inside=tuple(p for p in found.pods if p.namespace in names),
    )


def _alive(meta: Meta, now: dt.datetime, *, everything: bool) -> str:
    """Say whose something is that may still be in use; empty where it is not."""
    owner, ends = owner_of(meta), end_of(meta)
    alive = lives(owner) if owner else None
    if alive:
        return f"its run is alive: process {owner.pid} on this machine" if owner else ""
    if alive is False or everything or ends is None or now >= ends:
        return ""
    which = f"a run on {owner.host}" if owner else "some run"
    return f"{which} may use it until {ends:%H:%M:%S} UTC (--all removes it)"


def _called(item: Item) -> str:
    """Name something for the report."""
    return f"{'pod' if isinstance(item, SeenPod) else 'namespace'} {item.key}"


def _delete(api: Api, plan: _Plan) -> dict[str, str]:
    """Tell everything to go; return why the API server would not, by uid."""
    # namespaces first: then nothing new comes into them
    items = (*(n for n in plan.namespaces if not n.going), *plan.pods)
    answers = {i.metadata.uid: _delete_one(api, i, 1) for i in items}
    return {uid: why for uid, why in answers.items() if why}


def _delete_one(api: Api, item: Item, grace: int) -> str:
    """Delete one object, and no other that has got its name since; say why it was refused."""
    path = f"namespaces/{quote(item.name, safe='')}"
    options = delete_options(grace)
    if isinstance(item, SeenPod):
        path = f"namespaces/{quote(item.namespace, safe='')}/pods/{quote(item.name, safe='')}"
    else:
        del options["gracePeriodSeconds"]
    options["preconditions"] = {"uid": item.metadata.uid}
    answer = api.call("DELETE", f"/api/v1/{path}", options, late=True)
    settled = answer.ok or answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
    return "" if settled else answer.reason


def _wait(api: Api, namespace: str | None, found: _Found, plan: _Plan, pace: SweepPace) -> _Found:
    """Wait until all has gone, by force where pods do not; return what was last seen to be left."""
    start = time.monotonic()
    forced = False
    left = found
    while True:
        time.sleep(pace.poll)
        now = _find(api, namespace)
        # a look that fails shows nothing, which is not the same as that nothing is left
        left = now if now.unseen.keys() <= found.unseen.keys() else left
        pods = [p for p in plan.pods if p.metadata.uid in left.uids]
        gone = not pods and not any(n.metadata.uid in left.uids for n in plan.namespaces)
        waited = time.monotonic() - start
        if gone or waited >= pace.longest:
            return left
        if pods and not forced and waited >= pace.gone:
            forced = True
            for pod in pods:
                _delete_one(api, pod, 0)


def _report(
    plan: _Plan, left: _Found, refused: dict[str, str], *, waited: bool
) -> Iterator[Leftover]:
    """Say what became of everything that was to go."""
    now = {n.metadata.uid: n for n in left.namespaces}
    for item in plan.namespaces:
        uid = item.metadata.uid
        inside = [p for p in plan.inside if p.namespace == item.name]
        if uid in refused:
            yield Leftover(_called(item), Fate.REFUSED, refused[uid])
        elif uid not in now:
            pods = f"with {len(inside)} pod{'s' if len(inside) > 1 else ''}" if inside else ""
            yield Leftover(_called(item), Fate.REMOVED, pods)
        elif not waited:
            stuck = now[uid].trouble(*_FAILURES)
            yield Leftover(_called(item), Fate.STUCK if stuck else Fate.GOING, stuck)
        else:
            stuck = now[uid].trouble(*_FAILURES, *_REMAINDERS)
            yield Leftover(
                _called(item), Fate.STUCK, stuck or "it was told to go, and is still there"
            )
    for pod in plan.strays:
        uid = pod.metadata.uid
        if uid in refused:
            yield Leftover(_called(pod), Fate.REFUSED, refused[uid])
        elif uid in left.uids:
            yield Leftover(_called(pod), Fate.STUCK, "it was told to go, and is still there")
        else:
            yield Leftover(_called(pod), Fate.REMOVED)
