"""Findings: what a check says, with the evidence that it cites."""

from enum import StrEnum

import msgspec

from doctor.model.hop import Hop
from doctor.model.link import Link

__all__ = ["Code", "Confidence", "Finding", "Remediation", "Risk", "Role", "Severity"]


class Severity(StrEnum):
    """What a finding means for the visitor of the site."""

    FAIL = "fail"
    WARN = "warn"


class Confidence(StrEnum):
    """How strong the inference is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Risk(StrEnum):
    """Whether a remediation may interrupt what still works."""

    SAFE = "safe"
    DISRUPTIVE = "disruptive"


class Role(StrEnum):
    """Whether a finding names what is broken, or only what fails because of it.

    A symptom becomes a diagnosis only if no cause explains it.
    """

    CAUSE = "cause"
    SYMPTOM = "symptom"


class Remediation(msgspec.Struct, frozen=True):
    """How to mend a cause.

    Args:
        title: What the commands do, in one line.
        commands: To be run as printed.
        risk: Whether they may interrupt what still works.
        verify: The command that shows it mended.
    """

    title: str
    commands: tuple[str, ...]
    risk: Risk
    verify: str


class Code(msgspec.Struct, frozen=True):
    """One thing that a check may say. Never renamed, never re-meant.

    Args:
        name: ``DNS_UDP_FILTERED``.
        link: The link that it is shown at.
        meaning: One sentence for ``explain`` and the reference page.
        role: Cause or symptom.
    """

    name: str
    link: Link
    meaning: str
    role: Role = Role.CAUSE


class Finding(msgspec.Struct, frozen=True):
    """One thing that a check found.

    Args:
        code: What it is.
        title: One sentence that names the node, port or object.
        hop: The hop, or class of hops, that is said to be broken.
        evidence: Ids of what proves it; never empty.
        severity: What it means.
        confidence: How strong the inference is.
        flows: Ids of the failed flows that this finding is about: it is explained by others when
            each of these crosses a hop that they found broken.
        consequence_of: Hops which, if broken, explain this finding whatever its flows say.
        remediation: How to mend it.
        falsifier: What observation would prove it wrong.
    """

    code: Code
    title: str
    hop: Hop
    evidence: tuple[str, ...]
    severity: Severity = Severity.FAIL
    confidence: Confidence = Confidence.CERTAIN
    flows: tuple[str, ...] = ()
    consequence_of: tuple[Hop, ...] = ()
    remediation: tuple[Remediation, ...] = ()
    falsifier: str = ""
