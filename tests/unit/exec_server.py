"""An API server on loopback in whose containers one thing can be executed, over a WebSocket."""

import base64
import contextlib
import hashlib
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, connect
from tests.unit.loopback import kubeconfig, serving

STDOUT, STDERR, ERROR = b"\1", b"\2", b"\3"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
_VERSION = b'{"gitVersion": "v1.34.0"}'

Talk = Callable[[socket.socket], None]


def header(length: int) -> bytes:
    """Begin a binary frame of some length."""
    if length < 126:
        return struct.pack("!BB", 0x82, length)
    return struct.pack("!BBQ", 0x82, 127, length)


def frame(text: bytes) -> bytes:
    """Make a binary frame."""
    return header(len(text)) + text


CLOSE = b"\x88\x02\x03\xe8"


@contextlib.contextmanager
def executing(talk: Talk, folder: Path, deadline: Deadline) -> Iterator[Api]:
    """Connect to a server that does this with each exec channel, once the handshake is done."""

    def answer(connection: socket.socket) -> None:
        asked = _request(connection)
        if b"/exec?" in asked.partition(b"\r\n")[0]:
            connection.sendall(_accepted(asked))
            talk(connection)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + _VERSION)

    with serving(answer) as port:
        url = f"http://127.0.0.1:{port}"
        yield connect(kubeconfig(folder, url), None, 5, deadline)


def _request(connection: socket.socket) -> bytes:
    """Read a request; nothing where there is none any more."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(65536)
        if not piece:
            return b""
        found += piece
    return found


def _accepted(asked: bytes) -> bytes:
    """Agree to speak WebSocket."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", asked, re.IGNORECASE)
    assert found
    key = base64.b64encode(hashlib.sha1(found[1] + _MAGIC, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: " + key + b"\r\n\r\n"
    )
