"""Codes of what is broken between pods."""

from doctor.model.finding import Code
from doctor.model.link import Link

__all__ = [
    "OVERLAY_DEVICE_BROKEN",
    "OVERLAY_FORWARD_DROPPED",
    "OVERLAY_HOST_FIREWALL",
    "OVERLAY_IP_FORWARD_OFF",
    "OVERLAY_PATH_BROKEN",
    "OVERLAY_PUBLIC_IP_WRONG",
    "OVERLAY_ROUTED_FILTERED",
    "OVERLAY_ROUTE_MISSING",
    "OVERLAY_UDP_FILTERED",
    "POD_NETWORK_BROKEN",
    "UNDERLAY_UNREACHABLE",
    "VERIFY",
]


def _code(name: str, meaning: str) -> Code:
    """Make a code of this link."""
    return Code(name, Link.OVERLAY, meaning)


UNDERLAY_UNREACHABLE = _code(
    "UNDERLAY_UNREACHABLE", "Nodes do not reach each other's own addresses either."
)
OVERLAY_UDP_FILTERED = _code(
    "OVERLAY_UDP_FILTERED",
    "VXLAN's UDP port is dropped between nodes that reach each other otherwise.",
)
OVERLAY_HOST_FIREWALL = _code(
    "OVERLAY_HOST_FIREWALL", "A firewall rule on a node drops VXLAN's UDP port."
)
OVERLAY_DEVICE_BROKEN = _code(
    "OVERLAY_DEVICE_BROKEN", "A node's VXLAN device is missing, down or set up differently."
)
OVERLAY_PUBLIC_IP_WRONG = _code(
    "OVERLAY_PUBLIC_IP_WRONG", "Flannel told the other nodes an address at which a node is not."
)
OVERLAY_ROUTE_MISSING = _code(
    "OVERLAY_ROUTE_MISSING", "A node has no route to another node's pod network."
)
OVERLAY_ROUTED_FILTERED = _code(
    "OVERLAY_ROUTED_FILTERED",
    "Packets with pod addresses are dropped between nodes that reach each other otherwise.",
)
OVERLAY_FORWARD_DROPPED = _code(
    "OVERLAY_FORWARD_DROPPED", "A node drops what it should forward for its pods."
)
OVERLAY_IP_FORWARD_OFF = _code(
    "OVERLAY_IP_FORWARD_OFF", "A node does not forward packets: net.ipv4.ip_forward is 0."
)
OVERLAY_PATH_BROKEN = _code(
    "OVERLAY_PATH_BROKEN", "Pods of two nodes do not reach each other; where it ends is not clear."
)
POD_NETWORK_BROKEN = _code(
    "POD_NETWORK_BROKEN", "Pods of a node are out of reach on that node itself."
)

VERIFY = "wwwm-doctor check overlay"
