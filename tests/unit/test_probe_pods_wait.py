"""No wait for a probe pod is longer than it takes to know what becomes of it."""

import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.collect.pod_watch import Pace
from tests.unit.fake_cluster import (
    IGNORED,
    NO_SHELL,
    RUNNING,
    TAKEN_UP,
    Status,
    waiting,
)
from tests.unit.probe_site import (
    BAD,
    GOOD,
    NODES,
    WORSE,
    Site,
    node,
    slow,
)


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
        # who takes no notice warns of nothing
        assert site.cluster.asked("GET", "/events") == []

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
