"""The node port that the proxy host may go by, in place of the load balancer's address."""

from typing import Final

from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, Ref, edit, get, restore
from tests.lab.faults.pods import ingress_pods
from tests.lab.faults.traffic import drops, site_status, vip_status
from tests.lab.lab import Lab
from tests.lab.node import Node

LOCAL: Final = "external-traffic-local"
FILTERED: Final = "sg-drops-node-ports"
_BAD_GATEWAY: Final = ("502", "504", "000")


def _front(lab: Lab) -> Ref:
    shape = lab.shape
    return Ref(kind="service", name=shape.ingress_controller, namespace=shape.ingress_namespace)


def _bare(lab: Lab) -> Node:
    """A node without a pod of the ingress controller."""
    serving = {pod.node for pod in ingress_pods(lab)}
    return next(node for node in lab.nodes.values() if node.fqdn not in serving)


def _port(lab: Lab) -> int:
    """The node port of the ingress controller's Service."""
    (port,) = get(lab, _front(lab))["spec"]["ports"]
    number: int = port["nodePort"]
    return number


def _by_node_port(lab: Lab) -> None:
    """Let the proxy go by a node port, as is done where there is no load balancer."""
    lab.proxy_config(upstream=f"http://{_bare(lab).address}:{_port(lab)}")


def _by_address(lab: Lab) -> None:
    lab.proxy_config(upstream=f"http://{lab.shape.first_vip}")


def _inject_local(lab: Lab) -> None:
    def change(service: Json) -> None:
        service["spec"]["externalTrafficPolicy"] = "Local"

    edit(lab, LOCAL, _front(lab), change)
    _by_node_port(lab)


def _settled(lab: Lab) -> bool:
    return site_status(lab) in _BAD_GATEWAY and vip_status(lab, lab.shape.host) == "200"


def _heal_local(lab: Lab) -> None:
    restore(lab, LOCAL)
    _by_address(lab)


def _inject_filter(lab: Lab) -> None:
    lab.fabric_rules(FILTERED, drops([f"tcp dport {_port(lab)}"]))
    _by_node_port(lab)


def _heal_filter(lab: Lab) -> None:
    lab.fabric_rules(FILTERED, None)
    _by_address(lab)


FAULTS: Final = (
    Fault(
        name=LOCAL,
        link="host-proxy",
        story=(
            "The proxy goes by a node port, and the Service sends what comes from outside only to"
            " pods of the same node, which has none."
        ),
        expected=frozenset({"SERVICE_EXTERNAL_TRAFFIC_LOCAL"}),
        names=lambda lab: (lab.shape.ingress_controller,),
        forbidden=all_but("SERVICE_") | {"NODE_PORT_FILTERED", "SERVICE_SELECTOR_MATCHES_NOTHING"},
        lookalikes=(FILTERED, "selector-matches-nothing"),
        fits=has_workers,
        inject=_inject_local,
        settled=_settled,
        heal=_heal_local,
        without_url=False,
    ),
    Fault(
        name=FILTERED,
        link="host-proxy",
        story=(
            "The proxy goes by a node port, and the security group of the nodes does not admit it."
        ),
        expected=frozenset({"NODE_PORT_FILTERED"}),
        names=lambda _: ("Node port",),
        forbidden=all_but("PROXY_")
        | {"PROXY_UPSTREAM_UNREACHABLE"}
        | {"SERVICE_EXTERNAL_TRAFFIC_LOCAL"},
        lookalikes=(LOCAL, "port-security-vip"),
        fits=has_workers,
        inject=_inject_filter,
        settled=_settled,
        heal=_heal_filter,
        without_url=False,
    ),
)
