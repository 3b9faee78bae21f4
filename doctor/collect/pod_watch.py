"""Looking at probe pods while they start."""

import time
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from doctor.collect.kube import Api
from doctor.collect.pod_list import listed
from doctor.collect.pod_manifest import Wanted
from doctor.collect.pod_owner import Run
from doctor.collect.pod_space import Space
from doctor.collect.pod_state import Outcome, SeenPod, outcome
from doctor.model.kube import Event, Node

__all__ = ["Attempt", "Pace", "Watch"]

_MOST_NODES = 8
_WARNINGS = "fieldSelector=type%3DWarning%2CinvolvedObject.kind%3DPod&limit=500"
_FORBIDDEN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Pace(msgspec.Struct, frozen=True):
    """How long is waited for what, in seconds.

    Args:
        soonest: Before this, no container has started, and none has gone: asking costs requests.
        poll: Between two looks.
        patience: After this, the kubelet's warnings are read about what has no network yet.
        notice: In this time a kubelet takes up a pod; if it has not, its node is looked at.
        longest: In this time a pod runs, or is given up.
        gone: In this time a pod goes, or is removed by force.
    """

    soonest: float = 0.7
    poll: float = 0.3
    patience: float = 1.5
    notice: float = 5.0
    longest: float = 12.0
    gone: float = 6.0


class Attempt(msgspec.Struct):
    """A pod that was asked for, while it is waited for.

    Args:
        wanted: What was asked for.
        space: Where.
        name: The pod's name.
        since: When it was created, as ``time.monotonic`` counts.
        seen: What was last seen of it.
    """

    wanted: Wanted
    space: Space
    name: str
    since: float = 0.0
    seen: SeenPod | None = None


class Watch:
    """Looks at the probe pods of one run."""

    def __init__(self, api: Api, run: Run, pace: Pace) -> None:
        """Remember where to look."""
        self._api = api
        self._selector = run.selector
        self._pace = pace
        self._next_nodes = 0.0
        self._some_taken_up = False

    def look(self, pending: list[Attempt]) -> list[Outcome | None]:
        """Ask once what has become of pods; None for those that may still start.

        Args:
            pending: What is waited for; what is seen is noted there.
        """
        found: list[Outcome | None] = [None] * len(pending)
        for space in {a.space.name: a.space for a in pending}.values():
            own = [n for n, a in enumerate(pending) if a.space.name == space.name]
            results = self._in(space, [pending[n] for n in own])
            for number, result in zip(own, results, strict=True):
                found[number] = result
        waiting = [a for a, r in zip(pending, found, strict=True) if r is None]
        late = self._late(waiting)
        return [r or late.get(a.name) for a, r in zip(pending, found, strict=True)]

    def _in(self, space: Space, pending: list[Attempt]) -> list[Outcome | None]:
        """Look at the pods in one namespace."""
        path = f"{space.path}/pods?labelSelector={self._selector}"
        answer, pods = listed(self._api, path, SeenPod)
        if answer.status in _FORBIDDEN:
            reason = f"pods in namespace {space.name} may not be listed: {answer.reason}"
            return [Outcome(reason=reason)] * len(pending)
        if not answer.ok:
            return [None] * len(pending)
        by_name = {p.name: p for p in pods}
        events = self._events(space) if any(self._slow(a, by_name) for a in pending) else []
        return [self._judge(a, by_name.get(a.name), events) for a in pending]

    def _judge(self, attempt: Attempt, pod: SeenPod | None, events: list[Event]) -> Outcome | None:
        """Judge one pod."""
        if pod is None:
            return Outcome(reason="the pod was removed by somebody else")
        attempt.seen = pod
        self._some_taken_up = self._some_taken_up or pod.taken_up
        return outcome(pod, events)

    def _slow(self, attempt: Attempt, pods: dict[str, SeenPod]) -> bool:
        """Say whether a pod has not come on for so long that there may be a warning why.

        A kubelet that has not taken it up yet has nothing to say of it.
        """
        pod = pods.get(attempt.name)
        if pod is None or not pod.taken_up or outcome(pod, ()) is not None:
            return False
        # what a node's own network lacks is a mount, and its pods have their address beforehand
        early, stuck = (
            (0.0, True) if attempt.wanted.host else (self._pace.patience, not pod.has_network)
        )
        return stuck and time.monotonic() - attempt.since >= early

    def _events(self, space: Space) -> list[Event]:
        """LIST the warnings about pods in a namespace."""
        return listed(self._api, f"{space.path}/events?{_WARNINGS}", Event)[1]

    def _late(self, waiting: list[Attempt]) -> dict[str, Outcome]:
        """Give up pods whose node has gone, or whose kubelet takes no notice of them."""
        now = time.monotonic()
        slow = [a for a in waiting if now - a.since >= self._pace.notice]
        if not slow or now < self._next_nodes:
            return {}
        self._next_nodes = now + self._pace.notice / 2
        down = self._down(dict.fromkeys(a.wanted.node for a in slow[:_MOST_NODES]))
        found = {a.name: Outcome(reason=down[a.wanted.node]) for a in slow if a.wanted.node in down}
        for attempt in slow:
            if self._some_taken_up and not (attempt.seen and attempt.seen.taken_up):
                text = f"has not taken it up in {self._pace.notice:g} s"
                reason = f"the kubelet of {attempt.wanted.node} {text}"
                found.setdefault(attempt.name, Outcome(reason=reason))
        return found

    def _down(self, names: Iterable[str]) -> dict[str, str]:
        """Say which nodes are no longer Ready, and why."""
        found = {}
        for name in names:
            answer = self._api.call("GET", f"/api/v1/nodes/{quote(name, safe='')}")
            try:
                node = msgspec.json.decode(answer.body, type=Node) if answer.ok else None
            except msgspec.DecodeError:
                node = None
            if node and not node.ready:
                why = (c.message for c in node.status.conditions or () if c.type == "Ready")
                found[name] = f"the node has turned NotReady: {next(why, '')}"[:400].rstrip(": ")
        return found
