"""Tomography: the fewest hops that explain what failed, given what passed. Pure and deterministic.

A flow that passes exonerates the hops that it certainly crosses, for packets of its size and smaller
ones. A flow that stays unanswered accuses the hops of its path that are left, the reply's included. A
flow that passes only at times does neither. A hypothesis is a hop or a class of hops; a class holds no
hop that was exonerated, and costs a little more than a hop. The cheapest set of hypotheses that covers
all failed flows is the explanation; those that cover the same flows at the same cost are rivals.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import ANY, Hop, HopKind

__all__ = ["Evidence", "Explanation", "Suspect", "explain", "outcome"]

_BY_REQUEST = {Purpose.TARGET, Purpose.INGRESS, Purpose.UPSTREAM}
"""Flows whose path goes on behind whoever answers: a connection proves nothing of that."""

_DELIVERED = {
    Failure.DNS_NXDOMAIN,
    Failure.DNS_SERVFAIL,
    Failure.DNS_REFUSED,
    Failure.DNS_NO_ANSWER,
    Failure.TLS_EXPIRED,
    Failure.TLS_NAME_MISMATCH,
    Failure.TLS_UNKNOWN_AUTHORITY,
}
"""Failures that only the far end can tell. A refusal is none of them: a filter refuses, too."""

_UNJUDGED = {Purpose.TRACE, Purpose.NAME, Purpose.ARP_CONTROL}
_NODES = {HopKind.POD_NETWORK, HopKind.FORWARD, HopKind.HOST_INPUT, HopKind.KUBE_PROXY}
_READ = {HopKind.MASQUERADE}
"""What is known by reading rules: silence alone accuses nobody of that."""

_WITH_PROTOCOL = {HopKind.FORWARD, HopKind.HOST_INPUT, HopKind.UNDERLAY, HopKind.POD}

_HOP = 1.0
_BOTH_TRANSPORTS = 0.05
_ANY_PROTOCOL = 0.1
_ONE_END = 0.2
_EVERYWHERE = 0.3
_PRIOR = 0.5
"""What a hypothesis costs that something read on the hop speaks for, as a part of its cost."""

_MOST_EXACT = 24
"""Up to so many hypotheses that cover different flows are combined exhaustively."""


class Suspect(msgspec.Struct, frozen=True, order=True):
    """A hop, or a class of hops, that loses packets of some size and larger ones (0: all)."""

    hop: Hop
    size: int = 0


class Explanation(msgspec.Struct, frozen=True):
    """One part of the smallest explanation.

    Args:
        suspects: The hops of which one is broken; more than one where no flow tells them apart.
        flows: Ids of the failed flows that it explains, sorted.
    """

    suspects: tuple[Suspect, ...]
    flows: tuple[str, ...]


def outcome(seen: Observation) -> bool | None:
    """Say whether a flow passed, or stayed unanswered; None where it tells neither."""
    if seen.flow.purpose in _UNJUDGED or seen.degraded:
        return None
    if seen.failure is not None and seen.failure.unanswered:
        return False
    if seen.flow.size and seen.failure is Failure.TOO_BIG:
        return False
    if seen.flow.purpose in _BY_REQUEST and seen.flow.kind is not FlowKind.RESOLVE:
        whole = seen.ok and seen.served and 200 <= seen.status < 300  # noqa: PLR2004
        return True if whole else None
    return True if seen.ok or seen.failure in _DELIVERED else None


class Evidence:
    """What flows say of hops."""

    def __init__(self, observations: tuple[Observation, ...]) -> None:
        """Look at flows, with their predicted hops."""
        self.observations = observations

    @cached_property
    def passed(self) -> Mapping[Hop, int]:
        """The largest size that passed each hop; 0 for packets of no special size."""
        found: dict[Hop, int] = {}
        for seen in self.observations:
            if outcome(seen):
                for hop in seen.certain:
                    found[hop] = max(found.get(hop, 0), seen.flow.size)
        return found

    @cached_property
    def failed(self) -> tuple[Observation, ...]:
        """The flows that stayed unanswered, by id."""
        lost = {o.flow.id: o for o in self.observations if outcome(o) is False}
        return tuple(lost[i] for i in sorted(lost))

    def exonerated(self, suspect: Suspect) -> bool:
        """Say whether something that a suspect would have lost has passed."""
        return any(
            size >= suspect.size and suspect.hop.covers(hop) for hop, size in self.passed.items()
        )

    def accused(self, seen: Observation) -> tuple[Suspect, ...]:
        """Return the hops that may have lost a failed flow."""
        size = seen.flow.size
        return tuple(
            Suspect(h, size)
            for h in seen.hops
            if h.kind not in _READ and self.passed.get(h, -1) < size
        )


def explain(
    evidence: Evidence, flows: Iterable[str] | None = None, priors: Iterable[Hop] = ()
) -> tuple[Explanation, ...]:
    """Find the smallest explanation of what failed.

    Args:
        evidence: All flows.
        flows: Ids of the failed flows to explain; all of them if None.
        priors: Hops, or classes, that something read there speaks against.

    Returns:
        What is broken, the part that explains most first. Flows whose every hop is exonerated are
        left out: nothing on the predicted path explains them.
    """
    wanted = None if flows is None else frozenset(flows)
    failed = {o.flow.id: o for o in evidence.failed if wanted is None or o.flow.id in wanted}
    accused = {i: a for i, o in failed.items() if (a := evidence.accused(o))}
    groups = _groups(evidence, accused, tuple(priors))
    chosen = _cover(frozenset(accused), groups)
    return tuple(
        sorted(
            (Explanation(tuple(groups[c][1]), tuple(sorted(c))) for c in chosen),
            key=lambda e: (-len(e.flows), e.suspects),
        )
    )


_Groups = dict[frozenset[str], tuple[float, list[Suspect]]]


def _groups(
    evidence: Evidence, accused: Mapping[str, tuple[Suspect, ...]], priors: tuple[Hop, ...]
) -> _Groups:
    """Sort hypotheses by the flows that they explain; per such set, keep the cheapest."""
    single = {s for suspects in accused.values() for s in suspects}
    groups: _Groups = {}
    for suspect, cost in sorted({h for s in single for h in _hypotheses(s)}):
        if evidence.exonerated(suspect):
            continue
        covered = frozenset(
            i for i, suspects in accused.items() if any(_covers(suspect, s) for s in suspects)
        )
        weight = cost * (_PRIOR if any(p.covers(suspect.hop) for p in priors) else 1)
        best, rivals = groups.get(covered, (weight, []))
        if weight < best:
            groups[covered] = (weight, [suspect])
        elif weight == best:
            groups[covered] = (weight, [*rivals, suspect])
    return groups


def _covers(suspect: Suspect, other: Suspect) -> bool:
    """Say whether what one suspect loses includes what the other does."""
    return other.size >= suspect.size and suspect.hop.covers(other.hop)


def _hypotheses(suspect: Suspect) -> Iterator[tuple[Suspect, float]]:
    """Yield a hop and the classes that it is a member of, with what each costs."""
    hop = suspect.hop
    for what, cost in _whats(hop):
        for where, more in _wheres(hop):
            yield Suspect(Hop(hop.kind, where, what), suspect.size), _HOP + cost + more


def _whats(hop: Hop) -> Iterator[tuple[str, float]]:
    """Yield what a hop sees, the port over both transports, and everything, with the extra cost."""
    yield hop.what, 0.0
    if hop.kind in _WITH_PROTOCOL and hop.what:
        transport, slash, port = hop.what.partition("/")
        if slash and transport in ("tcp", "udp"):
            yield f"udp+tcp/{port}", _BOTH_TRANSPORTS
        yield "", _ANY_PROTOCOL


def _wheres(hop: Hop) -> Iterator[tuple[str, float]]:
    """Yield a place and the classes of places around it, with what each costs more."""
    yield hop.where, 0.0
    start, arrow, end = hop.where.partition(">")
    if hop.kind is HopKind.UNDERLAY and arrow:
        yield f"{start}>{ANY}", _ONE_END
        yield f"{ANY}>{end}", _ONE_END
        yield f"{ANY}>{ANY}", _EVERYWHERE
    elif hop.kind in _NODES:
        yield ANY, _EVERYWHERE


def _cover(flows: frozenset[str], groups: _Groups) -> tuple[frozenset[str], ...]:
    """Choose the cheapest sets of flows that together are all flows."""
    useful = sorted(groups, key=lambda c: (groups[c][0] / len(c), groups[c][0], sorted(c)))
    if len(useful) > _MOST_EXACT:
        return _greedily(flows, useful, groups)
    best: tuple[float, tuple[frozenset[str], ...]] = (float("inf"), ())

    def search(left: frozenset[str], cost: float, taken: tuple[frozenset[str], ...]) -> None:
        nonlocal best
        if cost >= best[0]:
            return
        if not left:
            best = (cost, taken)
            return
        hardest = min(left, key=lambda i: (sum(i in c for c in useful), i))
        for covered in (c for c in useful if hardest in c):
            search(left - covered, cost + groups[covered][0], (*taken, covered))

    search(flows, 0.0, ())
    return best[1]


def _greedily(
    flows: frozenset[str], useful: list[frozenset[str]], groups: _Groups
) -> tuple[frozenset[str], ...]:
    """Choose, again and again, what explains most for its cost."""
    left, chosen = flows, []
    while left:
        best = min(
            (c for c in useful if c & left),
            key=lambda c: (groups[c][0] / len(c & left), groups[c][0], sorted(c)),
        )
        chosen.append(best)
        left -= best
    return tuple(chosen)
