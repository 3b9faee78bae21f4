"""Handshakes from this machine with servers on loopback, whose authority is trusted by a file."""

import base64
import socket
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.probe import machine_tls
from doctor.probe.machine import observe
from tests.unit.authority import Authority, alone, secured
from tests.unit.loopback import closed_port, hanging_up, saying, serving

NAME = "shop.example"


def flow(port: int, name: str = NAME) -> Flow:
    """Ask loopback."""
    here = Vantage(VantageKind.MACHINE)
    return Flow("f", Purpose.TARGET_TLS, here, FlowKind.TLS, "127.0.0.1", port, name)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make the only authority that this machine trusts."""
    authority = Authority("trusted")
    store = tmp_path / "store.pem"
    store.write_bytes(authority.pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def subjects(certificates: tuple[str, ...]) -> list[str]:
    """Name what was shown."""
    shown = (x509.load_der_x509_certificate(base64.b64decode(c)) for c in certificates)
    return [c.subject.rfc4514_string() for c in shown]


def test_a_certificate_that_is_good(trusted: Authority, tmp_path: Path) -> None:
    with serving(secured(trusted.server(tmp_path, NAME), hanging_up)) as port:
        seen = observe(flow(port))
    assert (seen.failure, seen.detail, seen.lost) == (None, "", 0)
    assert subjects(seen.certificates) == ["CN=server"]
    assert seen.phases is not None
    assert seen.phases.tls is not None
    assert 0 < seen.phases.tls <= seen.seconds < 5


def test_the_chain_as_far_as_python_tells(trusted: Authority, tmp_path: Path) -> None:
    context = Authority("between", trusted).server(tmp_path, NAME)
    with serving(secured(context, hanging_up)) as port:
        seen = observe(flow(port))
    whole = ["CN=server", "CN=between"]
    assert seen.failure is None
    assert subjects(seen.certificates) == (whole if sys.version_info >= (3, 13) else whole[:1])


def test_the_dot_behind_a_name_is_no_part_of_it(trusted: Authority, tmp_path: Path) -> None:
    with serving(secured(trusted.server(tmp_path, NAME), hanging_up)) as port:
        assert observe(flow(port, f"{NAME}.")).failure is None


def test_an_address_for_a_name(trusted: Authority, tmp_path: Path) -> None:
    with serving(secured(trusted.server(tmp_path, "127.0.0.1"), hanging_up)) as port:
        assert observe(flow(port, "")).failure is None
        assert observe(flow(port, "127.0.0.1")).failure is None
        assert observe(flow(port, "127.0.0.2")).failure is Failure.TLS_NAME_MISMATCH


@pytest.mark.parametrize(
    ("days_ago", "name", "failure", "words"),
    [
        (0, "other.example", Failure.TLS_NAME_MISMATCH, "other.example"),
        (100, NAME, Failure.TLS_EXPIRED, "expired"),
        (-10, NAME, Failure.TLS_FAILED, "not yet valid"),
    ],
)
def test_a_certificate_that_does_not_hold(
    trusted: Authority, tmp_path: Path, days_ago: int, name: str, failure: Failure, words: str
) -> None:
    server = trusted.server(tmp_path, NAME, days_ago=days_ago)
    with serving(secured(server, hanging_up)) as port:
        seen = observe(flow(port, name))
    assert (seen.failure, seen.lost) == (failure, 0)
    assert words in seen.detail
    assert subjects(seen.certificates) == ["CN=server"]
    assert seen.phases is not None


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("signer", ["stranger", "between", "with-its-root", "itself"])
def test_an_authority_that_is_unknown(tmp_path: Path, signer: str) -> None:
    stranger = Authority("stranger")
    contexts = {
        "stranger": stranger.server(tmp_path, NAME),
        "between": Authority("between", stranger).server(tmp_path, NAME),
        "with-its-root": stranger.server(tmp_path, NAME, root=stranger),
        "itself": alone(tmp_path, NAME),
    }
    with serving(secured(contexts[signer], hanging_up)) as port:
        seen = observe(flow(port))
    assert seen.failure is Failure.TLS_UNKNOWN_AUTHORITY
    assert seen.detail
    assert subjects(seen.certificates)[0] == "CN=server"


def test_where_nobody_is_trusted_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "store"))
    with serving(secured(Authority("some").server(tmp_path, NAME), hanging_up)) as port:
        seen = observe(flow(port))
        assert (seen.failure, seen.detail) == (Failure.UNKNOWN, machine_tls.NO_AUTHORITIES)
        assert subjects(seen.certificates) == ["CN=server"]
        (tmp_path / "store" / "0123abcd.0").write_bytes(Authority("other").pem())
        assert observe(flow(port)).failure is Failure.TLS_UNKNOWN_AUTHORITY


def test_no_stricter_than_a_browser(trusted: Authority, tmp_path: Path) -> None:
    context = machine_tls._context()
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    between = Authority("between", trusted)
    (tmp_path / "store.pem").write_bytes(between.pem())  # an intermediate is enough to trust
    with serving(secured(between.server(tmp_path, NAME), hanging_up)) as port:
        assert observe(flow(port)).failure is None


@pytest.mark.usefixtures("trusted")
def test_what_is_no_tls() -> None:
    connections: list[int] = []

    def plain(connection: socket.socket) -> None:
        connections.append(1)
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")(connection)

    with serving(plain) as port:
        seen = observe(flow(port))
    assert (seen.failure, seen.certificates) == (Failure.TLS_FAILED, ())
    assert seen.detail
    assert len(connections) == 1


def test_a_server_that_hangs_up_or_is_not_there() -> None:
    with serving(hanging_up) as port:
        assert observe(flow(port)).failure in {Failure.TLS_FAILED, Failure.CONNECTION_RESET}
    seen = observe(flow(closed_port()))
    assert (seen.failure, seen.phases) == (Failure.CONNECTION_REFUSED, None)


def test_silence_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_tls, "_HANDSHAKE_SECONDS", 0.3)
    with serving(None) as port:
        seen = observe(flow(port))
    assert (seen.failure, seen.lost) == (Failure.TIMEOUT, 1)
    assert 0.2 < seen.seconds < 3


@pytest.mark.parametrize("name", ["x" * 64 + ".example", ".example", "a\0b"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    with serving(hanging_up) as port:
        seen = observe(flow(port, name))
    assert (seen.failure, seen.lost) == (Failure.UNKNOWN, 0)
    assert seen.detail
