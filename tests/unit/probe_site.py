"""A small cluster to start probe pods in."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doctor.collect.deadline import Deadline
from doctor.collect.pod_start import Started
from doctor.collect.pod_watch import Pace
from doctor.collect.probe_pods import ProbePodSet, Wish, use_probe_pods
from doctor.evidence.world import World
from doctor.model.kube import (
    APIService,
    APIServiceSpec,
    APIServiceStatus,
    Condition,
    Meta,
    Node,
    NodeImage,
    NodeStatus,
    ServiceReference,
)
from tests.unit.fake_cluster import FakeCluster, connected
from tests.unit.support import api, bundle

PACE = Pace(soonest=0.01, poll=0.01, patience=0.03, notice=0.15, longest=0.6, gone=0.3)
GOOD, BAD, WORSE = "busybox:1", "alpine:2", "toolbox:3"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def node(name: str, *images: str) -> Node:
    """Make a node that is ready and has images."""
    status = NodeStatus(
        conditions=(Condition("Ready", "True"),),
        images=tuple(NodeImage((i,)) for i in images or (GOOD,)),
    )
    return Node(metadata=Meta(name=name), status=status)


NODES = (node("n0"), node("n1"), node("n2"))
WORLD = World(bundle(api("nodes", *NODES)))


def away(status: str = "False") -> World:
    """Make a cluster with an APIService that is not available."""
    service = APIService(
        metadata=Meta(name="v1.metrics.example"),
        spec=APIServiceSpec(service=ServiceReference("metrics", "monitoring")),
        status=APIServiceStatus((Condition("Available", status, "MissingEndpoints"),)),
    )
    return World(bundle(api("nodes", *NODES), api("apiservices", service)))


class Site:
    """A cluster to start probe pods in, and what was said about it."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing in it."""
        self.cluster = FakeCluster("given")
        self.folder = folder
        self.warnings: list[str] = []
        self.deadline = 60.0
        self.time = Deadline(0)
        self.during: Callable[[], None] = lambda: None
        self.released = threading.Event()

    def start(self, world: World = WORLD, **wish: Any) -> tuple[Started, ...]:
        """Start probe pods, and see what became of them; by default on three nodes."""

        def use(pods: ProbePodSet) -> tuple[Started, ...]:
            self.during()
            return pods.pods

        asked = Wish(**{"nodes": NODES, "pace": PACE, "warn": self.warnings.append, **wish})
        with connected(self.cluster, self.folder, self.deadline) as server:
            self.time = server.deadline
            return use_probe_pods(server, world, asked, use)

    def reasons(self, **wish: Any) -> list[str]:
        """Start probe pods, none of which can run; return why."""
        found = self.start(**wish)
        assert not [p for p in found if p.address]
        return [p.reason for p in found]

    def hang(self) -> None:
        """Be at work for as long as the test takes."""
        assert self.released.wait(30)

    def made(self) -> list[str]:
        """Select the requests that made pods, and did not only rehearse it."""
        return [p for p in self.cluster.asked("POST", "/pods") if "dryRun" not in p]

    def nothing_is_left(self) -> None:
        """See that all is removed, and that nobody was told otherwise."""
        assert self.cluster.left == []
        assert self.warnings == []


def slow(**changes: float) -> Pace:
    """Wait so long for everything that a test hangs which ought not to wait for it."""
    return Pace(
        **{"soonest": 0.01, "poll": 0.01, "patience": 0.03, "notice": 60, "longest": 60} | changes
    )


def interrupt(number: signal.Signals) -> None:
    """Send this process a signal, as Ctrl-C does; its handler runs in the main thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
