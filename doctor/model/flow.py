"""Flows: what is asked, from where, and what came of it."""

from enum import StrEnum
from http import HTTPStatus

import msgspec

from doctor.model.failure import Failure
from doctor.model.hop import Hop

__all__ = [
    "Flow",
    "FlowKind",
    "Icmp",
    "Observation",
    "Phases",
    "Purpose",
    "Sample",
    "TraceHop",
    "Vantage",
    "VantageKind",
]


class VantageKind(StrEnum):
    """Where a probe is sent from."""

    POD = "pod"
    NODE = "node"
    MACHINE = "machine"
    PROXY = "proxy"


class Vantage(msgspec.Struct, frozen=True, order=True):
    """A place to look from.

    Args:
        kind: In a pod's network, in a node's own network, on this machine, or on the proxy host.
        node: The Kubernetes name of the node; empty for this machine and for the proxy host.
    """

    kind: VantageKind
    node: str = ""

    def __str__(self) -> str:
        """Name the vantage as users read it."""
        match self.kind:
            case VantageKind.POD:
                return f"a pod on {self.node}"
            case VantageKind.NODE:
                return f"node {self.node}"
            case VantageKind.MACHINE:
                return "this machine"
            case VantageKind.PROXY:
                return "the proxy host"

    @property
    def key(self) -> str:
        """Name it as the ids of flows do: ``pod@worker-1``, ``machine``."""
        return f"{self.kind}@{self.node}" if self.node else str(self.kind)

    @property
    def outside(self) -> bool:
        """Whether it lies outside the cluster's nodes."""
        return self.kind in (VantageKind.MACHINE, VantageKind.PROXY)


class FlowKind(StrEnum):
    """The protocol exchange of a flow."""

    TCP = "tcp"
    DNS_UDP = "dns-udp"
    DNS_TCP = "dns-tcp"
    HTTP = "http"
    ARP = "arp"
    RESOLVE = "resolve"
    PING = "ping"
    TLS = "tls"
    TRACE = "trace"


class Purpose(StrEnum):
    """Which question a flow belongs to."""

    UNDERLAY = "underlay"
    MESH = "mesh"
    OWN_NODE = "own-node"
    DNS = "dns"
    DNS_CONTROL = "dns-control"
    WEBHOOK = "webhook"
    SERVICE_IP = "service-ip"
    API_DIRECT = "api-direct"
    PROXY_API = "proxy-api"
    BACKEND = "backend"
    READINESS = "readiness"
    NODE_PORT = "node-port"
    VIP = "vip"
    VIP_ARP = "vip-arp"
    ARP_CONTROL = "arp-control"
    INGRESS = "ingress"
    TARGET = "target"
    UPSTREAM = "upstream"
    EGRESS_NAME = "egress-name"
    EGRESS = "egress"
    UNDERLAY_SIZE = "underlay-size"
    MESH_SIZE = "mesh-size"
    WEBHOOK_TLS = "webhook-tls"
    TARGET_TLS = "target-tls"
    NAME = "name"
    TRACE = "trace"
    RESOLVER = "resolver"
    FORWARDED = "forwarded"
    SEARCH = "search"
    POD_RESOLVER = "pod-resolver"
    BURST = "burst"


class Flow(msgspec.Struct, frozen=True):
    """One question asked of the network.

    Args:
        id: Stable within a run: the evidence id that findings cite.
        purpose: The question that it helps to answer.
        vantage: Where it is asked from.
        kind: The protocol exchange.
        address: The IPv4 address that is dialled, asked for (ARP), or empty (RESOLVE).
        port: The port dialled; 0 where there is none.
        name: A DNS name (DNS, RESOLVE), a Host header (HTTP), a server name (TLS), an interface
            (ARP), the number of its round (BURST); else empty.
        path: The request path (HTTP).
        subject: The object that it is about, such as ``namespace/name`` or a URL.
        size: Bytes of the whole IP packet (PING), which must not be fragmented; 0 for the
            tool's own size.
        samples: How often it is asked; the loss is counted, never retried away.
    """

    id: str
    purpose: Purpose
    vantage: Vantage
    kind: FlowKind
    address: str
    port: int = 0
    name: str = ""
    path: str = "/"
    subject: str = ""
    size: int = 0
    samples: int = 1

    def asked_from(self, vantage: Vantage) -> "Flow":
        """Return the same question, asked from another vantage."""
        _, _, what = self.id.partition(">")
        return msgspec.structs.replace(
            self, id=f"{self.purpose}:{vantage.key}>{what}", vantage=vantage
        )

    @property
    def protocol(self) -> str:
        """What a packet filter sees: ``tcp/53``, ``udp/53``, ``arp``."""
        match self.kind:
            case FlowKind.DNS_UDP:
                return f"udp/{self.port}"
            case FlowKind.ARP:
                return "arp"
            case FlowKind.RESOLVE:
                return "resolve"
            case FlowKind.PING:
                return "icmp"
            case _:
                return f"tcp/{self.port}"


