"""Whether the interface that carries pods' packets has room for what their MTU promises."""

from typing import NamedTuple

from checks.overlay.classes import Class
from doctor.model.evidence import NodeNetworks, Nodes
from doctor.model.node import Link, NodeNetwork

__all__ = ["WRAPPING", "Room", "no_room"]

WRAPPING = 50
"""What VXLAN puts around a frame: IP, UDP, its own header, and the inner Ethernet header."""


class Room(NamedTuple):
    """What a node's devices promise.

    Args:
        node: The node.
        uplink: The interface with the node's own address.
        device: The VXLAN device; the bridge of pods where they are routed.
        usual: The largest MTU of the other nodes' uplinks; 0 where none was read.
    """

    node: str
    uplink: Link
    device: Link
    usual: int


def no_room(nodes: Nodes, networks: NodeNetworks, group: Class) -> Room | None:
    """Return the node, at one end of all pairs of a class, whose pods have a larger MTU than fits."""
    found = {n.node: r for n in networks.items if (r := _devices(nodes, n))}
    for name in sorted(set(group.pairs[0]).intersection(*group.pairs)):
        if name not in found:
            continue
        uplink, device = found[name]
        wrapping = WRAPPING if device.vxlan_id or device.vxlan_port else 0
        if uplink.mtu and device.mtu > uplink.mtu - wrapping:
            others = (u.mtu for n, (u, _) in found.items() if n != name)
            return Room(name, uplink, device, max(others, default=0))
    return None


def _devices(nodes: Nodes, read: NodeNetwork) -> tuple[Link, Link] | None:
    """Return a node's uplink, and the device that pods' packets leave by."""
    node = nodes.named(read.node)
    uplink = read.holding(node.address) if node else None
    vxlan = next((i for i in read.links if i.vxlan_id or i.vxlan_port), None)
    device = vxlan or read.link("cni0")
    return (uplink, device) if uplink and device else None
