"""A node's VXLAN device: that it is there, and set up as the others expect it."""

from collections import Counter

from checks.common import and_list
from checks.overlay.codes import (
    OVERLAY_BACKEND_MISMATCH,
    OVERLAY_DEVICE_BROKEN,
    OVERLAY_PORT_IN_USE,
    OVERLAY_PORT_MISMATCH,
    OVERLAY_VNI_MISMATCH,
    OVERLAY_VTEP_MAC_CHANGED,
    VERIFY,
)
from checks.overlay.published import published, vtep
from checks.overlay.world import Fault, World, restart
from doctor.model.finding import Code, Remediation, Risk
from doctor.model.node import Link, NodeNetwork

__all__ = ["backend_fault", "device_fault"]


def backend_fault(world: World, at: str, _: str) -> Fault | None:
    """Compare the backends that the nodes say they run: flannel passes over those of another."""
    said = {n.name: published(n).backend for n in world.nodes.items}
    mine = said.get(at, "")
    others = [b for b in said.values() if b]
    most = _usual(others, prefer=world.flannel.backend)
    if not mine or mine == most:
        return None
    return Fault(
        OVERLAY_BACKEND_MISMATCH,
        f"Flannel on node {at} runs the backend {mine}, and {most} on the other nodes",
        tuple(f"api:nodes/{n}" for n in sorted(said) if said[n]),
        _restart_all(world, "Let flannel on every node run the backend of its configuration"),
    )


def _usual(values: list[str], prefer: str) -> str:
    """Return what most say; among equals what is preferred, or the first by name."""
    counts = Counter(values)
    return max(sorted(counts), key=lambda v: (counts[v], v == prefer), default="")


def _restart_all(world: World, title: str, *then: str) -> Remediation:
    """Say how to let flannel set up all nodes again, and what to do after that."""
    return Remediation(title, (*_restarts(world), *then), Risk.DISRUPTIVE, VERIFY)


def _restarts(world: World) -> tuple[str, ...]:
    """Write the commands that restart flannel everywhere, and wait for it."""
    return tuple(
        c
        for d in world.flannel.daemonsets
        for c in (
            f"kubectl -n {d.namespace} rollout restart daemonset {d.name}",
            f"kubectl -n {d.namespace} rollout status daemonset {d.name} --timeout=120s",
        )
    )


def device_fault(world: World, at: str, _: str) -> Fault | None:
    """Look at the VXLAN device of a node."""
    read = world.networks.of(at)
    if not world.flannel.daemonsets or not world.mesh.overlay or not read or not read.links:
        return None
    device = vtep(world, read)
    if device is None:
        text = f"Node {at} has no VXLAN device: flannel has not made it"
        again = restart(world, at, f"Let flannel on {at} make its device again")
        return _fault(OVERLAY_DEVICE_BROKEN, text, read, again)
    if not device.up:
        return _down(world, read, device)
    return (
        _odd_port(world, read, device)
        or _odd_number(world, read, device)
        or _mac(world, read, device)
    )


def _fault(code: Code, text: str, read: NodeNetwork, mend: Remediation, *more: str) -> Fault:
    """Make a fault of a node's device."""
    return Fault(code, text, (read.evidence, f"api:nodes/{read.node}", *more), mend)


def _down(world: World, read: NodeNetwork, device: Link) -> Fault:
    """Say that a device is down, and whether something else holds its port."""
    at, port = read.node, device.vxlan_port
    held = any(s.protocol.startswith("udp") and s.port == port for s in read.sockets or ())
    # the kernel's own socket is there only while the device is up
    if port and held and not _other_up(read, device):
        find = f"ssh {at} sudo ss -lunp 'sport = :{port}'"
        up = f"{world.flannel.enter(at)} ip link set {device.name} up"
        return _fault(
            OVERLAY_PORT_IN_USE,
            f"The VXLAN device {device.name} of node {at} is down, and another process has its "
            f"port, UDP {port}",
            read,
            Remediation(
                f"Stop the process that listens at UDP {port} of {at}, then bring the device up",
                (
                    find,
                    f"ssh {at} sudo fuser -k {port}/udp",
                    up,
                    *restart(world, at, "").commands,
                ),
                Risk.DISRUPTIVE,
                VERIFY,
            ),
        )
    return _fault(
        OVERLAY_DEVICE_BROKEN,
        f"The VXLAN device {device.name} of node {at} is down",
        read,
        _made_again(world, at, device),
    )


