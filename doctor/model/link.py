"""The links of the failure chain, in the order in which a packet's path is walked."""

from enum import StrEnum

__all__ = ["Link"]


class Link(StrEnum):
    """One station of the chain."""

    NODE = "node"
    FLANNEL = "flannel"
    OVERLAY = "overlay"
    DNS = "dns"
    WEBHOOK = "webhook"
    KUBE_PROXY = "kube-proxy"
    SERVICE = "service"
    METALLB = "metallb"
    INGRESS = "ingress"
    HOST_PROXY = "host-proxy"
    EGRESS = "egress"
