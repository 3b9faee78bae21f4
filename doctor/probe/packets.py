# SPDX-License-Identifier: GPL-2.0-only
# Copyright 2026 the wwwm-doctor authors
#
# Alone in wwwm-doctor, this file is licensed under the GNU General Public License, version 2, as
# scapy is, which it imports. The text of the licence is in COPYING.packets.
"""Packets built by hand: ARP, SYNs with a rising time-to-live, sizes that must not be fragmented, DNS.

A program of its own, which nothing imports. It reads one JSON document from standard input and writes
one to standard output:

    {"seconds": 8.0, "requests": [REQUEST, …]}  ->  {"answers": [ANSWER, …]}, in the order of requests

Requests, with all of their members:

    {"kind": "arp", "interface": "eth0", "address": "192.0.2.7", "samples": 3}
    {"kind": "trace", "address": "192.0.2.7", "port": 80, "hops": 16}
    {"kind": "size", "address": "192.0.2.7", "sizes": [1500, 1450], "samples": 2}
    {"kind": "dns", "address": "192.0.2.7", "port": 53, "name": "shop.example", "samples": 2}

An answer holds ``seconds``, and either ``unseen`` (why nothing was asked or not to its end), or
``errno`` (what the system said when it was to send), or the findings of its kind:

    arp    "sent": 3, "owners": {"02:00:00:00:00:01": 3}
    trace  "hops": [{"ttl": 1, "answer": "icmp", "source": "192.0.2.1", "icmp": ICMP}, …]
    size   "sizes": [{"size": 1500, "sent": 2, "replies": 0, "seconds": 0, "errno": 0, "icmp": ICMP}, …]
    dns    "sent": 2, "replies": [{"sample": 0, "source": "…", "port": 53, "rcode": 0, "addresses": ["…"]}], "icmp": ICMP

ICMP is null or {"type": 3, "code": 4, "source": "…", "mtu": 1400}. Exit 0; 2 for a document that is
not understood; 3 without scapy; each time with one line on standard error.

It needs CAP_NET_RAW, and gives up all else first. It knows no name but what it is given, reads no
configuration, and sends to single addresses only.
"""

from __future__ import annotations

import abc
import contextlib
import ctypes
import importlib
import ipaddress
import json
import logging
import os
import re
import secrets
import select
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from scapy.layers.inet import IP
    from scapy.packet import Packet

BORN = time.monotonic()

MOST_INPUT = 64 * 1024
MOST_REQUESTS = 256
MOST_SECONDS = 60.0
READ_SECONDS = 5
MOST_AT_ONCE = 8
MOST_OWNERS = MOST_SIZES = 16
MOST_REPLIES = 64
MOST_HEARD = 2048

# A router that asks in vain for a hardware address says so after three seconds.
LAST_WAIT = 3.6
HOP_WAIT = 0.25
ARP_GAP, ARP_WAIT = 0.2, 1.0
GAP = 0.02

NET_RAW, DAC_READ_SEARCH = 13, 2
ICMP_ERRORS = (3, 11, 12)  # three: a filter below counts its lines
TIME_EXCEEDED = 11
ECHO_REQUEST = 8
ETHERNET = 1
# Of Linux's headers: Python names none of these.
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 24, 47, 4
CAPABILITY_VERSION = 0x20080522
SO_ATTACH_FILTER, SO_BINDTODEVICE = 26, 25
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806

Icmp = dict[str, Any]

MANGLED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What a dissector raises of a packet that is not what it says; some fields only when asked for."""

TURN = threading.Lock()
HEARD: dict[str, list[float]] = {}
"""Traces send one after the other, and count the errors of each router: as Linux has it, a router sends
an address six of them, then one a second, and what it keeps back would look like silence."""

ERRORS_SECONDS, ERRORS_LEFT, MOST_ERRORS = 6.0, 2, 6
KEPT_BACK_SECONDS, MOST_WALKS = 3.0, 3
"""After this time a router that had none left may send three errors: two are what one trace asks of it."""


class UnsentError(Exception):
    """The system refused to send; ``args[0]`` is its errno."""


class CutError(Exception):
    """The time was over before enough of it was waited for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; which members count is its kind's."""

    kind: str
    address: str
    interface: str = ""
    port: int = 0
    name: str = ""
    hops: int = 0
    samples: int = 1
    sizes: list[int] = field(default_factory=list)


