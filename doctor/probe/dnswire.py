"""DNS messages as bytes, built and read by dnspython."""

import msgspec

from doctor.model.failure import Failure

__all__ = ["Reply", "query_bytes", "read_answer"]

_QUERY_ID = 4242
"""Fixed: each query is sent from a socket of its own, to which only the one asked can answer."""


class Reply(msgspec.Struct, frozen=True):
    """What came back for a query.

    Args:
        failure: None where it holds addresses.
        answers: IPv4 addresses, sorted.
        detail: What was odd about it.
    """

    failure: Failure | None
    answers: tuple[str, ...] = ()
    detail: str = ""


def query_bytes(name: str, *, tcp: bool) -> bytes:
    """Build a query for A records; with the two length bytes that TCP wants.

    Raises:
        ValueError: It is no DNS name.
    """
    import dns.exception
    import dns.message

    try:
        wire = dns.message.make_query(name, "A", id=_QUERY_ID).to_wire()
    except (dns.exception.DNSException, UnicodeError) as error:
        msg = f"no DNS name: {name[:80]!r}"
        raise ValueError(msg) from error
    return len(wire).to_bytes(2, "big") + wire if tcp else wire


def read_answer(name: str, wire: bytes) -> Reply:
    """Read what came back for a query of this name. Never raises.

    What answers another query is no answer; nor is the query itself, sent back.
    """
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    try:
        query = dns.message.make_query(name, "A", id=_QUERY_ID)
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return Reply(Failure.DNS_NO_ANSWER, detail="no DNS message")
    if not query.is_response(message):
        return Reply(Failure.DNS_NO_ANSWER, detail="the answer is to another question")
    found = tuple(
        sorted(
            record.to_text()
            for rrset in message.answer
            if rrset.rdtype == dns.rdatatype.A
            for record in rrset
        )
    )
    if found:
        return Reply(None, found)
    failures = {
        dns.rcode.NXDOMAIN: Failure.DNS_NXDOMAIN,
        dns.rcode.SERVFAIL: Failure.DNS_SERVFAIL,
        dns.rcode.REFUSED: Failure.DNS_REFUSED,
    }
    rcode = message.rcode()
    failure = failures.get(rcode, Failure.DNS_NO_ANSWER)
    return Reply(failure, detail=f"rcode {dns.rcode.to_text(rcode)}, no address")