def _other_up(read: NodeNetwork, device: Link) -> bool:
    """Say whether another VXLAN device of the node holds the same port."""
    return any(
        i.up and i.vxlan_port == device.vxlan_port and i.name != device.name for i in read.links
    )


def _made_again(world: World, at: str, device: Link) -> Remediation:
    """Say how to let flannel make a device again."""
    again = restart(world, at, f"Let flannel on {at} make its device again")
    delete = f"{world.flannel.enter(at)} ip link delete {device.name}"
    return Remediation(again.title, (delete, *again.commands), Risk.SAFE, VERIFY)


def _devices(world: World) -> dict[str, Link]:
    """Return the VXLAN devices of all nodes that were read."""
    found = ((n.node, vtep(world, n)) for n in world.networks.items if n.links)
    return {name: device for name, device in found if device}


def _odd_port(world: World, read: NodeNetwork, device: Link) -> Fault | None:
    """Compare the UDP port with the other nodes'."""
    _, _, told = world.mesh.overlay.partition("/")
    ports = {n: str(d.vxlan_port) for n, d in _devices(world).items() if d.vxlan_port}
    usual = _usual(list(ports.values()), prefer=told) if len(ports) > 1 else told
    if not device.vxlan_port or str(device.vxlan_port) == usual:
        return None
    others = [n for n, p in ports.items() if p == usual]
    return _fault(
        OVERLAY_PORT_MISMATCH,
        f"{device.name} of node {read.node} uses UDP {device.vxlan_port} in place of {usual}"
        + (f", which {and_list(others)} use" if others else ""),
        read,
        _restart_all(
            world,
            "Let flannel on every node use the port of its configuration",
            # a device that is there is kept where the configuration names no port; one that is
            # deleted is made again at once by the flannel that runs, but its routes are not
            f"ssh {read.node} sudo ip link delete {device.name}",
            *_restarts(world),
        ),
        *(f"node:{n}" for n in others),
    )


def _odd_number(world: World, read: NodeNetwork, device: Link) -> Fault | None:
    """Compare the number of the VXLAN with the other nodes'."""
    numbers = {n: str(d.vxlan_id) for n, d in _devices(world).items() if d.vxlan_id}
    numbers |= {
        n.name: str(p.vni)
        for n in world.nodes.items
        if (p := published(n)).vni and n.name != read.node
    }
    usual = _usual(list(numbers.values()), prefer="1")
    if not device.vxlan_id or str(device.vxlan_id) == usual:
        return None
    others = [n for n, v in numbers.items() if v == usual]
    return _fault(
        OVERLAY_VNI_MISMATCH,
        f"{device.name} of node {read.node} is in the VXLAN {device.vxlan_id} in place of {usual}, "
        f"in which {and_list(others)} are",
        read,
        _restart_all(
            world,
            "Let flannel on every node use the VNI of its configuration",
            f"ssh {read.node} sudo ip link delete {device.name}",
        ),
        *(f"api:nodes/{n}" for n in others),
    )


def _mac(world: World, read: NodeNetwork, device: Link) -> Fault | None:
    """Compare the hardware address with the one that the other nodes were told."""
    told, is_ = published(world.nodes.named(read.node)).mac, device.mac.lower()
    if not told or not is_ or told == is_:
        return None
    return _fault(
        OVERLAY_VTEP_MAC_CHANGED,
        f"{device.name} of node {read.node} has the address {is_}, and flannel told the other "
        f"nodes {told}: what they send is not taken",
        read,
        _made_again(world, read.node, device),
    )
