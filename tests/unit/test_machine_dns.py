"""DNS from this machine, against servers on loopback."""

import itertools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.rcode
import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Purpose, Vantage, VantageKind
from doctor.probe import machine_dns, sockets
from doctor.probe.machine import observe, resolvers
from tests.unit.datagrams import answering, reply
from tests.unit.loopback import Talk, closed_port, hanging_up, saying, serving

NAME = "shop.example"
BOTH = [FlowKind.DNS_UDP, FlowKind.DNS_TCP]


def flow(kind: FlowKind, port: int, name: str = NAME, samples: int = 1) -> Flow:
    """Ask loopback for a name."""
    here = Vantage(VantageKind.MACHINE)
    return Flow("f", Purpose.NAME, here, kind, "127.0.0.1", port, name, samples=samples)


def over_tcp(answer: Callable[[bytes], bytes]) -> Talk:
    """Answer over TCP what would be answered over UDP, in two pieces."""

    def talk(connection: socket.socket) -> None:
        said = answer(connection.recv(4096)[2:])
        connection.sendall(len(said).to_bytes(2, "big") + said[:5])
        connection.sendall(said[5:])

    return talk


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("rcode", "addresses", "failure"),
    [
        (dns.rcode.NOERROR, ("192.0.2.2", "192.0.2.1"), None),
        (dns.rcode.NOERROR, (), Failure.DNS_NO_ANSWER),
        (dns.rcode.NXDOMAIN, (), Failure.DNS_NXDOMAIN),
        (dns.rcode.SERVFAIL, (), Failure.DNS_SERVFAIL),
        (dns.rcode.REFUSED, (), Failure.DNS_REFUSED),
        (dns.rcode.NOTIMP, (), Failure.DNS_NO_ANSWER),
    ],
)
def test_answers(
    kind: FlowKind, rcode: Any, addresses: tuple[str, ...], failure: Failure | None
) -> None:
    def answer(query: bytes) -> bytes:
        return reply(query, *addresses, rcode=rcode)

    over_udp = answering(lambda query: (answer(query),))
    with over_udp if kind is FlowKind.DNS_UDP else serving(over_tcp(answer)) as port:
        seen = observe(flow(kind, port))
    assert (seen.failure, seen.answers) == (failure, tuple(sorted(addresses)))
    assert (seen.sent, seen.lost) == (1, 0)
    assert (failure is None) == (seen.detail == "")
    assert 0 < seen.seconds < 3


def wrong_id(query: bytes) -> bytes:
    """Answer another query's number."""
    said = reply(query, "192.0.2.66")
    return bytes([said[0] ^ 1]) + said[1:]


def wrong_name(query: bytes) -> bytes:
    """Answer another question."""
    return reply(query.replace(b"\x04shop", b"\x04evil"), "192.0.2.66")


Misfit = Callable[[bytes], bytes]
MISFITS: dict[str, Misfit] = {
    "wrong-id": wrong_id,
    "wrong-name": wrong_name,
    "the-question": lambda query: query,
    "nothing": lambda _: b"",
    "noise": lambda _: b"\xff" * 40,
}
misfits = pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)


@misfits
def test_over_udp_what_does_not_fit_the_question_is_passed_over(misfit: Misfit) -> None:
    with answering(lambda query: (misfit(query), reply(query, "192.0.2.1"))) as port:
        seen = observe(flow(FlowKind.DNS_UDP, port))
    assert (seen.failure, seen.answers) == (None, ("192.0.2.1",))


@misfits
def test_what_does_not_fit_the_question_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, misfit: Misfit
) -> None:
    monkeypatch.setattr(machine_dns, "_SECONDS", 0.3)
    with answering(lambda query: (misfit(query),)) as port:
        seen = observe(flow(FlowKind.DNS_UDP, port))
    assert (seen.failure, seen.answers, seen.lost) == (Failure.TIMEOUT, (), 1)
    with serving(over_tcp(misfit)) as port:
        seen = observe(flow(FlowKind.DNS_TCP, port))
    assert (seen.failure, seen.answers, seen.lost) == (Failure.DNS_NO_ANSWER, (), 0)


def test_an_answer_from_another_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_dns, "_SECONDS", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        with answering(lambda query: (reply(query, "192.0.2.66"),), back=other) as port:
            seen = observe(flow(FlowKind.DNS_UDP, port))
    assert seen.failure is Failure.TIMEOUT


def test_a_port_nobody_has_is_told_by_icmp() -> None:
    seen = observe(flow(FlowKind.DNS_UDP, closed_port()))
    assert seen.failure is Failure.PORT_UNREACHABLE
    assert seen.icmp == Icmp(3, 3, "127.0.0.1")
    assert (seen.sent, seen.lost) == (1, 0)
    assert seen.seconds < 2
    seen = observe(flow(FlowKind.DNS_TCP, closed_port()))
    assert (seen.failure, seen.icmp) == (Failure.CONNECTION_REFUSED, None)


