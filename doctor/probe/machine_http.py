"""One HTTP request from this machine over one connection, its parts timed each by itself."""

import contextlib
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Observation, Phases, Purpose
from doctor.probe.machine_redirects import Head, leads_nowhere
from doctor.probe.machine_tls import server_name
from doctor.probe.sockets import (
    CONNECT_SECONDS,
    RETRANSMITTED_SECONDS,
    dial,
    failure_of_errno,
)

__all__ = ["request"]

_ANSWER_SECONDS = 5.0
"""For the whole head of the answer, however slowly it drips."""

_PLAIN_PORT = 80
_TOLD = (Failure.NO_ROUTE, Failure.NETWORK_UNREACHABLE, Failure.CONNECTION_REFUSED)
_PORTS = {"http": 80, "https": 443}

_DIALLED = "connection.connect_tcp"
_SECURED = "connection.start_tls"
_SENT = "http11.send_request_body"
_SENDING = "http11.send_request_headers"
_HEAD = "http11.receive_response_headers"


class _Watch:
    """Times what httpcore tells of a request, and ends it when its time is up."""

    def __init__(self) -> None:
        """Wait for the first event."""
        self._at: dict[str, float] = {}
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.cut = False
        self.ended = time.monotonic()

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        """Take an event: ``package.step.started``, ``….complete`` or ``….failed``."""
        self._at[event] = time.monotonic()
        step, _, stage = event.rpartition(".")
        if stage == "complete" and step in (_DIALLED, _SECURED):
            self._socket = info["return_value"].get_extra_info("socket")
        if (step, stage) == (_SENDING, "started"):
            self._timer = threading.Timer(_ANSWER_SECONDS, self._cut)
            self._timer.daemon = True
            self._timer.start()

    def _cut(self) -> None:
        """End the connection under the reader's feet."""
        self.cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not TLS's own, which would take the layer away while it is read from.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def stop(self) -> None:
        """Cut nothing any more, and note when it ended."""
        self.ended = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()

    def _between(self, start: str, end: str) -> float | None:
        """Return the seconds between two events; None where one did not come."""
        if start not in self._at or end not in self._at:
            return None
        return round(self._at[end] - self._at[start], 4)

    @property
    def phases(self) -> Phases | None:
        """How long the parts took; None where no connection stood.

        The head of an answer comes as one piece as good as always: its end stands for its first byte.
        """
        connect = self._between(f"{_DIALLED}.started", f"{_DIALLED}.complete")
        if connect is None:
            return None
        return Phases(
            connect=connect,
            tls=self._between(f"{_SECURED}.started", f"{_SECURED}.complete"),
            first_byte=self._between(f"{_SENT}.complete", f"{_HEAD}.complete"),
        )


def request(flow: Flow) -> Observation:
    """Ask at the flow's address, with its Host; the body is left unread.

    No proxy is used, and a certificate is judged elsewhere. What is seen is the first answer; of a
    visitor's request, redirects are followed only to see whether they come round.

    Args:
        flow: Its name is the Host header; TLS is spoken where its subject is an https URL and its
            port is not 80.
    """
    started = time.monotonic()
    watch = _Watch()
    seen = _exchange(flow, watch)
    phases = watch.phases
    if phases is None and seen.failure in _TOLD:
        seen = _exact(seen)
    late = phases is not None and phases.connect >= RETRANSMITTED_SECONDS
    return msgspec.structs.replace(
        seen,
        seconds=watch.ended - started,
        phases=phases,
        lost=int(late or (seen.failure is not None and seen.failure.silent)),
    )


def _exact(seen: Observation) -> Observation:
    """Dial again for the ICMP error behind a failure, which tells a filter: httpx keeps none."""
    again = dial(seen.flow.address, seen.flow.port)
    if again.socket is not None:
        again.socket.close()
        return seen
    if again.icmp is None or again.failure not in (seen.failure, Failure.HOST_PROHIBITED):
        return seen
    return msgspec.structs.replace(seen, failure=again.failure, icmp=again.icmp)


def _exchange(flow: Flow, watch: _Watch) -> Observation:
    """Send the request and read the head of the answer."""
    import httpx

    scheme = "https" if flow.subject.startswith("https:") and flow.port != _PLAIN_PORT else "http"
    own = f"{scheme}://{flow.name}"
    try:
        head = _ask(flow, scheme, flow.port, flow.path, watch)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        failure = Failure.TIMEOUT if watch.cut else _why(error)
        detail = "" if failure is Failure.TIMEOUT else str(error)[:200]
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=detail)

    def follow(url: str) -> Head | None:
        parts = urlsplit(url)
        same = f"{parts.scheme}://{parts.netloc}" == own
        port = flow.port if same else parts.port or _PORTS[parts.scheme]
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            return _ask(flow, parts.scheme, port, path, _Watch(), parts.netloc)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None

    visiting = flow.purpose is Purpose.TARGET
    return Observation(
        flow=flow,
        failure=None,
        seconds=0.0,
        status=head.status,
        server=head.server[:100],
        location=head.location[:200],
        looping=visiting and leads_nowhere(f"{own}{flow.path}", head, follow),
    )


def _ask(flow: Flow, scheme: str, port: int, path: str, watch: _Watch, host: str = "") -> Head:
    """Ask for a path at the flow's address.

    Raises:
        httpx.HTTPError: There was no answer.
        httpx.InvalidURL: It cannot be asked for.
        ValueError: The same.
    """
    import httpx

    asked = host or flow.name
    name = server_name(asked.partition(":")[0])
    wait = httpx.Timeout(_ANSWER_SECONDS, connect=CONNECT_SECONDS)
    question = httpx.Request(
        "GET",
        f"{scheme}://{flow.address}:{port}{path}",
        headers={"Host": asked, "User-Agent": "wwwm-doctor", "Accept": "*/*"},
        extensions={"sni_hostname": name, "trace": watch, "timeout": wait.as_dict()},
    )
    try:
        # a client would see where a redirect leads, and lose the answer if that is no URL of its kind
        with httpx.HTTPTransport(
            verify=False, trust_env=False
        ) as transport:  # a certificate is judged elsewhere
            answer = transport.handle_request(question)
            answer.close()
            headers = answer.headers
            return Head(
                answer.status_code,
                headers.get("server", ""),
                headers.get("location", ""),
                "set-cookie" in headers,
            )
    finally:
        watch.stop()


def _why(error: Exception) -> Failure:
    """Name a request that failed, by the error of the system that lies under it."""
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return Failure.TIMEOUT
    if isinstance(error, httpx.RemoteProtocolError):
        return Failure.HTTP_MALFORMED
    cause = _system_error(error)
    if isinstance(cause, ssl.SSLError):
        return Failure.TLS_FAILED
    return failure_of_errno(cause.errno) if cause else Failure.UNKNOWN


def _system_error(error: BaseException) -> OSError | None:
    """Follow what an error was raised from, down to the system's."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None or isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
