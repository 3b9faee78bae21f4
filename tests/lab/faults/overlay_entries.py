"""What flannel set up on a node for another one, and what was done to it since."""

import json
from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.tunnel import (
    DEVICE,
    annotation,
    cut,
    ends,
    inner,
    lonely,
    mac,
    network,
    restart_flannel,
    tunnelled,
    whole,
)
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

FDB_MISSING: Final = "vxlan-fdb-missing"
NEIGHBOUR_MISSING: Final = "vxlan-neighbour-missing"
ROUTE_MISSING: Final = "vxlan-route-missing"
ROUTE_SHADOWED: Final = "vxlan-route-shadowed"
DEVICE_DOWN: Final = "vxlan-flannel1-down"
MAC_DRIFT: Final = "flannel-vtep-mac-drift"
FOREIGN: Final = "02:00:00:00:00:99"
_ALIKE: Final = (
    FDB_MISSING,
    NEIGHBOUR_MISSING,
    ROUTE_MISSING,
    ROUTE_SHADOWED,
    DEVICE_DOWN,
    MAC_DRIFT,
    "sg-drops-8472",
)
_CODES: Final = {
    FDB_MISSING: "OVERLAY_FDB_WRONG",
    NEIGHBOUR_MISSING: "OVERLAY_NEIGHBOUR_WRONG",
    ROUTE_MISSING: "OVERLAY_ROUTE_MISSING",
    ROUTE_SHADOWED: "OVERLAY_ROUTE_SHADOWED",
    DEVICE_DOWN: "OVERLAY_DEVICE_BROKEN",
    MAC_DRIFT: "OVERLAY_VTEP_MAC_CHANGED",
}


def _forbidden(name: str) -> frozenset[str]:
    """All other links' codes, and those of what looks alike."""
    others = {code for other, code in _CODES.items() if other != name}
    return all_but("OVERLAY_") | others | {"OVERLAY_UDP_FILTERED", "OVERLAY_PATH_BROKEN"}


def _ends_named(lab: Lab) -> tuple[str, ...]:
    one, other = ends(lab)
    return (f"{one.fqdn}>{other.fqdn}",)


def _last_named(lab: Lab) -> tuple[str, ...]:
    return (ends(lab)[1].fqdn,)


def _forget_fdb(lab: Lab) -> None:
    one, other = ends(lab)
    one.run("bridge", "fdb", "del", mac(other), "dev", DEVICE, "dst", other.address, check=False)


def _set_fdb(lab: Lab) -> None:
    one, other = ends(lab)
    entry = (mac(other), "dev", DEVICE, "dst", other.address, "self", "permanent")
    one.run("bridge", "fdb", "replace", *entry)


def _forget_neighbour(lab: Lab) -> None:
    one, other = ends(lab)
    one.run("ip", "neigh", "del", inner(other), "dev", DEVICE, check=False)


def _set_neighbour(lab: Lab) -> None:
    one, other = ends(lab)
    entry = (inner(other), "lladdr", mac(other), "dev", DEVICE, "nud", "permanent")
    one.run("ip", "neigh", "replace", *entry)


def _forget_route(lab: Lab) -> None:
    one, other = ends(lab)
    one.run("ip", "route", "del", network(other), "dev", DEVICE, check=False)


def _set_route(lab: Lab) -> None:
    one, other = ends(lab)
    hop = ("via", inner(other), "dev", DEVICE, "onlink")
    one.run("ip", "route", "replace", network(other), *hop)


def _longer(other: Node) -> str:
    """The half of a node's pod network that its pods have their addresses in."""
    return f"{inner(other)}/25"


def _shadow(lab: Lab) -> None:
    one, other = ends(lab)
    one.run("ip", "route", "replace", _longer(other), "via", lab.shape.gateway, "dev", "eth0")


def _unshadow(lab: Lab) -> None:
    one, other = ends(lab)
    one.run("ip", "route", "del", _longer(other), check=False)


def _shadowed(lab: Lab) -> bool:
    """Whether a pod there is reached by another device than the tunnel's."""
    one, other = ends(lab)
    pod = f"{inner(other).rpartition('.')[0]}.2"
    return "dev eth0" in one.run("ip", "route", "get", pod).stdout


