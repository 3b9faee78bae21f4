"""What carries the nodes' own packets: a cable that is dead, and a second one that only one node uses."""

from typing import Final

from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.tunnel import carries, ends, sees, tunnelled
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import with_length
from tests.lab.shell import run
from tests.lab.topology import FABRIC

DOWN: Final = "node-underlay-down"
STRICT: Final = "node-rp-filter-strict"
_SECOND: Final = "eth1"
# a network for measurements between machines, that nobody else has
_CABLE: Final = "198.18.0.0/30"
_CABLE_ENDS: Final = ("198.18.0.1", "198.18.0.2")
_ALIKE: Final = ("sg-drops-8472", "vxlan-8472-blocked-host-fw", "vxlan-flannel1-down")


def _last(lab: Lab) -> Node:
    return ends(lab)[1]


def _switch(lab: Lab, state: str) -> None:
    lab.at(FABRIC, "ip", "link", "set", _last(lab).tap, state)


def _ready(lab: Lab, node: Node) -> str:
    path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return lab.kubectl("get", "node", node.fqdn, "-o", path)


def _settled_down(lab: Lab) -> bool:
    one, last = ends(lab)
    return not sees(one, last) and _ready(lab, last) == "Unknown"


def _set(node: Node, setting: str, value: int) -> None:
    node.run("sysctl", "-q", "-w", f"net/ipv4/conf/{_SECOND}/{setting}={value}")


def _unplug(lab: Lab) -> None:
    for node in ends(lab):
        node.run("ip", "link", "del", _SECOND, check=False)


def _inject_strict(lab: Lab) -> None:
    one, last = ends(lab)
    _unplug(lab)
    here, there = ((_SECOND, "netns", lab.places.netns(n.name)) for n in (one, last))
    run("ip", "link", "add", *here, "type", "veth", "peer", "name", *there)
    for node, address in zip((one, last), _CABLE_ENDS, strict=True):
        node.run("ip", "address", "add", with_length(address, _CABLE), "dev", _SECOND)
        node.run("ip", "link", "set", _SECOND, "up")
    # whoever asks for a neighbour in the name of the first cable is given no answer by the second
    _set(one, "arp_announce", 2)
    _set(last, "rp_filter", 1)
    way = ("via", _CABLE_ENDS[1], "dev", _SECOND, "src", one.address)
    one.run("ip", "route", "replace", f"{last.address}/32", *way)


def _dropped(node: Node) -> int:
    """How many packets a node has dropped since their way back leads elsewhere."""
    lines = node.run("cat", "/proc/net/netstat").stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["IPReversePathFilter"])


def _settled_strict(lab: Lab) -> bool:
    one, last = ends(lab)
    before = _dropped(last)
    return not carries(one, last) and not sees(one, last) and _dropped(last) > before


FAULTS: Final = (
    Fault(
        name=DOWN,
        link="overlay",
        story="A worker's cable is dead, so nothing reaches it any more, its kubelet included.",
        expected=frozenset({"UNDERLAY_UNREACHABLE"}),
        names=lambda lab: (_last(lab).fqdn,),
        forbidden=all_but("OVERLAY_") | {"OVERLAY_*", "NODE_NOT_READY"},
        lookalikes=(*_ALIKE, STRICT),
        fits=has_workers,
        inject=lambda lab: _switch(lab, "down"),
        settled=_settled_down,
        heal=lambda lab: _switch(lab, "up"),
    ),
    Fault(
        name=STRICT,
        link="overlay",
        story=(
            "A worker sends to another by a second cable, and that one drops what comes in there,"
            " since its way back leads by the first."
        ),
        expected=frozenset({"OVERLAY_RP_FILTER_DROPS"}),
        names=lambda lab: (_last(lab).fqdn, f"{_SECOND}.rp_filter"),
        forbidden=all_but("OVERLAY_")
        | {"OVERLAY_UDP_FILTERED", "OVERLAY_HOST_FIREWALL", "OVERLAY_DEVICE_BROKEN"}
        | {"UNDERLAY_UNREACHABLE", "OVERLAY_PATH_BROKEN"},
        lookalikes=(*_ALIKE, DOWN),
        fits=tunnelled,
        inject=_inject_strict,
        settled=_settled_strict,
        heal=_unplug,
    ),
)
