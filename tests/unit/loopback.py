"""Servers on this machine's loopback, for the length of a test."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(talk: Talk | None) -> Iterator[int]:
    """Accept connections on a free port, each with ``talk`` in a thread; yield the port.

    Without one, nothing is ever answered, whatever the other side does.
    """
    done = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                threads.append(threading.Thread(target=answer, args=(connection,)))
                threads[-1].start()

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                if talk is None:
                    done.wait(30)
                else:
                    talk(connection)

        acceptor = threading.Thread(target=serve)
        acceptor.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            done.set()
            for thread in (acceptor, *threads):
                thread.join(timeout=10)


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def saying(answer: bytes) -> Talk:
    """Read a request, answer, and close."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return talk


def hanging_up(_connection: socket.socket) -> None:
    """Close at once."""


@contextlib.contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """Answer datagrams on a free port until the end of a test; an empty reply is not sent."""
    done = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.05)

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    query, peer = listener.recvfrom(65535)
                    if answer := reply(query):
                        listener.sendto(answer, peer)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            done.set()
            server.join(timeout=10)
