"""Runs the packet child: a process of its own, which alone may build packets, for as long as is said."""

import contextlib
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from doctor.model.flow import Flow, Observation
from doctor.probe.packet_documents import ask, read

__all__ = ["observe_packets"]

_CHILD = Path(__file__).with_name("packets.py")
_NET_RAW = 1 << 13
_MOST_OUTPUT = 1024 * 1024
_MOST_SECONDS = 60.0
_SPARE_SECONDS = 0.5
_REAP_SECONDS = 3.0

_HOW_TO_GRANT = (
    "needs CAP_NET_RAW: run as root, or with --sudo, or `sudo setpriv --ambient-caps +net_raw "
    "--inh-caps +net_raw --reuid $(id -u) --regid $(id -g) --init-groups "
    'env HOME="$HOME" PATH="$PATH" wwwm-doctor …`'
)


def observe_packets(
    flows: tuple[Flow, ...], *, sudo: bool, seconds: float
) -> tuple[list[Observation], list[tuple[Flow, str]]]:
    """Carry out flows that take packets built by hand.

    Args:
        flows: Of the kinds ARP (its name is the interface), TRACE, PING and DNS_UDP.
        sudo: Whether to start the child by ``sudo -n`` where this process lacks the capability.
        seconds: How long all of it may take; a flow that is cut short by it is not seen.

    Returns:
        Observations in the order of flows, and the flows that were not seen, each with the reason.

    Raises:
        ValueError: A flow is of another kind.
    """
    seconds = min(seconds, _MOST_SECONDS)
    asked = ask(flows, max(0.1, seconds - _SPARE_SECONDS))
    if not asked.groups:
        return [], list(asked.unseen)
    command = [sys.executable, "-I", str(_CHILD)]
    if not _may_send():
        command = ["sudo", "-n", "--", *command] if sudo else []
    said = _run(command, asked.text, seconds) if command else _HOW_TO_GRANT
    if isinstance(said, bytes):
        try:
            seen, unseen = read(asked, said)
        except ValueError:
            said = "the packet child printed what is not understood"
        else:
            places = {flow: place for place, flow in enumerate(flows)}
            return sorted(seen, key=lambda o: places[o.flow]), unseen
    missed = [(f, said) for group in asked.groups for f in group]
    return [], [*asked.unseen, *missed]


def _may_send() -> bool:
    """Say whether this process holds CAP_NET_RAW, which a child of it then holds as well."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return bool(int(status.partition("CapEff:")[2].split()[0], 16) & _NET_RAW)
    return False


def _run(command: list[str], text: bytes, seconds: float) -> bytes | str:
    """Run the child; return what it printed, or in one line why that is worth nothing."""
    until = time.monotonic() + seconds
    try:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        return f"{command[0]} could not be run: {error.strerror}"
    try:
        said = _talk(child, text, until)
        if isinstance(said, str):
            return said
        code = child.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "the packet child did not end in time"
    finally:
        _end(child)
    out, err = said
    if code < 0:
        return f"the packet child was ended by signal {-code}"
    return out if code == 0 else _last_line(err) or f"the packet child failed with {code}"


def _talk(child: subprocess.Popen[bytes], text: bytes, until: float) -> tuple[bytes, bytes] | str:
    """Give the child its document and take what it prints, but neither too much nor too long."""
    into, out, err = _pipes(child)
    heard = {out.fileno(): bytearray(), err.fileno(): bytearray()}
    with selectors.DefaultSelector() as ready:
        for pipe in (into, out, err):
            os.set_blocking(pipe.fileno(), False)
            ready.register(pipe, selectors.EVENT_WRITE if pipe is into else selectors.EVENT_READ)
        while ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return "the packet child did not end in time"
            for key, _ in ready.select(left):
                if key.fileobj is into:
                    text = more = _feed(key.fd, text)
                else:
                    more = os.read(key.fd, 65536)
                    heard[key.fd] += more
                    if len(heard[key.fd]) > _MOST_OUTPUT:
                        return "the packet child printed too much"
                if not more:
                    ready.unregister(key.fileobj)
                    if key.fileobj is into:
                        into.close()
    return bytes(heard[out.fileno()]), bytes(heard[err.fileno()])


def _pipes(child: subprocess.Popen[bytes]) -> list[IO[bytes]]:
    """Return its standard input, output and error."""
    return [p for p in (child.stdin, child.stdout, child.stderr) if p is not None]


def _feed(pipe: int, text: bytes) -> bytes:
    """Write what a pipe takes; return the rest, nothing for a child that reads no more."""
    try:
        return text[os.write(pipe, text) :]
    except BrokenPipeError:
        return b""


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, whatever happened."""
    if child.poll() is None:
        # What sudo started is not ours to kill: it ends by an alarm of its own.
        with contextlib.suppress(PermissionError):
            child.kill()
    for pipe in _pipes(child):
        with contextlib.suppress(OSError):
            pipe.close()
    try:
        child.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        threading.Thread(target=child.wait, daemon=True).start()


def _last_line(text: bytes) -> str:
    """Return the last line that says something, shortened."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    return next((line[:200] for line in reversed(lines) if line), "")
