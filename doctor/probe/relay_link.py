"""Understand what ``ping`` and ``arping`` printed: three kinds of each."""

import re

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Icmp, Observation
from doctor.probe.relay_frames import Frame, Tools
from doctor.probe.relay_words import said

__all__ = ["NO_RAW", "read_arp", "read_ping"]

_SUMMARY = re.compile(r"(?am)^(\d{1,6}) packets transmitted, (\d{1,6}) (?:packets )?received")
_ANSWERED = re.compile(r"(?am)^\d{1,6} bytes from [^ ]{1,64}: seq=(\d{1,6}) ")
_ERROR = re.compile(r"(?am)^From (\d{1,3}(?:\.\d{1,3}){3}):? icmp_seq=\d{1,6} (.{1,100})$")
_NEXT_MTU = re.compile(r"(?ai)mtu ?= ?(\d{1,6})")
_ROUTE = re.compile(r"(?ams)^route mtu=(\d{0,6}) no_pmtu_disc=(\d{0,3}) (.{0,300})")
_CACHED = re.compile(r"(?a)\bmtu (\d{1,6})\b")

_ICMP = {
    "destination net unreachable": (3, 0, Failure.NETWORK_UNREACHABLE),
    "destination host unreachable": (3, 1, Failure.NO_ROUTE),
    "destination protocol unreachable": (3, 2, Failure.UNKNOWN),
    "destination port unreachable": (3, 3, Failure.PORT_UNREACHABLE),
    "frag needed and df set": (3, 4, Failure.TOO_BIG),
    "source route failed": (3, 5, Failure.UNKNOWN),
    "destination net unknown": (3, 6, Failure.NETWORK_UNREACHABLE),
    "destination host unknown": (3, 7, Failure.NO_ROUTE),
    "destination net prohibited": (3, 9, Failure.HOST_PROHIBITED),
    "destination host prohibited": (3, 10, Failure.HOST_PROHIBITED),
    "packet filtered": (3, 13, Failure.HOST_PROHIBITED),
    "time to live exceeded": (11, 0, Failure.UNKNOWN),
}
_LOCAL = (
    ("message too l", Failure.TOO_BIG),  # "long" in glibc, "large" in musl
    ("network is unreachable", Failure.NETWORK_UNREACHABLE),
    ("network unreachable", Failure.NETWORK_UNREACHABLE),
    ("no route to host", Failure.NO_ROUTE),
    ("host is unreachable", Failure.NO_ROUTE),
    ("not permitted", Failure.PERMISSION_DENIED),
    ("permission denied", Failure.PERMISSION_DENIED),
)
_SENDING = ("sendmsg", "sendto", "connect:", "local error")
_NOT_PERMITTED = ("not permitted", "permission denied", "net_raw", "lacking privilege")
NO_RAW = "is not permitted here: it takes NET_RAW"


