"""Exec channels: what comes over them is bounded before it is held."""

import socket
import threading
import tracemalloc
from pathlib import Path

import pytest

from doctor.collect import exec_channel
from doctor.collect.deadline import Deadline
from doctor.collect.exec_channel import ExecAnswer
from tests.unit.exec_server import CLOSE, ERROR, STDERR, STDOUT, Talk, executing, frame, header

MOST = exec_channel._MOST_OUTPUT
TOO_MUCH = "it printed more than 8 MiB"


def run(talk: Talk, folder: Path, seconds: float = 30, deadline: float = 60) -> ExecAnswer:
    """Execute something in a container."""
    with executing(talk, folder, Deadline(deadline)) as api:
        return api.exec("n", "p", "c", ["true"], seconds)


def sending(*pieces: bytes) -> Talk:
    """Send something, then wait for the other side to hang up."""

    def talk(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        while connection.recv(65536):
            pass

    return talk


def test_both_streams_are_read_to_their_end(tmp_path: Path) -> None:
    parts = (STDOUT + b"a\n", STDERR + b"oh", STDOUT + "é".encode(), ERROR + b"{}")
    found = run(sending(*map(frame, parts), CLOSE), tmp_path)
    assert found == ExecAnswer("a\né", "oh")


def test_a_long_answer_comes_whole(tmp_path: Path) -> None:
    line = frame(STDOUT + b"x" * 32_000)
    found = run(sending(*[line] * 200, CLOSE), tmp_path)
    assert (len(found.stdout), found.reason) == (6_400_000, "")


@pytest.mark.parametrize("stream", [STDOUT, STDERR, ERROR, b"\x4d"])
def test_a_program_that_prints_too_much_is_left_and_no_more_is_held(
    tmp_path: Path, stream: bytes
) -> None:
    line = frame(stream + b"x" * 32_000)
    tracemalloc.start()
    try:
        found = run(sending(*[line] * 3000, CLOSE), tmp_path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.reason == TOO_MUCH
    assert len(found.stdout + found.stderr) <= MOST
    assert most < 5 * MOST


def test_one_frame_alone_can_be_too_much(tmp_path: Path) -> None:
    many = b"x" * 1_000_000
    found = run(sending(header(2**40), STDOUT, *[many] * 60), tmp_path)
    assert found == ExecAnswer(reason=TOO_MUCH)


def test_what_never_pauses_is_left_when_its_time_is_up(tmp_path: Path) -> None:
    """Empty frames without a pause: there is always one more to read, and nothing to hold."""
    stop = threading.Event()

    def talk(connection: socket.socket) -> None:
        while not stop.is_set():
            connection.sendall(frame(STDOUT))

    timer = threading.Timer(20, stop.set)
    timer.start()
    try:
        found = run(talk, tmp_path, seconds=0.3)
    finally:
        timer.cancel()
    assert found.reason == "no end within 0.3 s"
    assert not stop.is_set()


def test_a_run_that_is_interrupted_leaves_its_channels(tmp_path: Path) -> None:
    deadline = Deadline(600)

    def talk(connection: socket.socket) -> None:
        connection.sendall(frame(STDOUT + b"begun"))
        deadline.cut()
        sending()(connection)

    with executing(talk, tmp_path, deadline) as api:
        found = api.exec("n", "p", "c", ["true"], 600)
    assert found.reason == deadline.reason


def test_a_connection_that_breaks_is_no_answer(tmp_path: Path) -> None:
    found = run(lambda c: c.sendall(frame(STDOUT + b"half")), tmp_path)
    assert found.reason
    assert run(sending(b"\xff\x01x"), tmp_path).reason


def test_a_frame_that_comes_in_parts_is_read_and_one_without_end_is_left(tmp_path: Path) -> None:
    whole = frame(STDOUT + b"abc")
    looked = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(whole[:3])
        # longer than one look
        assert not looked.wait(exec_channel._LOOK_SECONDS * 1.5)
        connection.sendall(whole[3:] + CLOSE)
        sending()(connection)

    assert run(talk, tmp_path) == ExecAnswer("abc")
    assert run(sending(whole[:3]), tmp_path, seconds=0.3).reason == "no end within 0.3 s"
