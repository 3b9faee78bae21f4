"""Attribution: which finding is a cause, and which findings it explains.

A finding is explained by causes if a hop that may have brought it about is one that they found
broken, if it is a symptom of the very hop that they found broken, or if every flow that it is about
crosses a hop that they found broken. Scope decides: a fault between two nodes explains what crosses
between them, and nothing else. Two causes at one hop are two, unless they are the same, or one says
that it may follow from whatever else is found there.
"""

from collections.abc import Iterable, Mapping

import msgspec

from doctor.model.finding import Finding, Role, Severity
from doctor.model.flow import Observation
from doctor.model.hop import Hop
from doctor.model.link import Link
from doctor.model.verdict import Diagnosis

__all__ = ["Said", "attribute"]


class Said(msgspec.Struct, frozen=True):
    """A finding, and the check that said it."""

    check: str
    finding: Finding


def attribute(
    said: Iterable[Said], observations: Iterable[Observation]
) -> tuple[tuple[Diagnosis, ...], dict[int, int]]:
    """Fold findings under their causes.

    Args:
        said: All findings, in walking order.
        observations: All observations, for the hops that flows cross.

    Returns:
        The diagnoses, the one that explains most first; and, per position of a finding, the
        position of its diagnosis.
    """
    found = _merged(tuple(said))
    hops = {o.flow.id: o.hops for o in observations}
    parents = _parents(found, hops)
    roots = [n for n in range(len(found)) if n not in parents]
    folded = {n: _root(n, parents) for n in range(len(found))}
    children = {r: [n for n in folded if folded[n] == r and n != r] for r in roots}
    order = sorted(roots, key=lambda r: _rank(found[r], len(children[r]), r))
    diagnoses = tuple(
        Diagnosis(
            id=f"d{position}",
            check=found[root].check,
            finding=found[root].finding,
            explains=tuple((found[n].check, found[n].finding) for n in children[root]),
        )
        for position, root in enumerate(order, 1)
    )
    return diagnoses, {n: order.index(folded[n]) for n in folded}


def _merged(said: tuple[Said, ...]) -> tuple[Said, ...]:
    """Order findings as links are walked, causes before symptoms; ties keep their order."""
    links = list(Link)
    return tuple(
        sorted(
            said,
            key=lambda s: (
                s.finding.code.role is Role.SYMPTOM,
                links.index(s.finding.code.link),
            ),
        )
    )


def _rank(said: Said, explained: int, position: int) -> tuple[bool, bool, int, int]:
    """Order diagnoses: failures first, causes before bare symptoms, then what explains most."""
    finding = said.finding
    return (
        finding.severity is Severity.WARN,
        finding.code.role is Role.SYMPTOM,
        -explained,
        position,
    )


def _root(position: int, parents: Mapping[int, int]) -> int:
    """Follow explanations to the cause."""
    while position in parents:
        position = parents[position]
    return position


def _parents(found: tuple[Said, ...], hops: Mapping[str, tuple[Hop, ...]]) -> dict[int, int]:
    """Find, for each finding that is explained, the cause that explains it.

    Causes are settled first, from the first link on: one that is explained itself still explains
    what its own hop covers, through its cause. A circle is cut where it would close. A warning is
    about what still works: it explains no failure.
    """
    parents: dict[int, int] = {}
    causes = [n for n, s in enumerate(found) if s.finding.code.role is Role.CAUSE]
    for n, said in enumerate(found):
        others = [
            c
            for c in causes
            if c != n
            and _warns(found[c]) <= _warns(said)
            and _root(c, parents) != n
            and (
                found[c].finding.hop != said.finding.hop
                or (_warns(found[c]), c) < (_warns(said), n)
            )
        ]
        parent = _explained_by(said.finding, found, others, hops)
        if parent is not None:
            parents[n] = parent
    return parents


def _warns(said: Said) -> bool:
    """Say whether a finding is a warning."""
    return said.finding.severity is Severity.WARN


def _explained_by(
    finding: Finding,
    found: tuple[Said, ...],
    causes: list[int],
    hops: Mapping[str, tuple[Hop, ...]],
) -> int | None:
    """Return the first cause that explains a finding, alone or together with others."""
    for cause in causes:
        hop = found[cause].finding.hop
        own = finding.code
        same = hop == finding.hop and (own.role is Role.SYMPTOM or own == found[cause].finding.code)
        if same or any(hop.covers(h) or h.covers(hop) for h in finding.consequence_of):
            return cause
    crossed = [hops.get(f, ()) for f in finding.flows]
    if not crossed or not all(crossed):
        return None
    hit = [
        [c for c in causes if any(found[c].finding.hop.covers(h) for h in path)] for path in crossed
    ]
    return hit[0][0] if all(hit) else None
