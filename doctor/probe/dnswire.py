"""DNS messages as bytes, built and read by dnspython."""

from doctor.model.failure import Failure

__all__ = ["query_bytes", "read_answer"]

_QUERY_ID = 4242
"""Fixed: a query is sent over a connection of its own, so nobody can answer in its stead."""


def query_bytes(name: str, *, tcp: bool) -> bytes:
    """Build a query for A records; with the two length bytes that TCP wants."""
    import dns.message

    wire = dns.message.make_query(name, "A", id=_QUERY_ID).to_wire()
    return len(wire).to_bytes(2, "big") + wire if tcp else wire


def read_answer(wire: bytes) -> tuple[Failure | None, tuple[str, ...]]:
    """Read an answer: how it failed, or the addresses it holds, sorted."""
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return Failure.DNS_NO_ANSWER, ()
    failures = {
        dns.rcode.NXDOMAIN: Failure.DNS_NXDOMAIN,
        dns.rcode.SERVFAIL: Failure.DNS_SERVFAIL,
        dns.rcode.REFUSED: Failure.DNS_REFUSED,
    }
    found = tuple(
        sorted(
            record.to_text()
            for rrset in message.answer
            if rrset.rdtype == dns.rdatatype.A
            for record in rrset
        )
    )
    if found:
        return None, found
    return failures.get(message.rcode(), Failure.DNS_NO_ANSWER), ()
