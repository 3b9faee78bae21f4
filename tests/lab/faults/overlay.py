"""The tunnel between the nodes."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.pods import APP_PORT, app_pods
from tests.lab.faults.traffic import TIMED_OUT, curl, drops
from tests.lab.faults.tunnel import cut, ends, port, tunnelled
from tests.lab.lab import Lab

SG_8472: Final = "sg-drops-8472"
SG_ONE_WAY: Final = "sg-drops-8472-oneway"


def _inject(lab: Lab) -> None:
    lab.fabric_rules(SG_8472, drops([f"udp dport {port(lab.shape)}"]))


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


def _inject_one_way(lab: Lab) -> None:
    one, other = (node.tap for node in ends(lab))
    match = f'iifname "{one}" oifname "{other}" udp dport {port(lab.shape)}'
    lab.fabric_rules(SG_ONE_WAY, drops([match]))


def _heal_one_way(lab: Lab) -> None:
    lab.fabric_rules(SG_ONE_WAY, None)


# A provider's network that takes the VXLAN port for its own, as NSX does, is the same for every vantage
# as a security group that does not admit it: UDP at that port is lost between nodes, and nothing else.
FAULTS: Final = (
    Fault(
        name=SG_8472,
        link="overlay",
        story=(
            "The security group of the nodes does not admit the VXLAN port, so no pod reaches"
            " a pod of another node while the nodes themselves reach each other."
        ),
        expected=frozenset({"OVERLAY_UDP_FILTERED"}),
        names=lambda lab: (str(port(lab.shape)),),
        forbidden=all_but("OVERLAY_"),
        lookalikes=(
            "udp53-dropped",
            "tcp53-dropped",
            "flannel-not-on-node",
            "kube-proxy-gone",
            "webhook-backend-down",
        ),
        fits=tunnelled,
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
    Fault(
        name=SG_ONE_WAY,
        link="overlay",
        story="The security group of a worker does not admit the VXLAN port from another worker.",
        expected=frozenset({"OVERLAY_UDP_FILTERED"}),
        names=lambda lab: (
            str(port(lab.shape)),
            f"{ends(lab)[0].fqdn}>{ends(lab)[1].fqdn}",
            "passes the other way",
        ),
        forbidden=all_but("OVERLAY_") | {"OVERLAY_HOST_FIREWALL", "OVERLAY_FDB_WRONG"},
        lookalikes=(SG_8472, "vxlan-8472-blocked-oneway", "vxlan-fdb-missing"),
        fits=tunnelled,
        inject=_inject_one_way,
        settled=cut,
        heal=_heal_one_way,
    ),
)
