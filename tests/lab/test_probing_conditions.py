"""Under every condition: what is open is said, nothing false is found, nothing stays."""

import os
from collections.abc import Iterator

import pytest

from tests.lab import bringup
from tests.lab.conditions import CONDITIONS, Condition
from tests.lab.conditions.aggregation import BEHIND_OVERLAY, available
from tests.lab.faults import FAULTS, put_in
from tests.lab.faults.overlay import SG_8472
from tests.lab.faults.runner import Change
from tests.lab.lab import Lab
from tests.lab.patient import Said, examine
from tests.lab.shell import LabError, poll
from tests.lab.traces import await_nothing, budget, left, namespaces, probe_pods, sweep

pytestmark = pytest.mark.lab

ONLY = frozenset(filter(None, os.environ.get("WWWM_LAB_CONDITIONS", "").split(",")))
# each one in one shape: what they do has nothing to do with the overlay or with names
HOSTGW = frozenset(
    {
        "pull-policy-rewritten",
        "pods-refused",
        "kubelet-silent",
        "node-cordoned",
        "node-tainted",
        "node-tainted-noexecute",
        "node-full",
        "underlay-loss",
        "underlay-small-frames",
    }
)
_EACH = [
    pytest.param(
        condition,
        marks=pytest.mark.shapes("hostgw" if condition.name in HOSTGW else "article"),
        id=condition.name,
    )
    for condition in CONDITIONS.values()
    if not ONLY or condition.name in ONLY
]


def _undone(lab: Lab, *changes: Change) -> None:
    """Undo changes; a lab that does not heal is made anew, so that no other test pays for it."""
    try:
        for change in changes:
            change.heal(lab)
        lab.wait_healthy()
    except LabError:
        bringup.down(lab.places, print)
        bringup.up(lab.shape, lab.places, print)
        raise


@pytest.fixture(scope="module", autouse=True)
def emptied(lab: Lab) -> Iterator[None]:
    """In the end no namespace is left; each takes its five seconds, but they take them at once."""
    yield
    sweep(lab)
    await_nothing(lab)


@pytest.fixture
def under(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Condition]:
    """The lab in one condition; out of it again whatever the test says."""
    condition: Condition = request.param
    try:
        put_in(lab, condition)
        yield condition
    finally:
        _undone(lab, condition)


def _exit_code(condition: Condition) -> int:
    if condition.finds:
        return 3
    return 0 if condition.complete else 5


def _says(said: Said, text: str) -> bool:
    return any(text in f"{gap['needs']} {gap['reason']}" for gap in said.gaps)


@pytest.mark.parametrize("under", _EACH, indirect=True)
def test_a_condition_is_coped_with(lab: Lab, under: Condition) -> None:
    """Within the usual requests, as nothing is waited for that cannot come."""
    said = examine(lab, "--url", f"{lab.site_url}/", *under.arguments)
    gone = left(lab)
    assert gone == [], said.lines
    assert said.document["stats"]["api_requests"] <= budget(lab), said.lines
    assert said.document["verdict"] != "error", said.lines
    if under.finds is None:
        return
    assert set(said.codes) <= under.finds, said.lines
    assert bool(said.codes) == bool(under.finds), said.lines
    assert said.exit_code == _exit_code(under), said.lines
    for text in under.says(lab):
        assert _says(said, text), said.lines


@pytest.mark.shapes("article")
def test_metrics_behind_a_broken_overlay_are_an_echo(lab: Lab) -> None:
    """The APIService that the fault makes unavailable hides nothing, and nothing waits for it."""
    metrics, overlay = CONDITIONS[BEHIND_OVERLAY], FAULTS[SG_8472]
    await_nothing(lab)
    try:
        put_in(lab, metrics)
        put_in(lab, overlay)
        poll(lambda: available(lab)[0] == "False", seconds=90, what="no metrics", every=0.3)
        said = examine(lab, "--url", f"{lab.site_url}/")
        # a namespace that it had made could not go while nobody answers for the metrics
        stays = [*probe_pods(lab), *namespaces(lab)]
    finally:
        _undone(lab, overlay, metrics)
    assert said.codes == list(overlay.expected), said.lines
    assert stays == [], said.lines
