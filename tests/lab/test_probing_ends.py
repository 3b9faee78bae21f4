"""However a run ends, it leaves nothing; what `kill -9` leaves, `cleanup` removes."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.lab.lab import Lab
from tests.lab.patient import doctor, examine, start
from tests.lab.shell import poll
from tests.lab.traces import await_nothing, left, namespaces, probe_pods, sweep

pytestmark = pytest.mark.lab

_MOMENTS = 10
_AT_ONCE = 5
_SLOWED = 1.5
_HANG_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How a run ended that a signal was sent to, unless it had ended before."""

    moment: float
    code: int
    stderr: str


@pytest.fixture(autouse=True)
def swept(lab: Lab) -> Iterator[None]:
    """Whatever a test leaves is removed after it has said so."""
    yield
    sweep(lab)


def _url(lab: Lab) -> tuple[str, ...]:
    return ("run", "--url", f"{lab.site_url}/")


def _seconds(lab: Lab) -> float:
    """How long a run takes, more or less, when others run beside it."""
    began = time.monotonic()
    assert doctor(lab, *_url(lab)).returncode == 0
    return _SLOWED * (time.monotonic() - began)


def _interrupted(lab: Lab, number: signal.Signals, moment: float) -> _Ended:
    with start(lab, *_url(lab)) as run:
        try:
            run.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            run.send_signal(number)
        _, said = run.communicate(timeout=_HANG_SECONDS)
    return _Ended(moment=moment, code=run.returncode, stderr=said.strip())


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.shapes("article")),
        pytest.param(signal.SIGTERM, marks=pytest.mark.shapes("hostgw")),
    ],
    ids=lambda number: number.name,
)
def test_interrupted_at_any_moment_it_leaves_nothing(
    lab: Lab, number: signal.Signals, chance: random.Random
) -> None:
    """At ten moments spread over a run at random; five runs at once do not meet."""
    whole = _seconds(lab)
    moments = [chance.uniform(0, whole) for _ in range(_MOMENTS)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = list(pool.map(lambda moment: _interrupted(lab, number, moment), moments))
    gone = left(lab)
    assert gone == [], ended
    assert any(end.code == 130 for end in ended), ended
    for end in ended:
        # the interpreter itself may be hit, before any of our code runs
        unborn = end.code == -number or (end.code == 1 and "KeyboardInterrupt" in end.stderr)
        # a run that is about to end anyway is not cut off; one that was hit in the midst of generated
        # code, as of a dataclass, ends as by SIGINT in the end: CPython has it so, to shells it is 130
        told = "wwwm-doctor: interrupted"
        said = {0: "", 130: told, -signal.SIGINT: told}
        assert unborn or end.stderr == said.get(end.code), end
    await_nothing(lab)


def _pods_beside(lab: Lab, known: set[str]) -> set[str]:
    """The probe pods that are not known, once there is one on each node."""
    found = set(probe_pods(lab)) - known
    return found if len(found) >= len(lab.nodes) else set()


@pytest.mark.shapes("article")
def test_cleanup_removes_what_a_killed_run_left(lab: Lab) -> None:
    """And leaves a run alone that is alive."""
    with start(lab, *_url(lab)) as dead:
        lost = poll(lambda: _pods_beside(lab, set()), seconds=30, what="probe pods")
        dead.kill()
        dead.communicate(timeout=_HANG_SECONDS)
    assert set(probe_pods(lab)) >= lost
    abandoned = set(namespaces(lab, ending=False))
    assert len(abandoned) == 1
    with start(lab, *_url(lab)) as alive:
        poll(lambda: _pods_beside(lab, lost), seconds=30, what="the other run's probe pods")
        swept = doctor(lab, "cleanup")
        there = namespaces(lab)
        _, said = alive.communicate(timeout=_HANG_SECONDS)
    assert swept.returncode == 0, swept.stderr
    assert not abandoned & set(there)
    assert all(f"namespace {name}: removed: with " in swept.stdout for name in abandoned)
    assert f"its run is alive: process {alive.pid}" in swept.stdout
    assert alive.returncode == 0, said
    assert left(lab) == []
    await_nothing(lab)


@pytest.mark.shapes("article")
def test_with_nothing_to_sweep_cleanup_changes_nothing(lab: Lab) -> None:
    done = doctor(lab, "cleanup")
    assert done.returncode == 0, done.stderr
    assert left(lab) == []


@pytest.mark.shapes("hostgw")
def test_a_deadline_ends_a_run_with_what_it_has(lab: Lab) -> None:
    """What there was no time for is said; nothing is found, and nothing is left."""
    said = examine(lab, "--url", f"{lab.site_url}/", "--deadline", "2s")
    gone = left(lab)
    assert said.codes == [], said.lines
    assert said.exit_code == 5, said.lines
    assert any("deadline" in gap["reason"] for gap in said.gaps), said.lines
    assert gone == []
    await_nothing(lab)
