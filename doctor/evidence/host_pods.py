"""Builder of failing pods on their nodes' own network that depend on Services by name."""

from collections.abc import Iterator

from doctor.evidence.finders import coredns_service
from doctor.evidence.states import backends
from doctor.evidence.world import World, matches
from doctor.model.evidence import HostPod, HostPods
from doctor.model.kube import Pod

__all__ = ["host_pods"]

_POLICIES = ("", "ClusterFirst")
"""What lets the kubelet give a pod the cluster's DNS, unless that is on its node's own network."""


def host_pods(world: World, domain: str) -> HostPods:
    """Build the table.

    Args:
        world: Objects.
        domain: The cluster domain.
    """
    service = coredns_service(world)
    site = backends(world).items if world.bundle.question.urls and world.asked("ingresses") else ()
    return HostPods(
        gaps=world.gaps("pods", "services"),
        absent=world.nodeless,
        site=tuple(sorted({p.key for b in site for p in b.pods})),
        server=service.spec.cluster_ip if service else "",
        items=tuple(
            HostPod(pod, names, _workload(world, pod))
            for pod in world.pods
            if pod.spec.host_network
            and pod.spec.dns_policy in _POLICIES
            and not pod.ready
            and (names := tuple(dict.fromkeys(_names(world, pod, domain))))
        ),
    )


def _names(world: World, pod: Pod, domain: str) -> Iterator[str]:
    """Yield what a failing pod's environment names that is a Service, written as names are.

    That is ``name``, ``name.namespace``, and more up to the cluster domain.
    """
    for container in pod.spec.containers:
        for dependency in container.dependencies or ():
            for target in dependency.targets:
                host = target.rpartition(":")[0].rstrip(".").lower()
                labels = host.removesuffix(f".{domain}").split(".")
                namespace = labels[1] if len(labels) > 1 else pod.namespace
                if labels[2:] in ([], ["svc"]) and f"{namespace}/{labels[0]}" in world.services:
                    yield target


def _workload(world: World, pod: Pod) -> str:
    """Name what a pod was made by, as kubectl is told of it: ``deployment/web``; or nothing."""
    owner = next(iter(pod.metadata.owner_references or ()), None)
    if owner is None:
        return ""
    if owner.kind != "ReplicaSet":
        return f"{owner.kind.lower()}/{owner.name}"
    found = (
        w.name
        for w in world.workloads
        if w.namespace == pod.namespace
        and matches(w.spec.template.metadata.labels, pod.labels)
        and owner.name.startswith(f"{w.name}-")
    )
    return f"deployment/{next(found, owner.name.rpartition('-')[0])}"
