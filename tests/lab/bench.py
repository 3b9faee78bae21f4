"""Time what users wait for, in a healthy lab: python -m tests.lab.bench."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.lab import bringup
from tests.lab.lab import Lab
from tests.lab.patient import doctor
from tests.lab.places import places
from tests.lab.shape import ARTICLE
from tests.lab.shell import LabError

ROUNDS: Final = 5


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _attach() -> Lab:
    """The lab that is up, or a new one."""
    try:
        return Lab.attach()
    except LabError:
        return bringup.up(ARTICLE, places(), _tell)


def _timed(action: Callable[[], object]) -> float:
    """The median seconds of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        action()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def _help() -> None:
    subprocess.run([sys.executable, "-m", "doctor", "--help"], check=True, capture_output=True)


def main() -> None:
    """Print each figure as seconds and as its ratio to the target."""
    lab = _attach()
    url = f"{lab.site_url}/"
    rows: tuple[tuple[str, float, Callable[[], object]], ...] = (
        ("--help", 0.15, _help),
        ("full run, healthy, three nodes", 6.0, lambda: doctor(lab, "run", "--url", url)),
        ("check dns, healthy", 6.0, lambda: doctor(lab, "check", "dns")),
        ("run --no-probe, healthy", 6.0, lambda: doctor(lab, "run", "--no-probe")),
    )
    sys.stdout.write(f"{'what':34}{'seconds':>8}{'target':>8}{'ratio':>7}\n")
    for what, target, action in rows:
        took = _timed(action)
        sys.stdout.write(f"{what:34}{took:8.2f}{target:8.2f}{took / target:7.2f}\n")


if __name__ == "__main__":
    main()
