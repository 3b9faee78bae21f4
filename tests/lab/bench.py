"""Time what users wait for: python -m tests.lab.bench [--faults]."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.lab import bringup
from tests.lab.conditions import CONDITIONS
from tests.lab.faults import FAULTS, mend, put_in
from tests.lab.faults.runner import Change
from tests.lab.lab import Lab
from tests.lab.patient import doctor
from tests.lab.places import places
from tests.lab.shape import ARTICLE
from tests.lab.shell import LabError
from tests.lab.traces import budget, requests

ROUNDS: Final = 5
HELP_SECONDS: Final = 0.15
HEALTHY_SECONDS: Final = 6.0
BROKEN_SECONDS: Final = 20.0
_WIDE: Final = 44


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _say(what: str, figure: float, target: float, unit: str = "s") -> None:
    """Print a figure and its ratio to the target: what is above 1 is too much."""
    row = f"{what:{_WIDE}}{figure:8.2f}{target:8.2f} {unit:9}{figure / target:6.2f}"
    sys.stdout.write(f"{row}\n")
    sys.stdout.flush()


def _attach() -> Lab:
    """The lab that is up, or a new one."""
    try:
        return Lab.attach()
    except LabError:
        return bringup.up(ARTICLE, places(), _tell)


def _seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _median(action: Callable[[], object]) -> float:
    """The median seconds of a few rounds."""
    return statistics.median(_seconds(action) for _ in range(ROUNDS))


def _help() -> None:
    subprocess.run([sys.executable, "-m", "doctor", "--help"], check=True, capture_output=True)


def _run(lab: Lab, *arguments: str) -> None:
    doctor(lab, "run", "--url", f"{lab.site_url}/", *arguments)


def _healthy(lab: Lab) -> None:
    """Print the figures of a lab that nothing ails."""
    nodes = f"{len(lab.nodes)} nodes"
    _say("--help", _median(_help), HELP_SECONDS)
    _say(f"full run, healthy, {nodes}", _median(lambda: _run(lab)), HEALTHY_SECONDS)
    _say("check dns, healthy", _median(lambda: doctor(lab, "check", "dns")), HEALTHY_SECONDS)
    _say("run --no-probe, healthy", _median(lambda: _run(lab, "--no-probe")), HEALTHY_SECONDS)
    mark = lab.audit_mark()
    _run(lab)
    _say(f"full run, healthy, {nodes}", len(requests(lab, mark)), budget(lab), "requests")


def _under(lab: Lab, change: Change, *arguments: str) -> None:
    """Print the figures of one run under a fault or a condition."""
    try:
        put_in(lab, change)
        mark = lab.audit_mark()
        seconds = _seconds(lambda: _run(lab, *arguments))
        asked = len(requests(lab, mark))
    finally:
        mend(lab, change)
    _say(change.name, seconds, BROKEN_SECONDS)
    _say("", asked, budget(lab), "requests")


def _broken(lab: Lab) -> None:
    """Print the figures under every fault and every condition, one after the other."""
    for fault in FAULTS.values():
        if fault.fits(lab.shape):
            _under(lab, fault)
    for condition in CONDITIONS.values():
        if condition.fits(lab.shape):
            _under(lab, condition, *condition.arguments)


def main() -> None:
    """Print each figure, its target, and the ratio of the two."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.bench", description=__doc__)
    parser.add_argument("--faults", action="store_true", help="also under each fault and condition")
    options = parser.parse_args()
    lab = _attach()
    sys.stdout.write(
        f"{f'lab of shape {lab.shape.name}':{_WIDE}}{'is':>8}{'at most':>8}{'ratio':>16}\n"
    )
    _healthy(lab)
    if options.faults:
        _broken(lab)


if __name__ == "__main__":
    main()
