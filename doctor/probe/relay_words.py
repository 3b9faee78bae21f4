"""Understand what ``nc``, bash and ``nslookup`` printed for one sample of a flow.

Each reader returns an observation, or why nothing was observed: what says nothing of the network is
no outcome of the network.
"""

import re

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Observation
from doctor.probe.dnswire import read_answer
from doctor.probe.relay_frames import Frame, Tools
from doctor.probe.tlswire import read_chain

__all__ = [
    "failed",
    "read_connect",
    "read_dns_tcp",
    "read_dns_udp",
    "read_http",
    "read_tls",
    "said",
]

_WORDS = (
    ("refused", Failure.CONNECTION_REFUSED),
    ("no route to host", Failure.NO_ROUTE),
    ("host is unreachable", Failure.NO_ROUTE),
    ("network is unreachable", Failure.NETWORK_UNREACHABLE),
    ("network unreachable", Failure.NETWORK_UNREACHABLE),
    ("reset by peer", Failure.CONNECTION_RESET),
    ("permission denied", Failure.PERMISSION_DENIED),
    ("not permitted", Failure.PERMISSION_DENIED),
    ("timed out", Failure.TIMEOUT),
    ("ncat: timeout", Failure.TIMEOUT),
)
_CHATTER = re.compile(
    r"\bopen$|succeeded!$|^\s*sent \d+, rcvd \d+|^punt!|^Ncat: (Version|Connected|\d+ bytes)"
    r"|Terminated|^\d+\+\d+ records (in|out)$|^\d+ bytes .*copied"
)
"""What tools say when nothing is wrong, and shells when they end one."""

_SILENCE = 3.0
"""Seconds after which a connection that is gone without a word was rather cut than closed."""


def said(frame: Frame) -> str:
    """Say in one short line what a tool said."""
    text = _told(frame) or " ".join(frame.stdout.split())
    return text[:200] or f"nothing, exit {frame.status}"


def _told(frame: Frame) -> str:
    """Say in one short line what a tool complained of."""
    lines = (line for line in frame.stderr.splitlines() if not _CHATTER.search(line))
    return " ".join(" ".join(lines).split())[:200]


def failed(flow: Flow, failure: Failure, frame: Frame, detail: str = "") -> Observation:
    """Make an observation of a failure."""
    told = detail or _told(frame)
    return Observation(flow=flow, failure=failure, seconds=frame.seconds, detail=told)


def _failure(frame: Frame) -> Failure | None:
    """Map what a tool said to a failure; None where it says nothing of the network."""
    text = frame.stderr.lower()
    if frame.never_ran or "socket" in text:
        return None
    for words, failure in _WORDS:
        if words in text:
            return failure
    return Failure.TIMEOUT if frame.killed else None