def main() -> int:
    """Read, do, write; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this decides
    signal.alarm(READ_SECONDS)
    # Started by sudo, scapy may stand in a home that only its owner may read.
    keep_only(NET_RAW, DAC_READ_SEARCH)
    # Nothing of the environment is to be found by what is imported: no home, no cache, no settings.
    sys.dont_write_bytecode = "SUDO_UID" in os.environ
    os.environ.clear()
    os.environ["HOME"] = "/dev/null"
    result, sys.stdout = sys.stdout, sys.stderr
    try:
        seconds, requests = read(sys.stdin.buffer.read(MOST_INPUT + 1))
    except ValueError as error:
        sys.stderr.write(f"not understood: {error}"[:300] + "\n")
        return 2
    # The default action of the signal ends this program, whatever it is doing.
    signal.alarm(int(seconds) + 2)
    try:
        load()
    except ImportError as error:
        sys.stderr.write(f"scapy cannot be imported: {error}"[:300] + "\n")
        return 3
    keep_only(NET_RAW)
    until = BORN + seconds
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        answers = list(pool.map(lambda request: answer(request, until), requests))
    json.dump({"answers": answers}, result)
    result.flush()
    return 0


def keep_only(*capabilities: int) -> None:
    """Give up all other capabilities; no program that this one might start gets more than NET_RAW."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    libc.capget(header, held)
    wanted = sum(1 << capability for capability in capabilities)
    permitted = struct.unpack_from("=I", held, 4)[0] & wanted
    for capability in range(64):
        if capability != NET_RAW:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.capset(header, struct.pack("=IIIIII", permitted, permitted, 0, 0, 0, 0))


def load() -> None:
    """Import scapy, silently and before any thread needs it."""
    warnings.simplefilter("ignore")
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    for layer in ("dns", "inet", "l2"):
        importlib.import_module(f"scapy.layers.{layer}")


# The document


def _whole(least: int, most: int) -> Callable[[object], bool]:
    """Make what says whether a value is a whole number within bounds."""
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _text(pattern: str) -> Callable[[object], bool]:
    """Make what says whether a value is a text like a pattern."""
    return lambda v: isinstance(v, str) and re.fullmatch(pattern, v, re.ASCII) is not None


def _single(value: object) -> bool:
    """Say whether a value is the IPv4 address of one host."""
    try:
        address = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return int(address) not in (0, 2**32 - 1) and not address.is_multicast


def _sizes(value: object) -> bool:
    """Say whether a value is some sizes of IP packets."""
    fits = _whole(28, 65535)
    return isinstance(value, list) and 0 < len(value) <= MOST_SIZES and all(map(fits, value))


MEMBERS: dict[str, Callable[[object], bool]] = {
    "kind": lambda v: v in KINDS,
    "address": _single,
    "interface": _text(r"[^\s/]{1,15}"),
    "port": _whole(1, 65535),
    "name": _text(r"[!-~]{1,255}"),
    "hops": _whole(1, 64),
    "samples": _whole(1, 20),
    "sizes": _sizes,
}


def read(text: bytes) -> tuple[float, list[Request]]:
    """Read the document; ValueError where it is not one."""
    if len(text) > MOST_INPUT:
        refuse(f"longer than {MOST_INPUT} bytes")
    try:
        document = json.loads(text)
    except RecursionError:
        document = None
    if not isinstance(document, dict) or set(document) != {"seconds", "requests"}:
        refuse("no object with seconds and requests")
    seconds, requests = document["seconds"], document["requests"]
    if type(seconds) not in (int, float) or not 0 < seconds <= MOST_SECONDS:
        refuse(f"seconds is no number up to {MOST_SECONDS:g}")
    if not isinstance(requests, list) or len(requests) > MOST_REQUESTS:
        refuse(f"requests is no list of at most {MOST_REQUESTS}")
    return float(seconds), [_request(r) for r in requests]


