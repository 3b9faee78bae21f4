"""A DNS server over UDP, for the length of a test, on a socket that the test made."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dns.message
import dns.rcode
import dns.rrset

Answer = Callable[[bytes], Iterable[bytes | tuple[bytes, socket.socket]]]


@contextlib.contextmanager
def answering(
    answer: Answer, sock: socket.socket | None = None, back: socket.socket | None = None
) -> Iterator[int]:
    """Answer each datagram; yield the port.

    Args:
        answer: What to send back for a query, if anything, and by which socket.
        sock: What to listen on; loopback if it is left out.
        back: What to answer from, if not the same.
    """
    listening = sock or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if sock is None:
        listening.bind(("127.0.0.1", 0))
    listening.settimeout(0.05)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                query, sender = listening.recvfrom(4096)
                for item in answer(query):
                    said, way = item if isinstance(item, tuple) else (item, back or listening)
                    way.sendto(said, sender)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        done.set()
        thread.join(timeout=10)
        listening.close()


def reply(query: bytes, *addresses: str, rcode: Any = dns.rcode.NOERROR) -> bytes:
    """Write what a server answers to a query."""
    asked = dns.message.from_wire(query)
    said = dns.message.make_response(asked)
    said.set_rcode(rcode)
    if addresses:
        name = asked.question[0].name
        said.answer.append(dns.rrset.from_text(name, 5, "IN", "A", *addresses))
    return said.to_wire()
