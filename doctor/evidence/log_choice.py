"""Which containers' logs are worth reading: those of system pods that do not run, and of DNS. Pure.

To have more read, add a selection to SELECTIONS: the first come first, as long as requests are left.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import msgspec

from doctor.evidence.finders import (
    coredns_service,
    flannel_daemonsets,
    kube_proxy_daemonset,
    metallb_controllers,
    pods_of_image,
    speakers,
)
from doctor.evidence.world import World
from doctor.model.kube import ContainerStatus, Pod

__all__ = ["MOST_LOGS", "SELECTIONS", "LogWish", "choose_logs", "kubelet_silent"]

MOST_LOGS = 6
_MOST_OF_ONE = 3
_LAST_LINES = 40
_RECENT_LINES = 30
_RECENT_SECONDS = 180


class LogWish(msgspec.Struct, frozen=True):
    """One log to be read.

    Args:
        namespace: The pod's namespace.
        pod: Its name.
        node: The node that it is bound to.
        container: The container's name.
        previous: Whether to read what the run before the present one said.
        lines: How many lines, from the end.
        seconds: How far back at most; 0 for any age.
    """

    namespace: str
    pod: str
    node: str
    container: str
    previous: bool = False
    lines: int = _LAST_LINES
    seconds: int = 0


def choose_logs(world: World) -> tuple[LogWish, ...]:
    """Choose the logs to read, at most MOST_LOGS.

    Those with no bound in time are best read at once, as what fails may start again; the others
    after the probes, as what these made a program complain of is in its log by then.
    """
    wished = (wish for select in SELECTIONS for wish in islice(select(world), _MOST_OF_ONE))
    return tuple(islice(dict.fromkeys(wished), MOST_LOGS))


def kubelet_silent(world: World, node: str) -> bool:
    """Say whether nobody is there to answer for a node's logs."""
    conditions = (c for n in world.nodes if n.name == node for c in n.status.conditions or ())
    return any(c.type == "Ready" and c.status == "Unknown" for c in conditions)


def _flannel(world: World) -> Iterator[LogWish]:
    """Flannel's pods that are not ready."""
    own = tuple(
        p
        for d in flannel_daemonsets(world)
        for p in world.selected(d.namespace, d.spec.template.metadata.labels)
    )
    yield from _failing(world, own or pods_of_image(world, "/flannel"))


def _kube_proxy(world: World) -> Iterator[LogWish]:
    """kube-proxy's pods that are not ready."""
    found = kube_proxy_daemonset(world)
    if found:
        labels = found.spec.template.metadata.labels
        yield from _failing(world, world.selected(found.namespace, labels))


def _dns_pods(world: World) -> tuple[Pod, ...]:
    """The pods behind the DNS Service."""
    service = coredns_service(world)
    return world.selected(service.namespace, service.spec.selector) if service else ()


def _dns_failing(world: World) -> Iterator[LogWish]:
    """CoreDNS's pods that are not ready."""
    yield from _failing(world, _dns_pods(world))


def _dns_recent(world: World) -> Iterator[LogWish]:
    """What ready CoreDNS pods said lately: its plugins' errors tell of the resolvers behind it."""
    for pod in _dns_pods(world):
        if pod.ready and pod.spec.containers and not kubelet_silent(world, pod.node):
            yield LogWish(
                namespace=pod.namespace,
                pod=pod.name,
                node=pod.node,
                container=pod.spec.containers[0].name,
                lines=_RECENT_LINES,
                seconds=_RECENT_SECONDS,
            )


def _metallb(world: World) -> Iterator[LogWish]:
    """MetalLB's pods that are not ready, the controller's first."""
    yield from _failing(
        world,
        (
            *(
                p
                for w in metallb_controllers(world)
                for p in world.selected(w.namespace, w.spec.template.metadata.labels)
            ),
            *speakers(world),
        ),
    )


SELECTIONS: tuple[Callable[[World], Iterator[LogWish]], ...] = (
    _flannel,
    _dns_failing,
    _kube_proxy,
    _metallb,
    _dns_recent,
)
"""Who wants which logs, the most telling first."""


def _failing(world: World, pods: Iterable[Pod]) -> Iterator[LogWish]:
    """Wish for the last words of the pods that are not ready and have said something."""
    for pod in pods:
        status = None if pod.ready or not pod.node else _worst(pod)
        if status and not kubelet_silent(world, pod.node):
            yield LogWish(
                namespace=pod.namespace,
                pod=pod.name,
                node=pod.node,
                container=status.name,
                previous=not status.state.terminated and status.last_state.terminated is not None,
            )


def _worst(pod: Pod) -> ContainerStatus | None:
    """Find the container that keeps a pod from being ready, if it ever ran: it began before others."""
    init = pod.status.init_container_statuses or ()
    done = (s for s in init if not (s.state.terminated and s.state.terminated.exit_code == 0))
    failing = (s for s in pod.status.container_statuses or () if not s.ready)
    found = next(chain(done, failing), None)
    never = found and found.state.waiting and not found.last_state.terminated
    return None if never else found
