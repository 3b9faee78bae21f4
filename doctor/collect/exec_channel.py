"""What comes over an exec channel: read to its end, within a bound of time and of size."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from doctor.collect.deadline import Deadline

__all__ = ["ExecAnswer", "drain"]

_MOST_OUTPUT = 8 * 1024 * 1024
_LOOK_SECONDS = 0.5


class ExecAnswer(msgspec.Struct, frozen=True):
    """What a program printed in a container; ``reason`` says why it could not be run.

    Where both are there, the program printed too much or did not end: what it printed is cut.
    """

    stdout: str = ""
    stderr: str = ""
    reason: str = ""


class _Enough(Exception):  # noqa: N818 - no error: reading is over
    """Nothing more is to be read."""


class _Meter:
    """Lets bytes through until they are too many, or the time is up.

    The client takes all frames that are there before it looks at anything else, and a frame is as
    long as its sender says: only below both can what is held be bounded.
    """

    def __init__(self, read: Callable[[int], bytes], *ends: Deadline) -> None:
        """Let nothing through yet."""
        self._read = read
        self._ends = ends
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether more came than may."""
        return self._count > _MOST_OUTPUT

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return any(e.passed for e in self._ends)

    def __call__(self, size: int) -> bytes:
        """Read a piece.

        Raises:
            _Enough: No more of it is wanted.
        """
        from websocket import WebSocketTimeoutException

        while not (self.full or self.late):
            with contextlib.suppress(WebSocketTimeoutException):
                piece = self._read(size)
                self._count += len(piece)
                return piece
        raise _Enough


def drain(channel: Any, deadline: Deadline, seconds: float) -> ExecAnswer:
    """Read an exec channel to its end, and close it.

    It is looked now and then whether the run is over: an interrupted one has its deadline cut.

    Args:
        channel: A ``kubernetes.stream.ws_client.WSClient``.
        deadline: When the run has to be over.
        seconds: How long the program may take.

    Raises:
        WebSocketException: The connection broke.
        OSError: The same, from the system.
        ValueError: What came is no WebSocket frame.
    """
    own = Deadline(deadline.bound(seconds))
    channel.sock.settimeout(_LOOK_SECONDS)
    frames = channel.sock.frame_buffer
    meter = frames.recv = _Meter(frames.recv, own, deadline)
    try:
        with contextlib.suppress(_Enough):
            while channel.is_open() and not meter.late:
                channel.run_forever(timeout=own.bound(_LOOK_SECONDS))
        ended = not channel.is_open()
    finally:
        with contextlib.suppress(Exception):
            # nothing is waited for: the other side may be at it still
            channel.close(timeout=0)
            channel.sock.shutdown()
    out, err = channel.read_stdout(timeout=0), channel.read_stderr(timeout=0)
    if ended:
        return ExecAnswer(stdout=out, stderr=err)
    if meter.full:
        reason = f"it printed more than {_MOST_OUTPUT >> 20} MiB"
    else:
        reason = deadline.reason if deadline.passed else f"no end within {seconds:g} s"
    return ExecAnswer(stdout=out, stderr=err, reason=reason)
