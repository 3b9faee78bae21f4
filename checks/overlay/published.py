"""What flannel on each node tells the others of it, and which device carries that."""

import msgspec

from checks.overlay.world import World
from doctor.model.kube import PUBLIC_IP, Node
from doctor.model.node import Link, NodeNetwork

__all__ = ["Published", "published", "vtep"]

_PREFIX = "flannel.alpha.coreos.com/"


class _Data(msgspec.Struct, frozen=True):
    """The annotation backend-data of a node with VXLAN."""

    vni: int = msgspec.field(name="VNI", default=0)
    mac: str = msgspec.field(name="VtepMAC", default="")


class Published(msgspec.Struct, frozen=True):
    """What a node's annotations say; empty where they say nothing.

    Args:
        backend: ``vxlan``, ``host-gw``, …
        vni: The number of its VXLAN.
        mac: The hardware address of its VXLAN device, in small letters.
        address: Where other nodes are to send frames for it.
    """

    backend: str = ""
    vni: int = 0
    mac: str = ""
    address: str = ""


def published(node: Node | None) -> Published:
    """Read a node's annotations; what is malformed in them says nothing."""
    notes = node.annotations if node else {}
    try:
        data = msgspec.json.decode(notes.get(f"{_PREFIX}backend-data", "{}"), type=_Data)
    except (msgspec.DecodeError, UnicodeEncodeError):
        data = _Data()
    return Published(
        backend=notes.get(f"{_PREFIX}backend-type", ""),
        vni=data.vni,
        mac=data.mac.lower(),
        address=notes.get(PUBLIC_IP, ""),
    )


def vtep(world: World, read: NodeNetwork) -> Link | None:
    """Return a node's VXLAN device: of several, the one with the number that it published."""
    devices = [i for i in read.links if i.vxlan_id or i.vxlan_port]
    said = published(world.nodes.named(read.node)).vni
    return next((d for d in devices if said and d.vxlan_id == said), next(iter(devices), None))
