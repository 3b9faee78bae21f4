"""Probe pods: started where they can be, waited for no longer than it takes, always removed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.collect.deadline import Deadline
from doctor.collect.pod_images import NO_IMAGE
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
from tests.unit.fake_cluster import (
    IGNORED,
    NO_SHELL,
    RUNNING,
    TAKEN_UP,
    Answer,
    FakeCluster,
    Object,
    Status,
    connected,
    waiting,
)
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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make a site; nothing may be left in it in the end, and no handler of a signal."""
    before = [signal.getsignal(s) for s in SIGNALS]
    found = Site(tmp_path)
    yield found
    found.released.set()
    assert [signal.getsignal(s) for s in SIGNALS] == before


def test_a_healthy_run_costs_few_requests_and_leaves_nothing(site: Site) -> None:
    found = site.start()
    assert [(p.node, p.address) for p in found] == [(n.name, "10.244.0.9") for n in NODES]
    site.nothing_is_left()
    requests = [(m, p.partition("?")[0].rpartition("/")[2][:4]) for m, p in site.cluster.log]
    assert requests == [
        ("GET", "vers"),
        ("POST", "name"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("GET", "pods"),
        ("DELETE", "wwwm"),
        ("DELETE", "pods"),
        ("GET", "pods"),
    ]


def test_its_namespace_says_whose_it_is_while_it_is_there(site: Site) -> None:
    site.during = lambda: seen.update(site.cluster.namespaces)
    seen: dict[str, Object] = {}
    site.start()
    (own,) = (o["metadata"] for n, o in seen.items() if n.startswith("wwwm-doctor-"))
    assert own["labels"]["app.kubernetes.io/managed-by"] == "wwwm-doctor"
    assert own["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert str(os.getpid()) in own["annotations"]["wwwm-doctor/owner"]


def test_pods_are_created_beside_each_other(site: Site) -> None:
    """Each creation is answered only when all have come: one after the other would never end."""
    together = threading.Barrier(len(NODES))

    def admit(_pod: Object, rehearsal: bool) -> Answer | None:  # noqa: FBT001
        if not rehearsal:
            together.wait(10)
        return None

    site.cluster._lock = threading.Lock()  # type: ignore[assignment]
    site.cluster.refuse = lambda m, p: (
        admit({}, rehearsal=False) if m == "POST" and p.endswith("/pods") else None
    )
    assert all(p.address for p in site.start())


class TestImages:
    """One image after the other, until a shell runs."""

    def test_an_image_without_a_shell_is_followed_by_the_next_at_once(self, site: Site) -> None:
        site.cluster.lives = {BAD: [TAKEN_UP, NO_SHELL], WORSE: [waiting("ErrImageNeverPull")]}
        (found,) = site.start(nodes=(node("n0", WORSE, BAD, GOOD),))
        assert (found.image, found.address) == (GOOD, "10.244.0.9")
        assert len(site.made()) == 3
        site.nothing_is_left()

    def test_what_the_user_chose_is_followed_by_nothing(self, site: Site) -> None:
        site.cluster.lives = {BAD: [NO_SHELL]}
        assert all("StartError" in r for r in site.reasons(image=BAD))
        assert len(site.made()) == 3
        site.nothing_is_left()

    def test_all_that_was_tried_is_said(self, site: Site) -> None:
        site.cluster.lives = {BAD: [NO_SHELL], WORSE: [waiting("ErrImageNeverPull")]}
        (reason,) = site.reasons(nodes=(node("n0", BAD, WORSE),))
        assert "StartError" in reason
        assert "; then ErrImageNeverPull" in reason

    def test_no_other_image_is_tried_where_none_can_help(self, site: Site) -> None:
        full = {"phase": "Failed", "reason": "OutOfpods", "message": "too many pods"}
        site.cluster.lives = {BAD: [full]}
        (reason,) = site.reasons(nodes=(node("n0", BAD, GOOD),))
        assert reason == "OutOfpods: too many pods"
        assert len(site.made()) == 1

    def test_a_node_with_no_image_is_not_asked_for(self, site: Site) -> None:
        found = site.start(nodes=(node("n0", "registry.k8s.io/pause:3"), node("n1")))
        assert [(p.node, p.reason) for p in found] == [("n0", NO_IMAGE), ("n1", "")]
        assert len(site.made()) == 1

    def test_where_no_node_has_one_nothing_is_made(self, site: Site) -> None:
        assert site.reasons(nodes=(node("n0", "registry.k8s.io/pause:3"),)) == [NO_IMAGE]
        assert [m for m, _ in site.cluster.log] == ["GET"], "the version, on connecting"


class TestAdmission:
    """What admission makes of a pod is seen before one is started."""

    def test_what_would_be_pulled_is_not_started(self, site: Site) -> None:
        def always(pod: Object, _rehearsal: bool) -> None:  # noqa: FBT001
            pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"

        site.cluster.admit = always
        reasons = site.reasons()
        assert all("sets imagePullPolicy to Always" in r for r in reasons)
        assert site.made() == []
        assert len(site.cluster.asked("POST", "dryRun=All")) == 1
        site.nothing_is_left()

    @pytest.mark.parametrize(
        "said",
        [
            "exceeded quota: pods, requested: pods=1, used: pods=0, limited: pods=0",
            'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
            'admission webhook "policy.example" denied the request: no probes here',
            'admission webhook "inject.example" does not support dry run',
        ],
    )
    def test_a_refusal_is_evidence_for_all_nodes_at_once(self, site: Site, said: str) -> None:
        site.cluster.admit = lambda _pod, _rehearsal: (403, {"message": said})
        assert site.reasons() == [said] * 3
        assert len(site.cluster.asked("POST", "/pods")) == 1
        site.nothing_is_left()

    def test_the_service_account_of_a_new_namespace_is_waited_for(self, site: Site) -> None:
        missing = 'pods "x" is forbidden: error looking up service account a/default: not found'
        answers = [(403, {"message": missing})] * 2
        site.cluster.admit = lambda _pod, _rehearsal: answers.pop() if answers else None
        assert all(p.address for p in site.start())

    def test_what_is_changed_later_than_in_the_rehearsal_is_taken_back(self, site: Site) -> None:
        def on_n1(pod: Object, _rehearsal: bool) -> None:  # noqa: FBT001
            if pod["spec"]["nodeName"] == "n1":
                pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"

        site.cluster.admit = on_n1
        removed: list[str] = []
        site.during = lambda: removed.extend(site.cluster.asked("DELETE", "/pods/"))
        found = {p.node: p.reason for p in site.start()}
        assert "imagePullPolicy" in found["n1"]
        assert (found["n0"], found["n2"]) == ("", "")
        assert len(removed) == 1

    def test_a_refusal_of_one_pod_is_that_nodes(self, site: Site) -> None:
        site.cluster.admit = lambda pod, _rehearsal: (
            (403, {"message": "not there"}) if pod["spec"]["nodeName"] == "n2" else None
        )
        assert [(bool(p.address), p.reason) for p in site.start()] == [
            (True, ""),
            (True, ""),
            (False, "not there"),
        ]
        site.nothing_is_left()


class TestNamespaces:
    """Where probe pods live."""

    def test_where_no_namespace_may_be_made_nothing_is(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "may not"})
            if (method, path[-11:]) == ("POST", "/namespaces")
            else None
        )
        (reason, *_) = site.reasons()
        assert "could not be created: may not (--probe-namespace)" in reason
        assert site.cluster.asked("POST", "/pods") == []
        site.nothing_is_left()

    def test_in_a_namespace_that_was_given_only_own_pods_are_touched(self, site: Site) -> None:
        site.cluster.add_pod("given", "web", labels={"app": "web"})
        site.cluster.add_pod(
            "given",
            "wwwm-doctor-other-1",
            labels={"app.kubernetes.io/managed-by": "wwwm-doctor", "wwwm-doctor/run": "other"},
        )
        assert [p.namespace for p in site.start(namespace="given")] == ["given"] * 3
        assert {name for _, name in site.cluster.pods} == {"web", "wwwm-doctor-other-1"}
        assert site.cluster.asked("POST", "namespaces")[0].startswith("/api/v1/namespaces/given/")
        (collection,) = site.cluster.asked("DELETE")
        assert "labelSelector=wwwm-doctor%2Frun%3D" in collection
        assert "deletionTimestamp" not in site.cluster.namespaces["given"]["metadata"]
        assert site.warnings == []

    def test_a_namespace_that_does_not_exist_is_named(self, site: Site) -> None:
        assert site.reasons(namespace="absent") == ['namespaces "absent" not found'] * 3

    def test_where_collections_may_not_be_deleted_pods_are_one_by_one(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "no"}) if method == "DELETE" and "labelSelector" in path else None
        )
        assert all(p.address for p in site.start(namespace="given"))
        site.nothing_is_left()

    @pytest.mark.parametrize("status", ["False", "Unknown"])
    def test_no_namespace_is_made_that_could_not_be_removed(self, site: Site, status: str) -> None:
        found = site.start(away(status))
        assert {p.namespace for p in found if p.address} == {"default"}
        assert "/api/v1/namespaces" not in site.cluster.asked("POST")
        assert len(site.cluster.asked("GET", "networkpolicies")) == 1
        site.nothing_is_left()

    def test_an_available_one_is_no_hindrance(self, site: Site) -> None:
        assert all(p.namespace != "default" for p in site.start(away("True")))
        assert site.cluster.asked("GET", "networkpolicies") == []

    def test_where_policies_would_be_measured_it_is_not_done_either(self, site: Site) -> None:
        site.cluster.policies["default"] = [{"metadata": {"name": "deny"}}]
        (reason, *_) = site.reasons(world=away())
        assert "APIService v1.metrics.example is unavailable" in reason
        assert "default has NetworkPolicies (--probe-namespace)" in reason
        assert site.cluster.asked("POST") == []

    def test_nor_where_that_cannot_be_told(self, site: Site) -> None:
        site.cluster.refuse = lambda _method, path: (
            (403, {"message": "may not"}) if "networkpolicies" in path else None
        )
        assert "whether default has NetworkPolicies: may not" in site.reasons(world=away())[0]

    def test_the_namespace_that_was_given_is_used_all_the_same(self, site: Site) -> None:
        assert {p.namespace for p in site.start(away(), namespace="given")} == {"given"}
        assert site.cluster.asked("GET", "networkpolicies") == []


