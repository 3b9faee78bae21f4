"""The tunnel between the nodes."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.pods import APP_PORT, app_pods
from tests.lab.faults.traffic import TIMED_OUT, curl, drops
from tests.lab.lab import Lab
from tests.lab.shape import Shape

KERNEL_PORT: Final = 8472
SG_8472: Final = "sg-drops-8472"


def _port(shape: Shape) -> int:
    return shape.vxlan_port or KERNEL_PORT


def _tunnelled(shape: Shape) -> bool:
    return shape.backend == "vxlan" and len(shape.nodes) > 1


def _inject(lab: Lab) -> None:
    lab.fabric_rules(SG_8472, drops([f"udp dport {_port(lab.shape)}"]))


def _settled(lab: Lab) -> bool:
    """Every pod of the site answers its own node, and no other node gets a word from it."""
    for pod in app_pods(lab):
        url = f"http://{pod.address}:{APP_PORT}/"
        for node in lab.nodes.values():
            if curl(lab, node.name, url, seconds=1) != (0 if node.fqdn == pod.node else TIMED_OUT):
                return False
    return True


def _heal(lab: Lab) -> None:
    lab.fabric_rules(SG_8472, None)


FAULTS: Final = (
    Fault(
        name=SG_8472,
        link="overlay",
        story=(
            "The security group of the nodes does not admit the VXLAN port, so no pod reaches"
            " a pod of another node while the nodes themselves reach each other."
        ),
        expected=frozenset({"OVERLAY_UDP_FILTERED"}),
        names=lambda lab: (str(_port(lab.shape)),),
        forbidden=all_but("OVERLAY_"),
        lookalikes=(
            "udp53-dropped",
            "tcp53-dropped",
            "flannel-not-on-node",
            "kube-proxy-gone",
            "webhook-backend-down",
        ),
        fits=_tunnelled,
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
