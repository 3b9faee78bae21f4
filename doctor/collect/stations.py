"""Stations: where the relay can run, and what is read inside a node."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from doctor.bundle.schema import CommandOutput, GapRecord, NodeRecord
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

__all__ = ["measure", "node_shells", "pod_shells", "read_node"]

_WORKERS = 8
_EXEC_SECONDS = 20.0

_READINGS = {
    "address": "ip -json -details address show",
    "route": "ip -json -4 route show",
    "iptables": "iptables-save",
    "ip_forward": "cat /proc/sys/net/ipv4/ip_forward",
    "subnet.env": "cat /run/flannel/subnet.env",
}
_MARK = "@@wwwm "
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


def read_node(shell: Shell) -> NodeRecord:
    """Read what matters inside a node, in one exec."""
    parts = (
        f"echo '{_MARK}{name}'; {command} 2>/dev/null; s=$?; echo; echo \"{_MARK}= $s\""
        for name, command in _READINGS.items()
    )
    answer = shell.run("; ".join(parts), _EXEC_SECONDS)
    node = shell.vantage.node
    if answer.reason:
        return NodeRecord(node=node, via=shell.via, reason=answer.reason)
    return NodeRecord(node=node, via=shell.via, outputs=tuple(_outputs(answer.stdout)))


def _outputs(text: str) -> list[CommandOutput]:
    """Cut the outputs apart."""
    parts = text.split(_MARK)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=False)
    return [
        CommandOutput(
            name=first.partition("\n")[0],
            status=int(second.split()[1]) if second.split()[1:] else -1,
            stdout=first.partition("\n")[2].strip("\n"),
        )
        for first, second in pairs
    ]


def measure(
    shells: dict[Vantage, Shell], flows: tuple[Flow, ...], note: Callable[[str], None]
) -> tuple[list[Observation], list[GapRecord]]:
    """Run flows where they start, one script per vantage, vantages in parallel.

    Flows whose vantage has no shell are left out: the planner asks for none.

    Returns:
        What was seen, and what was not, for the tables that miss it.
    """
    by_vantage: dict[Vantage, list[Flow]] = {}
    for flow in flows:
        by_vantage.setdefault(flow.vantage, []).append(flow)
    jobs = [(shells[v], tuple(f)) for v, f in by_vantage.items() if v in shells]
    observations: list[Observation] = []
    missed: list[GapRecord] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for shell, reading in pool.map(lambda job: (job[0], _relay(*job)), jobs):
            observations.extend(reading.observations)
            missed.extend(_missed(shell, reading))
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


def _missed(shell: Shell, reading: Reading) -> Iterator[GapRecord]:
    """Say what was not seen, by reason: of connections and queries nothing else takes the place."""
    reasons: dict[str, list[Flow]] = {}
    for flow, reason in reading.unseen:
        reasons.setdefault(reason, []).append(flow)
    for reason, flows in reasons.items():
        kinds = ", ".join(sorted({f.kind.value for f in flows}))
        gap = Gap(
            needs=f"{kinds} from {shell.vantage}",
            reason=reason,
            essential=any(f.kind in _ESSENTIAL for f in flows),
        )
        yield GapRecord(gap=gap, tables=tables_of(f.purpose for f in flows))
