"""Probes from this machine, against loopback."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.target import parse_target
from doctor.probe import machine, machine_http
from doctor.probe.machine import observe
from tests.unit.authority import Authority, secured
from tests.unit.loopback import closed_port, hanging_up, saying, serving

NAME = "shop.invalid"


def flow(
    kind: FlowKind, port: int = 0, *, path: str = "/", name: str = NAME, url: str = ""
) -> Flow:
    """Ask loopback."""
    address = "" if kind is FlowKind.RESOLVE else "127.0.0.1"
    here = Vantage(VantageKind.MACHINE)
    return Flow(
        "f", Purpose.TARGET, here, kind, address, port, name, path, url or f"http://{name}/"
    )


def test_a_port_that_listens_and_one_that_does_not() -> None:
    with serving(hanging_up) as port:
        seen = observe(flow(FlowKind.TCP, port))
    assert (seen.failure, seen.ok) == (None, True)
    for kind in (FlowKind.TCP, FlowKind.HTTP):
        seen = observe(flow(kind, closed_port()))
        assert seen.failure is Failure.CONNECTION_REFUSED
        assert seen.seconds < 2


OK = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "failure", "status", "server", "location"),
    [
        (OK, None, 200, "nginx", ""),
        (MOVED, None, 302, "", "/a"),
        (b"HTTP/1.1 502 Bad\r\nServer: " + b"x" * 500 + b"\r\n\r\n", None, 502, "x" * 100, ""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Failure.HTTP_MALFORMED, 0, "", ""),
        (b"HTTP/1.1 banana\r\n\r\n", Failure.HTTP_MALFORMED, 0, "", ""),
        (b"", Failure.HTTP_MALFORMED, 0, "", ""),
    ],
)
def test_http_answers(
    answer: bytes, failure: Failure | None, status: int, server: str, location: str
) -> None:
    with serving(saying(answer)) as port:
        seen = observe(flow(FlowKind.HTTP, port))
    assert (seen.failure, seen.status) == (failure, status)
    assert (seen.server, seen.location) == (server, location)


def test_the_request_carries_the_host_and_trusts_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(OK)

    with serving(listen) as port:
        seen = observe(flow(FlowKind.HTTP, port, name=f"{NAME}:8080", path="/a b?c=1"))
    assert seen.status == 200
    assert heard[-1].startswith(b"GET /a%20b?c=1 HTTP/1.1\r\n")
    assert f"\r\nhost: {NAME}:8080\r\n".encode() in heard[-1].lower()


def test_a_host_in_another_script_is_asked_as_a_browser_does() -> None:
    target = parse_target("http://사이트.invalid/가")
    with serving(saying(OK)) as port:
        seen = observe(flow(FlowKind.HTTP, port, name=target.host_header, path=target.path))
    assert seen.status == 200


def test_silence_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_http, "_ANSWER_SECONDS", 0.3)
    with serving(None) as port:
        seen = observe(flow(FlowKind.HTTP, port))
    assert (seen.failure, seen.lost) == (Failure.TIMEOUT, 1)
    assert 0.2 < seen.seconds < 3
    assert seen.phases is not None
    assert seen.phases.first_byte is None


def dripping(connection: socket.socket) -> None:
    """Answer a byte at a time, each soon enough for a wait for one byte, until nobody listens."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    hang_guard = time.monotonic() + 20
    while time.monotonic() < hang_guard:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_drips_is_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
) -> None:
    monkeypatch.setattr(machine_http, "_ANSWER_SECONDS", 0.5)
    context = Authority("some").server(tmp_path, NAME)
    with serving(secured(context, dripping) if scheme == "https" else dripping) as port:
        seen = observe(flow(FlowKind.HTTP, port, url=f"{scheme}://{NAME}/"))
    assert (seen.failure, seen.status) == (Failure.TIMEOUT, 0)
    assert seen.seconds < 5


