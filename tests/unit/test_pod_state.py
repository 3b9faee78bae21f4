"""What a probe pod has come to, from what the API server says."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.pod_state import Outcome, SeenPod, outcome
from doctor.model.kube import Event, InvolvedObject
from tests.unit.fake_cluster import IGNORED, NO_SHELL, RUNNING, TAKEN_UP, ended, waiting

SANDBOX = (
    'Failed to create pod sandbox: plugin type="flannel" failed (add): loadFlannelSubnetEnv failed:'
    "\n open /run/flannel/subnet.env: no such file or directory"
)
MOUNT = (
    'MountVolume.SetUp failed for volume "{}" : hostPath type check failed: {} is not a directory'
)


def seen(status: dict[str, Any], **meta: object) -> SeenPod:
    """Read a pod."""
    document = {"metadata": {"name": "p", **meta}, "spec": {"nodeName": "n0"}, "status": status}
    return msgspec.convert(document, SeenPod)


def event(reason: str, message: str, name: str = "p") -> Event:
    """Make a warning."""
    about = InvolvedObject("Pod", name, "ns")
    return Event(reason=reason, message=message, type="Warning", involved_object=about)


def never(status: dict[str, Any], *events: Event, **meta: object) -> Outcome:
    """See that a pod never runs."""
    found = outcome(seen(status, **meta), events)
    assert found is not None
    assert found.address == ""
    assert found.reason
    assert "\n" not in found.reason
    return found


def test_a_pod_that_runs_has_its_address() -> None:
    assert outcome(seen(RUNNING), ()) == Outcome(address="10.244.0.9")


@pytest.mark.parametrize(
    "status",
    [
        IGNORED,
        TAKEN_UP,
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        {**RUNNING, "podIP": ""},
        {**RUNNING, "conditions": [{"type": "Ready", "status": "False"}]},
        {},
    ],
)
def test_a_pod_that_may_still_start_is_waited_for(status: dict[str, Any]) -> None:
    assert outcome(seen(status), ()) is None


@pytest.mark.parametrize(
    ("status", "reason", "other_image"),
    [
        (NO_SHELL, 'StartError (exit code 128): exec: "sh": executable file not found', True),
        (ended("ContainerCannotRun", "", 127), "ContainerCannotRun (exit code 127)", True),
        (ended("Error", "", 1), "Error (exit code 1)", True),
        ({**NO_SHELL, "phase": "Failed"}, "StartError", True),
        (waiting("ErrImageNeverPull", "not present"), "ErrImageNeverPull: not present", True),
        (waiting("RunContainerError", 'exec: "sh"'), 'RunContainerError: exec: "sh"', True),
        (waiting("CreateContainerError"), "CreateContainerError", True),
        (waiting("CreateContainerConfigError", "runs as root"), "runs as root", True),
        (waiting("InvalidImageName"), "InvalidImageName", True),
        (waiting("ImagePullBackOff"), "ImagePullBackOff", False),
        (waiting("ErrImagePull"), "ErrImagePull", False),
        ({"phase": "Failed"}, "the pod failed", False),
        ({"phase": "Succeeded"}, "the pod succeeded", False),
    ],
)
def test_what_a_container_stumbled_over_ends_the_wait(
    status: dict[str, Any],
    reason: str,
    other_image: bool,  # noqa: FBT001
) -> None:
    found = never(status)
    assert reason in found.reason
    assert found.other_image is other_image


@pytest.mark.parametrize(
    "reason",
    [
        "OutOfcpu",
        "OutOfpods",
        "OutOfmemory",
        "NodeAffinity",
        "UnexpectedAdmissionError",
        "Evicted",
        "DeadlineExceeded",
        "NodeShutdown",
    ],
)
def test_what_the_kubelet_refuses_or_evicts_ends_the_wait(reason: str) -> None:
    found = never({"phase": "Failed", "reason": reason, "message": "Pod was rejected: full"})
    assert found.reason == f"{reason}: Pod was rejected: full"
    assert not found.other_image, "no other image helps"
    with_containers = {**NO_SHELL, "phase": "Failed", "reason": reason}
    assert not never(with_containers).other_image


def test_a_pod_that_others_remove_ends_the_wait() -> None:
    taint = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
    }
    status = {**RUNNING, "conditions": [*RUNNING["conditions"], taint]}
    found = never(status, deletionTimestamp="2026-01-01T00:00:00Z")
    assert "removed by somebody else (DeletionByTaintManager: Taint manager" in found.reason
    found = never(RUNNING, deletionTimestamp="2026-01-01T00:00:00Z")
    assert "removed by somebody else" in found.reason


def test_a_sandbox_that_cannot_be_made_ends_the_wait_with_its_text() -> None:
    found = never(TAKEN_UP, event("FailedCreatePodSandBox", SANDBOX))
    assert "loadFlannelSubnetEnv failed: open /run/flannel/subnet.env" in found.reason
    assert not found.other_image
    assert outcome(seen(TAKEN_UP), [event("FailedCreatePodSandBox", SANDBOX, name="q")]) is None
    assert outcome(seen(TAKEN_UP), [event("Unhealthy", SANDBOX)]) is None
    assert outcome(seen(RUNNING), [event("FailedCreatePodSandBox", SANDBOX)]) == Outcome(
        address="10.244.0.9"
    ), "it failed once, and runs now"


def test_what_is_not_there_to_be_mounted_is_done_without() -> None:
    flannel = event("FailedMount", MOUNT.format("run-flannel", "/run/flannel"))
    cni = event("FailedMount", MOUNT.format("etc-cni", "/etc/cni/net.d"))
    found = never(TAKEN_UP, flannel, cni)
    assert found.without == {"run-flannel", "etc-cni"}
    assert found.reason == "the node has no /etc/cni/net.d, /run/flannel"
    other = event("FailedMount", MOUNT.format("somebody-elses", "/x"))
    assert outcome(seen(TAKEN_UP), [other]) is None
    slow = event("FailedMount", 'MountVolume.SetUp failed for volume "etc-cni" : timed out')
    assert outcome(seen(TAKEN_UP), [slow]) is None, "it is there, and may come"


def test_texts_are_bounded() -> None:
    assert len(never(waiting("ErrImageNeverPull", "x" * 10_000)).reason) <= 600
    assert len(never(TAKEN_UP, event("FailedCreatePodSandBox", "x " * 10_000)).reason) <= 600


TEXT = st.text(max_size=20) | st.sampled_from(["Failed", "Running", "ErrImagePull", "True"])
STATE = st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.fixed_dictionaries({}, optional={"reason": TEXT, "message": TEXT}),
        "terminated": st.fixed_dictionaries({}, optional={"reason": TEXT, "message": TEXT}),
        "running": st.just({}),
    },
)
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "phase": TEXT,
        "reason": TEXT,
        "message": TEXT,
        "podIP": TEXT,
        "startTime": st.none() | TEXT,
        "conditions": st.none()
        | st.lists(st.fixed_dictionaries({"type": TEXT, "status": TEXT}), max_size=3),
        "containerStatuses": st.none() | st.lists(STATE.map(lambda s: {"state": s}), max_size=2),
    },
)


REASON = st.sampled_from(["FailedCreatePodSandBox", "FailedMount", "Unhealthy"])


@given(STATUS, st.lists(st.builds(event, REASON, TEXT), max_size=3))
def test_any_status_is_judged(status: dict[str, Any], events: list[Event]) -> None:
    found = outcome(seen(status), events)
    assert found is None or bool(found.address) is not bool(found.reason)
