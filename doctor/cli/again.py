"""Commands that a result suggests: they ask the same cluster in the same way."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from doctor.model.finding import Finding, Remediation
from doctor.model.verdict import Result

__all__ = ["again", "program"]

_NAME = "wwwm-doctor"
_ASKS = re.compile(rf"^{_NAME} (run|check)(?= |$)")


def program() -> str:
    """Return what starts this program: its name, or the way to it where no PATH leads there."""
    if shutil.which(_NAME):
        return _NAME
    return sys.argv[0] if Path(sys.argv[0]).name == _NAME else f"{sys.executable} -m doctor"


def again(result: Result, options: dict[str, str | None]) -> Result:
    """Add to the commands that ask anew what this run was told of its cluster.

    Args:
        result: What is shown.
        options: Names of options with what was given; None for nothing.
    """
    words = "".join(f" {n} {shlex.quote(v)}" for n, v in options.items() if v)
    if not words:
        return result

    def of(finding: Finding) -> Finding:
        mends = tuple(_mend(r, words) for r in finding.remediation)
        return msgspec.structs.replace(finding, remediation=mends)

    diagnoses = tuple(
        msgspec.structs.replace(
            d, finding=of(d.finding), explains=tuple((c, of(f)) for c, f in d.explains)
        )
        for d in result.diagnoses
    )
    checks = tuple(
        msgspec.structs.replace(c, findings=tuple(map(of, c.findings))) for c in result.checks
    )
    return msgspec.structs.replace(result, diagnoses=diagnoses, checks=checks)


def _mend(mend: Remediation, words: str) -> Remediation:
    """Add words to what one remediation runs."""
    commands, verify = (
        tuple(_ASKS.sub(lambda m: m.group() + words, c) for c in texts)
        for texts in (mend.commands, (mend.verify,))
    )
    return msgspec.structs.replace(mend, commands=commands, verify=verify[0])
