"""The JSON result: a contract with whoever reads it. Fields may be added, never renamed."""

import re

import msgspec

from doctor import __version__
from doctor.model.finding import Finding, Remediation
from doctor.model.verdict import CheckResult, Diagnosis, Gap, Result, Stats, TargetResult
from doctor.render.text import HIDDEN

__all__ = ["RULESET", "SCHEMA", "render_json"]

SCHEMA = 1
RULESET = 1


class _Tool(msgspec.Struct, frozen=True):
    """Who says it: results of different rulesets are not to be compared."""

    name: str = "wwwm-doctor"
    version: str = __version__
    ruleset: int = RULESET


class _Target(msgspec.Struct, frozen=True):
    """One URL."""

    url: str
    reachable: bool
    stopped_at: str | None
    status: int | None


class _Explained(msgspec.Struct, frozen=True):
    """A finding that is an echo of a diagnosis."""

    check: str
    code: str
    text: str


class _Remediation(msgspec.Struct, frozen=True):
    """How to mend a cause."""

    title: str
    commands: tuple[str, ...]
    risk: str
    verify: str


class _Rival(msgspec.Struct, frozen=True):
    """Another hop that would explain the same failures."""

    hop: str
    decided_by: str


class _Diagnosis(msgspec.Struct, frozen=True):
    """A root cause."""

    id: str
    code: str
    link: str
    title: str
    hop: str
    severity: str
    confidence: str
    check: str
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    rivals: tuple[_Rival, ...]
    explains: tuple[_Explained, ...]
    remediation: tuple[_Remediation, ...]
    falsifier: str


class _Finding(msgspec.Struct, frozen=True):
    """What a check said, before anybody asked why."""

    code: str
    title: str
    hop: str
    severity: str
    evidence: tuple[str, ...]


class _Gap(msgspec.Struct, frozen=True):
    """What could not be looked at."""

    needs: str
    reason: str
    essential: bool


class _Check(msgspec.Struct, frozen=True):
    """What became of one check."""

    id: str
    link: str
    title: str
    verdict: str
    explained_by: str | None
    findings: tuple[_Finding, ...]
    gaps: tuple[_Gap, ...]
    detail: str


class _Stats(msgspec.Struct, frozen=True):
    """What the run cost."""

    seconds: float
    api_requests: int
    nodes: int
    probes: int


class _Document(msgspec.Struct, frozen=True):
    """The whole result."""

    schema: int
    tool: _Tool
    verdict: str
    exit_code: int
    message: str
    targets: tuple[_Target, ...]
    diagnoses: tuple[_Diagnosis, ...]
    checks: tuple[_Check, ...]
    notices: tuple[str, ...]
    stats: _Stats


def render_json(result: Result) -> str:
    r"""Write the result as one JSON document.

    Text from the cluster keeps its characters for whoever parses the document; in the document
    itself those that a terminal would act upon stand as ``\uXXXX``.
    """
    packed = _encode(_document(result))
    document = msgspec.json.format(packed, indent=2).decode()
    return HIDDEN.sub(_escape, document) + "\n"


def _encode(document: _Document) -> bytes:
    """Encode, also where an argument or a file name was no UTF-8 and left lone surrogates."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(_whole(msgspec.to_builtins(document)))


def _whole(value: object) -> object:
    """Write lone surrogates as escapes, in all strings of a tree."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (list, tuple)):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _escape(match: re.Match[str]) -> str:
    """Escape one character; beyond the basic plane JSON wants two halves."""
    if match[0] == "\n":  # the only control character that stands between the strings
        return "\n"
    halves = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{halves[i : i + 4]}" for i in range(0, len(halves), 4))


def _document(result: Result) -> _Document:
    """Translate the model into the contract: the one may change, the other not."""
    return _Document(
        schema=SCHEMA,
        tool=_Tool(),
        verdict=result.outcome.value,
        exit_code=result.exit_code,
        message=result.message,
        targets=tuple(_target(t) for t in result.targets),
        diagnoses=tuple(_diagnosis(d) for d in result.diagnoses),
        checks=tuple(_check(c) for c in result.checks),
        notices=result.notices,
        stats=_stats(result.stats),
    )


def _target(target: TargetResult) -> _Target:
    """Translate a target."""
    return _Target(target.url, target.reachable, target.stopped_at, target.status)


def _diagnosis(diagnosis: Diagnosis) -> _Diagnosis:
    """Translate a diagnosis."""
    finding = diagnosis.finding
    return _Diagnosis(
        id=diagnosis.id,
        code=finding.code.name,
        link=finding.code.link.value,
        title=finding.title,
        hop=str(finding.hop),
        severity=finding.severity.value,
        confidence=finding.confidence.value,
        check=diagnosis.check,
        evidence=finding.evidence,
        against=diagnosis.against,
        rivals=tuple(_Rival(str(r.hop), r.decided_by) for r in diagnosis.rivals),
        explains=tuple(_Explained(c, f.code.name, f.title) for c, f in diagnosis.explains),
        remediation=tuple(_remediation(r) for r in finding.remediation),
        falsifier=finding.falsifier,
    )


def _remediation(remedy: Remediation) -> _Remediation:
    """Translate a remediation."""
    return _Remediation(remedy.title, remedy.commands, remedy.risk.value, remedy.verify)


def _check(check: CheckResult) -> _Check:
    """Translate a check's result."""
    return _Check(
        id=check.id,
        link=check.link.value,
        title=check.title,
        verdict=check.verdict.value,
        explained_by=check.explained_by,
        findings=tuple(_finding(f) for f in check.findings),
        gaps=tuple(_gap(g) for g in check.gaps),
        detail=check.detail,
    )


def _finding(finding: Finding) -> _Finding:
    """Translate a finding."""
    return _Finding(
        code=finding.code.name,
        title=finding.title,
        hop=str(finding.hop),
        severity=finding.severity.value,
        evidence=finding.evidence,
    )


def _gap(gap: Gap) -> _Gap:
    """Translate a gap."""
    return _Gap(gap.needs, gap.reason, gap.essential)


def _stats(stats: Stats) -> _Stats:
    """Translate the cost; digits beyond a millisecond are noise."""
    return _Stats(round(stats.seconds, 3), stats.api_requests, stats.nodes, stats.probes)
