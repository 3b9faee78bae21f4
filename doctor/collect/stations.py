"""Stations: where the relay can run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from doctor.collect.kube import Api
from doctor.collect.probe_pods import ProbePodSet, pod_name
from doctor.collect.shells import PodShell, Shell
from doctor.evidence.states import flannel
from doctor.evidence.world import World
from doctor.model.flow import Flow, Observation, Vantage, VantageKind
from doctor.model.verdict import Gap
from doctor.probe.relay import read_frames, read_observations, script

__all__ = ["measure", "node_shells", "pod_shells"]

_WORKERS = 8
_EXEC_SECONDS = 20.0


def node_shells(api: Api, world: World) -> dict[str, Shell]:
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


def pod_shells(api: Api, pods: ProbePodSet) -> dict[str, Shell]:
    """Return the probe pods that run."""
    return {
        r.node: PodShell(
            api=api,
            vantage=Vantage(VantageKind.POD, r.node),
            namespace=pods.namespace,
            pod=pod_name(r.node),
            container="probe",
        )
        for r in pods.running
    }


def measure(
    shells: dict[Vantage, Shell], flows: tuple[Flow, ...], note: Callable[[str], None]
) -> tuple[list[Observation], list[Gap]]:
    """Run flows where they start, one script per vantage, vantages in parallel.

    Flows whose vantage has no shell are left out: the planner asks for none.
    """
    by_vantage: dict[Vantage, list[Flow]] = {}
    for flow in flows:
        by_vantage.setdefault(flow.vantage, []).append(flow)
    jobs = [(shells[v], tuple(f)) for v, f in by_vantage.items() if v in shells]
    observations: list[Observation] = []
    gaps: list[Gap] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for seen, gap in pool.map(lambda job: _relay(*job), jobs):
            observations.extend(seen)
            gaps.extend(gap)
    note(f"{len(observations)} probes answered or failed")
    return observations, gaps


def _relay(shell: Shell, flows: tuple[Flow, ...]) -> tuple[list[Observation], list[Gap]]:
    """Run the flows of one vantage."""
    answer = shell.run(script(flows), _EXEC_SECONDS)
    frames = read_frames(answer.stdout) if not answer.reason else None
    where = f"probes from {shell.vantage}"
    if frames is None:
        reason = answer.reason or f"the relay broke off: {answer.stderr[:200]}"
        return [], [Gap(needs=where, reason=reason)]
    seen = read_observations(flows, frames)
    missing = len(flows) - len(seen)
    gap = Gap(
        needs=where,
        reason=f"{missing} of {len(flows)} gave nothing that is understood",
        essential=False,
    )
    return seen, [gap] if missing else []
