"""The relay: one shell script per vantage and wave, its jobs in parallel, its results framed.

The script needs a POSIX shell and busybox-like ``nc``, ``nslookup``, ``base64``, ``timeout`` and
``arping``; what is missing makes the jobs that need it end with status 127, which is no outcome of
the network. Standard input is never read, so one exec stream is enough.
"""

import base64
import re
import shlex
from collections.abc import Iterable

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation
from doctor.probe.dnswire import query_bytes, read_answer

__all__ = ["CONNECT_SECONDS", "DNS_SECONDS", "read_frames", "read_observations", "script"]

CONNECT_SECONDS = 4
"""An address that answers no ARP gives EHOSTUNREACH after three seconds; a shorter wait would take
it for a filter."""

DNS_SECONDS = 3
HTTP_SECONDS = 6
_MOST_BYTES = 65536
_HEAD = re.compile(r"(\d{1,6}) (\d{1,3}) (\d{1,12}(?:\.\d+)?) (\d{1,12}(?:\.\d+)?)", re.ASCII)

_PRELUDE = f"""\
umask 077
d=$(mktemp -d 2>/dev/null || mktemp -d -p /run 2>/dev/null) || exit 97
trap 'rm -rf "$d"' EXIT
now() {{ cut -d' ' -f1 /proc/uptime; }}
job() {{
  i=$1; shift
  s=$(now); "$@" >"$d/$i.o" 2>"$d/$i.e" </dev/null; r=$?
  echo "$r $s $(now)" >"$d/$i.r"
}}
tcp() {{ timeout {CONNECT_SECONDS + 1} nc -w {CONNECT_SECONDS} "$1" "$2" -e true; }}
udpdns() {{ timeout {DNS_SECONDS} nslookup -type="$3" "$2" "$1"; }}
arp() {{ timeout 3 arping -b -c 1 -w 1 -I "$2" "$1"; }}
tcpdns() {{
  printf %s "$3" | base64 -d | timeout {DNS_SECONDS + 2} nc -w {CONNECT_SECONDS} "$1" "$2" |
    head -c {_MOST_BYTES} | base64 | tr -d '\\n'
}}
# A web server takes the end of its input for the visitor's leaving, so the input stays open.
http() {{
  mkfifo "$d/$1.f" && exec 3<>"$d/$1.f" && printf %s "$4" | base64 -d >&3 &&
    timeout {HTTP_SECONDS} nc -w {CONNECT_SECONDS} "$2" "$3" <&3 | head -c {_MOST_BYTES} | base64 | tr -d '\\n'
}}
"""

_POSTLUDE = """\
wait
for f in "$d"/*.r; do
  i=${f##*/}; i=${i%.r}
  echo "@@ $i $(cat "$f")"
  head -c 98304 "$d/$i.o"; echo
  echo "@- $i"
  head -c 2048 "$d/$i.e"; echo
done
echo "@@ end"
"""


class Frame(msgspec.Struct, frozen=True):
    """What one job printed."""

    status: int
    seconds: float
    stdout: str
    stderr: str


def script(flows: Iterable[Flow]) -> str:
    """Write the script that runs these flows, named by their position."""
    jobs = (f"job {n} {_command(n, flow)} &" for n, flow in enumerate(flows))
    return _PRELUDE + "\n".join(jobs) + "\n" + _POSTLUDE


def _command(number: int, flow: Flow) -> str:
    """Write one job's command."""
    match flow.kind:
        case FlowKind.DNS_UDP:
            words = ["udpdns", flow.address, flow.name, "a"]
        case FlowKind.ARP:
            words = ["arp", flow.address, flow.name]
        case FlowKind.DNS_TCP:
            body = query_bytes(flow.name, tcp=True)
            text = base64.b64encode(body).decode()
            words = ["tcpdns", flow.address, str(flow.port), text]
        case FlowKind.HTTP:
            text = base64.b64encode(_request(flow)).decode()
            words = ["http", str(number), flow.address, str(flow.port), text]
        case _:
            words = ["tcp", flow.address, str(flow.port)]
    return " ".join(shlex.quote(w) for w in words)