def _request(value: object) -> Request:
    """Read one request; ValueError where it is not one."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in KINDS:
        refuse("a request of no known kind")
    if set(value) != {"kind", "address", *KINDS[kind][1]}:
        refuse(f"{kind} has other members than it should")
    for member, found in value.items():
        if not MEMBERS[member](found):
            refuse(f"{kind} has a {member} that cannot be")
    return Request(**value)


def refuse(reason: str) -> NoReturn:
    """Give up on the document."""
    raise ValueError(reason)


def answer(request: Request, until: float) -> dict[str, Any]:
    """Do what a request asks, until a moment of the monotonic clock at most."""
    started = time.monotonic()
    try:
        found = KINDS[request.kind][0](request, until)
    except UnsentError as error:
        found = {"errno": error.args[0]}
    except CutError:
        found = {"unseen": "there was no time left for it"}
    except PermissionError:
        found = {"unseen": "CAP_NET_RAW is missing"}
    except OSError as error:
        found = {"unseen": error.strerror or "it failed"}
    return {"seconds": round(time.monotonic() - started, 4), **found}


# Sockets


def source_towards(address: str, device: str = "") -> str:
    """Ask the kernel which of this machine's addresses it would send from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            if device:
                sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode() + b"\0")
            sock.connect((address, 9))
        except OSError as error:
            raise UnsentError(error.errno) from error
        return str(sock.getsockname()[0])


def port_kept(kind: socket.SocketKind) -> socket.socket:
    """Keep a port to ourselves; nothing listens on it, so the kernel answers a SYN-ACK with RST."""
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("", 0))
    return sock


