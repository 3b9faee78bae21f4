"""Probe pods are removed whatever happens, and what could not be is said."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from doctor.collect.pod_watch import Pace
from tests.unit.fake_cluster import (
    NO_SHELL,
    FakeCluster,
    waiting,
)
from tests.unit.probe_site import (
    BAD,
    GOOD,
    PACE,
    SIGNALS,
    Site,
    interrupt,
    node,
    slow,
)

OWN_REQUESTS = range(2, 11)
"""The requests of a healthy run, but for the first, which connects."""
GIVEN_REQUESTS = range(2, 9)


class TestInterruption:
    """Wherever a signal comes, everything is removed before it ends the run."""

    @pytest.mark.parametrize("delay", [0.0, 0.08], ids=["at-once", "late"])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
    @pytest.mark.parametrize(
        ("namespace", "request_number"),
        [(None, n) for n in OWN_REQUESTS] + [("given", n) for n in GIVEN_REQUESTS],
    )
    def test_at_every_request(
        self,
        site: Site,
        namespace: str | None,
        request_number: int,
        number: signal.Signals,
        delay: float,
    ) -> None:
        """The API server carries out what it was asked, at once or after everybody has gone."""

        def seen(n: int) -> None:
            if n == request_number:
                interrupt(number)
                time.sleep(delay)

        site.cluster.seen = seen
        with pytest.raises(KeyboardInterrupt):
            site.start(namespace=namespace, pace=PACE)
        assert len(site.cluster.log) >= request_number
        site.nothing_is_left()

    @pytest.mark.parametrize("request_number", range(2, 9))
    def test_at_every_request_where_another_image_is_tried(
        self, site: Site, request_number: int
    ) -> None:
        """In a namespace that stays: whatever comes to be in it later, nobody takes along."""

        def seen(n: int) -> None:
            if n == request_number:
                interrupt(signal.SIGINT)
                time.sleep(0.08)

        site.cluster.lives = {BAD: [NO_SHELL]}
        site.cluster.seen = seen
        with pytest.raises(KeyboardInterrupt):
            site.start(namespace="given", nodes=(node("n0", BAD, GOOD),))
        assert len(site.cluster.log) >= request_number
        site.nothing_is_left()

    def test_the_requests_are_as_many_as_were_tried(self, site: Site, tmp_path: Path) -> None:
        site.start()
        assert len(site.cluster.log) == OWN_REQUESTS.stop - 1
        other = Site(tmp_path)
        other.start(namespace="given")
        assert len(other.cluster.log) == GIVEN_REQUESTS.stop - 1

    @pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
    def test_while_pods_are_used(self, site: Site, number: signal.Signals) -> None:
        """The removal does not wait for what is being done with them."""

        def during() -> None:
            interrupt(number)
            site.hang()

        site.during = during
        with pytest.raises(KeyboardInterrupt):
            site.start()
        assert site.time.passed, "what is still being done with them goes on"
        site.nothing_is_left()

    def test_again_and_again_does_not_cut_the_removal_off(self, site: Site) -> None:
        def during() -> None:
            site.cluster.seen = lambda _number: interrupt(signal.SIGTERM)
            interrupt(signal.SIGINT)
            site.hang()

        site.during = during
        site.cluster.sticky = True
        with pytest.raises(KeyboardInterrupt):
            site.start()
        site.nothing_is_left()

    def test_two_signals_at_once(self, site: Site) -> None:
        def during() -> None:
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            site.hang()

        site.during = during
        with pytest.raises(KeyboardInterrupt):
            site.start()
        site.nothing_is_left()

    def test_an_error_while_pods_are_used(self, site: Site) -> None:
        def during() -> None:
            raise RuntimeError("a bug")

        site.during = during
        with pytest.raises(RuntimeError, match="a bug"):
            site.start()
        site.nothing_is_left()

    def test_a_terminal_that_has_gone_does_not_stop_the_removal(self, site: Site) -> None:
        def gone(_line: str) -> None:
            if site.cluster.asked("POST"):
                raise OSError("Input/output error")

        site.start(note=gone)
        site.nothing_is_left()

    def test_a_signal_that_is_ignored_stays_ignored(self, site: Site) -> None:
        """As nohup wants it."""

        def during() -> None:
            interrupt(signal.SIGHUP)

        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            site.during = during
            assert all(p.address for p in site.start())
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_in_another_thread_no_signal_is_touched(self, site: Site) -> None:
        before = [signal.getsignal(s) for s in SIGNALS]
        handlers: list[object] = []
        site.during = lambda: handlers.extend(signal.getsignal(s) for s in SIGNALS)
        thread = threading.Thread(target=site.start)
        thread.start()
        thread.join(30)
        assert handlers == before
        site.nothing_is_left()


class TestRemoval:
    """What does not go is made to, and what cannot be is said."""

    def test_pods_that_do_not_go_are_removed_by_force(self, site: Site) -> None:
        site.cluster.sticky = True
        assert all(p.address for p in site.start())
        site.nothing_is_left()

    def test_pods_that_never_started_are_not_waited_for(self, site: Site) -> None:
        site.cluster.sticky = True
        site.cluster.lives = {GOOD: [waiting("ImagePullBackOff")]}
        started = time.monotonic()
        site.reasons(pace=slow(gone=60))
        assert time.monotonic() - started < 30
        assert len(site.cluster.asked("DELETE", "status.podIP")) == 1
        site.nothing_is_left()

    @pytest.mark.parametrize("namespace", [None, "given"])
    def test_what_could_not_be_removed_is_said_with_the_command(
        self, site: Site, namespace: str | None
    ) -> None:
        site.cluster.refuse = lambda method, _path: (
            (500, {"message": "etcd is full"}) if method == "DELETE" else None
        )
        site.start(namespace=namespace)
        (warning,) = site.warnings
        assert "could not remove" in warning
        assert "etcd is full" in warning
        (name,) = {n for n, _ in site.cluster.pods}
        command = warning.partition("; ")[2]
        assert command.startswith(
            "kubectl -n given delete pod -l wwwm-doctor/run=" if namespace else "kubectl delete ns "
        )
        assert name in command

    def test_what_the_api_server_refuses_for_a_moment_is_asked_for_again(self, site: Site) -> None:
        failures = [(500, {"message": "later"})] * 4
        site.cluster.refuse = lambda method, _path: (
            failures.pop() if failures and method == "DELETE" else None
        )
        site.start()
        site.nothing_is_left()

    def test_a_pod_that_comes_to_be_later_than_was_waited_for_is_removed(self, site: Site) -> None:
        """Its creation was not answered in time, and is carried out while all else is removed."""
        site.deadline = 0.3

        def seen(_number: int) -> None:
            if len(site.made()) == 2 and site.cluster.log[-1][0] == "POST":
                time.sleep(0.45)

        site.cluster.seen = seen
        pace = Pace(soonest=0.01, poll=0.01, patience=0.03, notice=5, longest=5, gone=0.6)
        site.start(namespace="given", pace=pace)
        assert len(site.made()) == 3
        site.nothing_is_left()

    def test_two_runs_at_once_do_not_meet(self, tmp_path: Path) -> None:
        """In one namespace, and the first ends while the second is at work."""
        cluster = FakeCluster("given")
        inner, outer = Site(tmp_path), Site(tmp_path)
        inner.cluster = outer.cluster = cluster
        kept: list[int] = []

        def during() -> None:
            before = set(cluster.pods)
            assert all(p.address for p in inner.start(namespace="given"))
            kept.append(len(before & set(cluster.pods)))

        outer.during = during
        assert all(p.address for p in outer.start(namespace="given"))
        assert kept == [3]
        outer.nothing_is_left()
