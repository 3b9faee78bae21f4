"""What is judged of the way between pods, and words that all its judges share."""

from collections.abc import Iterable
from typing import NamedTuple

from checks.overlay.classes import Pair
from checks.overlay.codes import VERIFY
from doctor.model.evidence import Flannel, Mesh, NodeNetworks, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Remediation, Risk
from doctor.model.flow import Observation, Purpose
from doctor.model.node import FilterRule

__all__ = [
    "Fault",
    "World",
    "all_lost",
    "answered",
    "any_answer",
    "carrier_known",
    "control_flows",
    "is_lost",
    "own_networks",
    "remove_rule",
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


class Fault(NamedTuple):
    """What was read on one node that breaks pod traffic to and from it."""

    code: Code
    text: str
    evidence: tuple[str, ...]
    remediation: Remediation
    confidence: Confidence = Confidence.CERTAIN


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


def own_networks(world: World) -> list[str]:
    """List the networks that pods and nodes have addresses in."""
    found = [n.spec.pod_cidr or "" for n in world.nodes.items]
    return [n for n in [*found, *(n.address for n in world.nodes.items)] if n]


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


def remove_rule(world: World, name: str, rule: FilterRule) -> Remediation:
    """Say how to take a rule out of a node's filter."""
    enter = world.flannel.enter(name)
    if rule.text.startswith("-A "):
        commands: tuple[str, ...] = (f"{enter} iptables -D{rule.text[2:]}",)
    elif rule.text.startswith("-P "):
        commands = (f"{enter} iptables -P {rule.chain} ACCEPT",)
    else:
        commands = (f"{enter} iptables -S {rule.chain}",)
    return Remediation(
        title=f"Remove the rule on {name}, and from whatever would write it again",
        commands=commands,
        risk=Risk.SAFE,
        verify=VERIFY,
    )
