"""Sockets of this machine: how they fail, by errno and by the ICMP error behind it.

Linux queues the ICMP error that ended a connection attempt, for any user: it tells a packet filter
that rejects from a host that is not there, which is one errno.
"""

import contextlib
import errno
import socket
import struct
import time

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Icmp, Observation

__all__ = [
    "CONNECT_SECONDS",
    "RETRANSMITTED_SECONDS",
    "Dialled",
    "dial",
    "failure_of_errno",
    "failure_of_icmp",
    "queue_errors",
    "queued_icmp",
    "unanswered",
]

CONNECT_SECONDS = 4.0
"""An address that answers no ARP gives EHOSTUNREACH after three seconds; a shorter wait would take
it for a filter."""

RETRANSMITTED_SECONDS = 0.9
"""A SYN is sent again after a second: a connection that took this long lost its first one."""

# As in Linux's headers: Python names none of these.
_IP_RECVERR = 11
_FROM_ICMP = 2
_EXTENDED_ERROR = struct.Struct("=IBBBxIIxxxx4s")  # sock_extended_err, then the offender's address
_MOST_QUEUED = 8

_UNREACHABLE = 3
_ERRNO = {
    errno.ECONNREFUSED: Failure.CONNECTION_REFUSED,
    errno.ECONNRESET: Failure.CONNECTION_RESET,
    errno.EPIPE: Failure.CONNECTION_RESET,
    errno.EHOSTUNREACH: Failure.NO_ROUTE,
    errno.EHOSTDOWN: Failure.NO_ROUTE,
    errno.ENONET: Failure.NO_ROUTE,
    errno.ENETUNREACH: Failure.NETWORK_UNREACHABLE,
    errno.EMSGSIZE: Failure.TOO_BIG,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EACCES: Failure.PERMISSION_DENIED,
    errno.EPERM: Failure.PERMISSION_DENIED,
}
_CODES = {
    0: Failure.NETWORK_UNREACHABLE,
    1: Failure.NO_ROUTE,
    3: Failure.PORT_UNREACHABLE,
    4: Failure.TOO_BIG,
    6: Failure.NETWORK_UNREACHABLE,
    7: Failure.NO_ROUTE,
    8: Failure.NO_ROUTE,
    9: Failure.HOST_PROHIBITED,
    10: Failure.HOST_PROHIBITED,
    11: Failure.NETWORK_UNREACHABLE,
    12: Failure.NO_ROUTE,
    13: Failure.HOST_PROHIBITED,
}


class Dialled(msgspec.Struct, frozen=True):
    """A connection, or why there is none.

    Args:
        socket: The connection, for the caller to close; None where it failed.
        seconds: How long it took.
        failure: How it failed, or None.
        icmp: The ICMP error that ended it, if one did.
        detail: What the system said.
    """

    socket: socket.socket | None
    seconds: float
    failure: Failure | None = None
    icmp: Icmp | None = None
    detail: str = ""

    @property
    def retransmitted(self) -> bool:
        """Whether it took so long that the first SYN, or the answer to it, was lost."""
        return self.seconds >= RETRANSMITTED_SECONDS


def unanswered(flow: Flow, dialled: Dialled) -> Observation:
    """Make the observation of a connection that failed; a late refusal was lost at first, too."""
    return Observation(
        flow=flow,
        failure=dialled.failure,
        seconds=dialled.seconds,
        detail=dialled.detail,
        icmp=dialled.icmp,
        lost=int(dialled.retransmitted),
    )


def failure_of_errno(number: int | None) -> Failure:
    """Map an errno to a word; UNKNOWN where it says nothing of the network."""
    return _ERRNO.get(number or 0, Failure.UNKNOWN)


def failure_of_icmp(icmp: Icmp | None) -> Failure:
    """Map an ICMP error to a word: TIMEOUT for none, and for one that leaves the cause open."""
    if icmp is None or icmp.type != _UNREACHABLE:
        return Failure.TIMEOUT
    return _CODES.get(icmp.code, Failure.TIMEOUT)


def dial(address: str, port: int) -> Dialled:
    """Open a TCP connection, waiting long enough for ARP to fail first.

    Args:
        address: An IPv4 address.
        port: The port.
    """
    started = time.monotonic()
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect((address, port))
    except OSError as error:
        seconds = time.monotonic() - started
        with connection:
            icmp = queued_icmp(connection)
        return Dialled(None, seconds, _why(error, icmp), icmp, _said(error))
    except BaseException:
        connection.close()
        raise
    return Dialled(connection, time.monotonic() - started)


def _why(error: OSError, icmp: Icmp | None) -> Failure:
    """Name a failed connection: its errno, made exact where ICMP told that a filter rejects."""
    if failure_of_icmp(icmp) is Failure.HOST_PROHIBITED:
        return Failure.HOST_PROHIBITED
    return Failure.TIMEOUT if isinstance(error, TimeoutError) else failure_of_errno(error.errno)


def _said(error: OSError) -> str:
    """Return what the system said; nothing of a wait that was cut here."""
    return "" if error.strerror is None else error.strerror[:200]


def queue_errors(sock: socket.socket) -> None:
    """Have a datagram socket told of ICMP errors at once; one that connects by TCP is anyway."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def queued_icmp(sock: socket.socket) -> Icmp | None:
    """Take the last ICMP error that is queued for a socket; None where there is none."""
    found = None
    sock.settimeout(0)
    for _ in range(_MOST_QUEUED):
        try:
            _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR):
                found = _read_error(data) or found
    return found


def _read_error(data: bytes) -> Icmp | None:
    """Read an extended error; None where it is not one that ICMP brought."""
    if len(data) < _EXTENDED_ERROR.size:
        return None
    _, origin, type_, code, _, _, offender = _EXTENDED_ERROR.unpack_from(data)
    if origin != _FROM_ICMP:
        return None
    return Icmp(type_, code, socket.inet_ntoa(offender))
