"""Refusals that are no word of the one asked: a filter on the way gave them in its name.

A rule that rejects answers with "port unreachable" or a reset unless told otherwise, which looks like
a port that is closed. What tells them apart is another vantage: a port that answers there is open.
"""

from collections.abc import Iterable

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Vantage
from doctor.path.topology import Topology

__all__ = ["told_from_filters"]

_DIALS = frozenset({FlowKind.TCP, FlowKind.HTTP, FlowKind.TLS, FlowKind.DNS_TCP, FlowKind.DNS_UDP})
_Way = tuple[Vantage, str]
"""From a vantage to the pods of a node."""


def told_from_filters(seen: Iterable[Observation], places: Topology) -> list[Observation]:
    """Say of refusals by an open port that a filter rejects.

    A port of a pod is open if it answers any vantage in the same run. Where such a port is refused
    and nothing of that node's pods answers, all that is refused on that way is the filter's doing.

    Args:
        seen: All observations of a run.
        places: Where addresses are.
    """
    seen = list(seen)
    dialled = [o for o in seen if o.flow.kind in _DIALS]
    answering = {_port(o) for o in dialled if o.ok}
    proven = {o.flow.id for o in dialled if _refused(o) and _port(o) in answering}
    ways = {w for o in dialled if o.flow.id in proven for w in _ways(o, places)}
    ways -= {w for o in dialled if o.ok and o.flow.address in places.pods for w in _ways(o, places)}
    return [_told(o) if o.flow.id in proven or _on(o, ways, places) else o for o in seen]


def _port(seen: Observation) -> tuple[str, str]:
    """Name what was dialled."""
    return seen.flow.address, seen.flow.protocol


def _refused(seen: Observation) -> bool:
    """Say whether a port is said to be closed."""
    return seen.failure is not None and seen.failure.refused


def _ways(seen: Observation, places: Topology) -> set[_Way]:
    """List the ways that lead to a pod, or to all pods behind a Service."""
    address = seen.flow.address
    service = places.services.get(address)
    pods = (
        [address]
        if address in places.pods
        else [a for a, _ in (service.endpoints if service else ())]
    )
    return {(seen.flow.vantage, places.pods[a].node) for a in pods if a in places.pods}


def _on(seen: Observation, rejecting: set[_Way], places: Topology) -> bool:
    """Say whether something is refused, and every way to it is rejected."""
    if seen.flow.kind not in _DIALS or not _refused(seen):
        return False
    ways = _ways(seen, places)
    return bool(ways) and ways <= rejecting


def _told(seen: Observation) -> Observation:
    """Say that a filter gave the refusal."""
    detail = f"{seen.detail or 'refused'}, by a port that answers elsewhere"
    return msgspec.structs.replace(seen, failure=Failure.HOST_PROHIBITED, detail=detail)
