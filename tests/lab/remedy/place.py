"""The place that an operator runs commands at: the proxy host, with what is on an operator's PATH."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.lab import Lab
from tests.lab.places import ROOT
from tests.lab.topology import PROXY

__all__ = ["Ran", "confined", "run_as_printed", "shims"]

_CONFINED: Final = """\
exec unshare --mount --propagation slave -- sh -c '
kept=$1; shift
mount --bind "$kept" "$kept" && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp && exec "$@"
' sh "$@"
"""
"""Runs a command where the root file system, which is the machine's own, cannot be written.

Its first argument is the folder that can be all the same; the command follows.
"""

_SUDO: Final = """\
#!/bin/sh
# everybody is root in the lab
while :; do
    case "$1" in
        -u|-g) shift 2 ;;
        -*) shift ;;
        *=*) export "$1"; shift ;;
        *) break ;;
    esac
done
exec "$@"
"""
_PYTHON: Final = """\
#!/bin/sh
exec env PYTHONPATH={root} WWWM_LAB_CACHE={cache} {python} -m {module} {first} "$@"
"""
_KEPT: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of commands that were run as printed.

    Attributes:
        exit_code: That of the last one; -1 where they had no end in time.
        output: The end of what they said.
    """

    exit_code: int
    output: str

    @property
    def lacked_a_program(self) -> bool:
        """Whether the place has not got what they call."""
        told = ("command not found", "not understood in the lab", ": not found")
        return any(t in self.output for t in told)


def _program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def _module(lab: Lab, folder: Path, name: str, module: str, *first: str) -> None:
    text = _PYTHON.format(
        root=ROOT,
        cache=lab.places.cache,
        python=sys.executable,
        module=module,
        first=" ".join(first),
    )
    _program(folder, name, text)


def shims(lab: Lab, machine: str) -> Path:
    """Make, and return, the directory that stands first on the PATH of a node or of the operator."""
    folder = lab.places.run / "operator" / machine
    folder.mkdir(parents=True, exist_ok=True)
    _program(folder, "sudo", _SUDO)
    prefix = lab.places.prefix
    if machine in lab.nodes:
        for name in ("systemctl", "journalctl"):
            _module(lab, folder, name, "tests.lab.remedy.services", prefix, machine, name)
        return folder
    for name in ("ssh", "openstack"):
        _module(lab, folder, name, f"tests.lab.remedy.{name}", prefix)
    _module(lab, folder, "wwwm-doctor", "doctor")
    (folder / "kubectl").unlink(missing_ok=True)
    (folder / "kubectl").symlink_to(lab.places.run / "bin" / "kubectl")
    return folder


def confined(lab: Lab, *command: str) -> tuple[str, ...]:
    """The command that runs a command where only what is the lab's can be written."""
    return ("sh", "-c", _CONFINED, "sh", str(lab.places.run), *command)


def run_as_printed(lab: Lab, commands: Iterable[str], seconds: float) -> Ran:
    """Run commands one after the other in one shell, as somebody does who copies them."""
    path = f"{shims(lab, PROXY)}:{os.defpath}:/usr/sbin:/sbin:/usr/local/bin"
    environment = ("env", f"PATH={path}", f"KUBECONFIG={lab.kubeconfig}", "HOME=/tmp")
    script = "\n".join(commands)
    # in a session of its own: what it leaves running ends with it
    process = subprocess.Popen(
        lab.entering(PROXY, *environment, *confined(lab, "bash", "-c", script)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = -1
    return Ran(exit_code=code, output=output[-_KEPT:])
