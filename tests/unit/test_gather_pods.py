"""Which nodes a run starts probe pods on, and what it says of the others."""

import contextlib
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from doctor.bundle.schema import Bundle, GapRecord, NodeRecord, ProbePodRecord, Question
from doctor.collect.gather import Options, gather
from doctor.evidence.tables import Source, Wave
from tests.unit.fake_cluster import FakeCluster, Object, connected
from tests.unit.loopback import serving
from tests.unit.probe_site import interrupt

NEEDS: frozenset[Source] = frozenset({"nodes", "pods", "daemonsets", Wave.PROBE_PODS})


def node(name: str, *, ready: str = "True", **status: Any) -> Object:
    """Make a node as the API server shows it."""
    found = {
        "conditions": [{"type": "Ready", "status": ready}],
        "images": [{"names": ["registry.example/busybox:1"]}],
        **status,
    }
    return {"metadata": {"name": name}, "spec": {}, "status": found}


@pytest.fixture
def cluster() -> FakeCluster:
    """Make a cluster whose nodes are of all sorts."""
    found = FakeCluster("given")
    windows = node("windows", nodeInfo={"operatingSystem": "windows"})
    cordoned = node("cordoned")
    cordoned["spec"] = {
        "unschedulable": True,
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }
    for item in (node("down", ready="Unknown"), node("up"), cordoned, windows):
        found.nodes[item["metadata"]["name"]] = item
    return found


def run(
    cluster: FakeCluster, folder: Path, needs: frozenset[Source] = NEEDS, **options: Any
) -> Bundle:
    """Gather."""
    with connected(cluster, folder) as server:
        return gather(server, Question(), needs, Options(**options))


def pods(bundle: Bundle) -> dict[str, ProbePodRecord]:
    """Select what became of probe pods."""
    return {r.node: r for r in bundle.records if isinstance(r, ProbePodRecord)}


def gaps(bundle: Bundle) -> dict[str, str]:
    """Select what could not be looked at."""
    return {r.gap.needs: r.gap.reason for r in bundle.records if isinstance(r, GapRecord)}


def test_every_ready_linux_node_is_probed_cordoned_or_not(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    found = run(cluster, tmp_path)
    assert {n: bool(r.address) for n, r in pods(found).items()} == {"cordoned": True, "up": True}
    assert gaps(found) == {"a probe pod on down": "the node is not Ready"}
    assert cluster.left == []


def test_what_the_user_chose_is_used(cluster: FakeCluster, tmp_path: Path) -> None:
    found = run(cluster, tmp_path, probe_namespace="given", probe_image="tools:1")
    assert {(r.namespace, r.image) for r in pods(found).values()} == {("given", "tools:1")}
    assert cluster.left == []


def test_without_need_none_is_started(cluster: FakeCluster, tmp_path: Path) -> None:
    found = run(cluster, tmp_path, frozenset({"nodes", "pods", "daemonsets"}))
    assert pods(found) == {}
    # what is allowed is all that was asked
    assert cluster.asked("POST") == ["/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"]


def test_a_node_that_cannot_be_entered_is_only_by_flag(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    needs = NEEDS | {Wave.NODE}
    without = run(cluster, tmp_path, needs)
    assert gaps(without)["entering node up"].endswith("(--allow-host-probe starts one)")
    assert "--allow-host-probe" not in gaps(without)["entering node down"], "it would not help"
    assert not any(p["spec"].get("hostNetwork") for p in cluster.pods.values())
    started: list[Object] = []
    cluster.admit = lambda pod, rehearsal: None if rehearsal else started.append(pod)
    found = run(cluster, tmp_path, needs, host_probe=True)
    hosts = [p["spec"]["nodeName"] for p in started if p["spec"].get("hostNetwork")]
    assert sorted(hosts) == ["cordoned", "up"]
    # this API server cannot be executed in, and that is said of each
    read = [r for r in found.records if isinstance(r, NodeRecord)]
    assert sorted(r.node for r in read) == ["cordoned", "up"]
    assert all(r.reason and r.via.startswith("wwwm-doctor-") for r in read)
    assert "entering node up" not in gaps(found)
    assert cluster.left == []


def test_why_no_host_network_pod_runs_is_said(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.admit = lambda pod, _rehearsal: (
        (403, {"message": "no host network here"}) if pod["spec"].get("hostNetwork") else None
    )
    found = run(cluster, tmp_path, NEEDS | {Wave.NODE}, host_probe=True)
    assert gaps(found)["entering node up"].endswith(
        "and no host-network probe pod: no host network here"
    )
    assert all(r.address for r in pods(found).values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_visit_waits_for_no_answer_and_leaves_no_pod(
    cluster: FakeCluster, tmp_path: Path, number: signal.Signals
) -> None:
    """The server has the request still when the run is over."""
    given_up = threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.recv(65536)
        interrupt(number)
        with contextlib.suppress(ConnectionError):
            connection.recv(65536)
        given_up.set()

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(hold) as port, connected(cluster, tmp_path) as server:
            question = Question(urls=(f"http://127.0.0.1:{port}/",))
            with pytest.raises(KeyboardInterrupt):
                gather(server, question, NEEDS | {Wave.TARGET}, Options())
            assert not given_up.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert cluster.left == []
