"""The relay: one shell script per vantage and wave, its jobs in parallel, its results framed.

The script finds out first what the image holds (which ``nc``, ``ping``, ``arping``, ``nslookup``; bash
where there is no ``nc``), and what is missing makes the flows that need it unseen, with the reason: it
is no outcome of the network. Standard input is never read, so one exec stream is enough.

Each sample of a flow is a job of its own, so that loss is counted and nothing is tried again. A lost
SYN is sent anew by the kernel, after one second and three: where several samples are taken, a
connection that took so long counts as lost, although it was answered.
"""

from collections import Counter
from collections.abc import Callable

import msgspec

from doctor.model.flow import Flow, FlowKind, Observation, Sample
from doctor.probe.relay_frames import Frame, Frames, Tools, read_frames
from doctor.probe.relay_link import NO_RAW, read_arp, read_ping
from doctor.probe.relay_script import Refusal, job_of, order, script
from doctor.probe.relay_words import (
    read_connect,
    read_dns_tcp,
    read_dns_udp,
    read_http,
    read_tls,
)

__all__ = ["Reading", "read_frames", "read_observations", "script"]

_RETRANSMITTED = 0.9

_KEPT_SAMPLES = 3
_KEPT_OUTPUT = 400
_KEPT_COMPLAINTS = 200

_READERS: dict[FlowKind, Callable[[Flow, Frame, Tools], Observation | str]] = {
    FlowKind.TCP: read_connect,
    FlowKind.DNS_UDP: read_dns_udp,
    FlowKind.DNS_TCP: read_dns_tcp,
    FlowKind.HTTP: read_http,
    FlowKind.TLS: read_tls,
    FlowKind.PING: read_ping,
    FlowKind.ARP: read_arp,
}


class Reading(msgspec.Struct, frozen=True):
    """What a script's flows came to.

    Args:
        observations: What was seen, in the order of the flows.
        unseen: The other flows, and why nothing was seen.
        resolver: The resolv.conf of a pod that they were sent from; None where it was not read.
    """

    observations: tuple[Observation, ...]
    unseen: tuple[tuple[Flow, str], ...]
    resolver: str | None = None


def read_observations(flows: tuple[Flow, ...], frames: Frames) -> Reading:
    """Understand the frames of a script that ran these flows."""
    samples: dict[int, list[Frame]] = {}
    for number, position in enumerate(order(flows)[0]):
        if number in frames.jobs:
            samples.setdefault(position, []).append(frames.jobs[number])
    seen: list[Observation] = []
    unseen: list[tuple[Flow, str]] = []
    for position, flow in enumerate(flows):
        outcome = _flow(flow, frames, samples.get(position, []))
        if isinstance(outcome, str):
            unseen.append((flow, outcome))
        else:
            seen.append(outcome)
    return Reading(tuple(seen), tuple(unseen), frames.resolver)


def _flow(flow: Flow, frames: Frames, samples: list[Frame]) -> Observation | str:
    """Understand all samples of a flow."""
    job = job_of(flow)
    if isinstance(job, Refusal):
        return job.reason
    if missing := _missing(flow.kind, frames.tools):
        return missing
    if not samples:
        return "no time was left for it" if frames.ended else "the relay's output was cut off"
    outcomes = [_READERS[flow.kind](flow, frame, frames.tools) for frame in samples]
    seen = [o for o in outcomes if isinstance(o, Observation)]
    if not seen:
        return next(o for o in outcomes if isinstance(o, str))
    whole = flow.kind is FlowKind.PING
    shown = seen[0] if whole else _together(seen, _sent_anew(flow, seen, frames.tools))
    return msgspec.structs.replace(shown, printed=tuple(map(_kept, samples[:_KEPT_SAMPLES])))


def _kept(frame: Frame) -> Sample:
    """Keep what whoever doubts the conclusion wants to see."""
    return Sample(
        status=frame.status,
        seconds=frame.seconds,
        stdout=frame.stdout[:_KEPT_OUTPUT],
        stderr=frame.stderr[:_KEPT_COMPLAINTS],
    )


