"""What flannel set up on a node for another one, compared with what that one published."""

from ipaddress import ip_network

from checks.overlay.codes import (
    OVERLAY_DEVICE_BROKEN,
    OVERLAY_PUBLIC_IP_WRONG,
    OVERLAY_ROUTE_MISSING,
    VERIFY,
)
from checks.overlay.world import Fault, World, restart
from doctor.model.finding import Confidence, Remediation, Risk

__all__ = ["address_fault", "device_fault", "route_fault"]


PUBLIC_IP = "flannel.alpha.coreos.com/public-ip"
BACKEND_DATA = "flannel.alpha.coreos.com/backend-data"


def route_fault(world: World, at: str, to: str) -> Fault | None:
    """Look for the route to another node's pods."""
    read, peer = world.networks.of(at), world.nodes.named(to)
    if not world.flannel.daemonsets or not read or not read.routes or not peer:
        return None
    cidr = peer.spec.pod_cidr
    if not cidr or any(_contains(r.destination, cidr) for r in read.routes):
        return None
    return Fault(
        OVERLAY_ROUTE_MISSING,
        f"Node {at} has no route to the pod network {cidr} of node {to}",
        (read.evidence, f"api:nodes/{to}"),
        restart(world, at, f"Let flannel on {at} set its routes again"),
    )


def _contains(route: str, cidr: str) -> bool:
    """Say whether a route, the default aside, leads to a network."""
    try:
        ours, theirs = ip_network(route, strict=False), ip_network(cidr, strict=False)
    except ValueError:
        return False
    return ours.prefixlen > 0 and ours.overlaps(theirs) and ours.prefixlen <= theirs.prefixlen


def address_fault(world: World, at: str, _: str) -> Fault | None:
    """Compare the address that flannel published with those that the node has."""
    node, read = world.nodes.named(at), world.networks.of(at)
    said = node.annotations.get(PUBLIC_IP, "") if node else ""
    if not node or not said or said == node.address:
        return None
    shared = [n.name for n in world.nodes.items if n.annotations.get(PUBLIC_IP) == said]
    links = read.links if read else ()
    own = {a.partition("/")[0] for link in links for a in link.addresses}
    if said in own and len(shared) == 1:
        return None
    return Fault(
        OVERLAY_PUBLIC_IP_WRONG,
        f"Flannel told the other nodes to reach node {at} at {said}, but its address is "
        f"{node.address}",
        (f"api:nodes/{at}", *((read.evidence,) if read else ())),
        Remediation(
            f"Let flannel on {at} publish the node's own address",
            (
                f"kubectl annotate node {at} --overwrite {PUBLIC_IP}-overwrite- {PUBLIC_IP}={node.address}",
                *restart(world, at, "").commands,
            ),
            Risk.SAFE,
            VERIFY,
        ),
        Confidence.CERTAIN if own or len(shared) > 1 else Confidence.LIKELY,
    )


def device_fault(world: World, at: str, _: str) -> Fault | None:
    """Look at the VXLAN device of a node."""
    read, node = world.networks.of(at), world.nodes.named(at)
    _, _, port = world.mesh.overlay.partition("/")
    if not world.flannel.daemonsets or not port or not read or not read.links or not node:
        return None
    device = next((i for i in read.links if i.vxlan_id or i.vxlan_port), None)
    published = node.annotations.get(BACKEND_DATA, "").lower()
    if device is None:
        what = f"Node {at} has no VXLAN device: flannel has not made it"
    elif not device.up:
        what = f"The VXLAN device {device.name} of node {at} is down"
    elif device.vxlan_port and str(device.vxlan_port) != port:
        what = f"{device.name} of node {at} uses UDP {device.vxlan_port} in place of {port}"
    elif device.mac and "vtepmac" in published and device.mac.lower() not in published:
        what = f"{device.name} of node {at} has the address {device.mac}, and flannel told another"
    else:
        return None
    title = f"Let flannel on {at} make its device again"
    again = restart(world, at, title).commands
    delete = f"{world.flannel.enter(at)} ip link delete {device.name}" if device else ""
    commands = (delete, *again) if delete else again
    return Fault(
        OVERLAY_DEVICE_BROKEN,
        what,
        (read.evidence, f"api:nodes/{at}"),
        Remediation(title, commands, Risk.SAFE, VERIFY),
    )
