"""Write the relay's script: which jobs a set of flows makes, and what each job says."""

import ipaddress
import secrets
import shlex
from collections.abc import Callable, Iterable

import msgspec

from doctor.model.flow import Flow, FlowKind, VantageKind
from doctor.probe import relay_shell as shell
from doctor.probe.dnswire import query_bytes
from doctor.probe.tlswire import PARTING, client_hello

__all__ = [
    "MOST_SAMPLES",
    "Job",
    "Refusal",
    "job_of",
    "order",
    "script",
]

_UDP_DNS_SECONDS = 3
_TCP_DNS_SECONDS = 5
_HTTP_SECONDS = 6
_TLS_SECONDS = 6
_MOST_HTTP = 16384
_MOST_TLS = 32768
_MOST_DNS = 4096

MOST_SAMPLES = 10
"""More would not end in time: of a flow that asks for more, so many are sent."""

_WORKERS = 24
_ICMP_OVERHEAD = 28
_LEAST_PING, _MOST_PING = 28, 65535
_MOST_PORT = 65535
_EXCHANGES = frozenset({FlowKind.DNS_UDP, FlowKind.DNS_TCP, FlowKind.HTTP, FlowKind.TLS})
_DIALS = frozenset({FlowKind.TCP, *_EXCHANGES})
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ./:_")


class Job(msgspec.Struct, frozen=True):
    """What the shell is told to do for one sample of a flow.

    Args:
        words: A function of the script and its arguments; ``None`` stands for the payload's file.
        payload: Bytes to send.
    """

    words: tuple[str | None, ...]
    payload: bytes = b""


class Refusal(msgspec.Struct, frozen=True):
    """Why a flow cannot be asked at all."""

    reason: str


def job_of(flow: Flow) -> Job | Refusal:
    """Write what is to be done for a flow, or why nothing can be."""
    try:
        address = str(ipaddress.IPv4Address(flow.address))
    except ValueError:
        return Refusal(f"{flow.address[:60]!r} is no IPv4 address")
    if flow.kind in _DIALS and not 0 < flow.port <= _MOST_PORT:
        return Refusal(f"{flow.port} is no port")
    build = _BUILDERS.get(flow.kind)
    if build is None:
        return Refusal(f"a relay does not ask {flow.kind}")
    try:
        return build(flow, address)
    except ValueError as error:
        return Refusal(str(error)[:200] or "it cannot be asked")


def _connect(flow: Flow, address: str) -> Job:
    """Dial."""
    return Job(("connect", address, str(flow.port)))


def _dns_udp(flow: Flow, address: str) -> Job:
    """Ask over UDP: by bytes, or by ``nslookup``."""
    payload = query_bytes(flow.name, tcp=False)
    name = flow.name.removesuffix(".") + "."
    if name.startswith("-"):
        msg = f"no DNS name: {flow.name[:80]!r}"
        raise ValueError(msg)
    return Job(("udpdns", address, str(flow.port), None, name, str(_UDP_DNS_SECONDS)), payload)


def _dns_tcp(flow: Flow, address: str) -> Job:
    """Ask over TCP, and read one message."""
    payload = query_bytes(flow.name, tcp=True)
    return _talk(flow, address, _TCP_DNS_SECONDS, ("message", str(_MOST_DNS)), payload)


def _http(flow: Flow, address: str) -> Job:
    """Ask a web server, and read until it closes."""
    return _talk(flow, address, _HTTP_SECONDS, ("most", str(_MOST_HTTP)), _request(flow))


def _tls(flow: Flow, address: str) -> Job:
    """Greet, say good-bye at once, and read until the server closes."""
    payload = client_hello(flow.name) + PARTING
    return _talk(flow, address, _TLS_SECONDS, ("most", str(_MOST_TLS)), payload)


def _talk(flow: Flow, address: str, seconds: int, reader: tuple[str, str], payload: bytes) -> Job:
    """Write an exchange over TCP."""
    words = ("talk", "tcp", address, str(flow.port), str(seconds), None, *reader)
    return Job(words, payload)


def _ping(flow: Flow, address: str) -> Job:
    """Write a ping; its samples are the tool's own."""
    if flow.size and not _LEAST_PING <= flow.size <= _MOST_PING:
        msg = f"no ping has {flow.size} bytes"
        raise ValueError(msg)
    count = str(min(max(flow.samples, 1), MOST_SAMPLES))
    size = str(flow.size - _ICMP_OVERHEAD) if flow.size else ""
    return Job(("pings", address, count, size))


