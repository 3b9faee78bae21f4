"""DNS from this machine: queries to one server, over UDP and TCP, and which servers it uses."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Icmp, Observation
from doctor.probe.sockets import (
    dial,
    failure_of_errno,
    failure_of_icmp,
    queue_errors,
    queued_icmp,
)

if TYPE_CHECKING:
    from dns.message import Message

__all__ = ["ask_tcp", "ask_udp", "resolvers"]

_SECONDS = 4.0
"""Longer than ARP takes to fail, of which a socket for UDP is told too."""

_MOST_RESOLVERS = 3  # libc uses no more
_MOST_ANSWERS = 64


class _Outcome(msgspec.Struct, frozen=True):
    """How one exchange ended: with a message that fits the question, or in a failure."""

    answer: Message | None = None
    failure: Failure | None = None
    detail: str = ""
    icmp: Icmp | None = None
    late: bool = False


def resolvers(path: str = "/etc/resolv.conf") -> tuple[str, ...]:
    """List the IPv4 servers that programs on this machine ask, in order.

    Args:
        path: A file like resolv.conf.

    Returns:
        At most three addresses; none where the file is missing or not understood.
    """
    import dns.exception
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    try:
        resolver.read_resolv_conf(path)
    except (dns.exception.DNSException, OSError, ValueError):
        return ()
    used = [s for s in resolver.nameservers if isinstance(s, str)][:_MOST_RESOLVERS]
    return tuple(s for s in used if s.count(".") == 3 and ":" not in s)  # noqa: PLR2004 - IPv4


def ask_udp(flow: Flow) -> Observation:
    """Ask a server for a name's addresses over UDP, once.

    What does not fit the question is no answer, and an ICMP error is one of the network.
    """
    return _ask(flow, _over_udp)


def ask_tcp(flow: Flow) -> Observation:
    """Ask a server for a name's addresses over TCP, once."""
    return _ask(flow, _over_tcp)


def _ask(flow: Flow, exchange: Callable[[Flow, Message], _Outcome]) -> Observation:
    """Carry a question to the flow's address and read what came back."""
    import dns.exception
    import dns.message

    started = time.monotonic()
    try:
        query = dns.message.make_query(flow.name, "A")
    except (dns.exception.DNSException, ValueError) as error:  # no server has to be asked
        return Observation(
            flow=flow, failure=Failure.DNS_NXDOMAIN, seconds=0.0, detail=str(error)[:200]
        )
    outcome = exchange(flow, query)
    failure, answers, detail = outcome.failure, tuple[str, ...](), outcome.detail
    if outcome.answer is not None:
        failure, answers, detail = _read(outcome.answer)
    return Observation(
        flow=flow,
        failure=failure,
        seconds=time.monotonic() - started,
        answers=answers[:_MOST_ANSWERS],
        detail=detail[:200],
        lost=int(outcome.late or (failure is not None and failure.silent)),
        icmp=outcome.icmp,
    )


def _read(answer: Message) -> tuple[Failure | None, tuple[str, ...], str]:
    """Read an answer: how it failed, the addresses it holds, sorted, and what else it says."""
    import dns.flags
    import dns.rcode
    import dns.rdatatype

    found = sorted(
        record.to_text()
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.A
        for record in rrset
    )
    if found:
        return None, tuple(found), ""
    failures = {
        dns.rcode.NXDOMAIN: Failure.DNS_NXDOMAIN,
        dns.rcode.SERVFAIL: Failure.DNS_SERVFAIL,
        dns.rcode.REFUSED: Failure.DNS_REFUSED,
    }
    rcode = answer.rcode()
    cut = " cut to fit" if answer.flags & dns.flags.TC else ""
    detail = f"rcode {dns.rcode.to_text(rcode)}, no address{cut}"
    return failures.get(rcode, Failure.DNS_NO_ANSWER), (), detail


def _over_udp(flow: Flow, query: Message) -> _Outcome:
    """Send a datagram from a connected socket: what another address sends does not reach it."""
    import dns.exception
    import dns.query

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        queue_errors(sock)
        sock.settimeout(0)
        try:
            sock.connect((flow.address, flow.port))
            answer = dns.query.udp(
                query, flow.address, _SECONDS, flow.port, sock=sock, ignore_errors=True
            )
        except dns.exception.Timeout:
            return _Outcome(failure=Failure.TIMEOUT)
        except OSError as error:
            icmp = queued_icmp(sock)
            return _Outcome(failure=_refusal(error, icmp), detail=error.strerror or "", icmp=icmp)
    return _Outcome(answer)


def _refusal(error: OSError, icmp: Icmp | None) -> Failure:
    """Name the error that came back in place of a datagram."""
    failure = failure_of_errno(error.errno)
    if failure is Failure.CONNECTION_REFUSED:
        return Failure.PORT_UNREACHABLE
    prohibited = failure_of_icmp(icmp) is Failure.HOST_PROHIBITED
    return Failure.HOST_PROHIBITED if prohibited else failure


def _over_tcp(flow: Flow, query: Message) -> _Outcome:
    """Connect, ask, and read one message."""
    import dns.exception
    import dns.query

    dialled = dial(flow.address, flow.port)
    late = dialled.retransmitted
    if dialled.socket is None:
        return _Outcome(None, dialled.failure, dialled.detail, dialled.icmp, late)
    with dialled.socket as connection:
        connection.settimeout(0)
        try:
            answer = dns.query.tcp(query, flow.address, _SECONDS, flow.port, sock=connection)
        except dns.exception.Timeout:
            return _Outcome(failure=Failure.TIMEOUT)
        except EOFError:
            detail = "closed without an answer"
            return _Outcome(failure=Failure.CONNECTION_RESET, detail=detail, late=late)
        except OSError as error:
            failure = failure_of_errno(error.errno)
            return _Outcome(failure=failure, detail=error.strerror or "", late=late)
        except (dns.exception.DNSException, ValueError) as error:
            return _Outcome(failure=Failure.DNS_NO_ANSWER, detail=str(error), late=late)
    return _Outcome(answer, late=late)