def read_connect(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """A TCP connection: made, or failed in a way that is understood."""
    # busybox's nc is connected when it cannot start what it was given to run then.
    if frame.status == 0 or "can't execute" in frame.stderr:
        return Observation(flow=flow, failure=None, seconds=frame.seconds)
    failure = _failure(frame)
    return failed(flow, failure, frame) if failure else f"{tools.tcp} said: {said(frame)}"


def _nothing_came(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """Why an exchange over TCP brought nothing."""
    failure = _failure(frame)
    if failure is None:
        if frame.never_ran or _told(frame):
            return f"{tools.tcp} said: {said(frame)}"
        cut = frame.seconds >= _SILENCE
        failure = Failure.TIMEOUT if cut else Failure.CONNECTION_RESET
    return failed(flow, failure, frame)


_NOT_ENCODED = "what came back is not encoded as it should be"


def read_dns_tcp(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """A DNS answer over TCP, or the reason why none came."""
    body = tools.bytes_of(frame.stdout)
    if body is None:
        return _NOT_ENCODED
    return _answer(flow, frame, body[2:]) if body else _nothing_came(flow, frame, tools)


def _answer(flow: Flow, frame: Frame, wire: bytes) -> Observation:
    """Read a DNS message."""
    reply = read_answer(flow.name, wire)
    return Observation(
        flow=flow,
        failure=reply.failure,
        seconds=frame.seconds,
        answers=reply.answers,
        detail=reply.detail,
    )


def read_dns_udp(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """A DNS answer over UDP, carried as bytes or asked for by ``nslookup``."""
    if tools.udp == "none":
        return _nslookup(flow, frame)
    body = tools.bytes_of(frame.stdout)
    if body is None:
        return _NOT_ENCODED
    if body:
        return _answer(flow, frame, body)
    failure = _failure(frame)
    if failure is not None:
        return failed(flow, failure, frame)
    if tools.udp == "nc" and tools.nc in ("openbsd", "traditional") and frame.status == 0:
        untold = "an ICMP error came back; this nc does not say which"
        silent = frame.seconds >= _SILENCE
        return failed(flow, Failure.TIMEOUT if silent else Failure.UNKNOWN, frame, untold)
    return f"{tools.udp} said: {said(frame)}"


_NSLOOKUP_WORDS = (
    ("connection refused", Failure.CONNECTION_REFUSED),
    ("no route to host", Failure.NO_ROUTE),
    ("host is unreachable", Failure.NO_ROUTE),
    ("host unreachable", Failure.NO_ROUTE),
    ("network is unreachable", Failure.NETWORK_UNREACHABLE),
    ("network unreachable", Failure.NETWORK_UNREACHABLE),
    ("not permitted", Failure.PERMISSION_DENIED),
    (": nxdomain", Failure.DNS_NXDOMAIN),
    (": servfail", Failure.DNS_SERVFAIL),
    (": refused", Failure.DNS_REFUSED),
    ("no answer", Failure.DNS_NO_ANSWER),
    ("parse error", Failure.DNS_NO_ANSWER),
    ("can't find", Failure.DNS_NO_ANSWER),
    ("timed out", Failure.TIMEOUT),
    ("no servers could be reached", Failure.TIMEOUT),
)
_OWN_LINES = ("**", ";;", "nslookup:")


def _nslookup(flow: Flow, frame: Frame) -> Observation | str:
    """What busybox's or BIND's ``nslookup`` printed; its first Address line is the server's."""
    lines = frame.stdout.splitlines()
    words = [w[-1] for w in (line.split() for line in lines if line.startswith("Address")) if w]
    answers = tuple(sorted(a for a in words[1:] if ":" not in a))
    if answers:
        return Observation(flow=flow, failure=None, seconds=frame.seconds, answers=answers)
    # A name in an answer may hold any word: only lines that are nslookup's own are heeded.
    own = [line for line in (*lines, *frame.stderr.splitlines()) if line.startswith(_OWN_LINES)]
    text = "\n".join(own).lower()
    found = next((f for w, f in _NSLOOKUP_WORDS if w in text), None)
    if found is None and frame.killed:
        found = Failure.TIMEOUT
    if found is None and frame.status == 0 and frame.stdout.startswith("Server:"):
        found = Failure.DNS_NO_ANSWER
    if found is None or frame.never_ran:
        return f"nslookup said: {said(frame)}"
    return failed(flow, found, frame, " ".join(" ".join(own).split())[:200])


def read_http(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """An HTTP answer, or the reason why none came."""
    body = tools.bytes_of(frame.stdout)
    if body is None:
        return _NOT_ENCODED
    if not body:
        return _nothing_came(flow, frame, tools)
    head = body.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = head[0].split()
    if not words[1:] or not words[0].startswith("HTTP/") or not _is_status(words[1]):
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


def _is_status(word: str) -> bool:
    """Say whether a word is an HTTP status."""
    return word.isascii() and word.isdecimal() and len(word) == len("200")


def read_tls(flow: Flow, frame: Frame, tools: Tools) -> Observation | str:
    """The chain that a server showed, or why it showed none."""
    body = tools.bytes_of(frame.stdout)
    if body is None:
        return _NOT_ENCODED
    if not body:
        return _nothing_came(flow, frame, tools)
    shown = read_chain(body)
    failure = shown.failure
    # A handshake that began and went on in silence is the mark of large packets that are lost.
    if shown.broken_off and frame.killed:
        failure = Failure.TIMEOUT
    return Observation(
        flow=flow,
        failure=failure,
        seconds=frame.seconds,
        certificates=shown.certificates,
        detail=shown.detail,
    )