def _arp(flow: Flow, address: str) -> Job:
    """Ask who has an address."""
    return Job(("arp", address, flow.name))


_BUILDERS: dict[FlowKind, Callable[[Flow, str], Job]] = {
    FlowKind.TCP: _connect,
    FlowKind.DNS_UDP: _dns_udp,
    FlowKind.DNS_TCP: _dns_tcp,
    FlowKind.HTTP: _http,
    FlowKind.TLS: _tls,
    FlowKind.PING: _ping,
    FlowKind.ARP: _arp,
}


def _request(flow: Flow) -> bytes:
    """Write a minimal HTTP request that asks the server to close.

    Raises:
        ValueError: The host or the path would break the request apart.
    """
    lines = (
        f"GET {flow.path} HTTP/1.1",
        f"Host: {flow.name}",
        "User-Agent: wwwm-doctor",
        "Accept: */*",
        "Connection: close",
    )
    if not all(line.isprintable() for line in lines):
        msg = "the host or the path holds characters that no request can hold"
        raise ValueError(msg)
    return "\r\n".join((*lines, "", "")).encode()


def order(flows: tuple[Flow, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Settle the order of jobs: each flow's first sample, then each flow's second, and so on.

    Returns:
        The flow's position for each job, and the jobs with which a new round begins.
    """
    jobs: list[int] = []
    rounds: list[int] = []
    asked = [n for n, flow in enumerate(flows) if isinstance(job_of(flow), Job)]
    for sample in range(MOST_SAMPLES):
        if sample:
            asked = [n for n in asked if _samples(flows[n]) > sample]
        if not asked:
            break
        if sample:
            rounds.append(len(jobs))
        jobs.extend(asked)
    return tuple(jobs), tuple(rounds)


def _samples(flow: Flow) -> int:
    """How many jobs a flow makes."""
    return 1 if flow.kind is FlowKind.PING else flow.samples


def script(flows: Iterable[Flow]) -> str:
    """Write the script that runs these flows, by their position and in rounds of samples.

    What it prints is marked with a number drawn for this script: nothing that a server says can be
    taken for a mark.
    """
    asked = tuple(flows)
    jobs, rounds = order(asked)
    kinds = {asked[n].kind for n in jobs}
    table, payloads = _table(asked, jobs)
    mark, begins = secrets.token_hex(8), " ".join(str(r) for r in rounds)
    parts = (
        f"m={mark} J={len(jobs)} W={min(_WORKERS, len(jobs))} R='{begins}'\n",
        shell.BEGIN,
        shell.NC if kinds & _DIALS else "",
        shell.EXCHANGE if kinds & _EXCHANGES else "",
        shell.NSLOOKUP if FlowKind.DNS_UDP in kinds else "",
        shell.PING if FlowKind.PING in kinds else "",
        shell.ARPING if FlowKind.ARP in kinds else "",
        shell.FOUND,
        shell.RESOLVER if any(f.vantage.kind is VantageKind.POD for f in asked) else "",
        payloads,
        f"run() {{\ncase $1 in\n{table}esac\n}}\n",
        shell.WORK,
        shell.END,
    )
    return "".join(parts)


def _table(flows: tuple[Flow, ...], jobs: tuple[int, ...]) -> tuple[str, str]:
    """Write which job does what, and what is sent: equal payloads once."""
    numbers: dict[int, list[str]] = {}
    for number, position in enumerate(jobs):
        numbers.setdefault(position, []).append(str(number))
    names: dict[bytes, str] = {}
    lines: list[str] = []
    for position, own in numbers.items():
        job = job_of(flows[position])
        if isinstance(job, Job):
            name = names.setdefault(job.payload, f"p{len(names)}")
            words = (f'"$d/{name}"' if w is None else shlex.quote(w) for w in job.words)
            lines.append(f"{'|'.join(own)}) {' '.join(words)};;\n")
    payloads = (
        f"printf '{_escaped(body)}' >\"$d/{name}\"\n" for body, name in names.items() if body
    )
    return "".join(lines), "".join(payloads)


def _escaped(body: bytes) -> str:
    """Write bytes as a format of the shell's ``printf``: nothing in it has a meaning to the shell.

    No digit stands for itself, so an escape ends where its digits do.
    """
    return "".join(chr(b) if b in _PLAIN else f"\\{b:o}" for b in body)
