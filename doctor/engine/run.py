"""Run checks over evidence, and settle what it all means."""

import shlex
from collections.abc import Iterable

import msgspec

from doctor.bundle.schema import Bundle, FlowRecord
from doctor.contract import Check
from doctor.engine.attribute import Said, attribute
from doctor.engine.narrow import weigh
from doctor.engine.notices import notices
from doctor.engine.targets import TARGETED, targets
from doctor.evidence.tables import Tables
from doctor.model.evidence import Evidence
from doctor.model.finding import Finding, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.link import Link
from doctor.model.verdict import (
    CheckResult,
    Diagnosis,
    Gap,
    Outcome,
    Result,
    Stats,
    Verdict,
)

__all__ = ["EXIT_CODES", "diagnose"]

_ONE_PATH = {Purpose.MESH, Purpose.MESH_SIZE, Purpose.UNDERLAY, Purpose.UNDERLAY_SIZE}
"""Flows to an address that only one machine or pod has."""

EXIT_CODES = {
    Outcome.HEALTHY: 0,
    Outcome.ERROR: 1,
    Outcome.FAIL: 3,
    Outcome.WARN: 4,
    Outcome.INCOMPLETE: 5,
    Outcome.INTERRUPTED: 130,
}


def diagnose(bundle: Bundle, checks: Iterable[Check], *, fail_on_warn: bool = False) -> Result:
    """Judge a bundle.

    Args:
        bundle: What was gathered.
        checks: The checks to run, in walking order.
        fail_on_warn: Whether warnings alone make exit code 4.
    """
    tables = Tables(bundle)
    judged = [_judge(check, tables) for check in checks]
    said = [Said(check=r.id, finding=f) for r in judged for f in r.findings]
    seen = tuple(tables.observations())
    folded, _ = attribute(said, seen)
    diagnoses, unexplained = weigh(folded, seen)
    results = tuple(_silenced(_explained(r, diagnoses), diagnoses, seen) for r in judged)
    links = {c.link for c in results}
    found = targets(tables, diagnoses, links)
    unserved = Link.HOST_PROXY in links and any(t.lost for t in found)
    outcome = _outcome(results, diagnoses, unexplained=unserved)
    exit_code = EXIT_CODES[outcome]
    if outcome is Outcome.WARN and not fail_on_warn:
        exit_code = 0
    return Result(
        outcome=outcome,
        exit_code=exit_code,
        targets=found,
        diagnoses=diagnoses,
        checks=results,
        notices=(*notices(tables, links), *unexplained),
        stats=_stats(tables),
    )


def _judge(check: Check, tables: Tables) -> CheckResult:
    """Run one check; what goes wrong inside it stays inside it."""
    recorded = tables.world.bundle.question.checks
    if recorded and check.id not in recorded:
        # for its sake nothing was gathered, and no evidence is no proof of health
        unseen = Gap(f"evidence for {check.id}", "the bundle was recorded without this check")
        return _result(check, Verdict.INSUFFICIENT, gaps=(unseen,))
    try:
        given = {n.parameter: tables.get(n.type) for n in check.needs}
    except Exception as error:  # noqa: BLE001 - a builder's bug must not stop other checks
        return _result(check, Verdict.CRASHED, detail=f"{type(error).__name__}: {error}")
    required: list[Evidence] = [given[n.parameter] for n in check.needs if n.required]
    absent = next((t.absent for t in required if t.absent), "")
    if absent:
        return _result(check, Verdict.SKIPPED, detail=absent)
    try:
        findings = tuple(_asked_again(f, tables) for f in check.judge(**given))
    except Exception as error:  # noqa: BLE001 - one check's bug must not stop the others
        return _result(check, Verdict.CRASHED, detail=f"{type(error).__name__}: {error}")
    gaps = tuple(dict.fromkeys(g for t in required for g in t.gaps))
    if not findings:
        missing = any(g.essential for g in gaps)
        return _result(check, Verdict.INSUFFICIENT if missing else Verdict.PASS, gaps=gaps)
    failed = any(f.severity is Severity.FAIL for f in findings)
    return _result(check, Verdict.FAIL if failed else Verdict.WARN, findings, gaps)


