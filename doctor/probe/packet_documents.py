"""What is asked of the packet child and what it answers, as flows and observations."""

import collections
import ipaddress
import os
import re
from collections.abc import Iterable

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Observation, TraceHop
from doctor.probe.sockets import failure_of_errno, failure_of_icmp

__all__ = ["Asked", "ask", "read"]

_MOST_REQUESTS = 256
_MOST_SIZES = 16
_MOST_SAMPLES = 20
_MOST_HOPS = 30
_USUAL_SIZE = 84
_SIZES = range(28, 65536)
_PORTS = range(1, 65536)
_WITH_PORT = (FlowKind.TRACE, FlowKind.DNS_UDP)
_INTERFACE = re.compile(r"[^\s/]{1,15}", re.ASCII)
_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)

Unseen = list[tuple[Flow, str]]
Request = dict[str, object]


class Asked(msgspec.Struct, frozen=True):
    """The document for the child.

    Args:
        text: JSON.
        groups: The flows that each request is about, in the order of requests.
        unseen: Flows that cannot be asked, and why.
    """

    text: bytes
    groups: tuple[tuple[Flow, ...], ...]
    unseen: tuple[tuple[Flow, str], ...]


class _Icmp(msgspec.Struct, frozen=True):
    """An ICMP error, with what the next hop takes, if it told."""

    type: int
    code: int
    source: str
    mtu: int = 0


class _Hop(msgspec.Struct, frozen=True):
    """What answered one SYN."""

    ttl: int
    answer: str
    source: str
    icmp: _Icmp | None


class _Size(msgspec.Struct, frozen=True):
    """What came of one size."""

    size: int
    sent: int
    replies: int
    seconds: float
    errno: int
    icmp: _Icmp | None


class _Reply(msgspec.Struct, frozen=True):
    """Who answered which query, and what."""

    sample: int
    source: str
    port: int
    rcode: int
    addresses: tuple[str, ...]


class _Answer(msgspec.Struct, frozen=True):
    """One answer: which members count is its request's kind's."""

    seconds: float
    unseen: str = ""
    errno: int = 0
    sent: int = 1
    owners: dict[str, int] = {}
    hops: tuple[_Hop, ...] = ()
    sizes: tuple[_Size, ...] = ()
    replies: tuple[_Reply, ...] = ()
    icmp: _Icmp | None = None


class _Answers(msgspec.Struct, frozen=True):
    """The whole document."""

    answers: tuple[_Answer, ...]


def ask(flows: Iterable[Flow], seconds: float) -> Asked:
    """Write the document that asks for flows; pings of one address become one request.

    Raises:
        ValueError: A flow's kind is not one of packets.
    """
    unseen: Unseen = []
    requests: list[tuple[Request, tuple[Flow, ...]]] = []
    pings: dict[tuple[str, int], list[Flow]] = collections.defaultdict(list)
    for flow in flows:
        if wrong := _wrong(flow):
            unseen.append((flow, wrong))
        elif flow.kind is FlowKind.PING:
            pings[flow.address, _samples(flow)].append(flow)
        else:
            requests.append((_request(flow), (flow,)))
    for (address, samples), alike in pings.items():
        for start in range(0, len(alike), _MOST_SIZES):
            some = tuple(alike[start : start + _MOST_SIZES])
            sizes = sorted({f.size or _USUAL_SIZE for f in some})
            requests.append(
                ({"kind": "size", "address": address, "sizes": sizes, "samples": samples}, some)
            )
    for _, left in requests[_MOST_REQUESTS:]:
        unseen += [(f, f"more than {_MOST_REQUESTS} were wanted at once") for f in left]
    kept = requests[:_MOST_REQUESTS]
    text = msgspec.json.encode({"seconds": seconds, "requests": [r for r, _ in kept]})
    return Asked(text, tuple(g for _, g in kept), tuple(unseen))


def _samples(flow: Flow) -> int:
    """Bound how often something is asked."""
    return min(max(flow.samples, 1), _MOST_SAMPLES)


def _wrong(flow: Flow) -> str:
    """Say why a flow cannot be asked; empty if it can."""
    kind = flow.kind
    faults = (
        (not _single(flow.address), f"{flow.address or 'nothing'} is no host's IPv4 address"),
        (
            kind is FlowKind.ARP and not _INTERFACE.fullmatch(flow.name),
            f"{flow.address} is on no segment of this machine",
        ),
        (kind in _WITH_PORT and flow.port not in _PORTS, f"{flow.port} is no port"),
        (kind is FlowKind.DNS_UDP and not _NAME.fullmatch(flow.name), "its name cannot be one"),
        (
            kind is FlowKind.PING and (flow.size or _USUAL_SIZE) not in _SIZES,
            f"{flow.size} bytes are no packet",
        ),
    )
    return next((reason for wrong, reason in faults if wrong), "")


