"""What a result comes down to: a line per link, a line per thing not seen, one sentence for all."""

from collections.abc import Iterable, Sequence

import msgspec

from doctor.model.finding import Severity
from doctor.model.link import Link
from doctor.model.verdict import (
    CheckResult,
    Diagnosis,
    Gap,
    Outcome,
    Result,
    Stats,
    TargetResult,
    Verdict,
)
from doctor.render.text import count

__all__ = ["Station", "Unseen", "cost", "headline", "stations", "unseen"]


class Station(msgspec.Struct, frozen=True):
    """One link of the chain at a glance.

    Args:
        link: The link.
        verdict: The one of its checks' verdicts that matters most.
        text: One short line.
        repeated: Whether the text stands in full further down.
    """

    link: Link
    verdict: Verdict
    text: str
    repeated: bool = False


class Unseen(msgspec.Struct, frozen=True):
    """Something that was not looked at, and the checks that have no answer for want of it."""

    needs: str
    reason: str
    costs: tuple[str, ...] = ()


_ESSENTIAL_FIRST = (
    Verdict.FAIL,
    Verdict.CRASHED,
    Verdict.INSUFFICIENT,
    Verdict.WARN,
    Verdict.MASKED,
    Verdict.PASS,
    Verdict.SKIPPED,
)


def stations(result: Result) -> tuple[Station, ...]:
    """Sum up each link that has checks, in the order of the chain."""
    return tuple(
        _station(link, checks, result.diagnoses)
        for link in Link
        if (checks := [c for c in result.checks if c.link is link])
    )


def _station(link: Link, checks: Sequence[CheckResult], diagnoses: Sequence[Diagnosis]) -> Station:
    """Sum up one link."""
    verdict = _worst(checks)
    those = [c for c in checks if c.verdict is verdict]
    match verdict:
        case Verdict.FAIL | Verdict.WARN:
            ids = {c.id for c in those}
            return _broken(link, verdict, those, [d for d in diagnoses if d.check in ids])
        case Verdict.CRASHED:
            text = f"{those[0].id}: {_last_line(those[0].detail)}"
            return Station(link, verdict, text, repeated=True)
        case Verdict.INSUFFICIENT:
            return Station(link, verdict, _missing(those), repeated=True)
        case Verdict.MASKED:
            return Station(link, verdict, _masked(those))
        case Verdict.SKIPPED:
            reasons = dict.fromkeys(c.detail for c in those if c.detail)
            return Station(link, verdict, next(iter(reasons), "does not apply here"))
        case Verdict.PASS:
            return Station(link, verdict, _passed(checks, those))


def _worst(checks: Sequence[CheckResult]) -> Verdict:
    """Choose the verdict that stands for a link.

    What could not be seen and is not needed does not hide what was seen and is well.
    """
    met = {c.verdict for c in checks}
    if Verdict.PASS in met and not any(_incomplete(c) for c in checks):
        met.discard(Verdict.INSUFFICIENT)
    return next(v for v in _ESSENTIAL_FIRST if v in met)


def _incomplete(check: CheckResult) -> bool:
    """Say whether a check lacks something that the answer needs."""
    needed = not check.gaps or any(g.essential for g in check.gaps)
    return check.verdict is Verdict.INSUFFICIENT and needed


def _broken(
    link: Link, verdict: Verdict, checks: Sequence[CheckResult], found: Sequence[Diagnosis]
) -> Station:
    """Name the causes; a run that was interrupted has findings that nobody has attributed yet."""
    if len(found) == 1:
        return Station(link, verdict, f"{found[0].id}: {found[0].finding.title}", repeated=True)
    if found:
        causes = ", ".join(d.id for d in found)
        return Station(link, verdict, f"{count(len(found), 'cause')}: {causes}", repeated=True)
    titles = [f.title for c in checks for f in c.findings]
    more = f" (and {len(titles) - 1} more)" if len(titles) > 1 else ""
    return Station(link, verdict, (titles or [c.title for c in checks])[0] + more)


def _masked(checks: Sequence[CheckResult]) -> str:
    """Name what explains the findings of a link."""
    number = sum(len(c.findings) for c in checks)
    causes = ", ".join(dict.fromkeys(c.explained_by for c in checks if c.explained_by))
    found = f"{count(number, 'finding')}, " if number else ""
    return f"{found}explained by {causes or 'another link'}"


def _missing(checks: Sequence[CheckResult]) -> str:
    """Name the first gap of a link."""
    gaps = list(dict.fromkeys((g.needs, g.reason) for c in checks for g in _by_weight(c.gaps)))
    if not gaps:
        return next((c.detail for c in checks if c.detail), "not enough was seen to tell")
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    return f"{gaps[0][0]}: {gaps[0][1]}{more}"