class TestWaiting:
    """No wait is longer than it takes to know."""

    def test_a_sandbox_that_cannot_be_made_is_said_with_its_text(self, site: Site) -> None:
        site.cluster.lives = {BAD: [TAKEN_UP]}
        text = "plugin type=flannel failed (add): open /run/flannel/subnet.env: no such file"

        def warn(_number: int) -> None:
            for (namespace, name), pod in site.cluster.pods.items():
                if pod["spec"]["containers"][0]["image"] == BAD:
                    about = {"kind": "Pod", "name": name, "namespace": namespace}
                    site.cluster.events[namespace] = [
                        {
                            "reason": "FailedCreatePodSandBox",
                            "message": text,
                            "involvedObject": about,
                        }
                    ]

        site.cluster.seen = warn
        found = site.start(nodes=(node("n0", BAD), node("n1")), pace=slow())
        assert [(p.node, p.reason) for p in found] == [("n0", text), ("n1", "")]
        site.nothing_is_left()

    def test_warnings_are_not_asked_for_while_all_goes_well(self, site: Site) -> None:
        site.cluster.lives = {GOOD: [IGNORED, TAKEN_UP, RUNNING]}
        site.start(pace=slow(patience=60))
        assert site.cluster.asked("GET", "/events") == []

    def test_a_kubelet_that_takes_no_notice_is_named(self, site: Site) -> None:
        site.cluster.lives = {BAD: [IGNORED]}
        found = site.start(nodes=(node("n0", BAD), node("n1")), pace=slow(notice=0.15))
        assert [(p.node, p.reason) for p in found] == [
            ("n0", "the kubelet of n0 has not taken it up in 0.15 s"),
            ("n1", ""),
        ]

    def test_where_none_does_all_are_waited_for(self, site: Site) -> None:
        site.cluster.lives = {GOOD: [IGNORED]}
        late = "not running after 0.6 s: its kubelet has not taken it up"
        assert site.reasons() == [late] * 3

    def test_a_pod_that_hangs_is_given_up(self, site: Site) -> None:
        site.cluster.lives = {GOOD: [TAKEN_UP]}
        assert site.reasons() == ["not running after 0.6 s"] * 3
        site.nothing_is_left()

    def test_a_node_that_has_gone_meanwhile_is_named(self, site: Site) -> None:
        site.cluster.lives = {BAD: [TAKEN_UP]}
        said = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting status."}
        site.cluster.nodes["n0"] = {"metadata": {"name": "n0"}, "status": {"conditions": [said]}}
        found = site.start(nodes=(node("n0", BAD), node("n1")), pace=slow(notice=0.15))
        assert found[0].reason == "the node has turned NotReady: Kubelet stopped posting status."
        assert found[1].address

    def test_a_node_that_is_ready_is_waited_for(self, site: Site) -> None:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        site.cluster.nodes = {
            n.name: {"metadata": {"name": n.name}, "status": ready} for n in NODES
        }
        site.cluster.lives = {GOOD: [TAKEN_UP]}
        assert site.reasons() == ["not running after 0.6 s"] * 3
        assert site.cluster.asked("GET", "/nodes/")

    def test_a_pod_that_somebody_removes_is_not_waited_for(self, site: Site) -> None:
        site.cluster.lives = {BAD: [TAKEN_UP, None]}
        (reason,) = site.reasons(nodes=(node("n0", BAD),), pace=slow())
        assert reason == "the pod was removed by somebody else"

    def test_where_pods_may_not_be_listed_none_is_waited_for(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "may not list"}) if method == "GET" and "/pods" in path else None
        )
        (reason, *_) = site.reasons(namespace="given", pace=slow())
        assert reason == "pods in namespace given may not be listed: may not list"
        site.nothing_is_left()

    def test_an_api_server_that_stumbles_is_asked_again(self, site: Site) -> None:
        failures = [(503, {"message": "try again"})] * 3
        site.cluster.refuse = lambda method, path: (
            failures.pop() if failures and method == "GET" and "/pods" in path else None
        )
        assert all(p.address for p in site.start())

    def test_the_runs_deadline_ends_the_wait_and_not_the_removal(self, site: Site) -> None:
        site.cluster.lives = {GOOD: [TAKEN_UP]}
        site.deadline = 0.4
        started = time.monotonic()
        assert all("deadline of 0.4 s had passed" in r for r in site.reasons(pace=slow()))
        assert time.monotonic() - started < 30
        site.nothing_is_left()

    def test_a_namespace_that_comes_to_be_after_the_deadline_is_removed(self, site: Site) -> None:
        site.deadline = 0.3
        site.cluster.seen = lambda number: time.sleep(0.4 if number == 2 else 0)
        assert "no answer in time" in site.reasons()[0]
        site.nothing_is_left()


