"""Keeping a DaemonSet off one node."""

from typing import Final

from tests.lab.faults.objects import Json, Ref, edit, get, listed
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

HOSTNAME: Final = "kubernetes.io/hostname"
REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def keep_off(lab: Lab, fault: str, daemons: Ref, node: Node) -> None:
    """Forbid a DaemonSet a node by affinity, and wait until its pod there is gone."""

    def change(found: Json) -> None:
        pod = found["spec"]["template"]["spec"]
        affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        required = affinity.setdefault(REQUIRED, {"nodeSelectorTerms": [{}]})
        elsewhere = {"key": HOSTNAME, "operator": "NotIn", "values": [node.fqdn]}
        for term in required["nodeSelectorTerms"]:
            expressions: list[Json] = term.setdefault("matchExpressions", [])
            if elsewhere not in expressions:
                expressions.append(elsewhere)
        # the pods of the other nodes are none of this fault's business: they are not replaced
        found["spec"]["updateStrategy"] = {"type": "OnDelete"}

    edit(lab, fault, daemons, change)
    poll(lambda: not present(lab, daemons, node), seconds=60, what=f"no {daemons.name} there")


def present(lab: Lab, daemons: Ref, node: Node) -> bool:
    """Whether a pod of a DaemonSet is on a node, be it on its way out."""
    labels: dict[str, str] = get(lab, daemons)["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    there = ("-l", selector, "--field-selector", f"spec.nodeName={node.fqdn}")
    return bool(listed(lab, "pods", daemons.namespace, *there))
