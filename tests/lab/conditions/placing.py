"""Where the scheduler has put pods."""

import json
from collections import Counter
from typing import Final

from tests.lab.faults.objects import Json
from tests.lab.faults.pods import app_pods, coredns_pods, delete
from tests.lab.faults.scheduling import cordoned
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

_CORDON: Final = "vacated"


def _evictable(lab: Lab, node: Node) -> list[Json]:
    """The pods of a node that a ReplicaSet would put elsewhere."""
    on = ("--field-selector", f"spec.nodeName={node.fqdn}", "-o", "json")
    items: list[Json] = json.loads(lab.kubectl("get", "pods", "-A", *on))["items"]
    return [
        item
        for item in items
        if any(o["kind"] == "ReplicaSet" for o in item["metadata"].get("ownerReferences", []))
    ]


def vacate(lab: Lab, node: Node) -> None:
    """Move all pods but daemons off a node, and wait until they serve elsewhere."""
    with cordoned(lab, _CORDON, [node]):
        if not (gone := _evictable(lab, node)):
            return
        for namespace in {item["metadata"]["namespace"] for item in gone}:
            names = [
                item["metadata"]["name"]
                for item in gone
                if item["metadata"]["namespace"] == namespace
            ]
            lab.kubectl("delete", "pod", "-n", namespace, *names)
        poll(
            lambda: _serving(lab), seconds=60, what=f"the pods of {node.name} elsewhere", every=0.3
        )


def _serving(lab: Lab) -> bool:
    """Whether every Deployment has all its pods, and the site answers."""
    deployments = json.loads(lab.kubectl("get", "deployments", "-A", "-o", "json"))["items"]
    whole = all(
        item["status"].get("availableReplicas") == item["spec"]["replicas"]
        and item["status"].get("replicas") == item["spec"]["replicas"]
        for item in deployments
    )
    return whole and lab.site_answers()


def spread(lab: Lab) -> None:
    """Let the pods of one Deployment be on several nodes again, if they may."""
    workers = [node for node in lab.nodes.values() if not node.control_plane]
    for replicas in (app_pods(lab), coredns_pods(lab)):
        nodes = Counter(pod.node for pod in replicas)
        if len(workers) > 1 and len(replicas) > len(nodes):
            crowded = nodes.most_common(1)[0][0]
            delete(lab, next([pod] for pod in replicas if pod.node == crowded), wait=False)