def test_the_body_is_left_unread() -> None:
    sent: list[int] = []
    over = threading.Event()

    def pouring(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        with contextlib.suppress(OSError):
            while sum(sent) < 500 * 2**20:
                sent.append(connection.send(b"x" * 65536))
        over.set()

    with serving(pouring) as port:
        seen = observe(flow(FlowKind.HTTP, port))
        assert seen.status == 200
        assert over.wait(10)
    assert sum(sent) < 100 * 2**20


def test_what_is_seen_is_the_first_answer_and_an_error_is_no_redirect() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(MOVED if len(heard) == 1 else BROKEN)

    with serving(listen) as port:
        seen = observe(flow(FlowKind.HTTP, port))
    assert (seen.status, seen.location) == (302, "/a")
    assert [h.split()[1] for h in heard] == [b"/", b"/a"]
    assert seen.served


def test_parts_of_a_request_are_timed_each_by_itself(tmp_path: Path) -> None:
    asked_for: list[str | None] = []
    context = Authority("some").server(tmp_path, NAME)
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)

    def thinking(connection: socket.socket) -> None:
        connection.recv(65536)
        time.sleep(0.4)
        connection.sendall(OK)

    def slow_to_shake_hands(connection: socket.socket) -> None:
        time.sleep(0.2)
        secured(context, thinking)(connection)

    with serving(thinking) as port:
        plain = observe(flow(FlowKind.HTTP, port))
    with serving(slow_to_shake_hands) as port:
        secret = observe(flow(FlowKind.HTTP, port, name=f"{NAME}:8443", url=f"https://{NAME}/"))
    assert plain.phases is not None
    assert secret.phases is not None
    assert (plain.status, plain.phases.tls) == (200, None)
    assert (secret.status, secret.failure) == (200, None)
    assert asked_for == [NAME]
    for phases in (plain.phases, secret.phases):
        assert phases.first_byte is not None
        # the server may begin to think before the client has noticed that all is sent
        assert phases.first_byte > 0.3
        assert phases.connect > 0
    assert secret.phases.tls is not None
    assert secret.phases.tls > 0.1
    assert secret.seconds > 0.5