def slow(**changes: float) -> Pace:
    """Wait so long for everything that a test hangs which ought not to wait for it."""
    return Pace(
        **{"soonest": 0.01, "poll": 0.01, "patience": 0.03, "notice": 60, "longest": 60} | changes
    )


STATUSES: tuple[Status, ...] = (
    None,
    RUNNING,
    IGNORED,
    TAKEN_UP,
    NO_SHELL,
    waiting("ErrImageNeverPull"),
    waiting("ImagePullBackOff"),
    {"phase": "Failed", "reason": "Evicted"},
    {"phase": "Succeeded"},
    {},
)
LIFE = st.lists(st.sampled_from(STATUSES), min_size=1, max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIFE, LIFE, LIFE, st.booleans(), st.booleans())
def test_any_life_of_pods_ends_the_wait_and_nothing_is_left(
    tmp_path: Path,
    first: list[Status],
    second: list[Status],
    third: list[Status],
    own: bool,  # noqa: FBT001
    sticky: bool,  # noqa: FBT001
) -> None:
    site = Site(tmp_path)
    site.cluster.lives = {BAD: first, GOOD: second, WORSE: third}
    site.cluster.sticky = sticky
    pace = Pace(soonest=0, poll=0.005, patience=0.01, notice=0.02, longest=0.08, gone=0.05)
    nodes = (node("n0", BAD, GOOD), node("n1", WORSE), node("n2", GOOD))
    found = site.start(nodes=nodes, pace=pace, namespace=None if own else "given")
    assert [p.node for p in found] == ["n0", "n1", "n2"]
    assert all(bool(p.address) is not bool(p.reason) for p in found)
    site.nothing_is_left()


