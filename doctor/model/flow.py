"""Flows: what is asked, from where, and what came of it."""

from enum import StrEnum
from http import HTTPStatus

import msgspec

from doctor.model.failure import Failure
from doctor.model.hop import Hop

__all__ = ["Flow", "FlowKind", "Observation", "Purpose", "Vantage", "VantageKind"]


class VantageKind(StrEnum):
    """Where a probe is sent from."""

    POD = "pod"
    NODE = "node"
    MACHINE = "machine"


class Vantage(msgspec.Struct, frozen=True, order=True):
    """A place to look from.

    Args:
        kind: In a pod's network, in a node's own network, or on this machine.
        node: The Kubernetes name of the node; empty for this machine.
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


class FlowKind(StrEnum):
    """The protocol exchange of a flow."""

    TCP = "tcp"
    DNS_UDP = "dns-udp"
    DNS_TCP = "dns-tcp"
    HTTP = "http"
    ARP = "arp"
    RESOLVE = "resolve"


class Purpose(StrEnum):
    """Which question a flow belongs to."""

    UNDERLAY = "underlay"
    MESH = "mesh"
    DNS = "dns"
    DNS_CONTROL = "dns-control"
    WEBHOOK = "webhook"
    SERVICE_IP = "service-ip"
    API_DIRECT = "api-direct"
    BACKEND = "backend"
    READINESS = "readiness"
    VIP = "vip"
    VIP_ARP = "vip-arp"
    ARP_CONTROL = "arp-control"
    INGRESS = "ingress"
    TARGET = "target"
    UPSTREAM = "upstream"
    EGRESS_NAME = "egress-name"
    EGRESS = "egress"


class Flow(msgspec.Struct, frozen=True):
    """One question asked of the network.

    Args:
        id: Stable within a run: the evidence id that findings cite.
        purpose: The question that it helps to answer.
        vantage: Where it is asked from.
        kind: The protocol exchange.
        address: The IPv4 address that is dialled, asked for (ARP), or empty (RESOLVE).
        port: The port dialled; 0 where there is none.
        name: A DNS name (DNS, RESOLVE), a Host header (HTTP), an interface (ARP); else empty.
        path: The request path (HTTP).
        subject: The object that it is about, such as ``namespace/name`` or a URL.
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
            case _:
                return f"tcp/{self.port}"


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
        detail: What the tool or the system said, shortened.
        hops: The predicted path, in order, the reply's hops included. Filled in when evidence is
            built, never by a probe.
    """

    flow: Flow
    failure: Failure | None
    seconds: float
    answers: tuple[str, ...] = ()
    status: int = 0
    server: str = ""
    location: str = ""
    detail: str = ""
    hops: tuple[Hop, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the network delivered an answer (any HTTP status is one)."""
        return self.failure is None

    @property
    def served(self) -> bool:
        """Whether the answer is what a visitor wants: not a 404 and not a 5xx."""
        return self.ok and (
            self.status == 0
            or (
                self.status < HTTPStatus.INTERNAL_SERVER_ERROR
                and self.status != HTTPStatus.NOT_FOUND
            )
        )
