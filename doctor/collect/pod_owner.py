"""Whose a probe pod is: the run that made it, written on it, and whether that run still lives."""

import contextlib
import datetime as dt
import math
import os
import secrets
import socket
from pathlib import Path
from typing import Annotated

import msgspec

from doctor.model.kube import Meta
from doctor.model.probe_pod import LABEL, MANAGER, PREFIX

__all__ = [
    "ENDS",
    "OWNER",
    "RUN",
    "Owner",
    "Run",
    "begin",
    "end_of",
    "lives",
    "owner_of",
]

RUN = "wwwm-doctor/run"
OWNER = "wwwm-doctor/owner"
ENDS = "wwwm-doctor/ends"

_GRACE = 30
"""Seconds that pods outlive the run's deadline, so that no run is cut short by its own pods."""
_STARTING = 30
"""Seconds until a kubelet counts a pod's time from, at the latest."""
_LONGEST = dt.timedelta(minutes=10)
"""When something of a run is over that does not say when."""


class Owner(msgspec.Struct, frozen=True):
    """The process that a run is.

    Args:
        host: The name of its machine.
        space: Which boot of which machine, and which of its spaces of process ids: two machines may
            have the same name, and a container its own process ids. Empty where that is not known.
        pid: Its process id there.
        started: When it was started, in ticks since that boot: a process id is used again.
    """

    host: str
    space: str
    pid: Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
    started: int


class Run(msgspec.Struct, frozen=True):
    """One run, as what it makes is marked.

    Args:
        id: Eight hexadecimal digits.
        owner: The process.
        ends: When its pods end at the latest, in UTC.
        seconds: How long its pods may live.
    """

    id: str
    owner: Owner
    ends: str
    seconds: int

    @property
    def namespace(self) -> str:
        """Its own namespace."""
        return f"{PREFIX}{self.id}"

    @property
    def labels(self) -> dict[str, str]:
        """What all that it makes is found by."""
        return {LABEL: MANAGER, RUN: self.id}

    @property
    def selector(self) -> str:
        """A label selector for all that it makes, as part of a query."""
        return f"{RUN.replace('/', '%2F')}%3D{self.id}"

    @property
    def annotations(self) -> dict[str, str]:
        """What tells others whether it still lives."""
        return {OWNER: msgspec.json.encode(self.owner).decode(), ENDS: self.ends}


def begin(seconds: float) -> Run:
    """Name a run of this process.

    Args:
        seconds: How long it may take from now.
    """
    life = math.ceil(max(seconds, 0.0)) + _GRACE
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=life + _STARTING)
    pid = os.getpid()
    owner = Owner(socket.gethostname(), _space(), pid, started=_started(pid) or 0)
    return Run(
        id=secrets.token_hex(4),
        owner=owner,
        ends=ends.isoformat(timespec="seconds"),
        seconds=life,
    )


def owner_of(meta: Meta) -> Owner | None:
    """Read whose something is; None where it does not say so in a way that is understood."""
    try:
        return msgspec.json.decode((meta.annotations or {}).get(OWNER, ""), type=Owner)
    except msgspec.DecodeError:
        return None


def end_of(meta: Meta) -> dt.datetime | None:
    """Read when something ends at the latest; by its age where it does not say; None for never."""
    said = _time((meta.annotations or {}).get(ENDS, ""))
    made = _time(meta.creation_timestamp or "")
    return said or (made + _LONGEST if made else None)


def lives(owner: Owner) -> bool | None:
    """Say whether a run is still alive; None where it is another machine's, or cannot be told."""
    here = (socket.gethostname(), _space())
    if (owner.host, owner.space) != here or not owner.space:
        return None
    try:
        started = _started(owner.pid)
    except PermissionError:
        return None
    return started == owner.started


def _time(text: str) -> dt.datetime | None:
    """Read a time; None where there is none, or one of no known zone."""
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else None


def _space() -> str:
    """Name this boot of this machine, and the space of process ids; empty where it has no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Say when a process was started, in ticks since boot; None where there is none, or no /proc.

    Raises:
        PermissionError: There is one, and it may not be looked at.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            # says that it may not be signalled if /proc does not show other users' processes
            os.kill(pid, 0)
        return None
    # the program's name stands in brackets and may hold anything, brackets included
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _DEAD else int(fields[_START_FIELD])


_DEAD = ("Z", "X")
_START_FIELD = 18
"""Of proc(5)'s fields after the state, starttime."""
