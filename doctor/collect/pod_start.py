"""Starting probe pods: all at once, and no longer than until each runs or is known not to."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from doctor.collect.kube import Api
from doctor.collect.pod_images import MOST, NO_IMAGE
from doctor.collect.pod_manifest import Wanted, altered, pod_name
from doctor.collect.pod_owner import Run
from doctor.collect.pod_space import Space, open_space, post_pod
from doctor.collect.pod_state import Outcome
from doctor.collect.pod_watch import Attempt, Pace, Watch
from doctor.model.kube import Toleration
from doctor.model.probe_pod import Choice

__all__ = ["Place", "Started", "Starter"]

_WORKERS = 8
_MOST_TEXT = 600


class Place(msgspec.Struct, frozen=True):
    """Where a probe pod is wanted.

    Args:
        node: The node's name.
        choices: The images to try, in order; no more than MOST are.
        tolerations: What the pod is to tolerate.
        host: Whether it uses the node's own network.
    """

    node: str
    choices: tuple[Choice, ...]
    tolerations: tuple[Toleration, ...] = ()
    host: bool = False


class Started(msgspec.Struct, frozen=True):
    """What became of a probe pod that was wanted.

    Args:
        node: The node's name.
        host: Whether it uses the node's own network.
        namespace: Where it is.
        pod: Its name; empty where none was made.
        image: What it was started from.
        address: Its address; empty where it does not run.
        reason: Why it does not run; empty where it does.
    """

    node: str
    host: bool = False
    namespace: str = ""
    pod: str = ""
    image: str = ""
    address: str = ""
    reason: str = ""


class _Climb(msgspec.Struct):
    """The attempts at one place: the images still to try, and why the others failed."""

    attempt: Attempt
    left: tuple[Choice, ...]
    reasons: tuple[str, ...] = ()

    def ended(self, *, address: str = "", reason: str = "") -> Started:
        """Say what became of it."""
        wanted = self.attempt.wanted
        why = "; then ".join(dict.fromkeys((*self.reasons, *([reason] if reason else []))))
        return Started(
            node=wanted.node,
            host=wanted.host,
            namespace=self.attempt.space.name,
            pod=self.attempt.name if self.attempt.since else "",
            image=wanted.image,
            address=address,
            reason="" if address else why[:_MOST_TEXT],
        )


class Starter:
    """Starts the probe pods of one run; what it made stands in ``spaces``, if interrupted, too."""

    def __init__(self, api: Api, run: Run, spaces: Iterable[Space], pace: Pace) -> None:
        """Prepare, and do nothing yet.

        Args:
            api: The API server.
            run: The run.
            spaces: The namespaces to start pods in, at most one a kind of pod.
            pace: How long is waited for what.
        """
        self.spaces = tuple(spaces)
        self._api = api
        self._run = run
        self._pace = pace
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._watch = Watch(api, run, pace)

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun, so that it is known what there is."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, places: Iterable[Place]) -> tuple[Started, ...]:
        """Start a pod at each place; return once each runs or is known not to.

        Args:
            places: Where pods are wanted, no place twice.
        """
        wanted = tuple(places)
        climbs = [self._climb(p) for p in wanted if p.choices]
        firsts = {c.attempt.wanted.host: c.attempt for c in reversed(climbs)}
        list(self._pool.map(self._open, firsts.values()))
        ended = [Started(p.node, p.host, reason=NO_IMAGE) for p in wanted if not p.choices]
        ended += [c.ended(reason=r) for c in climbs if (r := c.attempt.space.refusal)]
        ended += self._see_through([c for c in climbs if not c.attempt.space.refusal])
        order = {(p.node, p.host): number for number, p in enumerate(wanted)}
        return tuple(sorted(ended, key=lambda s: order[s.node, s.host]))

    def _climb(self, place: Place) -> _Climb:
        """Begin with the first image of a place."""
        first, *left = place.choices[:MOST]
        return _Climb(
            self._attempt(Wanted(place.node, first.image, place.tolerations, host=place.host)),
            tuple(left),
        )

    def _attempt(self, wanted: Wanted) -> Attempt:
        """Name an attempt."""
        space = next(s for s in self.spaces if s.host == wanted.host)
        return Attempt(wanted, space, pod_name(self._run, wanted))

    def _open(self, first: Attempt) -> None:
        """Make a namespace ready, and see whether pods may be started in it."""
        open_space(self._api, self._run, first.space, first.wanted, self._stop.is_set)

    def _create(self, attempt: Attempt) -> str:
        """Create a pod; say why there is none, if so."""
        if self._stop.is_set():
            return "interrupted"
        attempt.space.pods.append(attempt.name)
        answer = post_pod(self._api, self._run, attempt.space, attempt.wanted)
        if not answer.ok:
            attempt.space.known = attempt.space.known and bool(answer.status)
            return answer.reason
        attempt.since = time.monotonic()
        changed = altered(attempt.wanted, answer.body)
        if changed:
            # it was another node or image that was rehearsed, and admission may tell them apart
            self._api.call("DELETE", f"{attempt.space.path}/pods/{attempt.name}", late=True)
        return changed

    def _see_through(self, climbs: list[_Climb]) -> Iterator[Started]:
        """Create pods, and follow each to its end, within a bound."""
        refusals = list(self._pool.map(self._create, (c.attempt for c in climbs)))
        yield from (c.ended(reason=r) for c, r in zip(climbs, refusals, strict=True) if r)
        pending = [c for c, r in zip(climbs, refusals, strict=True) if not r]
        limit = time.monotonic() + self._pace.longest
        self._sleep(self._pace.soonest if pending else 0.0)
        while pending:
            results = self._watch.look([c.attempt for c in pending])
            followed = [self._follow(c, r) for c, r in zip(pending, results, strict=True)]
            yield from (f for f in followed if isinstance(f, Started))
            pending = [f for f in followed if isinstance(f, _Climb)]
            if self._api.deadline.passed or time.monotonic() >= limit:
                break
            self._sleep(self._pace.poll if pending else 0.0)
        yield from (c.ended(reason=self._late(c.attempt)) for c in pending)

    def _late(self, attempt: Attempt) -> str:
        """Say why a pod is no longer waited for."""
        if self._api.deadline.passed:
            return self._api.deadline.reason
        known = attempt.seen is not None and attempt.seen.taken_up
        which = "" if known else ": its kubelet has not taken it up"
        return f"not running after {self._pace.longest:g} s{which}"

    def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        time.sleep(min(seconds, max(self._api.deadline.left, 0.0)))

    def _follow(self, climb: _Climb, result: Outcome | None) -> Started | _Climb:
        """End a wait, or go on; with another pod where that one may run."""
        if result is None:
            return climb
        if result.address:
            return climb.ended(address=result.address)
        climb.reasons += (result.reason,)
        following = self._next(climb, result)
        if following is None:
            return climb.ended()
        climb.attempt = following
        # in the pool, as its work is waited for before all is removed
        refusal = self._pool.submit(self._create, following).result()
        return climb.ended(reason=refusal) if refusal else climb

    def _next(self, climb: _Climb, result: Outcome) -> Attempt | None:
        """Choose what to try where a pod has failed; None where nothing is left to."""
        failed = climb.attempt.wanted
        image = failed.image
        if result.other_image and climb.left:
            image, climb.left = climb.left[0].image, climb.left[1:]
        elif not result.without - failed.without:
            return None
        return self._attempt(
            msgspec.structs.replace(
                failed,
                image=image,
                attempt=failed.attempt + 1,
                without=failed.without | result.without,
            )
        )
