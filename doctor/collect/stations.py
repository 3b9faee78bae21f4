"""Stations: where the relay can run."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from doctor.bundle.schema import GapRecord, ResolverRecord
from doctor.collect.kube import Api
from doctor.collect.pod_manifest import CONTAINER
from doctor.collect.probe_pods import ProbePodSet
from doctor.collect.shells import PodShell, Shell
from doctor.evidence.states import flannel
from doctor.evidence.tables import tables_of
from doctor.evidence.world import World
from doctor.model.flow import Flow, FlowKind, Observation, Vantage, VantageKind
from doctor.model.verdict import Gap
from doctor.probe.relay import Reading, read_frames, read_observations, script

__all__ = ["measure", "node_shells", "pod_shells", "unseen"]

_WORKERS = 8
_EXEC_SECONDS = 20.0

_ESSENTIAL = (FlowKind.TCP, FlowKind.DNS_UDP, FlowKind.DNS_TCP, FlowKind.HTTP)


def node_shells(api: Api, world: World) -> dict[str, PodShell]:
    """Find a resident pod on each node's own network that has a shell: flannel's."""
    return {
        p.node: PodShell(
            api=api,
            vantage=Vantage(VantageKind.NODE, p.node),
            namespace=p.namespace,
            pod=p.name,
            container=p.spec.containers[0].name,
        )
        for p in flannel(world).pods
        if p.spec.host_network and p.ready and p.spec.containers
    }


def pod_shells(api: Api, pods: ProbePodSet, *, host: bool = False) -> dict[str, Shell]:
    """Return the probe pods that run, by node.

    Args:
        api: The API server.
        pods: What became of the probe pods.
        host: Whether those in the nodes' own network are meant: they stand for the nodes.
    """
    kind = VantageKind.NODE if host else VantageKind.POD
    return {
        p.node: PodShell(
            api=api,
            vantage=Vantage(kind, p.node),
            namespace=p.namespace,
            pod=p.pod,
            container=CONTAINER,
        )
        for p in pods.running(host=host)
    }


def measure(
    shells: dict[Vantage, Shell], flows: tuple[Flow, ...], note: Callable[[str], None]
) -> tuple[list[Observation], list[GapRecord | ResolverRecord]]:
    """Run flows where they start, one script per vantage, vantages in parallel.

    Flows whose vantage has no shell are left out: the planner asks for none.

    Returns:
        What was seen; and what was not, for the tables that miss it, beside what pods' resolvers are told.
    """
    by_vantage: dict[Vantage, list[Flow]] = {}
    for flow in flows:
        by_vantage.setdefault(flow.vantage, []).append(flow)
    jobs = [(shells[v], tuple(f)) for v, f in by_vantage.items() if v in shells]
    observations: list[Observation] = []
    missed: list[GapRecord | ResolverRecord] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for shell, reading in pool.map(lambda job: (job[0], _relay(*job)), jobs):
            observations.extend(reading.observations)
            missed.extend(unseen(str(shell.vantage), reading.unseen))
            if reading.resolver is not None:
                missed.append(ResolverRecord(shell.vantage.node, reading.resolver))
    note(f"{len(observations)} probes answered or failed")
    return observations, missed


def _relay(shell: Shell, flows: tuple[Flow, ...]) -> Reading:
    """Run the flows of one vantage."""
    answer = shell.run(script(flows), _EXEC_SECONDS)
    frames = read_frames(answer.stdout) if not answer.reason else None
    if frames is None:
        reason = answer.reason or f"the relay broke off: {answer.stderr[:200]}"
        return Reading((), tuple((f, reason) for f in flows))
    return read_observations(flows, frames)


def unseen(where: str, flows_with_reasons: Iterable[tuple[Flow, str]]) -> Iterator[GapRecord]:
    """Say what was not seen, by reason: of connections and queries nothing else takes the place.

    Args:
        where: The vantage, as users read it.
        flows_with_reasons: The flows, and why nothing was seen of each.
    """
    reasons: dict[str, list[Flow]] = {}
    for flow, reason in flows_with_reasons:
        reasons.setdefault(reason, []).append(flow)
    for reason, flows in reasons.items():
        kinds = ", ".join(sorted({f.kind.value for f in flows}))
        gap = Gap(
            needs=f"{kinds} from {where}",
            reason=reason,
            essential=any(f.kind in _ESSENTIAL for f in flows),
        )
        yield GapRecord(gap=gap, tables=tables_of(f.purpose for f in flows))
