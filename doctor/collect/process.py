"""A program of this machine, run to its end within a bound of time and of output."""

import contextlib
import os
import selectors
import signal
import subprocess
from typing import IO, cast

import msgspec

from doctor.collect.deadline import Deadline

__all__ = ["MOST_OUTPUT", "Finished", "finish"]

MOST_OUTPUT = 8 * 1024 * 1024
"""Bytes that a program may print, on both streams together; one that prints more is ended."""

_AT_ONCE = 64 * 1024
_LOOK_SECONDS = 0.5


class Finished(msgspec.Struct, frozen=True):
    """How a program ended.

    Args:
        out: What it printed.
        err: What it printed on standard error.
        code: Its exit code; negative if a signal ended it.
        cut: Whether it was ended, having printed more than it may.
    """

    out: bytes
    err: bytes
    code: int
    cut: bool = False


def finish(command: tuple[str, ...], given: bytes, deadline: Deadline, seconds: float) -> Finished:
    """Run a program to its end, or end it with all that it started.

    Args:
        command: The program and its arguments.
        given: What it reads.
        deadline: When the run has to be over; it may be cut meanwhile.
        seconds: How long the program may take.

    Raises:
        subprocess.TimeoutExpired: It did not end in time.
        OSError: It could not be run.
    """
    own = Deadline(deadline.bound(seconds))
    process = subprocess.Popen(  # noqa: S603 - sh, sudo and ssh as this machine has them
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    pipes = _Pipes(process, given)
    try:
        while pipes.open and not pipes.full:
            _see_time(process, own, deadline)
            pipes.move(min(_LOOK_SECONDS, own.bound(_LOOK_SECONDS)))
        if pipes.full:
            pipes.shut()
            _kill(process)
        _await(process, own, deadline)
    except BaseException:
        pipes.shut()
        _kill(process)
        raise
    finally:
        pipes.close()
    out, err = pipes.read
    return Finished(out, err, process.returncode, cut=pipes.full)


class _Pipes:
    """The standard streams of a program, moved on as far as that goes without waiting."""

    def __init__(self, process: subprocess.Popen[bytes], given: bytes) -> None:
        """Begin with all streams open."""
        self._given = memoryview(given)
        self._selector = selectors.DefaultSelector()
        self._read: dict[IO[bytes], bytearray] = {}
        for stream in (process.stdout, process.stderr):
            if stream:
                self._read[stream] = bytearray()
                self._watch(stream, selectors.EVENT_READ)
        if process.stdin:
            self._watch(process.stdin, selectors.EVENT_WRITE)

    def _watch(self, stream: IO[bytes], event: int) -> None:
        """Wait for a stream from now on."""
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, event)

    @property
    def open(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._selector.get_map())

    @property
    def full(self) -> bool:
        """Whether more was printed than may be."""
        return sum(map(len, self._read.values())) > MOST_OUTPUT

    @property
    def read(self) -> tuple[bytes, ...]:
        """What came on standard output and on standard error, together no more than may be."""
        left, found = MOST_OUTPUT, []
        for held in self._read.values():
            found.append(bytes(held[:left]))
            left -= len(found[-1])
        return tuple(found)

    def move(self, seconds: float) -> None:
        """Read and write once what can be, after a wait for it."""
        for key, _ in self._selector.select(seconds):
            stream = cast("IO[bytes]", key.fileobj)
            if stream in self._read:
                self._take(stream)
            else:
                self._give(stream)

    def _take(self, stream: IO[bytes]) -> None:
        """Read a piece."""
        piece = os.read(stream.fileno(), _AT_ONCE)
        self._read[stream] += piece
        if not piece:
            self._end(stream)

    def _give(self, stream: IO[bytes]) -> None:
        """Write a piece; a program need not read all of it."""
        try:
            sent = os.write(stream.fileno(), self._given[:_AT_ONCE])
        except BrokenPipeError:
            sent = len(self._given)
        self._given = self._given[sent:]
        if not self._given:
            self._end(stream)

    def _end(self, stream: IO[bytes]) -> None:
        """Be done with a stream."""
        self._selector.unregister(stream)
        stream.close()

    def shut(self) -> None:
        """Close what is open, so that also a program that may not be killed can print no more."""
        for key in tuple(self._selector.get_map().values()):
            self._end(cast("IO[bytes]", key.fileobj))

    def close(self) -> None:
        """Wait for nothing any more; whoever opened the streams closes them."""
        self._selector.close()


def _await(process: subprocess.Popen[bytes], own: Deadline, deadline: Deadline) -> None:
    """Wait until a program that prints no more has ended."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(_LOOK_SECONDS, own.bound(_LOOK_SECONDS)))
            return
        _see_time(process, own, deadline)


def _see_time(process: subprocess.Popen[bytes], own: Deadline, deadline: Deadline) -> None:
    """Look whether the time is up.

    Raises:
        subprocess.TimeoutExpired: It is.
    """
    if own.passed or deadline.passed:
        raise subprocess.TimeoutExpired(process.args, own.seconds)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started; what sudo runs is another user's, and goes on."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LOOK_SECONDS)
