"""Probes from this machine, against loopback."""

import socket
from collections.abc import Callable

import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.model.target import parse_target
from doctor.probe import machine
from doctor.probe.machine import observe
from tests.unit.loopback import Talk, closed_port, hanging_up, saying, serving

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
    monkeypatch.setattr(machine, "_READ_SECONDS", 0.3)
    with serving(None) as port:
        seen = observe(flow(FlowKind.HTTP, port))
    assert seen.failure is Failure.TIMEOUT
    assert 0.2 < seen.seconds < 3


def test_a_plain_answer_to_tls_is_a_failure_of_tls() -> None:
    with serving(saying(OK)) as port:
        seen = observe(flow(FlowKind.HTTP, port, url=f"https://{NAME}/"))
    assert seen.failure is Failure.TLS_FAILED


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


@pytest.mark.parametrize("name", ["a" * 70 + ".invalid", "a..invalid"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    assert observe(flow(FlowKind.RESOLVE, name=name)).failure is Failure.DNS_NXDOMAIN


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError(), Failure.TIMEOUT),
        (OSError(113, "No route to host"), Failure.NO_ROUTE),
        (OSError(101, "Network is unreachable"), Failure.NETWORK_UNREACHABLE),
        (OSError(13, "Permission denied"), Failure.PERMISSION_DENIED),
        (OSError(104, "reset"), Failure.CONNECTION_RESET),
        (OSError(5, "Input/output error"), Failure.UNKNOWN),
    ],
)
def test_how_a_connection_fails(
    monkeypatch: pytest.MonkeyPatch, error: OSError, failure: Failure
) -> None:
    talk: Talk = hanging_up
    with serving(talk) as port:
        monkeypatch.setattr(socket, "create_connection", failing(error))
        assert observe(flow(FlowKind.TCP, port)).failure is failure
