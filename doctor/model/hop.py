"""Hops: the places that a packet crosses, and classes of them.

A hop is written ``kind:where`` or ``kind:where:what``, for example
``underlay:master>k8s-worker-1:udp/8472``, ``forward:master:udp/53``, ``service:shop/web``.
``*`` in the place of a node stands for a class of hops: ``underlay:*>*:udp/8472``.
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


class Hop(msgspec.Struct, frozen=True, order=True):
    """One place on a path, or a class of places.

    Args:
        kind: What stands there.
        where: A node, ``from>to``, ``namespace/name``, an address or a host; ``*`` for any.
        what: What the hop sees: ``udp/8472``, ``tcp/53``; empty where it sees everything.
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
            and (self.what in ("", other.what))
        )


def _covers_where(pattern: str, where: str) -> bool:
    """Match ``a>b`` and plain places; ``*`` stands for any node."""
    if pattern in (ANY, where):
        return True
    ours, theirs = pattern.split(">"), where.split(">")
    return len(ours) == len(theirs) and all(
        a in (ANY, b) for a, b in zip(ours, theirs, strict=True)
    )
