"""The check of cni0, the bridge that joins the pods of a node, and of what hangs on it."""

import re
from collections.abc import Iterator

from checks.common import and_list
from checks.flannel.codes import (
    CNI_BRIDGE_ADDRESS_CONFLICT,
    CNI_BRIDGE_DOWN,
    CNI_BRIDGE_WITHOUT_ADDRESS,
    CNI_VETH_DETACHED,
    VERIFY,
)
from doctor.contract import check
from doctor.model.evidence import Flannel, NodeNetworks, Nodes
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.node import Link, NodeNetwork

__all__ = ["bridge"]

_BRIDGE = "cni0"
_POD_LINK = re.compile(r"veth[0-9a-f]{8}")
"""How the bridge plugin names links: other programs make such pairs, too, by other names."""

_CONFLICT = "already has an IP address different from"


@check(
    id="flannel.bridge",
    title="The bridge of every node's pods is up and has the gateway's address",
    codes=(
        CNI_BRIDGE_DOWN,
        CNI_BRIDGE_WITHOUT_ADDRESS,
        CNI_BRIDGE_ADDRESS_CONFLICT,
        CNI_VETH_DETACHED,
    ),
)
def bridge(nodes: Nodes, flannel: Flannel, networks: NodeNetworks) -> Iterator[Finding]:
    """The bridge of every node's pods is up and has the gateway's address.

    What it looks at:
        The link cni0 of each node: whether it is up, and its address against FLANNEL_SUBNET; and
        the links of pods, each of which should be a port of it.

    Why it matters:
        cni0 is the gateway of all pods of a node, and joins them.

    What proves it:
        It was read as down or without an address though pods run there, or with another address
        than flannel's subnet has. A link of a pod is no port of any bridge, and the ports of cni0 are
        fewer than the pods that have an address.

    Look-alikes:
        A node on which no pod ever started has no cni0. A link that is just being made is no port
        yet, but its pod has no address yet either. A veth of another program has another name than
        the plugin gives. Filters and the overlay leave cni0 as it is.
        Whatever pod starts next on the node, a probe pod included, has the bridge plugin bring
        cni0 up and give it its address: nodes are read before probe pods start.

    Remediation:
        Bring the bridge up, give it the gateway's address, or attach the link again; delete a
        bridge with a former address, and make the node's pods anew.

    Sources:
        CNI documentation, "bridge plugin"; Flannel documentation, "Troubleshooting".
    """
    if not flannel.daemonsets:
        return
    for name in nodes.linux:
        read = networks.of(name)
        device = read.link(_BRIDGE) if read else None
        pods = [p for p in flannel.addressed if p.node == name]
        if read and device:
            yield from _of_node(flannel, read, device, len(pods))


def _of_node(flannel: Flannel, read: NodeNetwork, device: Link, pods: int) -> Iterator[Finding]:
    """Judge the bridge of one node."""
    name, subnet = read.node, read.subnet_env.subnet if read.subnet_env else ""
    if not device.up and pods:
        yield _finding(
            CNI_BRIDGE_DOWN,
            read,
            f"The bridge {_BRIDGE} of {name} is down: its pods reach nobody, and nobody them",
            (f"ssh {name} sudo ip link set {_BRIDGE} up",),
            f"{_BRIDGE} of {name} is up",
        )
    elif not device.addresses and pods:
        yield _finding(
            CNI_BRIDGE_WITHOUT_ADDRESS,
            read,
            f"The bridge {_BRIDGE} of {name} has no address: the pods there have no gateway",
            (f"ssh {name} sudo ip address add {subnet or '<FLANNEL_SUBNET>'} dev {_BRIDGE}",),
            f"{_BRIDGE} of {name} has the address {subnet}",
        )
    elif subnet and device.addresses and subnet not in device.addresses:
        # here the plugin mends nothing: it refuses the next pod
        yield _conflict(flannel, read, device, subnet)
    yield from _loose(read, pods)


def _conflict(flannel: Flannel, read: NodeNetwork, device: Link, subnet: str) -> Finding:
    """Say that the bridge has the address of another subnet."""
    name = read.node
    told = [s for s in flannel.stuck if s.node == name and _CONFLICT in s.message]
    had = and_list(device.addresses)
    addresses = [f"sudo ip address del {a} dev {_BRIDGE}" for a in device.addresses]
    change = "; ".join((f"sudo ip address add {subnet} dev {_BRIDGE}", *addresses))
    return _finding(
        CNI_BRIDGE_ADDRESS_CONFLICT,
        read,
        f"The bridge {_BRIDGE} of {name} has the address {had}, not {subnet} of flannel's subnet: "
        "new pods there get no network, and pods of that subnet have no gateway",
        (f'ssh {name} "{change}"',),
        f"{_BRIDGE} of {name} has the address {subnet}",
        tuple(s.evidence for s in told),
    )


def _loose(read: NodeNetwork, pods: int) -> Iterator[Finding]:
    """Say which links of pods are attached to nothing."""
    ends = [i for i in read.links if i.kind == "veth" and _POD_LINK.fullmatch(i.name)]
    loose = [i for i in ends if not i.master and not i.addresses]
    attached = [i for i in ends if i.master == _BRIDGE]
    if not loose or not attached or len(attached) >= pods:
        return
    names = and_list(i.name for i in loose)
    # the plugin sets what flannel's configuration says of all ports alike
    hairpin = any(i.hairpin for i in attached)
    more = " && sudo ip link set {0} type bridge_slave hairpin on" if hairpin else ""
    join = "sudo ip link set {0} master " + _BRIDGE + more
    yield _finding(
        CNI_VETH_DETACHED,
        read,
        f"On {read.node}, the pod link {names} is no port of {_BRIDGE}: its pod reaches nobody, and "
        "nobody reaches it",
        tuple(f'ssh {read.node} "{join.format(i.name)}"' for i in loose),
        f"{names} of {read.node} is a port of {_BRIDGE}",
    )


def _finding(
    code: Code,
    read: NodeNetwork,
    title: str,
    commands: tuple[str, ...],
    falsifier: str,
    more: tuple[str, ...] = (),
) -> Finding:
    """Make a finding about the pod network of a node."""
    return Finding(
        code=code,
        title=title,
        hop=Hop(HopKind.POD_NETWORK, read.node),
        evidence=(read.evidence, *more),
        remediation=(
            Remediation(
                title=f"Restore the pods' bridge of {read.node}, and keep other programs off it "
                "(NetworkManager: unmanaged-devices=interface-name:cni*,interface-name:veth*)",
                commands=commands,
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=falsifier,
    )
