"""What flows are planned from, and how one is made. Pure."""

import ipaddress
from collections.abc import Iterable

import msgspec

from doctor.evidence.tables import Source, Tables
from doctor.model.evidence import EndpointAddress
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.model.node import Link

__all__ = [
    "MACHINE",
    "MOST_ENDPOINTS",
    "MOST_VANTAGES",
    "Stage",
    "flow",
    "on_link",
    "some",
]

MOST_ENDPOINTS = 4
MOST_VANTAGES = 8
MACHINE = Vantage(VantageKind.MACHINE)
_NOT_UPLINKS = ("lo", "cni", "flannel", "veth", "docker", "cali", "kube-", "tunl", "br-")


class Stage(msgspec.Struct, frozen=True):
    """What is known when flows are planned.

    Args:
        tables: Evidence so far: states, node facts, probe pods.
        nodes: Nodes that can be entered.
        pods: Nodes with a running probe pod.
        waves: What is wanted.
        outside: The vantages outside the cluster: this machine, and the proxy host if named.
        segments: Interfaces of this machine by the address that they have on-link.
        nonce: A number drawn for this run: what is asked with it in it is in nobody's cache.
    """

    tables: Tables
    nodes: tuple[str, ...]
    pods: tuple[str, ...]
    waves: frozenset[Source]
    outside: tuple[Vantage, ...] = (MACHINE,)
    segments: dict[str, str] = {}
    nonce: int = 0

    @property
    def vantages(self) -> tuple[Vantage, ...]:
        """All vantages inside the cluster."""
        return (
            *(Vantage(VantageKind.POD, n) for n in self.pods),
            *(Vantage(VantageKind.NODE, n) for n in self.nodes),
        )


def flow(  # noqa: PLR0913 - these are a flow's parts
    purpose: Purpose,
    vantage: Vantage,
    kind: FlowKind,
    address: str,
    port: int = 0,
    *,
    name: str = "",
    path: str = "/",
    subject: str = "",
    size: int = 0,
    samples: int = 1,
) -> Flow:
    """Make a flow with an id that says what it is."""
    to = f"{address}:{port}" if port else address
    tail = "" if kind in (FlowKind.TCP, FlowKind.DNS_TCP, FlowKind.DNS_UDP) else f":{name}"
    if purpose in (Purpose.EGRESS, Purpose.EGRESS_NAME):
        tail = f":{subject}"
    if purpose is Purpose.SEARCH:
        tail = f":{name}"
    if kind is FlowKind.HTTP:
        tail += path
    if size:
        tail += f":{size}"
    return Flow(
        id=f"{purpose}:{vantage.key}>{kind}:{to}{tail}",
        purpose=purpose,
        vantage=vantage,
        kind=kind,
        address=address,
        port=port,
        name=name,
        path=path,
        subject=subject,
        size=size,
        samples=samples,
    )


def some(endpoints: Iterable[EndpointAddress]) -> tuple[EndpointAddress, ...]:
    """Bound the endpoints that are tried, always the same ones, each address once."""
    unique = {e.address: e for e in sorted(endpoints, key=lambda e: (e.node, e.address))}
    return tuple(unique.values())[:MOST_ENDPOINTS]


def on_link(links: Iterable[Link], address: str) -> str:
    """Return the uplink whose network holds an address; empty where none does."""
    wanted = ipaddress.ip_address(address)
    for link in links:
        if link.name.startswith(_NOT_UPLINKS):
            continue
        if any(wanted in ipaddress.ip_interface(own).network for own in link.addresses):
            return link.name
    return ""
