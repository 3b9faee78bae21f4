"""The lab as a fixture: one for the whole session."""

import os
import random
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.lab import bringup, failures
from tests.lab.lab import Lab
from tests.lab.packages import MissingError
from tests.lab.places import places
from tests.lab.shape import ARTICLE, SHAPES
from tests.lab.shell import LabError

LAB = pytest.StashKey[Lab]()
SEED = int(os.environ.get("WWWM_LAB_SEED") or random.SystemRandom().randrange(10**6))
SHAPE = SHAPES[os.environ.get("WWWM_LAB_SHAPE", ARTICLE.name)]


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """What is told is seen at once, whatever the capture of output."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"lab: {line}")

    return tell


def _provide(tell: Callable[[str], None]) -> Lab:
    """A healthy lab: the one that is up, if it will do."""
    where = places()
    try:
        there = Lab.attach()
    except LabError:
        return bringup.up(SHAPE, where, tell)
    trouble = f"{there.shape.name} is up" if there.shape != SHAPE else there.healthy()
    if trouble is None:
        tell(f"{SHAPE.name} is up already")
        return there
    tell(f"made anew: {trouble}")
    bringup.down(where, tell)
    return bringup.up(SHAPE, where, tell)


def pytest_report_header() -> str:
    """Say what it takes to see the same again."""
    return f"lab: WWWM_LAB_SHAPE={SHAPE.name} WWWM_LAB_SEED={SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is to run in labs of other shapes; a skip would look like something amiss."""
    elsewhere = [
        item
        for item in items
        if (m := item.get_closest_marker("shapes")) and SHAPE.name not in m.args
    ]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of the shape that WWWM_LAB_SHAPE names; WWWM_LAB_KEEP=1 leaves it up."""
    tell = _teller(request.config)
    try:
        provided = _provide(tell)
    except MissingError as error:
        # skipped tests would look like passed ones
        pytest.fail(str(error), pytrace=False)
    request.config.stash[LAB] = provided
    yield provided
    if os.environ.get("WWWM_LAB_KEEP") == "1":
        tell(f"{provided.shape.name} stays up")
    else:
        bringup.down(provided.places, tell)


@pytest.fixture
def chance() -> random.Random:
    """Chance that WWWM_LAB_SEED repeats, as the session's header says it."""
    return random.Random(SEED)  # noqa: S311 - no secret hangs on it


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the lab's state of a test that failed in it."""
    report = yield
    running = item.config.stash.get(LAB, None)
    if report.failed and running is not None and "lab" in getattr(item, "fixturenames", ()):
        directory = failures.keep(running, item.name)
        report.sections.append(("lab", f"its state is in {directory}"))
    return report