def _request(flow: Flow) -> bytes:
    """Write a minimal HTTP request that asks the server to close."""
    lines = (
        f"GET {flow.path} HTTP/1.1",
        f"Host: {flow.name}",
        "User-Agent: wwwm-doctor",
        "Accept: */*",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


def read_frames(text: str) -> dict[int, Frame] | None:
    """Cut the script's output into frames; None where its end is missing."""
    frames: dict[int, Frame] = {}
    head, _, ended = text.partition("@@ end")
    for part in head.split("@@ ")[1:]:
        first, _, rest = part.partition("\n")
        if found := _HEAD.fullmatch(first):
            number, status, start, end = found.groups()
            out, _, err = rest.partition(f"@- {number}\n")
            seconds = max(0.0, float(end) - float(start))
            frames[int(number)] = Frame(int(status), seconds, out.strip(), err.strip())
    return frames if ended or "@@ end" in text else None


def read_observations(flows: tuple[Flow, ...], frames: dict[int, Frame]) -> list[Observation]:
    """Understand the frames of a script that ran these flows; unusable ones are left out.

    A job whose tool was missing, or that printed nothing that is understood, is not an outcome of
    the network: it gives no observation.
    """
    seen = ((f, frames[n]) for n, f in enumerate(flows) if n in frames)
    read = (_observe(flow, frame) for flow, frame in seen)
    return [o for o in read if o is not None]


def _observe(flow: Flow, frame: Frame) -> Observation | None:
    """Understand one frame."""
    match flow.kind:
        case FlowKind.DNS_UDP:
            return _udp_dns(flow, frame)
        case FlowKind.DNS_TCP:
            return _tcp_dns(flow, frame)
        case FlowKind.HTTP:
            return _http(flow, frame)
        case FlowKind.ARP:
            return _arp(flow, frame)
        case _:
            return _tcp(flow, frame)


_CONNECT_WORDS = (
    ("refused", Failure.CONNECTION_REFUSED),
    ("no route to host", Failure.NO_ROUTE),
    ("host is unreachable", Failure.NO_ROUTE),
    ("network is unreachable", Failure.NETWORK_UNREACHABLE),
    ("reset by peer", Failure.CONNECTION_RESET),
    ("permission denied", Failure.PERMISSION_DENIED),
    ("not permitted", Failure.PERMISSION_DENIED),
    ("timed out", Failure.TIMEOUT),
    ("terminated", Failure.TIMEOUT),  # what the shell says of a program that ``timeout`` ended
)


def _connect_failure(frame: Frame) -> Failure | None:
    """Map what ``nc`` said to a failure; None where it says nothing of the network.

    ``timeout`` ends a program with 143, or 124 where it is not busybox's.
    """
    said = frame.stderr.lower()
    for words, failure in _CONNECT_WORDS:
        if words in said:
            return failure
    return Failure.TIMEOUT if frame.status in (124, 137, 143) else None


def _tcp(flow: Flow, frame: Frame) -> Observation | None:
    """A TCP connection: made, or failed in a way that is understood."""
    if frame.status == 0:
        return Observation(flow=flow, failure=None, seconds=frame.seconds)
    failure = _connect_failure(frame)
    if failure is None:
        return None
    return Observation(flow=flow, failure=failure, seconds=frame.seconds, detail=frame.stderr[:200])


_NSLOOKUP_WORDS = (
    ("connection refused", Failure.CONNECTION_REFUSED),
    ("no route to host", Failure.NO_ROUTE),
    ("nxdomain", Failure.DNS_NXDOMAIN),
    ("servfail", Failure.DNS_SERVFAIL),
    ("refused", Failure.DNS_REFUSED),
    ("connection timed out", Failure.TIMEOUT),
    ("no servers could be reached", Failure.TIMEOUT),
    ("unreachable", Failure.NO_ROUTE),
)


def _udp_dns(flow: Flow, frame: Frame) -> Observation | None:
    """What busybox's nslookup printed; its first Address line is the server's."""
    said = f"{frame.stdout}\n{frame.stderr}"
    lines = [line.split()[-1] for line in frame.stdout.splitlines() if line.startswith("Address")]
    answers = tuple(sorted(a for a in lines[1:] if ":" not in a))
    if answers:
        return Observation(flow=flow, failure=None, seconds=frame.seconds, answers=answers)
    for words, failure in _NSLOOKUP_WORDS:
        if words in said.lower():
            return Observation(flow=flow, failure=failure, seconds=frame.seconds, detail=said[:200])
    if frame.status in (124, 137, 143):
        return Observation(flow=flow, failure=Failure.TIMEOUT, seconds=frame.seconds)
    return None


def _body(frame: Frame) -> bytes | None:
    """Decode what a raw exchange brought back; None where that is no base64."""
    try:
        return base64.b64decode(frame.stdout, validate=True)
    except ValueError:
        return None


def _tcp_dns(flow: Flow, frame: Frame) -> Observation | None:
    """A DNS answer over TCP, or the reason why none came."""
    body = _body(frame)
    if body:
        failure, answers = read_answer(body[2:])
        return Observation(flow=flow, failure=failure, seconds=frame.seconds, answers=answers)
    return _nothing_came(flow, frame)


def _nothing_came(flow: Flow, frame: Frame) -> Observation | None:
    """Why an exchange brought nothing: the pipe hides nc's status, the clock tells."""
    failure = _connect_failure(frame)
    if failure is None and frame.stderr:
        return None
    if failure is None:
        waited = frame.seconds >= CONNECT_SECONDS - 1
        failure = Failure.TIMEOUT if waited else Failure.CONNECTION_RESET
    return Observation(flow=flow, failure=failure, seconds=frame.seconds, detail=frame.stderr[:200])


def _http(flow: Flow, frame: Frame) -> Observation | None:
    """An HTTP answer, or the reason why none came."""
    body = _body(frame)
    if not body:
        return _nothing_came(flow, frame)
    head = body.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = head[0].split()
    if not words[1:] or not words[0].startswith("HTTP/") or not words[1].isdecimal():
        return Observation(flow=flow, failure=Failure.HTTP_MALFORMED, seconds=frame.seconds)
    headers = {k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:])}
    return Observation(
        flow=flow,
        failure=None,
        seconds=frame.seconds,
        status=int(words[1]),
        server=headers.get("server", "")[:100],
        location=headers.get("location", "")[:200],
    )


def _arp(flow: Flow, frame: Frame) -> Observation | None:
    """Who answered ARP: hardware addresses in brackets, as arping prints them."""
    lines = (w for line in frame.stdout.splitlines() if "reply" in line for w in line.split())
    owners = tuple(sorted({w.strip("[]").lower() for w in lines if w.startswith("[")}))
    if owners:
        return Observation(flow=flow, failure=None, seconds=frame.seconds, answers=owners)
    if "Sent" not in frame.stdout and frame.status not in (124, 137, 143):
        return None
    return Observation(flow=flow, failure=Failure.ARP_UNANSWERED, seconds=frame.seconds)
