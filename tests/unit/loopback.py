"""Servers on this machine's loopback, for the length of a test."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 64
    """More than a run's workers: a connection that finds no room is tried again a second later."""

    daemon_threads = False
    """What was asked for is carried out before it is looked at what there is."""

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up: they were interrupted."""


@contextlib.contextmanager
def http_server(handler: type[BaseHTTPRequestHandler], **attributes: object) -> Iterator[str]:
    """Serve HTTP on a free port, each request by a handler with these attributes; yield the URL."""
    made = type("Handler", (handler,), attributes)
    with _HttpServer(("127.0.0.1", 0), made) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def kubeconfig(folder: Path, server: str, **user: str) -> str:
    """Write a kubeconfig, and return its path."""
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)
