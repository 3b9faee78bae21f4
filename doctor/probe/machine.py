"""Probes from this machine: names, connections and requests, with the address set apart.

None of them needs a privilege. What takes packets built by hand is :mod:`doctor.probe.packet_child`'s.
"""

import collections
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation
from doctor.probe.machine_dns import ask_tcp, ask_udp, resolvers
from doctor.probe.machine_http import request
from doctor.probe.machine_tls import shake_hands
from doctor.probe.sockets import dial, failure_of_errno, unanswered

__all__ = ["observe", "resolvers"]

_RESOLVE_SECONDS = 15.0
"""One server that is silent costs ten, as resolv.conf has it by default."""

_MOST_SAMPLES = 20
_ABSENT = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)


def observe(flow: Flow) -> Observation:
    """Carry out one flow from here.

    Args:
        flow: RESOLVE, HTTP or TLS, which are asked once; TCP or DNS, whose samples are asked at the
            same time, and none of them again. An answer counts as a lost sample too where the
            connection took so long that its first SYN was lost.

    Returns:
        What came of it; of several samples the middle one of those that fared best.

    Raises:
        ValueError: The flow takes packets that no socket of an ordinary program sends.
    """
    match flow.kind:
        case FlowKind.RESOLVE:
            seen = _resolve(flow)
        case FlowKind.HTTP:
            seen = request(flow)
        case FlowKind.TLS:
            seen = shake_hands(flow)
        case FlowKind.TCP:
            seen = _sampled(flow, _connect)
        case FlowKind.DNS_UDP:
            seen = _sampled(flow, ask_udp)
        case FlowKind.DNS_TCP:
            seen = _sampled(flow, ask_tcp)
        case FlowKind.ARP | FlowKind.PING | FlowKind.TRACE:
            msg = f"a socket cannot do {flow.kind}"
            raise ValueError(msg)
    return msgspec.structs.replace(seen, seconds=round(seen.seconds, 4))


def _sampled(flow: Flow, ask: Callable[[Flow], Observation]) -> Observation:
    """Ask as often as the flow says, at the same time, and count what was lost."""
    count = min(max(flow.samples, 1), _MOST_SAMPLES)
    if count == 1:
        return ask(flow)
    with ThreadPoolExecutor(count) as pool:
        seen = list(pool.map(ask, [flow] * count))
    best = min(map(_rank, seen))
    alike = sorted((o for o in seen if _rank(o) == best), key=lambda o: o.seconds)
    middle = alike[len(alike) // 2]
    outcomes = collections.Counter(o.failure or "answered" for o in seen)
    mixed = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
    return msgspec.structs.replace(
        middle,
        sent=count,
        lost=sum(o.lost for o in seen),
        detail=f"of {count} samples: {mixed}" if len(outcomes) > 1 else middle.detail,
    )


def _rank(seen: Observation) -> int:
    """Order samples: an answer says more than a refusal, and that more than silence."""
    if seen.failure is None:
        return 0
    return 2 if seen.failure.silent else 1


def _resolve(flow: Flow) -> Observation:
    """Resolve a name as every program on this machine does, and give up a wait that has no end."""
    started = time.monotonic()
    found: queue.SimpleQueue[Observation] = queue.SimpleQueue()
    # A look-up cannot be ended; a thread of this kind does not keep the program from ending.
    threading.Thread(target=lambda: found.put(_look_up(flow)), daemon=True).start()
    try:
        seen = found.get(timeout=_RESOLVE_SECONDS)
    except queue.Empty:
        seen = Observation(
            flow=flow,
            failure=Failure.TIMEOUT,
            seconds=0.0,
            detail=f"the resolver did not come back within {_RESOLVE_SECONDS:g} s",
        )
    return msgspec.structs.replace(seen, seconds=time.monotonic() - started)


def _look_up(flow: Flow) -> Observation:
    """Ask the system's resolver, however long it takes."""
    try:
        found = _found(flow.name)
    except socket.gaierror as error:
        absent = error.errno in _ABSENT
        failure = Failure.DNS_NXDOMAIN if absent else Failure.TIMEOUT
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=str(error.strerror))
    except OSError as error:
        failure = failure_of_errno(error.errno)
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=str(error.strerror))
    except ValueError as error:  # no name at all
        detail = str(error)[:200]
        return Observation(flow=flow, failure=Failure.DNS_NXDOMAIN, seconds=0.0, detail=detail)
    return Observation(flow=flow, failure=None, seconds=0.0, answers=found)


def _found(name: str) -> tuple[str, ...]:
    """Return a name's IPv4 addresses, in the resolver's order; its IPv6 ones if it has no other."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno not in _ABSENT:
            raise
        found = socket.getaddrinfo(name, None, socket.AF_INET6, socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(f[4][0]) for f in found))


def _connect(flow: Flow) -> Observation:
    """Open a TCP connection and close it."""
    dialled = dial(flow.address, flow.port)
    if dialled.socket is None:
        return unanswered(flow, dialled)
    dialled.socket.close()
    lost = int(dialled.retransmitted)
    return Observation(flow=flow, failure=None, seconds=dialled.seconds, lost=lost)
