"""The address that flannel tells the other nodes to send a node's pod traffic to."""

import json
from typing import Final

from tests.lab.faults.flanneld import await_flannel, delete_flannel
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.stuck import last_node
from tests.lab.lab import Lab
from tests.lab.shape import Shape

WRONG: Final = "flannel-wrong-iface-public-ip"
STALE: Final = "flannel-node-ip-changed"
_PREFIX: Final = "flannel.alpha.coreos.com/"
_PUBLIC: Final = f"{_PREFIX}public-ip"
_OVERWRITE: Final = f"{_PREFIX}public-ip-overwrite"
# Vagrant's first interface has this address on every machine
_VAGRANT: Final = "10.0.2.15"


def _notes(lab: Lab) -> dict[str, str]:
    found = lab.kubectl("get", "node", last_node(lab).fqdn, "-o", "json")
    notes: dict[str, str] = json.loads(found)["metadata"].get("annotations", {})
    return notes


def _annotate(lab: Lab, *words: str) -> None:
    lab.kubectl("annotate", "node", last_node(lab).fqdn, "--overwrite", *words)


def _former(lab: Lab) -> str:
    """An address of the nodes' network that no node has."""
    return lab.shape.address(0).rpartition(".")[0] + ".222"


def _known_to_peers(lab: Lab, address: str) -> bool:
    """Whether another node sends the node's pod traffic to an address."""
    peer = lab.control_plane
    return address in peer.run("bridge", "fdb", "show", "dev", "flannel.1").stdout


def _inject_wrong(lab: Lab) -> None:
    _annotate(lab, f"{_OVERWRITE}={_VAGRANT}")
    if _notes(lab).get(_PUBLIC) != _VAGRANT:
        delete_flannel(lab, last_node(lab))
        await_flannel(lab, last_node(lab))


def _inject_stale(lab: Lab) -> None:
    _annotate(lab, f"{_PUBLIC}={_former(lab)}")


def _heal(lab: Lab) -> None:
    own = last_node(lab).address
    if _OVERWRITE in _notes(lab):
        _annotate(lab, f"{_OVERWRITE}-")
    if _notes(lab).get(_PUBLIC) != own:
        _annotate(lab, f"{_PUBLIC}={own}")
        delete_flannel(lab, last_node(lab))
        await_flannel(lab, last_node(lab))


def _tunnels(shape: Shape) -> bool:
    return len(shape.nodes) > 1 and shape.backend == "vxlan"


def _forbidden(own: str) -> frozenset[str]:
    codes = {"OVERLAY_UDP_FILTERED", "OVERLAY_PUBLIC_IP_WRONG", "OVERLAY_PUBLIC_IP_STALE"}
    return all_but("OVERLAY_") | (codes - {own})


FAULTS: Final = (
    Fault(
        name=WRONG,
        link="overlay",
        story=(
            "Flannel on a worker publishes the address of an interface that the other nodes do"
            " not reach, as it is told to."
        ),
        expected=frozenset({"OVERLAY_PUBLIC_IP_WRONG"}),
        names=lambda lab: (last_node(lab).fqdn, _VAGRANT),
        forbidden=_forbidden("OVERLAY_PUBLIC_IP_WRONG"),
        lookalikes=(STALE, "sg-drops-8472"),
        fits=_tunnels,
        inject=_inject_wrong,
        settled=lambda lab: _known_to_peers(lab, _VAGRANT),
        heal=_heal,
    ),
    Fault(
        name=STALE,
        link="overlay",
        story="The address that flannel published for a worker is one that the worker had before.",
        expected=frozenset({"OVERLAY_PUBLIC_IP_STALE"}),
        names=lambda lab: (last_node(lab).fqdn, _former(lab)),
        forbidden=_forbidden("OVERLAY_PUBLIC_IP_STALE"),
        lookalikes=(WRONG, "sg-drops-8472"),
        fits=_tunnels,
        inject=_inject_stale,
        settled=lambda lab: _known_to_peers(lab, _former(lab)),
        heal=_heal,
    ),
)