def _down(lab: Lab) -> None:
    ends(lab)[1].run("ip", "link", "set", DEVICE, "down")


def _up(lab: Lab) -> None:
    last = ends(lab)[1]
    last.run("ip", "link", "set", DEVICE, "up")
    _set_up_again(lab)


def _set_up_again(lab: Lab) -> None:
    """Have flannel set entries again that went with a device's state or address."""
    if not whole(lab):
        restart_flannel(lab, ends(lab)[1])
    poll(lambda: whole(lab), seconds=30, what="a whole tunnel", every=0.3)


def _drift(lab: Lab) -> None:
    ends(lab)[1].run("ip", "link", "set", DEVICE, "address", FOREIGN)


def _undrift(lab: Lab) -> None:
    last = ends(lab)[1]
    told = json.loads(annotation(lab, last, "backend-data"))["VtepMAC"]
    last.run("ip", "link", "set", DEVICE, "address", told)
    _set_up_again(lab)


FAULTS: Final = (
    Fault(
        name=FDB_MISSING,
        link="overlay",
        story=(
            "A worker has lost the forwarding entry that says at which node the VXLAN device of"
            " another worker is."
        ),
        expected=frozenset({_CODES[FDB_MISSING]}),
        names=_ends_named,
        forbidden=_forbidden(FDB_MISSING),
        lookalikes=tuple(a for a in _ALIKE if a != FDB_MISSING),
        fits=tunnelled,
        inject=_forget_fdb,
        settled=cut,
        heal=_set_fdb,
    ),
    Fault(
        name=NEIGHBOUR_MISSING,
        link="overlay",
        story="A worker has lost the hardware address of another worker's VXLAN device.",
        expected=frozenset({_CODES[NEIGHBOUR_MISSING]}),
        names=_ends_named,
        forbidden=_forbidden(NEIGHBOUR_MISSING),
        lookalikes=tuple(a for a in _ALIKE if a != NEIGHBOUR_MISSING),
        fits=tunnelled,
        inject=_forget_neighbour,
        settled=cut,
        heal=_set_neighbour,
    ),
    Fault(
        name=ROUTE_MISSING,
        link="overlay",
        story="A worker has lost its route to the pod network of another worker.",
        expected=frozenset({_CODES[ROUTE_MISSING]}),
        names=_ends_named,
        forbidden=_forbidden(ROUTE_MISSING),
        lookalikes=tuple(a for a in _ALIKE if a != ROUTE_MISSING),
        fits=tunnelled,
        inject=_forget_route,
        settled=cut,
        heal=_set_route,
    ),
    Fault(
        name=ROUTE_SHADOWED,
        link="overlay",
        story=(
            "A longer route on a worker, as a VPN or another bridge sets it, takes what is meant"
            " for the pods of another worker to the router."
        ),
        expected=frozenset({_CODES[ROUTE_SHADOWED]}),
        names=_ends_named,
        forbidden=_forbidden(ROUTE_SHADOWED),
        lookalikes=tuple(a for a in _ALIKE if a != ROUTE_SHADOWED),
        fits=tunnelled,
        inject=_shadow,
        settled=_shadowed,
        heal=_unshadow,
    ),
    Fault(
        name=DEVICE_DOWN,
        link="overlay",
        story="Somebody has set the VXLAN device of a worker down.",
        expected=frozenset({_CODES[DEVICE_DOWN]}),
        names=_last_named,
        forbidden=_forbidden(DEVICE_DOWN),
        lookalikes=tuple(a for a in _ALIKE if a != DEVICE_DOWN),
        fits=tunnelled,
        inject=_down,
        settled=lonely,
        heal=_up,
    ),
    Fault(
        name=MAC_DRIFT,
        link="overlay",
        story=(
            "udev has given the VXLAN device of a worker another hardware address than flannel"
            " told the other nodes."
        ),
        expected=frozenset({_CODES[MAC_DRIFT]}),
        names=_last_named,
        forbidden=_forbidden(MAC_DRIFT),
        lookalikes=tuple(a for a in _ALIKE if a != MAC_DRIFT),
        fits=tunnelled,
        inject=_drift,
        settled=lonely,
        heal=_undrift,
    ),
)