def _single(text: str) -> bool:
    """Say whether a text is the IPv4 address of one host."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not address.is_multicast and int(address) not in (0, 2**32 - 1)


def _request(flow: Flow) -> Request:
    """Write the request for one flow."""
    address, port, samples = flow.address, flow.port, _samples(flow)
    match flow.kind:
        case FlowKind.ARP:
            more: Request = {"kind": "arp", "interface": flow.name, "samples": samples}
        case FlowKind.TRACE:
            more = {"kind": "trace", "port": port, "hops": _MOST_HOPS}
        case FlowKind.DNS_UDP:
            more = {"kind": "dns", "port": port, "name": flow.name, "samples": samples}
        case _:
            msg = f"{flow.kind} takes no packets built by hand"
            raise ValueError(msg)
    return {**more, "address": address}


def read(asked: Asked, text: bytes) -> tuple[list[Observation], Unseen]:
    """Understand what the child answered.

    Returns:
        Observations, and the flows that were not seen with the reason.

    Raises:
        ValueError: The text is not such a document.
    """
    answers = msgspec.json.decode(text, type=_Answers).answers
    seen: list[Observation] = []
    unseen: Unseen = list(asked.unseen)
    for flows, answer in zip(asked.groups, answers, strict=True):
        if answer.unseen:
            unseen += [(f, answer.unseen[:200]) for f in flows]
        else:
            seen += [_observe(f, answer) for f in flows]
    return seen, unseen


def _observe(flow: Flow, answer: _Answer) -> Observation:
    """Make one observation."""
    if answer.errno:
        return _unsent(flow, answer.errno, answer.seconds)
    match flow.kind:
        case FlowKind.ARP:
            return _arp(flow, answer)
        case FlowKind.TRACE:
            return _trace(flow, answer)
        case FlowKind.PING:
            return _ping(flow, answer)
        case _:
            return _dns(flow, answer)


def _unsent(flow: Flow, number: int, seconds: float) -> Observation:
    """This machine's own system did not send it."""
    failure, detail = failure_of_errno(number), os.strerror(number)
    return Observation(flow=flow, failure=failure, seconds=seconds, detail=detail, lost=1)


def _plain(icmp: _Icmp | None) -> Icmp | None:
    """Leave out what an observation has no place for."""
    return Icmp(icmp.type, icmp.code, icmp.source) if icmp else None


def _arp(flow: Flow, answer: _Answer) -> Observation:
    """Who owns an address; the best of them tells how many questions were lost."""
    owners = tuple(sorted(answer.owners))
    most = max(answer.owners.values(), default=0)
    counted = ", ".join(f"{owner} {answer.owners[owner]} times" for owner in owners)
    return Observation(
        flow=flow,
        failure=None if owners else Failure.ARP_UNANSWERED,
        seconds=answer.seconds,
        answers=owners,
        detail=f"asked {answer.sent} times: {counted}" if len(owners) > 1 else "",
        sent=answer.sent,
        lost=max(0, answer.sent - most),
    )


def _trace(flow: Flow, answer: _Answer) -> Observation:
    """The path of a SYN, to the first silence behind its last answer, which tells how it ended."""
    last = next((h for h in reversed(answer.hops) if h.answer), None)
    known = [h for h in answer.hops if h.ttl <= (last.ttl if last else 0) + 1]
    match last.answer if last else "":
        case "syn-ack":
            failure = None
        case "rst":
            failure = Failure.CONNECTION_REFUSED
        case _:
            failure = failure_of_icmp(_plain(last.icmp) if last else None)
    return Observation(
        flow=flow,
        failure=failure,
        seconds=answer.seconds,
        detail=_next_hop(last.icmp) if last else "",
        lost=int(failure is not None and failure.silent),
        icmp=_plain(last.icmp) if last else None,
        trace=tuple(TraceHop(h.ttl, h.answer, h.source, _plain(h.icmp)) for h in known),
    )


def _next_hop(icmp: _Icmp | None) -> str:
    """Say what a router told of the network behind it."""
    return f"the next hop takes {icmp.mtu} bytes" if icmp and icmp.mtu else ""


def _ping(flow: Flow, answer: _Answer) -> Observation:
    """What came of one size."""
    size = flow.size or _USUAL_SIZE
    found = next((s for s in answer.sizes if s.size == size), None)
    if found is None:
        msg = f"nothing about {size} bytes"
        raise ValueError(msg)
    if found.errno and not found.replies:
        return _unsent(flow, found.errno, answer.seconds)
    return Observation(
        flow=flow,
        failure=None if found.replies else failure_of_icmp(_plain(found.icmp)),
        seconds=found.seconds if found.replies else answer.seconds,
        detail=_next_hop(found.icmp),
        sent=found.sent,
        lost=max(0, found.sent - found.replies),
        icmp=_plain(found.icmp),
    )


_RCODES = {2: Failure.DNS_SERVFAIL, 3: Failure.DNS_NXDOMAIN, 5: Failure.DNS_REFUSED}


def _dns(flow: Flow, answer: _Answer) -> Observation:
    """What a server answered, and who answered in its stead."""
    own = [r for r in answer.replies if (r.source, r.port) == (flow.address, flow.port)]
    others = [r for r in answer.replies if r not in own]
    best = max(own, key=lambda r: len(r.addresses), default=None)
    if best is None:
        failure: Failure | None = failure_of_icmp(_plain(answer.icmp))
    elif best.addresses:
        failure = None
    else:
        failure = _RCODES.get(best.rcode, Failure.DNS_NO_ANSWER)
    return Observation(
        flow=flow,
        failure=failure,
        seconds=answer.seconds,
        answers=tuple(sorted(best.addresses)) if best else (),
        detail=f"{others[0].source}:{others[0].port} answered in its stead" if others else "",
        sent=answer.sent,
        lost=max(0, answer.sent - len({r.sample for r in own})),
        icmp=_plain(answer.icmp),
    )
