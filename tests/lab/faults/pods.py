"""Pods and what stands in front of them."""

from dataclasses import dataclass
from typing import Final

from tests.lab.faults.objects import Json, listed
from tests.lab.lab import Lab
from tests.lab.node import Node

APP_PORT: Final = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What is used of a pod."""

    name: str
    namespace: str
    node: str
    address: str
    ready: bool
    restarts: int
    waiting: str

    @classmethod
    def of(cls, item: Json) -> "Pod":
        """The pod that the API server told of."""
        status = item["status"]
        containers: list[Json] = status.get("containerStatuses", [])
        reasons = [c["state"].get("waiting", {}).get("reason", "") for c in containers]
        return cls(
            name=item["metadata"]["name"],
            namespace=item["metadata"]["namespace"],
            node=item["spec"].get("nodeName", ""),
            address=status.get("podIP", ""),
            ready=bool(containers) and all(c["ready"] for c in containers),
            restarts=sum(c["restartCount"] for c in containers),
            waiting="".join(reasons[:1]),
        )


def pods(lab: Lab, namespace: str, label: str) -> list[Pod]:
    """The pods with a label that nobody has deleted yet."""
    items = listed(lab, "pods", namespace, "-l", label)
    return [Pod.of(item) for item in items if "deletionTimestamp" not in item["metadata"]]


def app_pods(lab: Lab) -> list[Pod]:
    """The pods of the site."""
    return pods(lab, lab.shape.app_namespace, f"app={lab.shape.app}")


def coredns_pods(lab: Lab) -> list[Pod]:
    """The pods that answer the cluster's DNS queries."""
    return pods(lab, "kube-system", "k8s-app=kube-dns")


def ingress_pods(lab: Lab) -> list[Pod]:
    """The pods of the ingress controller."""
    return pods(lab, lab.shape.ingress_namespace, f"app={lab.shape.ingress_controller}")


def delete(lab: Lab, gone: list[Pod], *, wait: bool = True) -> None:
    """Delete pods and, unless told otherwise, wait until they are gone."""
    waiting = f"--wait={str(wait).lower()}"
    for namespace in {pod.namespace for pod in gone}:
        names = [pod.name for pod in gone if pod.namespace == namespace]
        lab.kubectl("delete", "pod", "-n", namespace, "--ignore-not-found", waiting, *names)


def node_of(lab: Lab, pod: Pod) -> Node:
    """The node that a pod runs on."""
    return next(node for node in lab.nodes.values() if node.fqdn == pod.node)


def ready_endpoints(lab: Lab, namespace: str, service: str) -> list[str]:
    """The addresses that a service would send somebody to."""
    slices = listed(lab, "endpointslices", namespace, "-l", f"kubernetes.io/service-name={service}")
    return [
        address
        for found in slices
        for endpoint in found["endpoints"] or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]


def sandbox_failures(lab: Lab, pod: Pod) -> list[str]:
    """The messages of the events that tell why a pod's sandbox could not be made."""
    wanted = f"reason=FailedCreatePodSandBox,involvedObject.name={pod.name}"
    events = listed(lab, "events", pod.namespace, "--field-selector", wanted)
    return [event["message"] for event in events]
