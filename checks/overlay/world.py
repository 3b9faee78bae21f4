"""What is judged of the way between pods, and words that all its judges share."""

from collections.abc import Iterable
from typing import NamedTuple

from checks.overlay.classes import Pair
from checks.overlay.codes import VERIFY
from doctor.model.evidence import Counters, Flannel, Mesh, NodeNetworks, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Remediation, Risk
from doctor.model.flow import Observation, Purpose

__all__ = [
    "Fault",
    "World",
    "all_lost",
    "answered",
    "any_answer",
    "carrier_known",
    "control_flows",
    "is_lost",
    "restart",
    "starts_on",
    "underlay_answers",
]


class World(NamedTuple):
    """All that is judged here."""

    nodes: Nodes
    mesh: Mesh
    networks: NodeNetworks
    flannel: Flannel
    counters: Counters = Counters()


class Fault(NamedTuple):
    """What was read on one node that breaks pod traffic to and from it.

    With ``to``, it breaks what the node sends to that one; the way back may be whole.
    """

    code: Code
    text: str
    evidence: tuple[str, ...]
    remediation: Remediation
    confidence: Confidence = Confidence.CERTAIN
    to: str = ""


def answered(seen: Observation) -> bool:
    """Say whether anything came back: a refusal crosses the network as well as an answer."""
    return seen.ok or seen.failure in {Failure.CONNECTION_REFUSED, Failure.CONNECTION_RESET}


def is_lost(seen: Observation) -> bool:
    """Say whether nothing came back."""
    return seen.failure is not None and seen.failure.unanswered


def any_answer(flows: Iterable[Observation]) -> bool:
    """Say whether one of the flows was answered."""
    return any(answered(o) for o in flows)


def all_lost(flows: list[Observation]) -> bool:
    """Say whether there are flows, and none of them was answered."""
    return bool(flows) and all(is_lost(o) for o in flows)


def starts_on(seen: Observation) -> str:
    """Name the node that a flow starts on."""
    return seen.flow.vantage.node


def underlay_answers(world: World, pair: Pair) -> bool | None:
    """Say whether two nodes reach each other's own addresses; None where it was not seen."""
    flows = control_flows(world, [pair])
    if any_answer(flows):
        return True
    return False if any(is_lost(o) for o in flows) else None


def control_flows(world: World, pairs: Iterable[Pair]) -> list[Observation]:
    """Select the flows between the own addresses of these pairs of nodes."""
    ends = [set(p) for p in pairs]
    flows = world.mesh.of(Purpose.UNDERLAY)
    return [o for o in flows if {starts_on(o), o.flow.subject} in ends]


def carrier_known(world: World) -> bool:
    """Say whether it is known what carries pod traffic between nodes."""
    return bool(world.mesh.overlay) or world.flannel.backend == "host-gw"


def restart(world: World, name: str, title: str) -> Remediation:
    """Say how to let flannel set a node up again."""
    pod = world.flannel.on(name)
    sets = world.flannel.daemonsets
    commands = (
        (f"kubectl -n {pod.namespace} delete pod {pod.name}",)
        if pod
        else tuple(f"kubectl -n {d.namespace} rollout restart daemonset {d.name}" for d in sets)
    )
    return Remediation(title, commands, Risk.SAFE, VERIFY)