def _asked_again(finding: Finding, tables: Tables) -> Finding:
    """Let what verifies a fix ask the same targets: without --url it would ask others."""
    urls = tables.world.bundle.question.urls
    if finding.code.link not in TARGETED or not urls:
        return finding
    more = "".join(f" --url {shlex.quote(u)}" for u in urls)
    mends = tuple(msgspec.structs.replace(r, verify=r.verify + more) for r in finding.remediation)
    return msgspec.structs.replace(finding, remediation=mends)


def _result(
    check: Check,
    verdict: Verdict,
    findings: tuple[Finding, ...] = (),
    gaps: tuple[Gap, ...] = (),
    detail: str = "",
) -> CheckResult:
    """Write down a check's result."""
    essential = tuple(
        msgspec.structs.replace(g, essential=g.essential and check.essential) for g in gaps
    )
    return CheckResult(
        id=check.id,
        link=check.link,
        title=check.title,
        verdict=verdict,
        findings=findings,
        gaps=essential,
        detail=detail,
    )


def _explained(result: CheckResult, diagnoses: tuple[Diagnosis, ...]) -> CheckResult:
    """Mark a check whose findings are all explained by others' as MASKED."""
    by = {f: d.id for d in diagnoses for _, f in d.explains}
    if not result.findings or not all(f in by for f in result.findings):
        return result
    first = by[result.findings[0]]
    return msgspec.structs.replace(result, verdict=Verdict.MASKED, explained_by=first)


def _silenced(
    result: CheckResult, diagnoses: tuple[Diagnosis, ...], seen: tuple[Observation, ...]
) -> CheckResult:
    """Mark a check as MASKED that is open only for flows which causes keep from being answered.

    A cause that lets a flow through, as loss does, need not be why another has no answer. Only flows
    with one path tell that: to a Service, there are several.
    """
    if result.verdict is not Verdict.INSUFFICIENT or not all(g.flows for g in result.gaps):
        return result
    hops = {o.flow.id: o.hops for o in seen}
    passed = {h for o in seen if o.ok and o.flow.purpose in _ONE_PATH for h in o.hops}
    causes = [
        d
        for d in diagnoses
        if d.finding.severity is Severity.FAIL and not any(map(d.finding.hop.covers, passed))
    ]
    crossed = [hops.get(f, ()) for g in result.gaps for f in g.flows]
    hit = [[d.id for d in causes if any(map(d.finding.hop.covers, path))] for path in crossed]
    if not hit or not all(hit):
        return result
    return msgspec.structs.replace(result, verdict=Verdict.MASKED, explained_by=hit[0][0])


def _outcome(
    results: tuple[CheckResult, ...], diagnoses: tuple[Diagnosis, ...], *, unexplained: bool
) -> Outcome:
    """Settle the run: crash before failure before incompleteness before warning.

    A URL that is not served although its whole way was looked at makes it incomplete.
    """
    if any(r.verdict is Verdict.CRASHED for r in results):
        return Outcome.ERROR
    if any(d.finding.severity is Severity.FAIL for d in diagnoses):
        return Outcome.FAIL
    missing = (g.essential for r in results if r.verdict is Verdict.INSUFFICIENT for g in r.gaps)
    if unexplained or any(missing):
        return Outcome.INCOMPLETE
    return Outcome.WARN if diagnoses else Outcome.HEALTHY


def _stats(tables: Tables) -> Stats:
    """Count what the run cost."""
    world = tables.world
    return Stats(
        seconds=world.bundle.seconds,
        api_requests=world.bundle.api_requests,
        nodes=len(world.nodes),
        probes=len(world.of(FlowRecord)),
    )