def sender() -> socket.socket:
    """Open a way out for whole IP packets, routed by the kernel, whatever path MTU it has learned."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    return sock


def send(out: socket.socket, packet: Packet, address: str) -> None:
    """Send a packet to an address."""
    try:
        out.sendto(bytes(packet), (address, 0))
    except OSError as error:
        raise UnsentError(error.errno) from error


def capture(protocol: int, offset: int, value: int) -> socket.socket:
    """Open an ear for ICMP errors, and for packets with a word of ours at some place behind IP.

    What is not ours is left to the kernel: it could fill the ear on a busy machine. It hears ahead of
    this machine's own packet filter.
    """
    program = (
        (0xB1, 0, 0, 0),  # the length of the IP header
        (0x30, 0, 0, 9),  # load the protocol
        (0x15, 0, 4, socket.IPPROTO_ICMP),
        (0x50, 0, 0, 0),  # load the type
        *((0x15, 6 - n, 0, type_) for n, type_ in enumerate(ICMP_ERRORS)),
        (0x30, 0, 0, 9),  # load the protocol
        (0x15, 0, 3, protocol),
        (0x48, 0, 0, offset),  # load two bytes
        (0x15, 0, 1, value),
        (0x06, 0, 0, MOST_HEARD),
        (0x06, 0, 0, 0),
    )
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code, len(code))
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    filter_ = struct.pack("HP", len(program), ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
    return sock


def heard(ear: socket.socket, until: float) -> Iterator[bytes]:
    """Yield what arrives until a moment; what leaves is heard as well, and left out."""
    while (left := until - time.monotonic()) > 0:
        if not select.select([ear], [], [], left)[0]:
            return
        data, origin = ear.recvfrom(MOST_HEARD)
        if origin[2] != socket.PACKET_OUTGOING:
            yield data


def packets(ear: socket.socket, until: float) -> Iterator[IP]:
    """Yield IP packets that arrive until a moment."""
    from scapy.layers.inet import IP

    for data in heard(ear, until):
        packet = None
        with contextlib.suppress(*MANGLED):
            packet = IP(data)
        if packet is not None:
            yield packet


def icmp_error(packet: IP) -> Icmp | None:
    """Read an ICMP error; None for any other packet."""
    from scapy.layers.inet import ICMP

    error = packet.payload
    if not isinstance(error, ICMP) or error.type not in ICMP_ERRORS:
        return None
    mtu = error.nexthopmtu if (error.type, error.code) == (3, 4) else 0
    return {"type": error.type, "code": error.code, "source": packet.src, "mtu": mtu or 0}


def quoted(packet: IP, protocol: int) -> tuple[int, int, int]:
    """Return the first words that an ICMP error quotes of a packet: ports and sequence number, or alike."""
    from scapy.layers.inet import IPerror

    inner = packet.payload.payload
    if not isinstance(inner, IPerror) or inner.proto != protocol:
        return 0, 0, 0
    first = bytes(inner.payload.original or b"").ljust(8, b"\0")
    return struct.unpack_from("!HHI", first)


# ARP


def arp(request: Request, until: float) -> dict[str, Any]:
    """Ask who has an address; an answer is one that was sent to us, about it."""
    from scapy.layers.l2 import ARP, Ether

    owners: dict[str, int] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((request.interface, ETH_P_ARP))
        _, _, _, hardware, own_bytes = wire.getsockname()
        if hardware != ETHERNET:
            return {"unseen": f"{request.interface} is no Ethernet"}
        own = ":".join(f"{byte:02x}" for byte in own_bytes)
        try:
            source = source_towards(request.address, request.interface)
        except UnsentError:
            source = "0.0.0.0"  # noqa: S104 - an ARP probe, as of RFC 5227
        question = Ether(dst="ff:ff:ff:ff:ff:ff", src=own) / ARP(
            op=1, hwsrc=own, psrc=source, hwdst="00:00:00:00:00:00", pdst=request.address
        )

        def answers(reply: Packet) -> bool:
            told = (reply.op, reply.psrc, reply.hwdst, reply.pdst)
            return told == (2, request.address, own, source)

        for sample in range(1, request.samples + 1):
            wire.send(bytes(question))
            wait = ARP_GAP if sample < request.samples else ARP_WAIT
            for data in heard(wire, min(until, time.monotonic() + wait)):
                with contextlib.suppress(*MANGLED):
                    reply = Ether(data).getlayer(ARP)
                    if reply is not None and answers(reply):
                        owners[reply.hwsrc] = owners.get(reply.hwsrc, 0) + 1
    if time.monotonic() >= until:
        raise CutError
    return {"sent": request.samples, "owners": dict(sorted(owners.items())[:MOST_OWNERS])}


# The others: packets go out, answers come to an ear


class Exchange(abc.ABC):
    """Packets to one address, and what came of them so far."""

    def __init__(self, request: Request, port: int = 0) -> None:
        """Nothing is sent yet."""
        self.request = request
        self.port = port
        self.mark = secrets.randbits(16)
        self.source = source_towards(request.address)

    @abc.abstractmethod
    def take(self, packet: IP, error: Icmp | None) -> None:
        """Take what arrived, if it answers something that was sent."""

    @abc.abstractmethod
    def complete(self) -> bool:
        """Whether nothing is to be waited for."""

    def listen(self, ear: socket.socket, until: float) -> None:
        """Take what arrives until a moment, or until nothing is missing."""
        arriving = packets(ear, until)
        while not self.complete() and (packet := next(arriving, None)) is not None:
            with contextlib.suppress(*MANGLED):
                self.take(packet, icmp_error(packet))


class Path(Exchange):
    """SYNs with a rising time-to-live, which the sequence number tells.

    One source port for all: a path over several links must not spread.
    """

    def __init__(self, request: Request, port: int) -> None:
        """Start at a number that nobody guesses."""
        super().__init__(request, port)
        self.sent = 0
        self.first = secrets.randbits(32)
        self.hops: dict[int, dict[str, Any]] = {}
        self.ends: set[int] = set()

    @property
    def end(self) -> int:
        """The time-to-live with which the path ended; that of the last SYN if it did not."""
        return min(self.ends, default=self.request.hops)

    def complete(self) -> bool:
        """Whether each SYN up to the end is answered, of those that were sent."""
        return all(ttl in self.hops for ttl in range(1, min(self.sent, self.end) + 1))

    def silent(self) -> list[int]:
        """The times-to-live before the end of whose SYNs nothing was heard."""
        return [ttl for ttl in range(1, self.end) if ttl not in self.hops]

    def may_end_before(self) -> bool:
        """Whether the path ended, and something before that was silent."""
        return bool(self.ends and self.silent())

    def told_by_router(self) -> bool:
        """Whether a router said where the path ends: it may have kept back an earlier word of it."""
        last = self.hops.get(self.end)
        return last is not None and last["icmp"] is not None

    def send(self, out: socket.socket, ttl: int) -> None:
        """Send the SYN of a time-to-live."""
        from scapy.layers.inet import IP, TCP

        header = IP(src=self.source, dst=self.request.address, ttl=ttl, id=ttl, flags="DF")
        syn = TCP(
            sport=self.port,
            dport=self.request.port,
            flags="S",
            seq=(self.first + ttl) % 2**32,
            options=[("MSS", 1460)],
        )
        self.sent = max(self.sent, ttl)
        send(out, header / syn, self.request.address)

    def take(self, packet: IP, error: Icmp | None) -> None:
        """Take an answer to a SYN; the first to each counts."""
        from scapy.layers.inet import TCP

        reply = packet.payload
        if error is not None:
            port, _, number = quoted(packet, socket.IPPROTO_TCP)
            word = "icmp"
        elif isinstance(reply, TCP):
            port, number = reply.dport, reply.ack - 1
            flags = str(reply.flags)
            word = "rst" if "R" in flags else "syn-ack" if {"S", "A"} <= set(flags) else ""
        else:
            return
        ttl = (number - self.first) % 2**32
        if word and port == self.port and 1 <= ttl <= self.sent:
            if error is not None and ttl not in self.hops:
                HEARD.setdefault(packet.src, []).append(time.monotonic())
            hop = {"ttl": ttl, "answer": word, "source": packet.src, "icmp": error}
            self.hops.setdefault(ttl, hop)
            if error is None or error["type"] != TIME_EXCEEDED:
                self.ends.add(ttl)

    def count_what_may_come(self) -> None:
        """Count the errors that the router at the end sends for the SYNs behind it, heard or not."""
        if self.told_by_router():
            more = min(self.sent - self.end, MOST_ERRORS)
            HEARD[self.hops[self.end]["source"]] += [time.monotonic()] * more


def let_routers_rest(until: float) -> None:
    """Wait until each router may send some errors again."""
    now = time.monotonic()
    most = MOST_ERRORS - ERRORS_LEFT
    last = [sorted(times)[-most - 1] for times in list(HEARD.values()) if len(times) > most]
    begin = max(last, default=now - ERRORS_SECONDS) + ERRORS_SECONDS
    if begin >= until:
        raise CutError
    time.sleep(max(0.0, begin - now))


@contextlib.contextmanager
def turn(until: float) -> Iterator[None]:
    """Have the routers to oneself, when they have rested."""
    if not TURN.acquire(timeout=max(0.0, until - time.monotonic())):
        raise CutError
    try:
        let_routers_rest(until)
        yield
    finally:
        TURN.release()


def walk(path: Path, out: socket.socket, ear: socket.socket, until: float) -> None:
    """Send SYNs: one by one while they are answered, more at once in silence."""
    burst = 1
    while path.sent < path.end:
        for _ in range(min(burst, path.end - path.sent)):
            path.send(out, path.sent + 1)
        path.listen(ear, min(until, time.monotonic() + HOP_WAIT))
        burst = 1 if path.sent in path.hops else burst * 2


def walk_again(path: Path, out: socket.socket, ear: socket.socket, until: float) -> None:
    """Send once more what was met with silence, of a path that goes on behind it.

    Its router may have kept an error back for others that it had sent us, for another program's even.
    """
    for ttl in path.silent():
        path.send(out, ttl)
    path.listen(ear, min(until, time.monotonic() + HOP_WAIT))
    path.count_what_may_come()


def trace(request: Request, until: float) -> dict[str, Any]:
    """Follow SYNs to where they end."""
    with (
        port_kept(socket.SOCK_STREAM) as kept,
        sender() as out,
        capture(socket.IPPROTO_TCP, 2, port := kept.getsockname()[1]) as ear,
    ):
        path = Path(request, port)
        with turn(until):
            walk(path, out, ear, until)
        wait = HOP_WAIT if path.ends else LAST_WAIT
        path.listen(ear, min(until, time.monotonic() + wait))
        path.count_what_may_come()
        # what the first walk saw is kept, whatever comes of others
        with contextlib.suppress(CutError, UnsentError):
            for _ in range(MOST_WALKS):
                if not path.may_end_before():
                    break
                time.sleep(max(0.0, min(KEPT_BACK_SECONDS, until - time.monotonic())))
                with turn(until):
                    walk_again(path, out, ear, until)
                if not path.told_by_router():
                    break
    if not path.ends and not path.complete() and time.monotonic() >= until:
        raise CutError
    nothing = {"answer": "", "source": "", "icmp": None}
    return {"hops": [path.hops.get(t, {"ttl": t, **nothing}) for t in range(1, path.end + 1)]}


class Echoes(Exchange):
    """Echo requests that must not be fragmented, told by their sequence numbers."""

    def __init__(self, request: Request) -> None:
        """Take the largest first."""
        super().__init__(request)
        self.waiting: dict[int, tuple[dict[str, Any], float]] = {}
        self.found: list[dict[str, Any]] = [
            {
                "size": s,
                "sent": request.samples,
                "replies": 0,
                "seconds": 0,
                "errno": 0,
                "icmp": None,
            }
            for s in sorted(set(request.sizes), reverse=True)
        ]

    def complete(self) -> bool:
        """Whether each request is answered."""
        return not self.waiting

    def send(self, out: socket.socket, number: int, about: dict[str, Any]) -> None:
        """Send one request; what the system refuses is an outcome of that size."""
        from scapy.layers.inet import ICMP, IP

        header = IP(src=self.source, dst=self.request.address, flags="DF", id=number)
        echo = (
            header / ICMP(type=ECHO_REQUEST, id=self.mark, seq=number) / bytes(about["size"] - 28)
        )
        self.waiting[number] = about, time.monotonic()
        try:
            send(out, echo, self.request.address)
        except UnsentError as error:
            del self.waiting[number]
            about["errno"] = error.args[0]

    def take(self, packet: IP, error: Icmp | None) -> None:
        """Take a reply, or the error that came in its place."""
        from scapy.layers.inet import ICMP

        reply = packet.payload
        if error is not None:
            _, _, words = quoted(packet, socket.IPPROTO_ICMP)
            mark, number = words >> 16, words & 0xFFFF
        elif isinstance(reply, ICMP) and reply.type == 0:
            mark, number = reply.id, reply.seq
        else:
            return
        if mark != self.mark or number not in self.waiting:
            return
        about, sent = self.waiting.pop(number)
        if error is None:
            about["replies"] += 1
            about["seconds"] = about["seconds"] or round(time.monotonic() - sent, 4)
        else:
            about["icmp"] = about["icmp"] or error


def size(request: Request, until: float) -> dict[str, Any]:
    """Send echo requests of each size."""
    echoes = Echoes(request)
    with sender() as out, capture(socket.IPPROTO_ICMP, 4, echoes.mark) as ear:
        asked = [about for about in echoes.found for _ in range(request.samples)]
        for number, about in enumerate(asked, start=1):
            echoes.send(out, number, about)
            echoes.listen(ear, min(until, time.monotonic() + GAP))
        echoes.listen(ear, min(until, time.monotonic() + LAST_WAIT))
    if not echoes.complete() and time.monotonic() >= until:
        raise CutError
    return {"sizes": echoes.found}


class Questions(Exchange):
    """The same question for a name's addresses, some times; whoever answers is heard."""

    def __init__(self, request: Request, port: int) -> None:
        """Nothing is asked yet."""
        super().__init__(request, port)
        self.replies: dict[tuple[int, str, int], dict[str, Any]] = {}
        self.errors: list[Icmp] = []

    def complete(self) -> bool:
        """Whether each question is answered, by the one that was asked or by an error."""
        asked = (self.request.address, self.request.port)
        answered = [number for number, *who in self.replies if tuple(who) == asked]
        return len(answered) + len(self.errors) >= self.request.samples

    def packet(self, number: int) -> Packet:
        """Build the question with a number of its own."""
        from scapy.layers.dns import DNS, DNSQR
        from scapy.layers.inet import IP, UDP

        ports = UDP(sport=self.port, dport=self.request.port)
        mark = (self.mark + number) % 2**16
        question = DNS(id=mark, rd=1, qd=DNSQR(qname=self.request.name, qtype="A"))
        return IP(src=self.source, dst=self.request.address) / ports / question

    def take(self, packet: IP, error: Icmp | None) -> None:
        """Take a whole answer to the question, or the error that came in its place."""
        from scapy.layers.dns import DNS
        from scapy.layers.inet import UDP

        datagram = packet.payload
        if error is not None and quoted(packet, socket.IPPROTO_UDP)[0] == self.port:
            self.errors.append(error)
        elif error is None and isinstance(datagram, UDP) and datagram.dport == self.port:
            message = DNS(bytes(datagram.payload))
            number = (message.id - self.mark) % 2**16
            name = message.qd[0].qname.decode().rstrip(".").lower()
            whole = len(message.an or ()) == message.ancount
            fits = name == self.request.name.rstrip(".").lower() and number < self.request.samples
            if message.qr == 1 and fits and whole:
                addresses = [str(r.rdata) for r in message.an or () if r.type == 1]
                self.replies[number, packet.src, datagram.sport] = {
                    "sample": number,
                    "source": packet.src,
                    "port": datagram.sport,
                    "rcode": int(message.rcode),
                    "addresses": addresses[:MOST_OWNERS],
                }


def dns(request: Request, until: float) -> dict[str, Any]:
    """Ask for a name's addresses, and take an answer from whomever it comes."""
    with (
        port_kept(socket.SOCK_DGRAM) as kept,
        sender() as out,
        capture(socket.IPPROTO_UDP, 2, port := kept.getsockname()[1]) as ear,
    ):
        asked = Questions(request, port)
        for number in range(request.samples):
            send(out, asked.packet(number), request.address)
            asked.listen(ear, min(until, time.monotonic() + GAP))
        asked.listen(ear, min(until, time.monotonic() + LAST_WAIT))
    if not asked.complete() and time.monotonic() >= until:
        raise CutError
    icmp = asked.errors[0] if asked.errors else None
    replies = list(asked.replies.values())[:MOST_REPLIES]
    return {"sent": request.samples, "replies": replies, "icmp": icmp}


KINDS: dict[str, tuple[Callable[[Request, float], dict[str, Any]], set[str]]] = {
    "arp": (arp, {"interface", "samples"}),
    "trace": (trace, {"port", "hops"}),
    "size": (size, {"sizes", "samples"}),
    "dns": (dns, {"port", "name", "samples"}),
}

if __name__ == "__main__":
    sys.exit(main())
