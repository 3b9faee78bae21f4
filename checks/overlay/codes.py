"""Codes of what is broken between pods."""

from doctor.model.finding import Code
from doctor.model.link import Link

__all__ = [
    "NODE_INPUT_DROPS_PODS",
    "OVERLAY_BACKEND_MISMATCH",
    "OVERLAY_DEVICE_BROKEN",
    "OVERLAY_FDB_WRONG",
    "OVERLAY_FORWARD_DROPPED",
    "OVERLAY_FORWARD_REJECTED",
    "OVERLAY_HOST_FIREWALL",
    "OVERLAY_IP_FORWARD_OFF",
    "OVERLAY_NEIGHBOUR_WRONG",
    "OVERLAY_NOT_DECAPSULATED",
    "OVERLAY_PATH_BROKEN",
    "OVERLAY_PORT_IN_USE",
    "OVERLAY_PORT_MISMATCH",
    "OVERLAY_PUBLIC_IP_STALE",
    "OVERLAY_PUBLIC_IP_WRONG",
    "OVERLAY_ROUTED_FILTERED",
    "OVERLAY_ROUTE_MISSING",
    "OVERLAY_ROUTE_SHADOWED",
    "OVERLAY_RP_FILTER_DROPS",
    "OVERLAY_UDP_CHECKSUM_BROKEN",
    "OVERLAY_UDP_FILTERED",
    "OVERLAY_VNI_MISMATCH",
    "OVERLAY_VTEP_MAC_CHANGED",
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
OVERLAY_DEVICE_BROKEN = _code("OVERLAY_DEVICE_BROKEN", "A node's VXLAN device is missing or down.")
OVERLAY_PUBLIC_IP_STALE = _code(
    "OVERLAY_PUBLIC_IP_STALE",
    "The address that flannel published for a node is one that the node has no more.",
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
OVERLAY_FORWARD_REJECTED = _code(
    "OVERLAY_FORWARD_REJECTED",
    "A node rejects what it should forward for its pods: clients are told so at once.",
)
OVERLAY_BACKEND_MISMATCH = _code(
    "OVERLAY_BACKEND_MISMATCH", "Flannel runs another backend on a node than on the others."
)
OVERLAY_PORT_MISMATCH = _code(
    "OVERLAY_PORT_MISMATCH", "A node's VXLAN device uses another UDP port than the others'."
)
OVERLAY_PORT_IN_USE = _code(
    "OVERLAY_PORT_IN_USE", "Another process on a node has the UDP port that its VXLAN needs."
)
OVERLAY_VNI_MISMATCH = _code(
    "OVERLAY_VNI_MISMATCH", "A node's VXLAN device has another VNI than the others'."
)
OVERLAY_VTEP_MAC_CHANGED = _code(
    "OVERLAY_VTEP_MAC_CHANGED",
    "A node's VXLAN device has another hardware address than flannel told the other nodes.",
)
OVERLAY_ROUTE_SHADOWED = _code(
    "OVERLAY_ROUTE_SHADOWED",
    "A route on a node takes the place of flannel's for pods of another node.",
)
OVERLAY_NEIGHBOUR_WRONG = _code(
    "OVERLAY_NEIGHBOUR_WRONG",
    "A node's ARP entry for another node's VXLAN device is missing, or not what that published.",
)
OVERLAY_FDB_WRONG = _code(
    "OVERLAY_FDB_WRONG",
    "A node's forwarding entry for another node's VXLAN device is missing, or leads elsewhere.",
)
OVERLAY_NOT_DECAPSULATED = _code(
    "OVERLAY_NOT_DECAPSULATED",
    "VXLAN's packets arrive at a node, and its VXLAN device takes none of them.",
)
OVERLAY_UDP_CHECKSUM_BROKEN = _code(
    "OVERLAY_UDP_CHECKSUM_BROKEN",
    "VXLAN's packets arrive at a node with a wrong UDP checksum, and are thrown away.",
)
OVERLAY_RP_FILTER_DROPS = _code(
    "OVERLAY_RP_FILTER_DROPS",
    "A node drops packets of another node because its way back leads by another device.",
)
NODE_INPUT_DROPS_PODS = _code(
    "NODE_INPUT_DROPS_PODS",
    "A node drops what its own pods send to it, while other nodes get answers from there.",
)

VERIFY = "wwwm-doctor check overlay"
