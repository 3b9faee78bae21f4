"""Which further flow would tell suspects apart. Pure and deterministic."""

from collections.abc import Iterable, Iterator

from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage
from doctor.path.predict import Path, predict
from doctor.path.tomography import Evidence, Explanation, Suspect
from doctor.path.topology import Topology

__all__ = ["MOST_DECIDING", "deciding"]

MOST_DECIDING = 8
"""So many further flows are worth their time."""

_KINDS = {FlowKind.TCP, FlowKind.DNS_UDP, FlowKind.DNS_TCP}
_PURPOSES = {Purpose.UNDERLAY, Purpose.MESH, Purpose.DNS, Purpose.DNS_CONTROL, Purpose.BACKEND}
"""Questions that may be asked from any vantage inside the cluster."""


def deciding(
    evidence: Evidence,
    explanations: Iterable[Explanation],
    topology: Topology,
    vantages: Iterable[Vantage],
) -> tuple[Flow, ...]:
    """Choose flows that were not measured and that tell the suspects of explanations apart.

    A flow does if it crosses some of the suspects and not the others, and nothing else that is not
    exonerated: then its failing accuses, and its passing exonerates.

    Args:
        evidence: What was measured.
        explanations: What may explain the failures.
        topology: The map that paths are predicted on.
        vantages: Where may be asked from.
    """
    undecided = [e.suspects for e in explanations if len(e.suspects) > 1]
    if not undecided:
        return ()
    paths = [(f, predict(f, topology)) for f in _possible(evidence.observations, vantages)]
    found: dict[str, Flow] = {}
    for suspects in undecided:
        ranked = sorted(
            (abs(2 * n - len(suspects)), flow.id, flow)
            for flow, path in paths
            if (n := _splits(evidence, suspects, path))
        )
        found.update({flow.id: flow for _, _, flow in ranked[:1]})
    return tuple(found.values())[:MOST_DECIDING]


def _possible(observations: Iterable[Observation], vantages: Iterable[Vantage]) -> Iterator[Flow]:
    """Yield what was asked of a target from one vantage, as asked from each of the others."""
    seen = [o.flow for o in observations if o.flow.purpose in _PURPOSES and o.flow.kind in _KINDS]
    asked = {f.id for f in seen}
    targets = {(f.purpose, f.kind, f.address, f.port): f for f in seen}
    places = sorted(vantages)
    for key in sorted(targets):
        for vantage in places:
            other = targets[key].asked_from(vantage)
            if other.id not in asked:
                yield other


def _splits(evidence: Evidence, suspects: tuple[Suspect, ...], path: Path) -> int:
    """Count the suspects that a flow crosses for certain, if it tells them from the others."""
    hit = [s for s in suspects if any(s.hop.covers(h) for h in path.certain)]
    near = [s for s in suspects if any(s.hop.covers(h) for h in path.hops)]
    clean = all(h in evidence.passed or any(s.hop.covers(h) for s in suspects) for h in path.hops)
    return len(hit) if clean and hit == near and len(hit) < len(suspects) else 0
