"""What a DNS server of a test says."""

import socket

import dns.message
import dns.rcode
import dns.rrset

from tests.unit.loopback import Talk
from tests.unit.relay_bench import NAME

NOERROR, NXDOMAIN, SERVFAIL, REFUSED = (
    dns.rcode.NOERROR,
    dns.rcode.NXDOMAIN,
    dns.rcode.SERVFAIL,
    dns.rcode.REFUSED,
)


def dns_answer(wire: bytes, rcode: dns.rcode.Rcode, *addresses: str) -> bytes:
    """Answer a query."""
    answer = dns.message.make_response(dns.message.from_wire(wire))
    answer.set_rcode(rcode)
    if addresses:
        answer.answer.append(dns.rrset.from_text(NAME, 5, "IN", "A", *addresses))
    return answer.to_wire()


def dns_talk(rcode: dns.rcode.Rcode, *addresses: str, keep: bool = False) -> Talk:
    """Answer a query over TCP, in two pieces, and close or keep the connection as servers do."""

    def talk(connection: socket.socket) -> None:
        wire = dns_answer(connection.recv(65536)[2:], rcode, *addresses)
        connection.sendall(len(wire).to_bytes(2, "big") + wire[:5])
        connection.sendall(wire[5:])
        if keep:
            connection.recv(1)

    return talk
