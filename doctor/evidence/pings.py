"""Builder of the pings between nodes, with what they leave open where none is answered."""

from collections.abc import Iterable, Iterator

from doctor.evidence.topology import overlay
from doctor.evidence.world import World
from doctor.model.evidence import Pings
from doctor.model.flow import Observation, Purpose
from doctor.model.verdict import Gap

__all__ = ["pings"]

_PAIR = 2
_MOST_NAMED = 3
_ENDS = {Purpose.UNDERLAY_SIZE: "the nodes' own addresses", Purpose.MESH_SIZE: "pods"}
_CONTROL = {Purpose.UNDERLAY_SIZE: Purpose.UNDERLAY, Purpose.MESH_SIZE: Purpose.MESH}

_Pair = tuple[str, str]


def pings(world: World, seen: tuple[Observation, ...], others: Iterable[Observation]) -> Pings:
    """Build the table.

    Args:
        world: The cluster.
        seen: The pings.
        others: TCP connections between the same places.
    """
    recorded = dict.fromkeys((*world.table_gaps("Mesh"), *world.table_gaps("Pings")))
    many = len(world.linux) >= _PAIR
    found = (
        tuple(_unanswered(seen, tuple(others), told=any(g.essential for g in recorded)))
        if many
        else ()
    )
    return Pings(
        observations=seen,
        gaps=(*recorded, *found),
        absent=world.single,
        overlay=overlay(world),
    )


def _unanswered(
    seen: tuple[Observation, ...], others: tuple[Observation, ...], *, told: bool
) -> Iterator[Gap]:
    """Say between which nodes it is not known what sizes pass and how much is lost.

    That none of several pings is answered is the mark of a filter, or of a path that is broken:
    neither tells of sizes or of loss. What the pods' pings prove of the way between two nodes, its
    own need not. Where it was told already what could not be asked, that is why no ping was seen.
    """
    carried = _pairs(o for o in seen if o.flow.purpose is Purpose.MESH_SIZE and o.ok)
    for purpose, ends in _ENDS.items():
        small = [o for o in seen if o.flow.purpose is purpose and not o.flow.size]
        needs = f"which sizes pass between nodes, to {ends}, and how much is lost"
        if not small and not told:
            yield Gap(needs, "no ping was seen")
        silent = [o for o in small if not o.ok]
        if silent:
            deaf = _pairs(silent)
            known = purpose is Purpose.UNDERLAY_SIZE and deaf <= carried
            why = _why(deaf, _connected(purpose, others))
            flows = tuple(o.flow.id for o in silent)
            yield Gap(needs, why, essential=not known, flows=flows)


def _connected(purpose: Purpose, others: Iterable[Observation]) -> set[_Pair]:
    """List the pairs between which every connection stood, of those that go where such pings go."""
    alike = [o for o in others if o.flow.purpose is _CONTROL[purpose]]
    return _pairs(o for o in alike if o.ok) - _pairs(o for o in alike if not o.ok)


def _pairs(flows: Iterable[Observation]) -> set[_Pair]:
    """List the pairs of nodes that flows run between, whichever way."""
    ends = (sorted((o.flow.vantage.node, o.flow.subject)) for o in flows)
    return {(a, b) for a, b in ends}


def _why(deaf: set[_Pair], connected: set[_Pair]) -> str:
    """Say who does not answer pings, and whether that is a filter on ICMP."""
    named = [f"{a} and {b}" for a, b in sorted(deaf)]
    more = f", and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    filtered = ", while TCP passes: ICMP is filtered" if deaf <= connected else ""
    return f"no ping is answered between {'; '.join(named[:_MOST_NAMED])}{more}{filtered}"
