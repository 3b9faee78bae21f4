"""Weigh diagnoses against all flows: what else would explain them, and what speaks against them."""

from collections.abc import Iterable, Iterator

import msgspec

from doctor.model.finding import Confidence, Finding, Role, Severity
from doctor.model.flow import Observation
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.verdict import Diagnosis, Rival
from doctor.path.tomography import Evidence, Explanation, explain, outcome

__all__ = ["weigh"]

_MOST_RIVALS = 3
_MOST_AGAINST = 5
_MANY = 2
"""One flow that stays unanswered may be chance."""


def weigh(
    diagnoses: Iterable[Diagnosis], observations: Iterable[Observation]
) -> tuple[tuple[Diagnosis, ...], tuple[str, ...]]:
    """Make one diagnosis of the symptoms of one hop; give each its rivals and what speaks against it.

    Args:
        diagnoses: Causes, and symptoms that no cause explains.
        observations: All flows, with their predicted hops.

    Returns:
        The diagnoses, and a line on failed flows that none of them accounts for, if there are any.
    """
    found = tuple(diagnoses)
    evidence = Evidence(tuple(observations))
    parts = explain(evidence, priors=_priors(found))
    joined = (_weighed(d, evidence, parts) for d in _joined(found, parts))
    weighed = tuple(msgspec.structs.replace(d, id=f"d{n}") for n, d in enumerate(joined, 1))
    return weighed, tuple(_unexplained(weighed, evidence, parts))


def _unexplained(
    found: tuple[Diagnosis, ...], evidence: Evidence, parts: tuple[Explanation, ...]
) -> list[str]:
    """Describe failed flows that no diagnosis accounts for: of one hop, or of none on their path.

    A diagnosis accounts for what it cites, and for what crosses the hop that it names: a hop that
    lets some flows pass may be broken one way, or for some sources only.
    """
    cited = {i for d in found for f in _findings(d) for i in (*f.evidence, *f.flows)}
    blamed = _priors(found)
    cited |= {
        o.flow.id for o in evidence.failed if any(b.covers(h) for b in blamed for h in o.hops)
    }
    told = [
        f"Not explained: {len(part.flows)} probes stayed unanswered that all cross "
        f"{part.suspects[0].hop} ({part.flows[0]})"
        for part in parts
        if len(part.flows) >= _MANY
        and cited.isdisjoint(part.flows)
        and not any(_about(d, part) for d in found)
    ]
    odd = [
        o.flow.id
        for o in evidence.failed
        if o.hops and not evidence.accused(o) and o.flow.id not in cited
    ]
    if len(odd) >= _MANY:
        told.append(
            f"Not explained: {len(odd)} probes stayed unanswered although every hop that they were "
            f"predicted to cross lets others pass ({odd[0]})"
        )
    return told


def _findings(diagnosis: Diagnosis) -> Iterator[Finding]:
    """Yield a cause and all that it explains."""
    yield diagnosis.finding
    yield from (f for _, f in diagnosis.explains)


def _priors(diagnoses: Iterable[Diagnosis]) -> tuple[Hop, ...]:
    """Return the hops that something speaks against besides flows that failed."""
    return tuple(
        d.finding.hop
        for d in diagnoses
        if d.finding.code.role is Role.CAUSE and d.finding.severity is Severity.FAIL
    )


def _about(diagnosis: Diagnosis, part: Explanation) -> bool:
    """Say whether a diagnosis names one of the hops that may explain some flows."""
    hop = diagnosis.finding.hop
    return any(hop.covers(s.hop) or s.hop.covers(hop) for s in part.suspects)


def _symptom_of(diagnosis: Diagnosis, parts: tuple[Explanation, ...]) -> Explanation | None:
    """Return what explains all the flows that a bare symptom is about."""
    flows = diagnosis.finding.flows
    if diagnosis.finding.code.role is Role.CAUSE or not flows:
        return None
    return next((p for p in parts if p.suspects and set(flows) <= set(p.flows)), None)


def _joined(found: tuple[Diagnosis, ...], parts: tuple[Explanation, ...]) -> Iterator[Diagnosis]:
    """Fold the symptoms of one hop under the first of them."""
    first: dict[Explanation, str] = {}
    folded: dict[str, list[Diagnosis]] = {}
    for diagnosis in found:
        part = _symptom_of(diagnosis, parts)
        if part and first.setdefault(part, diagnosis.id) != diagnosis.id:
            folded.setdefault(first[part], []).append(diagnosis)
    away = {d.id for others in folded.values() for d in others}
    for diagnosis in found:
        if diagnosis.id in away:
            continue
        others = folded.get(diagnosis.id, [])
        more = tuple(pair for d in others for pair in ((d.check, d.finding), *d.explains))
        yield msgspec.structs.replace(diagnosis, explains=diagnosis.explains + more)


def _weighed(diagnosis: Diagnosis, evidence: Evidence, parts: tuple[Explanation, ...]) -> Diagnosis:
    """Point a symptom at the hop that explains it, and add rivals and what speaks against it."""
    part = _symptom_of(diagnosis, parts)
    if part:
        sure = len(part.suspects) == 1 and len(part.flows) >= _MANY
        finding = msgspec.structs.replace(
            diagnosis.finding,
            hop=part.suspects[0].hop,
            confidence=Confidence.LIKELY if sure else Confidence.POSSIBLE,
        )
        diagnosis = msgspec.structs.replace(diagnosis, finding=finding)
    elif diagnosis.finding.confidence is not Confidence.CERTAIN:
        part = next((p for p in parts if _about(diagnosis, p)), None)
    against = _against(diagnosis.finding, evidence)
    return msgspec.structs.replace(
        diagnosis, rivals=_rivals(diagnosis.finding.hop, part), against=against
    )


def _rivals(hop: Hop, part: Explanation | None) -> tuple[Rival, ...]:
    """Return the other hops that would explain the same flows."""
    others = [s.hop for s in part.suspects if not _same(s.hop, hop)] if part else []
    return tuple(Rival(h, _decided_by(h)) for h in dict.fromkeys(others))[:_MOST_RIVALS]


def _same(a: Hop, b: Hop) -> bool:
    """Say whether one hop is the other, or a part of it."""
    return a.covers(b) or b.covers(a)


def _against(finding: Finding, evidence: Evidence) -> tuple[str, ...]:
    """Return flows that passed although they cross a hop that is said to be broken."""
    if finding.severity is not Severity.FAIL:
        return ()
    passed = (
        o.flow.id
        for o in evidence.observations
        if outcome(o) and any(finding.hop.covers(h) for h in o.certain)
    )
    return tuple(sorted(passed))[:_MOST_AGAINST]


def _decided_by(hop: Hop) -> str:
    """Say what would be seen if this hop, and no other, were broken."""
    start, arrow, end = hop.where.partition(">")
    words = {
        HopKind.POD_NETWORK: f"no pod on {hop.where} answers, not even to its node",
        HopKind.FORWARD: f"node {hop.where} itself gets an answer where its pods get none",
        HopKind.HOST_INPUT: f"others get an answer from {hop.where} itself where its pods get none",
        HopKind.KUBE_PROXY: f"the endpoints answer from {hop.where}, Service addresses do not",
        HopKind.SERVICE: f"the endpoints of {hop.where} answer, its address does not, from any node",
        HopKind.POD: f"other pods on the node of {hop.where} answer",
        HopKind.EGRESS: f"other addresses outside answer where {hop.where} does not",
    }
    if arrow and ANY not in (start, end):
        return f"packets that leave {start} for {end} are not counted at {end}"
    return words.get(hop.kind, f"other ways around {hop} work")