def _sent_anew(flow: Flow, seen: list[Observation], tools: Tools) -> int:
    """Count the connections that took so long that a SYN was lost; ncat is slow by itself."""
    if flow.kind is not FlowKind.TCP or flow.samples <= 1 or tools.nc == "ncat":
        return 0
    return sum(not _silent(o) and o.seconds >= _RETRANSMITTED for o in seen)


def _silent(seen: Observation) -> bool:
    """Say whether nothing came back: a refusal is an answer."""
    return seen.failure is not None and seen.failure.silent


def _together(seen: list[Observation], slow: int) -> Observation:
    """Make one observation of all samples: the middle one of those that fared best."""
    best = min(map(_rank, seen))
    alike = sorted((o for o in seen if _rank(o) == best), key=lambda o: o.seconds)
    shown = alike[(len(alike) - 1) // 2]
    outcomes = Counter(o.failure or "answered" for o in seen)
    mixed = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
    return msgspec.structs.replace(
        shown,
        answers=tuple(sorted({a for o in seen for a in o.answers})),
        sent=len(seen),
        lost=sum(_silent(o) for o in seen) + slow,
        detail=f"of {len(seen)} samples: {mixed}" if len(outcomes) > 1 else shown.detail,
    )


def _rank(seen: Observation) -> int:
    """Order samples: an answer says more than a refusal, and that more than silence."""
    return 0 if seen.ok else 1 + _silent(seen)


def _missing(kind: FlowKind, tools: Tools) -> str:
    """Say what the image lacks for a kind of flow; empty where it lacks nothing."""
    if lack := _lack_for_all(tools):
        return lack
    match kind:
        case FlowKind.PING:
            return _lack("ping", tools.ping)
        case FlowKind.ARP:
            return _lack("arping", tools.arping)
        case FlowKind.DNS_UDP:
            return _lack_for_udp(tools)
        case _:
            return _lack_for_tcp(kind, tools)


def _lack_for_all(tools: Tools) -> str:
    """Say what is missing to run any job."""
    if tools.folder == "none":
        return _lacks(tools, "head", "mkdir", "rm") or "there is no place to write to"
    unbounded = tools.timeout == "limit" and "sleep" in tools.lacks
    return "timeout and sleep are missing in the image" if unbounded else ""


def _lack_for_tcp(kind: FlowKind, tools: Tools) -> str:
    """Say what is missing to dial, and to send bytes and read them."""
    if tools.tcp == "none":
        return _lack("nc", tools.nc) + ", and there is no bash"
    return "" if kind is FlowKind.TCP else _lack_to_talk(tools)


def _lack_for_udp(tools: Tools) -> str:
    """Say what is missing to ask over UDP, by bytes or by ``nslookup``."""
    if tools.udp != "none":
        return _lack_to_talk(tools)
    if tools.nslookup == "small":
        lack = "nslookup in the image takes no port"
    else:
        lack = _lack("nslookup", tools.nslookup)
    return lack and f"{lack}, and there is neither bash nor an nc that speaks UDP"


def _lack_to_talk(tools: Tools) -> str:
    """Say what is missing to send bytes and to read them."""
    if tools.encoding == "none":
        return "base64 and od are missing in the image"
    return _lacks(tools, "dd", "mkfifo")


def _lacks(tools: Tools, *names: str) -> str:
    """Say which of these small tools are missing; empty where none is."""
    missing = [name for name in names if name in tools.lacks]
    return f"missing in the image: {', '.join(missing)}" if missing else ""


def _lack(name: str, kind: str) -> str:
    """Say that a tool is missing, or of no known kind; empty where it is known."""
    if kind == "none":
        return f"{name} is missing in the image"
    if kind == "barred":
        return f"{name} {NO_RAW}"
    return f"{name} in the image is of no known kind" if kind == "unknown" else ""