def resetting(connection: socket.socket) -> None:
    """Break the connection off."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("url", ["", f"https://{NAME}/"])
def test_a_connection_that_is_reset(url: str) -> None:
    with serving(resetting) as port:
        seen = observe(flow(FlowKind.HTTP, port, url=url))
    assert seen.failure is Failure.CONNECTION_RESET
    assert seen.phases is not None


def test_a_handshake_that_is_hung_up_on() -> None:
    with serving(hanging_up) as port:
        seen = observe(flow(FlowKind.HTTP, port, url=f"https://{NAME}/"))
    assert seen.failure in {Failure.TLS_FAILED, Failure.CONNECTION_RESET}


def test_a_plain_answer_to_tls_is_a_failure_of_tls() -> None:
    with serving(saying(OK)) as port:
        seen = observe(flow(FlowKind.HTTP, port, url=f"https://{NAME}/"))
    assert seen.failure is Failure.TLS_FAILED


@pytest.mark.parametrize(
    ("name", "url"), [("a\r\nX: y", ""), ("x" * 64 + ".invalid", f"https://{NAME}/")]
)
def test_what_cannot_be_asked_says_nothing_of_the_network(name: str, url: str) -> None:
    with serving(saying(OK)) as port:
        seen = observe(flow(FlowKind.HTTP, port, name=name, url=url))
    assert (seen.failure, seen.lost) == (Failure.UNKNOWN, 0)
    assert seen.detail


def failing(error: OSError) -> Callable[..., object]:
    """Fail instead."""

    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Failure.DNS_NXDOMAIN),
        (socket.gaierror(socket.EAI_NODATA, "No address"), Failure.DNS_NXDOMAIN),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), Failure.TIMEOUT),
    ],
)
def test_a_name_that_does_not_resolve(
    monkeypatch: pytest.MonkeyPatch, error: OSError, failure: Failure
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", failing(error))
    seen = observe(flow(FlowKind.RESOLVE))
    assert (seen.failure, seen.detail, seen.answers) == (failure, str(error.strerror), ())


def test_a_name_that_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, *_: object) -> list[tuple[object, ...]]:
        assert name == NAME
        return [(2, 1, 6, "", (a, 0)) for a in ("192.0.2.2", "192.0.2.1", "192.0.2.2")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert observe(flow(FlowKind.RESOLVE)).answers == ("192.0.2.2", "192.0.2.1")


def test_a_name_with_ipv6_alone_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_name: str, _port: None, family: int, *_: object) -> list[tuple[object, ...]]:
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "no address of this family")
        return [(family, 1, 6, "", ("2001:db8::1", 0, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    seen = observe(flow(FlowKind.RESOLVE))
    assert (seen.failure, seen.answers) == (None, ("2001:db8::1",))
    monkeypatch.undo()
    assert observe(flow(FlowKind.RESOLVE, name="::1")).answers == ("::1",)


@pytest.mark.parametrize("name", ["a" * 70 + ".invalid", "a..invalid"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    assert observe(flow(FlowKind.RESOLVE, name=name)).failure is Failure.DNS_NXDOMAIN


def test_a_resolver_that_never_comes_back_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object) -> list[tuple[object, ...]]:
        released.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(machine, "_RESOLVE_SECONDS", 0.2)
    seen = observe(flow(FlowKind.RESOLVE))
    released.set()
    assert seen.failure is Failure.TIMEOUT
    assert 0.2 <= seen.seconds < 5


def failing_socket(error: OSError) -> type[socket.socket]:
    """A kind of socket that connects to nothing."""

    class Failing(socket.socket):
        """Fails instead."""

        def connect(self, _: object) -> None:
            raise error

    return Failing


@pytest.mark.parametrize("kind", [FlowKind.TCP, FlowKind.HTTP, FlowKind.TLS, FlowKind.DNS_TCP])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError(), Failure.TIMEOUT),
        (TimeoutError(110, "Connection timed out"), Failure.TIMEOUT),
        (OSError(113, "No route to host"), Failure.NO_ROUTE),
        (OSError(101, "Network is unreachable"), Failure.NETWORK_UNREACHABLE),
        (PermissionError(13, "Permission denied"), Failure.PERMISSION_DENIED),
        (PermissionError(1, "Operation not permitted"), Failure.PERMISSION_DENIED),
        (ConnectionResetError(104, "reset"), Failure.CONNECTION_RESET),
        (OSError(90, "Message too long"), Failure.TOO_BIG),
        (OSError(5, "Input/output error"), Failure.UNKNOWN),
    ],
    ids=str,
)
def test_how_a_connection_fails(
    monkeypatch: pytest.MonkeyPatch, kind: FlowKind, error: OSError, failure: Failure
) -> None:
    monkeypatch.setattr(socket, "socket", failing_socket(error))
    seen = observe(flow(kind, 9, url=f"https://{NAME}/"))
    assert (seen.failure, seen.phases) == (failure, None)
    assert seen.lost <= 1


def test_samples_of_a_connection_are_counted() -> None:
    accepted = threading.Semaphore(0)
    with serving(lambda _: accepted.release()) as port:
        seen = observe(msgspec.structs.replace(flow(FlowKind.TCP, port), samples=5))
        assert all(accepted.acquire(timeout=10) for _ in range(5))
    assert not accepted.acquire(blocking=False)
    assert (seen.failure, seen.sent, seen.lost) == (None, 5, 0)


def test_a_refusal_says_more_than_silence_and_an_answer_more_than_both() -> None:
    def outcome(failure: Failure | None, seconds: float = 0.1) -> Observation:
        lost = int(failure is not None and failure.silent)
        return Observation(flow(FlowKind.TCP), failure, seconds, lost=lost)

    def sampled(*outcomes: Observation) -> Observation:
        turns = iter(outcomes)
        asked = msgspec.structs.replace(flow(FlowKind.TCP), samples=len(outcomes))
        return machine._sampled(asked, lambda _: next(turns))

    silent, refused = outcome(Failure.TIMEOUT), outcome(Failure.CONNECTION_REFUSED)
    answered = [outcome(None, s) for s in (0.3, 0.1, 0.2)]
    assert sampled(silent, refused, silent).failure is Failure.CONNECTION_REFUSED
    assert sampled(silent, refused, silent).lost == 2
    seen = sampled(silent, *answered, refused)
    assert (seen.failure, seen.seconds, seen.sent, seen.lost) == (None, 0.2, 5, 1)
    assert sampled(silent, silent).failure is Failure.TIMEOUT


@pytest.mark.parametrize("kind", [FlowKind.ARP, FlowKind.PING, FlowKind.TRACE])
def test_what_takes_packets_is_refused(kind: FlowKind) -> None:
    with pytest.raises(ValueError, match=kind):
        observe(flow(kind, 9))