def read_ping(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """Count what came back, and say which error did.

    iputils forbids fragments. busybox cannot, but the kernel does it for it as long as it knows of
    no smaller path MTU; where it knows one, that is the answer: a router has said so.
    """
    text = f"{frame.stdout}\n{frame.stderr}"
    counted = _counted(flow, frame)
    if counted is not None and tools.ping == "plain":
        counted = _without_the_last(frame, counted)
    if counted is None:
        refused = _local(text)
        if refused is not None:
            return _observation(flow, frame, refused, (1, 0), _detail(text))
        if any(w in text.lower() for w in _NOT_PERMITTED):
            return f"ping {NO_RAW}"
        return f"ping said: {said(frame)}"
    if flow.size and tools.ping == "plain":
        return _unforbidden(flow, frame, counted)
    return _counted_outcome(flow, frame, counted)


def _counted(flow: Flow, frame: Frame) -> tuple[int, int] | None:
    """How many packets were sent and answered; None where that is not known."""
    if found := _SUMMARY.search(frame.stdout):
        sent, received = int(found.group(1)), int(found.group(2))
        return (sent, min(sent, received)) if sent else None
    if frame.killed and frame.stdout.startswith("PING "):
        sent = max(1, flow.samples)
        return sent, min(sent, frame.stdout.count(" bytes from "))
    return None


def _without_the_last(frame: Frame, counted: tuple[int, int]) -> tuple[int, int]:
    """Leave out the last packet if others were answered and it was not.

    busybox waits a second for its answer and no longer: where a machine is so busy that programs
    stand still, the answer is there and is not read. What comes late of the others is counted.
    """
    sent, received = counted
    answered = {int(number) for number in _ANSWERED.findall(frame.stdout)}
    if answered and received < sent and sent - 1 not in answered:
        return sent - 1, received
    return counted


def _counted_outcome(flow: Flow, frame: Frame, counted: tuple[int, int]) -> Observation:
    """What came of packets of which some were lost, or all."""
    text = f"{frame.stdout}\n{frame.stderr}"
    if counted[1]:
        return _observation(flow, frame, None, counted, _detail(text))
    for source, words in _ERROR.findall(frame.stdout):
        for start, (kind, code, failure) in _ICMP.items():
            if words.lower().startswith(start):
                seen = _observation(flow, frame, failure, counted, _detail(text))
                return msgspec.structs.replace(seen, icmp=Icmp(kind, code, source))
    return _observation(flow, frame, _local(text) or Failure.TIMEOUT, counted, _detail(text))


def _observation(
    flow: Flow, frame: Frame, failure: Failure | None, counted: tuple[int, int], detail: str
) -> Observation:
    """Make an observation with its loss."""
    sent, received = counted
    return Observation(
        flow=flow,
        failure=failure,
        seconds=frame.seconds,
        detail=detail,
        sent=sent,
        lost=sent - received,
    )


def _local(text: str) -> Failure | None:
    """Map what the kernel said when a packet was to be sent."""
    lines = [line.lower() for line in text.splitlines()]
    lines = [line for line in lines if any(w in line for w in _SENDING)]
    return next((f for w, f in _LOCAL for line in lines if w in line), None)


def _detail(text: str) -> str:
    """Say what is worth it: the next hop's MTU first, then the lines with errors."""
    lines = [" ".join(x.split()) for x in text.splitlines() if x.startswith(("From ", "ping:"))]
    told = "; ".join(dict.fromkeys(lines))[:200]
    mtu = _NEXT_MTU.search(told)
    return f"mtu={mtu.group(1)}: {told}" if mtu else told


def _unforbidden(flow: Flow, frame: Frame, counted: tuple[int, int]) -> Observation | str:
    """Settle what a ping of a size means that could not forbid fragments."""
    if not counted[1]:
        return _mtu_known(flow, frame, counted) or _counted_outcome(flow, frame, counted)
    route = _ROUTE.search(frame.stdout)
    if route is None or not route.group(1) or not route.group(3).strip():
        return "ping in the image has no -M, and no ip tells whether fragments were sent"
    if route.group(2) != "0":
        return "ping in the image has no -M, and path MTU discovery is off (ip_no_pmtu_disc)"
    return _mtu_known(flow, frame, counted) or _counted_outcome(flow, frame, counted)


def _mtu_known(flow: Flow, frame: Frame, counted: tuple[int, int]) -> Observation | None:
    """Read an MTU that is too small, of the path or of the interface; whatever got through was cut."""
    route = _ROUTE.search(frame.stdout)
    if route is None:
        return None
    lost = (counted[0], 0)
    cached = _CACHED.search(route.group(3))
    if cached and int(cached.group(1)) < flow.size:
        detail = f"mtu={cached.group(1)}: the kernel has learned it for this path"
        return _observation(flow, frame, Failure.TOO_BIG, lost, detail)
    if route.group(1) and int(route.group(1)) < flow.size:
        detail = f"mtu={route.group(1)}: the interface's own"
        return _observation(flow, frame, Failure.TOO_BIG, lost, detail)
    return None


_REPLY = re.compile(
    r"(?ai)reply from (\S{7,15}) \[((?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2})\]"
    r"|bytes from ((?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}) \((\S{7,15})\)"
)
_SENT = re.compile(r"(?am)^(?:Sent [1-9]\d{0,3} probe|[1-9]\d{0,3} packets transmitted)")


def read_arp(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """Who answered ARP for the address."""
    found = (m.groups() for m in _REPLY.finditer(frame.stdout))
    pairs = ((one or two, mac or other) for one, mac, other, two in found)
    owners = tuple(sorted({mac.lower() for address, mac in pairs if address == flow.address}))
    if owners:
        return Observation(flow=flow, failure=None, seconds=frame.seconds, answers=owners)
    if _SENT.search(frame.stdout):
        return Observation(flow=flow, failure=Failure.ARP_UNANSWERED, seconds=frame.seconds, lost=1)
    text = f"{frame.stdout}\n{frame.stderr}".lower()
    if any(w in text for w in _NOT_PERMITTED):
        return f"arping {NO_RAW}"
    return f"arping ({tools.arping}) said: {said(frame)}"
