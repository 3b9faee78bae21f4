"""Why CoreDNS waits for the API server: what pods of its node get from there, and which rule drops it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from checks.common import and_list, ids, removal, written
from checks.dns.codes import VERIFY
from checks.dns.words import DNS_API_UNREACHABLE
from doctor.model.evidence import Backend, Flannel, Logs, NodeNetworks, Nodes, ServiceIpFlows
from doctor.model.filtering import Met, Packet, surely_dropped
from doctor.model.finding import Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.resolver import Corefile

__all__ = ["Around", "cut_off"]

_WAITS = (
    ("plugin/ready", '"kubernetes"'),
    ("plugin/kubernetes", "waiting for Kubernetes API"),
    ("plugin/kubernetes", "dial tcp "),
)
_BELOW = (
    HopKind.NODE,
    HopKind.FLANNEL,
    HopKind.KUBE_PROXY,
    HopKind.FORWARD,
    HopKind.POD_NETWORK,
)


class Around(NamedTuple):
    """What is known of CoreDNS: what it said and is told, and its way to the API server."""

    logs: Logs | None = None
    nodes: Nodes | None = None
    flows: ServiceIpFlows | None = None
    networks: NodeNetworks | None = None
    flannel: Flannel | None = None
    corefile: Corefile | None = None


class _Way(NamedTuple):
    """What came of asking the API server from the node of a pod that waits for it."""

    pod: Pod
    lost: tuple[Observation, ...]
    near: tuple[Observation, ...]
    met: Met | None
    words: tuple[str, str] | None

    @property
    def target(self) -> str:
        """The API server's own address and port."""
        direct = next(o.flow for o in self.lost if o.flow.purpose is Purpose.API_DIRECT)
        return f"{direct.address}:{direct.port}"


def cut_off(backend: Backend, around: Around) -> Finding | None:
    """Say that pods of CoreDNS wait for the API server, which no pod on their node reaches.

    Args:
        backend: The DNS Service.
        around: What else is known.

    Returns:
        None where none of them waits for it, or where pods beside them get through: to its own
        address, that is, for what only its Service's loses is kube-proxy's.
    """
    ways = [w for p in backend.pods if _waits(p) and (w := _way(p, around))]
    if not ways:
        return None
    nodes = sorted({w.pod.node for w in ways})
    lost = list({o.flow.id: o for w in ways for o in w.lost}.values())
    near = list({o.flow.id: o for w in ways for o in w.near}.values())
    while_ = f", while {'the node does' if len(nodes) == 1 else 'the nodes do'}" if near else ""
    rules = {(w.pod.node, w.met): w.met for w in ways if w.met}
    why = and_list(f"on {n} {written(m)} drops it" for (n, _), m in rules.items())
    return Finding(
        code=DNS_API_UNREACHABLE,
        title=f"CoreDNS waits for the API server ({and_list(w.pod.key for w in ways)}): no pod on "
        f"{and_list(nodes)} reaches {ways[0].target}{while_}{why and f': {why}'}",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(
            *dict.fromkeys(w.words[1] for w in ways if w.words),
            *ids((*lost, *near)),
            *dict.fromkeys(f"node:{n}" for n, _ in rules),
            *(f"api:pods/{w.pod.key}" for w in ways),
        ),
        severity=Severity.WARN if backend.ready else Severity.FAIL,
        confidence=Confidence.CERTAIN if rules or near else Confidence.LIKELY,
        flows=ids(lost),
        consequence_of=tuple(Hop(k, n) for k in _BELOW for n in nodes),
        remediation=_mends(ways, nodes, around),
        falsifier=f"A pod on {and_list(nodes)} connects to {ways[0].target}",
    )


def _waits(pod: Pod) -> bool:
    """Say whether a pod runs, and is not ready all the same."""
    return bool(pod.node) and not (pod.ready or pod.waiting or pod.crashing)


def _way(pod: Pod, around: Around) -> _Way | None:
    """See what pods on a pod's node, and the node itself, get of the API server."""
    seen = [
        o
        for o in (around.flows.of(Purpose.SERVICE_IP, Purpose.API_DIRECT) if around.flows else ())
        if o.flow.vantage.node == pod.node
    ]
    inside = tuple(o for o in seen if o.flow.vantage.kind is VantageKind.POD)
    near = tuple(
        o
        for o in seen
        if o.ok and o.flow.vantage.kind is VantageKind.NODE and o.flow.purpose is Purpose.API_DIRECT
    )
    direct = [o for o in inside if o.flow.purpose is Purpose.API_DIRECT]
    if not direct or not all(_lost(o) for o in inside):
        return None
    words = _said(pod, around.logs)
    if around.logs and around.logs.of(pod.key) and not words:
        return None  # it tells what it waits for, and it is something else
    return _Way(pod, inside, near, _rule(pod, direct[0], around), words)


def _lost(seen: Observation) -> bool:
    """Say whether a connection failed as one does that a filter drops or refuses."""
    return seen.failure is not None and (seen.failure.unanswered or seen.failure.refused)


def _said(pod: Pod, logs: Logs | None) -> tuple[str, str] | None:
    """Return the line in which a pod says what it waits for."""
    said = (logs.said(pod.key, *words) for words in _WAITS) if logs else ()
    return next((line for line in said if line), None)


def _rule(pod: Pod, direct: Observation, around: Around) -> Met | None:
    """Find the rule of a pod's node that surely drops what it sends to the API server."""
    read = around.networks.of(pod.node) if around.networks else None
    own = around.nodes.named(pod.node) if around.nodes else None
    if read is None or own is None:
        return None
    here = direct.flow.address == own.address
    packet = Packet(
        "tcp",
        direct.flow.port,
        pod.status.pod_ip,
        direct.flow.address,
        "cni0",
        "" if here else read.device(own.address),
    )
    return surely_dropped(read.tables, ("input" if here else "forward",), packet)


def _mends(ways: list[_Way], nodes: list[str], around: Around) -> tuple[Remediation, ...]:
    """Say how to open the way, or where to look for what closes it."""
    flannel = around.flannel or Flannel()
    commands = tuple(dict.fromkeys(_removals(ways, flannel)))
    if commands:
        title = (
            "Remove the rule, and from whatever would write it again; CoreDNS then becomes ready by "
            "itself within a minute"
        )
        return (Remediation(title, commands, Risk.SAFE, VERIFY),)
    looks = tuple(f"{flannel.enter(n)} iptables -v -n -L FORWARD" for n in nodes)
    title = f"Find what keeps pods on {and_list(nodes)} from {ways[0].target}"
    return (Remediation(title, looks, Risk.SAFE, VERIFY),)


def _removals(ways: Iterable[_Way], flannel: Flannel) -> Iterator[str]:
    """Write the commands that take the rules out."""
    for way in ways:
        if way.met:
            yield removal(flannel.enter(way.pod.node), way.met)