def _passed(checks: Sequence[CheckResult], passed: Sequence[CheckResult]) -> str:
    """Count what was judged, and say what was not."""
    silent = [c for c in checks if c.verdict is Verdict.INSUFFICIENT]
    text = count(len(passed), "check")
    return f"{text}, {len(silent)} not judged: {_missing(silent)}" if silent else text


def _by_weight(gaps: Iterable[Gap]) -> list[Gap]:
    """Put what the answer needs before what it could do without."""
    return sorted(gaps, key=lambda g: not g.essential)


def unseen(result: Result) -> tuple[Unseen, ...]:
    """List what was not looked at: gaps each once, those that leave the answer open first."""
    gaps = _by_weight(g for c in result.checks for g in c.gaps if not _silenced(c, g))
    missed = [
        Unseen(needs, reason, _costs(result.checks, needs, reason))
        for needs, reason in dict.fromkeys((g.needs, g.reason) for g in gaps)
    ]
    crashed = [c for c in result.checks if c.verdict is Verdict.CRASHED]
    return (*(Unseen(c.id, f"crashed: {_last_line(c.detail)}") for c in crashed), *missed)


def _silenced(check: CheckResult, gap: Gap) -> bool:
    """Say whether a cause that was found keeps the answer away that is missing."""
    return check.verdict is Verdict.MASKED and bool(gap.flows)


def _costs(checks: Sequence[CheckResult], needs: str, reason: str) -> tuple[str, ...]:
    """Find the checks that a gap leaves without an answer."""
    return tuple(
        c.id
        for c in checks
        if c.verdict is Verdict.INSUFFICIENT
        and any((g.needs, g.reason) == (needs, reason) for g in c.gaps)
    )


def _last_line(detail: str) -> str:
    """Cut a traceback down to what it says."""
    lines = detail.strip().splitlines()
    return lines[-1].strip() if lines else "no detail"


def headline(result: Result) -> str:
    """Say the verdict in one sentence."""
    causes = _causes(result.diagnoses)
    lost = _lost(result.targets)
    match result.outcome:
        case Outcome.HEALTHY if lost:
            return f"{causes or 'nothing found'} in the links looked at, but {lost}"
        case Outcome.HEALTHY:
            return f"healthy: {causes or 'nothing found'} in {cost(result.stats)}"
        case Outcome.INCOMPLETE:
            number = len(_essential(result))
            open_ = count(number, "thing") if number else "" if lost else "a part"
            unseen_ = f"{open_} could not be looked at" if open_ else ""
            why = ", and ".join(t for t in (lost, unseen_) if t)
            return f"incomplete: {causes or 'nothing found'}, but {why}"
        case Outcome.ERROR:
            crashed = sum(c.verdict is Verdict.CRASHED for c in result.checks)
            what = f"{count(crashed, 'check')} crashed" if crashed else "the run failed"
            return "error: " + "; ".join(t for t in (result.message or what, causes) if t)
        case Outcome.INTERRUPTED:
            said = causes or "nothing found so far"
            return f"interrupted after {result.stats.seconds:.1f} s: {said}"
        case Outcome.WARN | Outcome.FAIL:
            open_ = count(len(_essential(result)), "thing") if _essential(result) else ""
            tail = f"; {open_} could not be looked at" if open_ else ""
            return (causes or "something is wrong, and no cause was found") + tail


def _lost(targets: Sequence[TargetResult]) -> str:
    """Say which URLs are not served for no reason that was found; empty where none is."""
    lost = [t.url for t in targets if t.lost]
    if len(lost) > 1:
        return f"{len(lost)} URLs are not served"
    return f"{lost[0]} is not served" if lost else ""


def cost(stats: Stats) -> str:
    """Say what the run cost."""
    spent = ", ".join(
        count(number, noun)
        for number, noun in (
            (stats.api_requests, "API request"),
            (stats.probes, "probe"),
            (stats.nodes, "node"),
        )
    )
    return f"{stats.seconds:.1f} s ({spent})"


def _essential(result: Result) -> set[tuple[str, str]]:
    """Collect what leaves the answer open."""
    return {
        (g.needs, g.reason)
        for c in result.checks
        if c.verdict is Verdict.INSUFFICIENT
        for g in c.gaps
        if g.essential
    }


def _causes(diagnoses: Sequence[Diagnosis]) -> str:
    """Count causes, warnings, and what they explain."""
    roots = sum(d.finding.severity is Severity.FAIL for d in diagnoses)
    echoes = sum(len(d.explains) for d in diagnoses)
    named = " and ".join(
        count(number, noun)
        for number, noun in ((roots, "root cause"), (len(diagnoses) - roots, "warning"))
        if number
    )
    if not echoes:
        return named
    whom = "it" if len(diagnoses) == 1 else "them"
    return f"{named}, {count(echoes, 'other finding')} explained by {whom}"
