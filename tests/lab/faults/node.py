"""Machines that were away for a while."""

import json
from typing import Final

from tests.lab.faults.model import Fault, all_but, has_workers, no_names
from tests.lab.faults.objects import listed
from tests.lab.faults.pods import app_pods, delete
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

WERE_UNREACHABLE: Final = "decoy-workers-were-unreachable"
UNTOLERATED: Final = "untolerated taint"
UNAVAILABLE: Final = "node-networkunavailable"
TAINT: Final = "node.kubernetes.io/unreachable"
KUBELET: Final = "kubelet"
# the controller manager waits 50 s for a node's word before it gives it up
_GIVEN_UP_SECONDS: Final = 90


def _workers(lab: Lab) -> list[Node]:
    return [node for node in lab.nodes.values() if not node.control_plane]


def _tainted(lab: Lab) -> set[str]:
    """The names of the nodes that the cluster has given up."""
    nodes = json.loads(lab.kubectl("get", "nodes", "-o", "json"))["items"]
    return {
        node["metadata"]["name"]
        for node in nodes
        if any(taint["key"] == TAINT for taint in node["spec"].get("taints", []))
    }


def _unscheduled(lab: Lab) -> bool:
    """Whether one of the site's pods has an event that says that it had nowhere to go."""
    wanted = ("--field-selector", "reason=FailedScheduling")
    events = listed(lab, "events", lab.shape.app_namespace, *wanted)
    told = {e["involvedObject"]["name"] for e in events if UNTOLERATED in e["message"]}
    return any(pod.name in told for pod in app_pods(lab))


def _inject(lab: Lab) -> None:
    workers = _workers(lab)
    for node in workers:
        node.stop_service(KUBELET)
    names = {node.fqdn for node in workers}
    poll(lambda: _tainted(lab) >= names, seconds=_GIVEN_UP_SECONDS, what="the taint", every=0.5)
    one = app_pods(lab)[:1]
    # its kubelet cannot confirm it, so nobody is to wait for its end
    delete(lab, one, wait=False)
    poll(lambda: _unscheduled(lab), seconds=30, what="a pod with nowhere to go", every=0.5)
    for node in workers:
        node.start_service(KUBELET)


def _settled(lab: Lab) -> bool:
    return _unscheduled(lab) and not _tainted(lab) and lab.healthy() is None


def _heal(lab: Lab) -> None:
    for node in _workers(lab):
        node.start_service(KUBELET)
    told = ("-n", lab.shape.app_namespace, "--field-selector", "reason=FailedScheduling")
    lab.kubectl("delete", "events", *told)


def _last(lab: Lab) -> Node:
    return list(lab.nodes.values())[-1]


def _condition(lab: Lab) -> str:
    path = 'jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].status}'
    return lab.kubectl("get", "node", _last(lab).fqdn, "-o", path)


def _say_unavailable(lab: Lab, status: str, reason: str) -> None:
    said = {"type": "NetworkUnavailable", "status": status, "reason": reason, "message": reason}
    patch = json.dumps({"status": {"conditions": [said]}})
    node = ("node", _last(lab).fqdn)
    lab.kubectl("patch", *node, "--subresource=status", "--type=strategic", "-p", patch)


def _heal_unavailable(lab: Lab) -> None:
    if _condition(lab) != "False":
        _say_unavailable(lab, "False", "FlannelIsUp")


FAULTS: Final = (
    Fault(
        name=UNAVAILABLE,
        link="node",
        story="A worker has the condition NetworkUnavailable, which nobody has cleared.",
        expected=frozenset({"NODE_NETWORK_UNAVAILABLE"}),
        names=lambda lab: (_last(lab).fqdn,),
        forbidden=all_but("FLANNEL_") | {"FLANNEL_*", "NODE_NOT_READY"},
        lookalikes=("flannel-not-on-node", "cni-config-uninitialized"),
        fits=has_workers,
        inject=lambda lab: _say_unavailable(lab, "True", "NoRouteCreated"),
        settled=lambda lab: _condition(lab) == "True",
        heal=_heal_unavailable,
    ),
    Fault(
        name=WERE_UNREACHABLE,
        link="node",
        story=(
            "The workers' kubelets were silent for a minute and are back, with events left that"
            " tell of taints and of a pod with nowhere to go."
        ),
        expected=frozenset(),
        names=no_names,
        forbidden=frozenset({"*"}),
        lookalikes=("flannel-not-on-node", "sg-drops-8472"),
        fits=has_workers,
        inject=_inject,
        settled=_settled,
        heal=_heal,
        decoy=True,
    ),
)
