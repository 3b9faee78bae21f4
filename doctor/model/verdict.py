"""Results: per check a verdict, for the run its diagnoses."""

from enum import StrEnum

import msgspec

from doctor.model.finding import Finding
from doctor.model.hop import Hop
from doctor.model.link import Link

__all__ = [
    "CheckResult",
    "Diagnosis",
    "Gap",
    "Outcome",
    "Result",
    "Rival",
    "Stats",
    "TargetResult",
    "Verdict",
]


class Verdict(StrEnum):
    """What the engine decides about a check."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    FAIL = "fail"
    INSUFFICIENT = "insufficient"
    MASKED = "masked"
    SKIPPED = "skipped"
    CRASHED = "crashed"


class Outcome(StrEnum):
    """The verdict on the whole run."""

    HEALTHY = "healthy"
    WARN = "warn"
    FAIL = "fail"
    INCOMPLETE = "incomplete"
    ERROR = "error"
    INTERRUPTED = "interrupted"


class Gap(msgspec.Struct, frozen=True):
    """Something that could not be looked at.

    Args:
        needs: What was wanted: ``api:pods``, ``exec:kube-flannel on master``, ``probe pod on x``.
        reason: Why it could not be had, in one line.
        essential: Whether the answer is incomplete without it.
        flows: Ids of the flows that stayed without an answer, if it is for that.
    """

    needs: str
    reason: str
    essential: bool = True
    flows: tuple[str, ...] = ()


class CheckResult(msgspec.Struct, frozen=True):
    """What became of one check."""

    id: str
    link: Link
    title: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    gaps: tuple[Gap, ...] = ()
    explained_by: str | None = None
    detail: str = ""


class Rival(msgspec.Struct, frozen=True):
    """Another hop that would explain the same failures.

    Args:
        hop: The hop, or class of hops.
        decided_by: What would be seen if it were this one.
    """

    hop: Hop
    decided_by: str


class Diagnosis(msgspec.Struct, frozen=True):
    """A root cause, with the findings that it explains.

    Args:
        id: ``d1`` for the first.
        check: Id of the check that found it.
        finding: The cause.
        explains: Pairs of check id and finding.
        rivals: What else would explain the same failed flows, as no flow tells them apart.
        against: Ids of flows that passed although they cross the hop.
    """

    id: str
    check: str
    finding: Finding
    explains: tuple[tuple[str, Finding], ...] = ()
    rivals: tuple[Rival, ...] = ()
    against: tuple[str, ...] = ()


class TargetResult(msgspec.Struct, frozen=True):
    """Whether one URL is reachable.

    Args:
        url: The URL asked for.
        reachable: Whether an answer that a visitor wants came back.
        stopped_at: The hop that stops it, None where it is reachable or unknown.
        status: The HTTP status, None where no answer came.
        judged: Whether it was tried, and somebody asked for it: to one that follows from an
            Ingress this machine need not have a way, nor the application a page there.
    """

    url: str
    reachable: bool
    stopped_at: str | None = None
    status: int | None = None
    judged: bool = True

    @property
    def lost(self) -> bool:
        """Whether it should be served, and is not, for no reason that was found."""
        return self.judged and not self.reachable and self.stopped_at is None


class Stats(msgspec.Struct, frozen=True):
    """What the run cost."""

    seconds: float = 0.0
    api_requests: int = 0
    nodes: int = 0
    probes: int = 0


class Result(msgspec.Struct, frozen=True):
    """All that a run has to say."""

    outcome: Outcome
    exit_code: int
    targets: tuple[TargetResult, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    notices: tuple[str, ...] = ()
    stats: Stats = Stats()
    message: str = ""
