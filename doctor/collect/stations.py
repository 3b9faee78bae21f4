"""Stations: where the relay can run, and what is read inside a node."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from doctor.bundle.schema import CommandOutput, NodeRecord
from doctor.collect.kube import Api, ExecAnswer
from doctor.collect.probe_pods import ProbePodSet, pod_name
from doctor.evidence.states import flannel
from doctor.evidence.world import World
from doctor.model.flow import Flow, Observation, Vantage, VantageKind
from doctor.model.verdict import Gap
from doctor.probe.relay import read_frames, read_observations, script

__all__ = ["Station", "measure", "node_stations", "pod_stations", "read_node"]

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


class Station(msgspec.Struct, frozen=True):
    """A container that commands can be run in.

    Args:
        vantage: What it stands for.
        namespace: The pod's namespace.
        pod: The pod's name.
        container: The container's name.
    """

    vantage: Vantage
    namespace: str
    pod: str
    container: str


def node_stations(world: World) -> dict[str, Station]:
    """Find a resident pod on each node's own network that has a shell: flannel's."""
    return {
        p.node: Station(
            vantage=Vantage(VantageKind.NODE, p.node),
            namespace=p.namespace,
            pod=p.name,
            container=p.spec.containers[0].name,
        )
        for p in flannel(world).pods
        if p.spec.host_network and p.ready and p.spec.containers
    }


def pod_stations(pods: ProbePodSet) -> dict[str, Station]:
    """Return the probe pods that run."""
    return {
        r.node: Station(
            vantage=Vantage(VantageKind.POD, r.node),
            namespace=pods.namespace,
            pod=pod_name(r.node),
            container="probe",
        )
        for r in pods.running
    }


def read_node(api: Api, station: Station) -> NodeRecord:
    """Read what matters inside a node, in one exec."""
    parts = (
        f"echo '{_MARK}{name}'; {command} 2>/dev/null; s=$?; echo; echo \"{_MARK}= $s\""
        for name, command in _READINGS.items()
    )
    answer = _sh(api, station, "; ".join(parts))
    via = f"{station.namespace}/{station.pod}"
    node = station.vantage.node
    if answer.reason:
        return NodeRecord(node=node, via=via, reason=answer.reason)
    return NodeRecord(node=node, via=via, outputs=tuple(_outputs(answer.stdout)))


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


def _sh(api: Api, station: Station, text: str) -> ExecAnswer:
    """Run a shell script in a station."""
    return api.exec(
        station.namespace, station.pod, station.container, ["sh", "-c", text], _EXEC_SECONDS
    )


def measure(
    api: Api,
    stations: dict[Vantage, Station],
    flows: tuple[Flow, ...],
    note: Callable[[str], None],
) -> tuple[list[Observation], list[Gap]]:
    """Run flows where they start, one exec per vantage, vantages in parallel.

    Flows whose vantage has no station are left out: the planner asks for none.
    """
    by_vantage: dict[Vantage, list[Flow]] = {}
    for flow in flows:
        by_vantage.setdefault(flow.vantage, []).append(flow)
    jobs = [(stations[v], tuple(f)) for v, f in by_vantage.items() if v in stations]
    observations: list[Observation] = []
    gaps: list[Gap] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for seen, gap in pool.map(lambda job: _relay(api, *job), jobs):
            observations.extend(seen)
            gaps.extend(gap)
    note(f"{len(observations)} probes answered or failed")
    return observations, gaps


def _relay(
    api: Api, station: Station, flows: tuple[Flow, ...]
) -> tuple[list[Observation], list[Gap]]:
    """Run the flows of one vantage."""
    text = script(flows)
    answer = api.exec(
        station.namespace,
        station.pod,
        station.container,
        ["sh", "-c", text],
        _EXEC_SECONDS,
    )
    frames = read_frames(answer.stdout) if not answer.reason else None
    where = f"probes from {station.vantage}"
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
