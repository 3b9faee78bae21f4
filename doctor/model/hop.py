"""Hops: the places that a packet crosses, and classes of them.

A hop is written ``kind:where`` or ``kind:where:what``, for example
``underlay:master>k8s-worker-1:udp/8472``, ``forward:master:udp/53``, ``service:shop/web``.
``*`` in the place of a node stands for a class of hops, ``a,b`` for a set of nodes:
``underlay:*>*:udp/8472``, ``forward:master,k8s-worker-1:udp/53``.
"""

from enum import StrEnum

import msgspec

__all__ = ["ANY", "Hop", "HopKind"]

ANY = "*"


class HopKind(StrEnum):
    """The kinds of hop, named after what stands there."""

    NODE = "node"
    FLANNEL = "flannel"
    POD_NETWORK = "pod-network"
    FORWARD = "forward"
    MASQUERADE = "masquerade"
    HOST_INPUT = "host-input"
    UNDERLAY = "underlay"
    KUBE_PROXY = "kube-proxy"
    SERVICE = "service"
    POD = "pod"
    WEBHOOK = "webhook"
    ASSIGN = "lb-assign"
    ANNOUNCE = "lb-announce"
    ARP = "lb-arp"
    INGRESS_RULE = "ingress-rule"
    DNS_NAME = "dns-name"
    HOST_PROXY = "host-proxy"
    EGRESS = "egress"
    RESOLVER = "resolver"


class Hop(msgspec.Struct, frozen=True, order=True):
    """One place on a path, or a class of places.

    Args:
        kind: What stands there.
        where: A node, ``from>to``, ``namespace/name``, an address or a host; ``*`` for any.
        what: What the hop sees: ``udp/8472``, ``tcp/53``, ``udp+tcp/53``; empty for everything.
    """

    kind: HopKind
    where: str
    what: str = ""

    def __str__(self) -> str:
        """Write the hop as users read it."""
        return ":".join(part for part in (self.kind.value, self.where, self.what) if part)

    def covers(self, other: "Hop") -> bool:
        """Say whether a fault at this hop (or class) is met by traffic that crosses ``other``."""
        return (
            self.kind is other.kind
            and _covers_where(self.where, other.where)
            and (self.what in ("", other.what) or _covers_what(self.what, other.what))
        )


def _covers_where(pattern: str, where: str) -> bool:
    """Match ``a>b`` and plain places; ``*`` stands for any node, ``a,b`` for each of a set."""
    if pattern in (ANY, where):
        return True
    ours, theirs = pattern.split(">"), where.split(">")
    return len(ours) == len(theirs) and all(
        a == ANY or b in a.split(",") for a, b in zip(ours, theirs, strict=True)
    )


def _covers_what(pattern: str, what: str) -> bool:
    """Match one protocol of several: ``udp+tcp/53`` covers ``tcp/53``."""
    protocols, _, port = pattern.partition("/")
    protocol, _, other = what.partition("/")
    return port == other and protocol in protocols.split("+")
