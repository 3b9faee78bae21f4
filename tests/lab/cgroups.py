"""Control groups: what a lab's processes are counted in, and found by when it ends."""

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.lab.places import ROOT as CODE
from tests.lab.shell import LabError, poll, run

ROOT: Final = Path("/sys/fs/cgroup")
# the hierarchies that a kubelet and a runtime manage pods in
CONTROLLERS: Final = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
)
# the one that processes are looked up in
COUNTED: Final = ROOT / "pids"


def make(group: str) -> None:
    """Make a group, and those above it, in every hierarchy."""
    if not (COUNTED / "cgroup.procs").exists():
        msg = f"no cgroup v1 hierarchies under {ROOT}: boot with systemd.unified_cgroup_hierarchy=0"
        raise LabError(msg)
    for controller in CONTROLLERS:
        (ROOT / controller / group).mkdir(parents=True, exist_ok=True)
    cpuset = ROOT / "cpuset"
    for name in Path(group).parts:
        # a new cpuset is empty, and nothing may enter it before it is filled
        child = cpuset / name
        for kind in ("cpuset.cpus", "cpuset.mems"):
            (child / kind).write_text((cpuset / kind).read_text())
        (child / "cgroup.clone_children").write_text("1")
        cpuset = child


def spawn(group: str, home: Path, name: str, *command: str, env: Mapping[str, str]) -> int:
    """Start a program that outlives us, inside a group.

    Args:
        group: The group that it enters, in every hierarchy, before it begins.
        home: The directory for its log.
        name: The stem of its log's name.
        command: The program and its arguments.
        env: Its environment.

    Returns:
        Its process id.
    """
    pid_file = home / f"{name}.spawned"
    pid_file.unlink(missing_ok=True)
    enter = [f"echo $$ > {ROOT / controller / group}/cgroup.procs" for controller in CONTROLLERS]
    # The id is told last, so that who reads it finds the process in its group; and by builtins
    # alone, as a child of this shell could be taken for the program's own.
    told = f"echo $$ > {pid_file}"
    become = f'exec "$@" >> {home / name}.log 2>&1 < /dev/null'
    script = " && ".join([*enter, told, become])
    run("setsid", "--fork", "sh", "-c", script, "sh", *command, env=env, cwd=CODE, quiet=True)

    def whole() -> str | None:
        text = pid_file.read_text() if pid_file.exists() else ""
        return text if text.endswith("\n") else None

    told_pid = poll(whole, seconds=30, what=f"the start of {name}", every=0.01)
    pid_file.unlink()
    return int(told_pid or 0)


def processes(group: str) -> set[int]:
    """All processes in a group and below."""
    found: set[int] = set()
    for listed in (COUNTED / group).rglob("cgroup.procs"):
        # a group may vanish while we look
        with contextlib.suppress(OSError):
            found |= {int(line) for line in listed.read_text().split()}
    return found


def kill(group: str, seconds: float = 20) -> None:
    """End all processes of a group and below, and wait until they are gone."""

    def empty() -> bool:
        for pid in (left := processes(group)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    if (COUNTED / group).exists():
        poll(empty, seconds=seconds, what=f"the end of the processes in {group}")


def remove(group: str, seconds: float = 10) -> None:
    """Remove an empty group and all below it from every hierarchy."""

    def gone() -> bool:
        for controller in CONTROLLERS:
            top = ROOT / controller / group
            below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
            for path in (*below, top):
                with contextlib.suppress(OSError):
                    path.rmdir()
        return not any((ROOT / controller / group).exists() for controller in CONTROLLERS)

    poll(gone, seconds=seconds, what=f"the removal of the control groups under {group}")
