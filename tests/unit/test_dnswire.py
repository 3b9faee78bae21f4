"""DNS queries and what counts as an answer."""

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.probe.dnswire import Reply, query_bytes, read_answer
from tests.unit.dns_answers import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, dns_answer
from tests.unit.relay_bench import NAME

QUERY = query_bytes(NAME, tcp=False)


def test_a_query() -> None:
    asked = dns.message.from_wire(QUERY)
    assert asked.question[0].to_text() == f"{NAME} IN A"
    assert asked.flags == dns.flags.RD
    assert query_bytes(NAME, tcp=True) == len(QUERY).to_bytes(2, "big") + QUERY
    assert query_bytes(NAME.rstrip("."), tcp=False) == QUERY


@pytest.mark.parametrize(
    ("rcode", "addresses", "reply"),
    [
        (NOERROR, ("192.0.2.2", "192.0.2.1"), Reply(None, ("192.0.2.1", "192.0.2.2"))),
        (NOERROR, (), Reply(Failure.DNS_NO_ANSWER, (), "rcode NOERROR, no address")),
        (NXDOMAIN, (), Reply(Failure.DNS_NXDOMAIN, (), "rcode NXDOMAIN, no address")),
        (SERVFAIL, (), Reply(Failure.DNS_SERVFAIL, (), "rcode SERVFAIL, no address")),
        (REFUSED, (), Reply(Failure.DNS_REFUSED, (), "rcode REFUSED, no address")),
        (dns.rcode.FORMERR, (), Reply(Failure.DNS_NO_ANSWER, (), "rcode FORMERR, no address")),
    ],
)
def test_what_is_answered(rcode: dns.rcode.Rcode, addresses: tuple[str, ...], reply: Reply) -> None:
    assert read_answer(NAME, dns_answer(QUERY, rcode, *addresses)) == reply


def other_id(wire: bytes) -> bytes:
    """Answer another query."""
    return bytes([wire[0] ^ 1]) + wire[1:]


OTHER = query_bytes("other.example.", tcp=False)


@pytest.mark.parametrize(
    "wire",
    [
        QUERY,
        other_id(dns_answer(QUERY, NOERROR, "192.0.2.1")),
        dns_answer(OTHER, NOERROR, "192.0.2.1"),
        dns_answer(OTHER, NXDOMAIN),
    ],
    ids=["echo", "id", "question", "question of an error"],
)
def test_what_answers_another_question_is_no_answer(wire: bytes) -> None:
    reply = Reply(Failure.DNS_NO_ANSWER, (), "the answer is to another question")
    assert read_answer(NAME, wire) == reply


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "x." * 150, "\\999"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no DNS name"):
        query_bytes(name, tcp=False)


@given(st.text(), st.binary(max_size=80) | st.binary(max_size=20).map(lambda b: QUERY[:12] + b))
def test_any_bytes_are_read(name: str, wire: bytes) -> None:
    assert read_answer(name, wire).failure is not None


@given(st.text())
def test_any_name_is_asked_or_refused(name: str) -> None:
    try:
        wire = query_bytes(name, tcp=False)
    except ValueError:
        return
    assert dns.message.from_wire(wire).opcode() == dns.opcode.QUERY
