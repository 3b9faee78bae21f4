"""Whether a run still lives, as others can tell from what it made."""

import datetime as dt
import os
import socket
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.pod_owner import ENDS, OWNER, Owner, begin, end_of, lives, owner_of
from doctor.model.kube import Meta

OWN = begin(60).owner


def test_a_run_writes_down_which_process_it_is() -> None:
    run = begin(60)
    assert (run.owner.host, run.owner.pid) == (socket.gethostname(), os.getpid())
    assert owner_of(Meta(annotations=run.annotations)) == run.owner
    assert lives(run.owner) is True
    assert run.id != begin(60).id


def test_its_pods_outlive_its_deadline_and_end_before_it_says() -> None:
    before = dt.datetime.now(dt.UTC)
    run = begin(600)
    assert run.seconds > 600
    ends = end_of(Meta(annotations=run.annotations))
    assert ends is not None
    assert ends >= before + dt.timedelta(seconds=run.seconds - 1)
    assert begin(-5).seconds > 0, "the deadline has passed: they are to end soon, not never"


def started() -> subprocess.Popen[bytes]:
    """Start a process that waits."""
    code = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def owner_process(pid: int) -> Owner:
    """Read the owner that a process would be."""
    code = (
        "import sys, msgspec, doctor.collect.pod_owner as o; o.os.getpid = lambda: int(sys.argv[1]);"
        "print(msgspec.json.encode(o.begin(1).owner).decode())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(pid)], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Owner)


def test_a_process_that_was_killed_is_dead_and_so_is_one_that_nobody_has_waited_for() -> None:
    with started() as other:
        owner = owner_process(other.pid)
        assert lives(owner) is True
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert lives(owner) is False, "it is a zombie"
    assert lives(owner) is False


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    assert lives(msgspec.structs.replace(OWN, started=OWN.started - 1)) is False


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "elsewhere"},
        {"space": "another boot"},
        {"space": ""},
        {"host": "elsewhere", "pid": 1},
    ],
)
def test_of_other_machines_nothing_is_known(elsewhere: dict[str, object]) -> None:
    assert lives(msgspec.structs.replace(OWN, **elsewhere)) is None


def test_a_program_may_be_called_anything() -> None:
    """The kernel writes its name in brackets, and brackets may be in it."""
    code = (
        "open('/proc/self/comm', 'w').write(') Z 1 2 (');"
        "import doctor.collect.pod_owner as o; print(o.lives(o.begin(1).owner))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"host": 1}', '{"host":"h","space":"s","pid":0,"started":1}']
)
def test_what_is_not_understood_names_nobody(text: str) -> None:
    assert owner_of(Meta(annotations={OWNER: text})) is None
    assert owner_of(Meta()) is None


@given(st.text())
def test_no_annotation_raises(text: str) -> None:
    meta = Meta(annotations={OWNER: text, ENDS: text})
    owner_of(meta)
    end_of(meta)


@given(st.integers(1, 2**31 - 1))
def test_any_process_id_can_be_asked_for(pid: int) -> None:
    assert lives(msgspec.structs.replace(OWN, pid=pid, started=-1)) is not True


def test_what_does_not_say_when_it_ends_ends_some_time_after_it_was_made() -> None:
    made = end_of(Meta(creation_timestamp="2026-01-01T00:00:00Z"))
    assert made is not None
    assert dt.datetime(2026, 1, 1, tzinfo=dt.UTC) < made < dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert end_of(Meta(annotations={ENDS: "2026-01-01T00:00:00"})) is None, "of no known zone"
    assert end_of(Meta()) is None
