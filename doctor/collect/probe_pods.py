"""Probe pods: one a node, from an image that is already there, always removed."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import FrameType
from typing import Any, TypeVar

import msgspec

from doctor.bundle.schema import ProbePodRecord
from doctor.collect.kube import Api
from doctor.collect.pod_images import candidates
from doctor.collect.pod_manifest import PORT, tolerations
from doctor.collect.pod_owner import Run, begin
from doctor.collect.pod_removal import remove
from doctor.collect.pod_space import Space, choose_space
from doctor.collect.pod_start import Place, Started, Starter
from doctor.collect.pod_watch import Pace
from doctor.evidence.world import World
from doctor.model.kube import Node

__all__ = ["ProbePodSet", "Wish", "use_probe_pods"]

T = TypeVar("T")

_WORKERS = 2
_TICK = 0.05
"""How soon a signal is noticed, in seconds."""


class Wish(msgspec.Struct, frozen=True):
    """Which probe pods are wanted.

    Args:
        nodes: Nodes to start one on in the pods' network.
        hosts: Nodes to start one on in the node's own network.
        image: The image that the user chose, None to choose one per node.
        namespace: The namespace that the user chose, None for one of the run's own.
        note: Called with a line on progress.
        warn: Called with a line on what is left in the cluster.
        pace: How long is waited for what.
    """

    nodes: tuple[Node, ...] = ()
    hosts: tuple[Node, ...] = ()
    image: str | None = None
    namespace: str | None = None
    note: Callable[[str], None] = lambda _line: None
    warn: Callable[[str], None] = lambda _line: None
    pace: Pace = Pace()


class ProbePodSet(msgspec.Struct, frozen=True):
    """Probe pods that were asked for, and what became of each.

    Args:
        pods: In the order in which they were wished for: those in the pods' network first.
    """

    pods: tuple[Started, ...] = ()

    @property
    def records(self) -> tuple[ProbePodRecord, ...]:
        """What is kept of those in the pods' network."""
        return tuple(
            ProbePodRecord(
                node=p.node,
                address=p.address,
                port=PORT if p.address else 0,
                image=p.image,
                reason=p.reason,
                namespace=p.namespace,
            )
            for p in self.pods
            if not p.host
        )

    def running(self, *, host: bool) -> tuple[Started, ...]:
        """Select those that can be entered."""
        return tuple(p for p in self.pods if p.address and p.host is host)

    def missing(self, *, host: bool) -> dict[str, str]:
        """Say by node why there is none."""
        return {p.node: p.reason for p in self.pods if p.reason and p.host is host}


def use_probe_pods(api: Api, world: World, wish: Wish, use: Callable[[ProbePodSet], T]) -> T:
    """Start probe pods on nodes, use them, and remove them whatever happens.

    All of it is done aside, while the main thread only waits: so SIGINT, SIGTERM and SIGHUP never
    break off anything half done, and the removal begins at once. They raise KeyboardInterrupt here
    when it is over; what is still being done aside then finds the run's time up.

    Args:
        api: The API server.
        world: The cluster.
        wish: Which pods are wanted.
        use: Called with what became of them, in another thread.

    Returns:
        What ``use`` returns.

    Raises:
        KeyboardInterrupt: The run was interrupted; everything is removed.
    """
    places = (*_places(world, wish, wish.nodes), *_places(world, wish, wish.hosts, host=True))
    run = begin(api.deadline.left)
    starter: Starter | None = None
    aside = ThreadPoolExecutor(1)
    signals = _Signals()
    try:
        signals.take()
        wish.note("starting probe pods")
        own = starter = Starter(api, run, _spaces(api, world, run, wish, places), wish.pace)
        doing = aside.submit(lambda: use(ProbePodSet(own.start(places))))
        signals.wait_for(doing)
        return doing.result()
    finally:
        if signals.fired:
            api.deadline.cut()
        aside.shutdown(wait=False)
        try:
            if starter:
                _clean_up(api, run, starter, wish)
        finally:
            signals.give_back()
        if signals.fired:
            raise KeyboardInterrupt


def _places(
    world: World, wish: Wish, nodes: Iterable[Node], *, host: bool = False
) -> tuple[Place, ...]:
    """Say where pods are wanted, and from which images they may be started there."""
    return tuple(
        Place(n.name, candidates(world, n, wish.image), tolerations(world, n.name), host)
        for n in nodes
    )


def _spaces(
    api: Api, world: World, run: Run, wish: Wish, places: tuple[Place, ...]
) -> tuple[Space, ...]:
    """Choose a namespace for each kind of pod that is wanted."""
    kinds = dict.fromkeys(p.host for p in places if p.choices)
    return tuple(choose_space(api, world, run, wish.namespace, host=k) for k in kinds)


def _clean_up(api: Api, run: Run, starter: Starter, wish: Wish) -> None:
    """Remove what was made, and say what could not be removed."""
    _say(wish.note, "removing probe pods")
    starter.close()
    by_name: dict[str, Space] = {}
    for space in starter.spaces:
        # both kinds of pods may be in one namespace, and are removed together
        first = by_name.setdefault(space.name, space)
        if first is not space:
            first.pods += space.pods
            first.known = first.known and space.known
    with ThreadPoolExecutor(_WORKERS) as pool:
        left = pool.map(lambda s: remove(api, run, s, wish.pace), by_name.values())
        for line in left:
            if line:
                _say(wish.warn, line)


def _say(tell: Callable[[str], None], line: str) -> None:
    """Say something, or not if nobody is there to hear it: the clean-up goes on."""
    with contextlib.suppress(OSError):
        tell(line)


class _Signals:
    """Takes note of the signals that end a program, and lets them interrupt nothing.

    Attributes:
        fired: Whether one came.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        """Take none yet."""
        self.fired = False
        self._before: dict[signal.Signals, Any] = {}

    def take(self) -> None:
        """Handle them, but for those that are ignored; only the main thread ever gets any."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._NUMBERS:
            before = signal.getsignal(number)
            # None is a handler that another language has set: it cannot be given back
            if before not in (signal.SIG_IGN, None):
                self._before[number] = before
                signal.signal(number, self._handle)

    def wait_for(self, doing: Future[T]) -> None:
        """Wait until something is done.

        Raises:
            KeyboardInterrupt: A signal came before.
        """
        while not wait([doing], timeout=_TICK).done:
            if self.fired:
                raise KeyboardInterrupt

    def give_back(self) -> None:
        """Let whoever handled them before handle them again."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        """Take note of a signal, and do nothing else: it may have come in the midst of anything."""
        self.fired = True
