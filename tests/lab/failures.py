"""What is kept of a lab when a test has failed in it."""

import contextlib
import shutil
from pathlib import Path
from typing import Final

from tests.lab.fingerprint import SCRIPT
from tests.lab.lab import Lab
from tests.lab.shell import LabError
from tests.lab.topology import MACHINES

TAIL_BYTES: Final = 200_000
_LOGS: Final = ("kubelet.log", "containerd.log", "init.log")


def _tail(path: Path) -> bytes:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return log.read()


def keep(lab: Lab, test: str) -> Path:
    """Write down the state of everything.

    Args:
        lab: The lab in which the test failed.
        test: The test's name, which becomes the directory's.

    Returns:
        The directory.
    """
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in test)
    directory = lab.places.cache / "failures" / safe
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for node in lab.nodes.values():
        for name in _LOGS:
            with contextlib.suppress(OSError):
                (directory / f"{node.name}-{name}").write_bytes(_tail(node.home / name))
    for name in (*lab.nodes, *MACHINES):
        with contextlib.suppress(LabError):
            said = lab.at(
                name, "sh", "-c", f"{SCRIPT}\necho '## nft'; nft list ruleset", check=False
            )
            (directory / f"{name}-network.txt").write_text(said.stdout)
    with contextlib.suppress(LabError):
        said_too = lab.kubectl("get", "pods,events", "-A", "-o", "wide", check=False)
        (directory / "cluster.txt").write_text(said_too)
    (directory / "health.txt").write_text(f"{lab.healthy() or 'healthy'}\n")
    return directory