def interrupt(number: signal.Signals) -> None:
    """Send this process a signal, as Ctrl-C does; its handler runs in the main thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


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


class TestHosts:
    """Probe pods in the nodes' own network, where nothing else can be entered."""

    def test_they_are_in_a_namespace_of_their_own(self, site: Site) -> None:
        levels: dict[str, str] = {}
        site.during = lambda: levels.update(
            {
                name: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
                for name, item in site.cluster.namespaces.items()
                if name.startswith("wwwm-doctor-")
            }
        )
        found = site.start(hosts=NODES[1:2])
        assert [(p.node, p.host) for p in found] == [
            ("n0", False),
            ("n1", False),
            ("n2", False),
            ("n1", True),
        ]
        spaces = {p.host: p.namespace for p in found}
        assert levels == {spaces[False]: "restricted", spaces[True]: "privileged"}
        assert len(site.cluster.asked("POST", "dryRun=All")) == 2
        site.nothing_is_left()

    def test_a_refusal_of_theirs_is_no_other_pods(self, site: Site) -> None:
        site.cluster.admit = lambda pod, _rehearsal: (
            (403, {"message": "no host network"}) if pod["spec"].get("hostNetwork") else None
        )
        found = site.start(hosts=NODES[1:2])
        assert [bool(p.address) for p in found] == [True, True, True, False]
        assert found[3].reason == "no host network"
        site.nothing_is_left()

    def test_what_the_node_does_not_have_is_done_without(self, site: Site) -> None:
        """The kubelet says so in a warning, and the pod would wait for it for ever."""
        mounted: list[set[str]] = []

        def admit(pod: Object, rehearsal: bool) -> None:  # noqa: FBT001
            names = {v["name"] for v in pod["spec"]["volumes"]}
            site.cluster.lives[GOOD] = [RUNNING if names == {"opt-cni"} else TAKEN_UP]
            if not rehearsal:
                mounted.append(names)
                about = {"kind": "Pod", "name": pod["metadata"]["name"]}
                site.cluster.events[pod["metadata"]["namespace"]] += [
                    {
                        "reason": "FailedMount",
                        "message": f'for volume "{n}" : hostPath type check failed: it is absent',
                        "involvedObject": about,
                    }
                    for n in sorted(names - {"opt-cni"})
                ]

        def with_namespace(method: str, path: str) -> None:
            del method
            current["namespace"] = path.split("/")[4] if path.count("/") > 4 else ""

        current: dict[str, str] = {}
        site.cluster.refuse = with_namespace
        site.cluster.admit = lambda pod, rehearsal: admit(
            {**pod, "metadata": {**pod["metadata"], **current}}, rehearsal
        )
        (found,) = site.start(nodes=(), hosts=NODES[:1], pace=slow())
        assert found.address
        assert mounted == [{"run-flannel", "etc-cni", "opt-cni"}, {"opt-cni"}]
        site.nothing_is_left()

    def test_with_a_given_namespace_both_kinds_are_in_it(self, site: Site) -> None:
        found = site.start(hosts=NODES[1:2], namespace="given")
        assert {p.namespace for p in found} == {"given"}
        assert all(p.address for p in found)
        assert len(site.cluster.asked("DELETE")) == 1
        site.nothing_is_left()