class Phases(msgspec.Struct, frozen=True):
    """Seconds that the parts of an HTTP request took, each counted by itself.

    Args:
        connect: Until the TCP connection stood.
        tls: The TLS handshake; None for plain HTTP.
        first_byte: From the request sent to the first byte of the answer; None where none came.
    """

    connect: float
    tls: float | None = None
    first_byte: float | None = None


class Icmp(msgspec.Struct, frozen=True):
    """An ICMP error that came back, as numbered by IANA: 3/1 host unreachable, 3/4 too big, 3/10."""

    type: int
    code: int
    source: str


class TraceHop(msgspec.Struct, frozen=True):
    """What answered a TCP SYN that was sent with one time-to-live.

    Args:
        ttl: The time-to-live that it was sent with.
        answer: ``syn-ack``, ``rst``, ``icmp``, or empty where nothing came.
        source: Who answered; empty where nobody did.
        icmp: The ICMP message, if it was one.
    """

    ttl: int
    answer: str = ""
    source: str = ""
    icmp: Icmp | None = None


class Sample(msgspec.Struct, frozen=True):
    """What a tool printed when it asked once, shortened; bytes as it encoded them.

    Args:
        status: Its exit status.
        seconds: How long it ran.
        stdout: The beginning of what it printed.
        stderr: The beginning of its complaints.
    """

    status: int
    seconds: float
    stdout: str = ""
    stderr: str = ""


class Observation(msgspec.Struct, frozen=True):
    """What came of one flow.

    Args:
        flow: What was asked.
        failure: None where an answer came, else how it failed.
        seconds: How long it took.
        answers: Addresses (DNS, RESOLVE) or hardware addresses (ARP), sorted.
        status: The HTTP status, 0 where there was none.
        server: The HTTP ``Server`` header.
        location: The HTTP ``Location`` header.
        looping: Whether redirects of the same host lead back to what was asked, or find no end.
        detail: What the tool or the system said, shortened.
        sent: How many samples were sent.
        lost: How many of them stayed without an answer; ``failure`` is None if any was answered.
        phases: How long the parts of an HTTP request took, where they were measured.
        icmp: The ICMP error that came back, where one was seen.
        trace: Who answered at which time-to-live (TRACE).
        certificates: The chain that a server showed, in DER as base64, its own first (TLS).
        printed: What the tool printed, of the first samples (by the relay).
        hops: The predicted path, in order, the reply's hops included. Filled in when evidence is
            built, never by a probe.
        certain: Those of the hops that it crosses whichever endpoint it meets.
    """

    flow: Flow
    failure: Failure | None
    seconds: float
    answers: tuple[str, ...] = ()
    status: int = 0
    server: str = ""
    location: str = ""
    looping: bool = False
    detail: str = ""
    sent: int = 1
    lost: int = 0
    phases: Phases | None = None
    icmp: Icmp | None = None
    trace: tuple[TraceHop, ...] = ()
    certificates: tuple[str, ...] = ()
    printed: tuple[Sample, ...] = ()
    hops: tuple[Hop, ...] = ()
    certain: tuple[Hop, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the network delivered an answer (any HTTP status is one)."""
        return self.failure is None

    @property
    def degraded(self) -> bool:
        """Whether some samples were answered and some were not."""
        return 0 < self.lost < self.sent

    @property
    def served(self) -> bool:
        """Whether the answer is what a visitor wants: no 404, no 5xx, no redirect round in circles."""
        return (
            self.ok
            and not self.looping
            and (
                self.status == 0
                or (
                    self.status < HTTPStatus.INTERNAL_SERVER_ERROR
                    and self.status != HTTPStatus.NOT_FOUND
                )
            )
        )
