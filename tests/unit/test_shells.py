"""Shells: scripts run here, and by an ssh whose every word is seen."""

import contextlib
import os
import signal
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from doctor.collect.deadline import Deadline
from doctor.collect.process import MOST_OUTPUT
from doctor.collect.shells import LocalShell, SshShell
from doctor.model.flow import Vantage, VantageKind


def test_a_script_runs_here_and_reads_nothing_of_itself() -> None:
    said = LocalShell(Deadline(30)).run("cat; echo out; echo err >&2; exit 3", 10)
    assert (said.stdout, said.stderr, said.reason) == ("out\n", "err\n", "")


def test_a_script_that_does_not_end_is_bounded() -> None:
    said = LocalShell(Deadline(30)).run("echo begun; sleep 600", 0.3)
    assert said.reason == "sh did not end within 0.3 s"


def alive(group: int) -> list[str]:
    """List the processes of a group; those that only wait to be reaped have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
            if int(own) == group and state != "Z":
                found.append(path.parent.name)
    return found


def test_what_a_script_started_ends_with_it(tmp_path: Path) -> None:
    """A program that a script waits for would hold on long after nobody does."""
    script = f"echo $$ >{tmp_path}/group; sleep 600"
    assert LocalShell(Deadline(30)).run(script, 2).reason
    group = int((tmp_path / "group").read_text())
    assert alive(group) == []


def test_a_run_that_is_interrupted_does_not_wait_for_its_scripts(tmp_path: Path) -> None:
    deadline = Deadline(600)
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(LocalShell(deadline).run, f"echo >{tmp_path}/begun; sleep 600", 600)
        while not (tmp_path / "begun").exists():
            assert not said.done()
        deadline.cut()
        assert said.result(timeout=30).reason
    assert LocalShell(deadline).run("true", 5).reason == deadline.reason


def test_nothing_is_run_after_the_deadline(tmp_path: Path) -> None:
    deadline = Deadline(0)
    said = LocalShell(deadline).run(f"touch {tmp_path}/made", 5)
    assert said.reason == deadline.reason
    assert list(tmp_path.iterdir()) == []


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """Put a program first on the PATH."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_ssh_asks_nothing_and_runs_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "ssh", f'echo "$@" >{tmp_path}/words; for w; do :; done; eval "$w"')
    shell = SshShell("root@proxy", Deadline(30))
    assert shell.run("echo $((40 + 2)) 'a  b'", 10).stdout == "42 a  b\n"
    words = (tmp_path / "words").read_text()
    assert "BatchMode=yes" in words
    assert words.strip().endswith("-- root@proxy exec sh -s")
    assert (shell.vantage, shell.via) == (Vantage(VantageKind.PROXY), "root@proxy")


def test_ssh_that_fails_is_told_from_a_script_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "Warning: x\nroot@proxy: Permission denied (publickey)."
    fake(tmp_path, monkeypatch, "ssh", f"printf '%s' '{refused}' >&2; exit 255")
    said = SshShell("root@proxy", Deadline(30)).run("true", 10)
    expected = "ssh root@proxy failed: root@proxy: Permission denied (publickey)."
    assert said.reason == expected
    fake(tmp_path, monkeypatch, "ssh", "echo kept; exit 1")
    assert SshShell("root@proxy", Deadline(30)).run("true", 10).stdout == "kept\n"


def test_a_machine_without_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert SshShell("p", Deadline(30)).run("true", 5).reason == "ssh is not installed here"


def test_sudo_that_wants_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    said = LocalShell(Deadline(30), sudo=True).run("echo no", 5)
    assert said.reason == "sudo refused: sudo: a password is required"
    fake(tmp_path, monkeypatch, "sudo", 'shift; exec "$@"')
    assert LocalShell(Deadline(30), sudo=True).run("echo yes", 5).stdout == "yes\n"


@pytest.mark.parametrize("stream", [1, 2])
def test_a_script_that_prints_too_much_is_ended_and_no_more_is_held(
    tmp_path: Path, stream: int
) -> None:
    script = f"echo $$ >{tmp_path}/group; yes | head -c 100000000 >&{stream}; sleep 600"
    tracemalloc.start()
    try:
        said = LocalShell(Deadline(60)).run(script, 60)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said.reason == "sh was ended: it printed more than 8 MiB"
    assert len(said.stdout + said.stderr) == MOST_OUTPUT
    assert most < 5 * MOST_OUTPUT
    assert alive(int((tmp_path / "group").read_text())) == []


def test_a_long_script_and_a_long_answer_do_not_wait_for_each_other() -> None:
    """Either is longer than a pipe holds."""
    filler = f": {'x' * 300_000}\n"
    said = LocalShell(Deadline(30)).run(f"{filler}yes | head -c 3000000\n{filler}", 20)
    assert (len(said.stdout), said.reason) == (3_000_000, "")


def test_a_script_that_is_not_read_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "ssh", "exec 0<&-; echo deaf")
    said = SshShell("root@proxy", Deadline(30)).run(f": {'x' * 300_000}", 20)
    assert (said.stdout, said.reason) == ("deaf\n", "")


def test_a_program_that_closed_its_streams_is_waited_for_and_bounded(tmp_path: Path) -> None:
    said = LocalShell(Deadline(30)).run("exec >&- 2>&-; sleep 600", 0.3)
    assert said.reason == "sh did not end within 0.3 s"
    script = f"exec >&- 2>&-; sleep 0.1; echo >{tmp_path}/done"
    assert LocalShell(Deadline(30)).run(script, 20).reason == ""
    assert (tmp_path / "done").exists()


# nobody waits for it: that is what is wanted here, and what the warning says
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_program_that_may_not_be_killed_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sudo runs is root's: it goes on, and the run ends."""

    def refuse(_group: int, _number: int) -> None:
        raise PermissionError

    kill = os.killpg
    monkeypatch.setattr(os, "killpg", refuse)
    begun = time.monotonic()
    said = LocalShell(Deadline(30)).run(f"echo $$ >{tmp_path}/pid; exec sleep 60", 1)
    took = time.monotonic() - begun
    kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert "did not end" in said.reason
    assert took < 40  # its own end would be after 60
