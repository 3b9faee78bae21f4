"""Probes from this machine: names, connections and requests, with the address set apart."""

import errno
import socket
import time

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation

__all__ = ["observe"]

_CONNECT_SECONDS = 4.0
_READ_SECONDS = 5.0

_PLAIN_PORT = 80
_ERRNO = {
    errno.ECONNREFUSED: Failure.CONNECTION_REFUSED,
    errno.ECONNRESET: Failure.CONNECTION_RESET,
    errno.EHOSTUNREACH: Failure.NO_ROUTE,
    errno.ENETUNREACH: Failure.NETWORK_UNREACHABLE,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EACCES: Failure.PERMISSION_DENIED,
    errno.EPERM: Failure.PERMISSION_DENIED,
}


def observe(flow: Flow) -> Observation:
    """Carry out one flow from here."""
    started = time.monotonic()
    match flow.kind:
        case FlowKind.RESOLVE:
            seen = _resolve(flow)
        case FlowKind.HTTP:
            seen = _connect(flow)
            seen = _http(flow) if seen.ok else seen
        case _:
            seen = _connect(flow)
    return _timed(seen, time.monotonic() - started)


def _timed(seen: Observation, seconds: float) -> Observation:
    """Set how long it took."""
    return msgspec.structs.replace(seen, seconds=round(seconds, 3))


def _resolve(flow: Flow) -> Observation:
    """Resolve a name as every program on this machine does."""
    try:
        found = socket.getaddrinfo(flow.name, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        absent = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        failure = Failure.DNS_NXDOMAIN if absent else Failure.TIMEOUT
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=str(error.strerror))
    except UnicodeError as error:
        return Observation(flow=flow, failure=Failure.DNS_NXDOMAIN, seconds=0.0, detail=str(error))
    answers = tuple(dict.fromkeys(str(f[4][0]) for f in found))
    return Observation(flow=flow, failure=None, seconds=0.0, answers=answers)


def _connect(flow: Flow) -> Observation:
    """Open a TCP connection, long enough for ARP to fail first."""
    try:
        with socket.create_connection((flow.address, flow.port), _CONNECT_SECONDS):
            return Observation(flow=flow, failure=None, seconds=0.0)
    except TimeoutError:
        return Observation(flow=flow, failure=Failure.TIMEOUT, seconds=0.0)
    except OSError as error:
        failure = _ERRNO.get(error.errno or 0, Failure.UNKNOWN)
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=str(error.strerror))


def _http(flow: Flow) -> Observation:
    """Ask at the flow's address, with its Host; a certificate is judged elsewhere."""
    import httpx

    scheme = "https" if flow.subject.startswith("https:") and flow.port != _PLAIN_PORT else "http"
    url = f"{scheme}://{flow.address}:{flow.port}{flow.path}"
    limits = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    server_name = flow.name.partition(":")[0]
    try:
        with (
            httpx.Client(timeout=limits, verify=False, trust_env=False) as client,  # noqa: S501 - judged elsewhere
            client.stream(
                "GET",
                url,
                headers={"Host": flow.name, "User-Agent": "wwwm-doctor"},
                extensions={"sni_hostname": server_name},
            ) as answer,
        ):
            return Observation(
                flow=flow,
                failure=None,
                seconds=0.0,
                status=answer.status_code,
                server=answer.headers.get("server", "")[:100],
                location=answer.headers.get("location", "")[:200],
            )
    except httpx.TimeoutException:
        return Observation(flow=flow, failure=Failure.TIMEOUT, seconds=0.0)
    except httpx.RemoteProtocolError as error:
        return Observation(
            flow=flow, failure=Failure.HTTP_MALFORMED, seconds=0.0, detail=str(error)[:200]
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        tls = "SSL" in str(error) or "TLS" in str(error)
        failure = Failure.TLS_FAILED if tls else Failure.CONNECTION_RESET
        return Observation(flow=flow, failure=failure, seconds=0.0, detail=str(error)[:200])