def test_silence_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_dns, "_SECONDS", 0.3)
    with answering(lambda _: ()) as udp, serving(None) as tcp:
        for kind, port in zip(BOTH, (udp, tcp), strict=True):
            seen = observe(flow(kind, port))
            assert (seen.failure, seen.sent, seen.lost) == (Failure.TIMEOUT, 1, 1)
            assert 0.2 < seen.seconds < 3


@pytest.mark.parametrize("talk", [hanging_up, saying(b""), saying(b"\0\x40half of it")], ids="abc")
def test_a_server_that_hangs_up(talk: Talk) -> None:
    with serving(talk) as port:
        seen = observe(flow(FlowKind.DNS_TCP, port))
    assert (seen.failure, seen.lost) == (Failure.CONNECTION_RESET, 0)


def test_loss_is_counted_and_never_retried_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_dns, "_SECONDS", 1.5)
    turns = itertools.count()

    def every_third(query: bytes) -> tuple[bytes, ...]:
        return () if next(turns) % 3 == 0 else (reply(query, "192.0.2.1"),)

    with answering(every_third) as port:
        seen = observe(flow(FlowKind.DNS_UDP, port, samples=6))
    assert next(turns) == 6
    assert (seen.failure, seen.answers) == (None, ("192.0.2.1",))
    assert (seen.sent, seen.lost, seen.degraded) == (6, 2, True)
    assert seen.detail == "of 6 samples: 4 answered, 2 timeout"
    assert seen.seconds < 1.5  # not that of a lost one


def test_an_error_among_answers_is_said_and_not_lost() -> None:
    turns = itertools.count()

    def second_fails(query: bytes) -> tuple[bytes, ...]:
        failing = next(turns) == 1
        return (reply(query, rcode=dns.rcode.SERVFAIL) if failing else reply(query, "192.0.2.1"),)

    with answering(second_fails) as port:
        seen = observe(flow(FlowKind.DNS_UDP, port, samples=3))
    assert (seen.failure, seen.sent, seen.lost) == (None, 3, 0)
    assert seen.detail == "of 3 samples: 2 answered, 1 dns_servfail"


@pytest.mark.parametrize("samples", [0, -1, 1000])
def test_the_number_of_samples_is_bounded(samples: int) -> None:
    asked = itertools.count()

    def answer(query: bytes) -> tuple[bytes, ...]:
        next(asked)
        return (reply(query, "192.0.2.1"),)

    with answering(answer) as port:
        seen = observe(flow(FlowKind.DNS_UDP, port, samples=samples))
    assert seen.sent == next(asked) == (20 if samples > 1 else 1)


def test_a_late_connection_lost_its_first_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "RETRANSMITTED_SECONDS", 0.0)
    with serving(over_tcp(lambda query: reply(query, "192.0.2.1"))) as port:
        seen = observe(flow(FlowKind.DNS_TCP, port))
    assert (seen.failure, seen.sent, seen.lost) == (None, 1, 1)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", ["a..b", "x" * 64, "\udcff", "가" * 100])
def test_a_name_that_cannot_be_one(kind: FlowKind, name: str) -> None:
    seen = observe(flow(kind, closed_port(), name))
    assert (seen.failure, seen.lost) == (Failure.DNS_NXDOMAIN, 0)
    assert seen.detail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\nsearch a b\nnameserver 192.0.2.2\n", ("192.0.2.1", "192.0.2.2")),
        ("# nameserver 192.0.2.9\nnameserver\t192.0.2.1 # mine\n", ("192.0.2.1",)),
        ("nameserver 2001:db8::1\nnameserver 192.0.2.1", ("192.0.2.1",)),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)), tuple(f"192.0.2.{n}" for n in (1, 2, 3))),
        ("nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", ("192.0.2.1",)),
        ("", ()),
        ("search example\n", ()),
        ("nameserver\n", ()),
        ("nameserver example.com\n", ()),
        ("search a..b\nnameserver 192.0.2.1\n", ()),
        ("nameserver https://192.0.2.1/dns-query\n", ()),
    ],
)  # fmt: skip
def test_resolvers(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert resolvers(str(path)) == expected


def test_resolvers_of_no_file(tmp_path: Path) -> None:
    assert resolvers(str(tmp_path / "none")) == resolvers(str(tmp_path)) == ()
    (tmp_path / "bytes").write_bytes(b"nameserver \xff\xfe\n\0")
    assert resolvers(str(tmp_path / "bytes")) == ()
