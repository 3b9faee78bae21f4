"""Running the remedy of a diagnosis, and waiting for the doctor to be content."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tests.lab.lab import Lab
from tests.lab.patient import Said, examine
from tests.lab.remedy.kinds import is_commands
from tests.lab.remedy.place import Ran, run_as_printed

__all__ = ["Outcome", "Tried", "heal_as_printed", "healed", "healed_within", "leaving_nothing"]

COMMAND_SECONDS: Final = 240
"""How long the commands of one remedy may take: some of them wait for a rollout."""

HEAL_SECONDS: Final = 150
"""How long a cluster may take to recover from what was mended: pods in back-off start again."""

ALTERNATIVE_SECONDS: Final = 20
"""How long to wait before what is printed next is run, too."""

_KINDS: Final = (
    "ipaddresspools.metallb.io,l2advertisements.metallb.io,services,networkpolicies,ingresses"
)
_PAUSE: Final = 1.0


class Outcome(StrEnum):
    """What came of a remedy."""

    YES = "yes"
    NO = "no"
    ADVICE = "not commands"
    ELSEWHERE = "not runnable in the lab"
    NONE = "none printed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A remedy that was run as printed.

    Attributes:
        outcome: What came of it.
        seconds: From the first command to a doctor who is content.
        verified: Whether the command that is printed to verify the fix ends well; None if unknown.
        said: The end of what the commands said, and the doctor after them where it did not heal.
    """

    outcome: Outcome
    seconds: float = 0.0
    verified: bool | None = None
    said: str = ""


def healed(said: Said, code: str) -> bool:
    """Say whether nothing fails any more, and what was found is no longer: a warning ends well."""
    return said.exit_code == 0 and code not in said.codes


def healed_within(lab: Lab, code: str, seconds: float) -> Said:
    """Ask the doctor until all is well, at least once; returns what it said last."""
    deadline = time.monotonic() + seconds
    while True:
        said = examine(lab, "--url", f"{lab.site_url}/")
        if healed(said, code) or time.monotonic() > deadline:
            return said
        time.sleep(_PAUSE)


@contextlib.contextmanager
def leaving_nothing(lab: Lab) -> Iterator[None]:
    """Delete afterwards what was made meanwhile: what a remedy makes is not the lab's own."""
    before = _made(lab)
    try:
        yield
    finally:
        for kind, namespace, name in sorted(_made(lab) - before):
            where = ("-n", namespace, "--ignore-not-found", "--wait=false")
            lab.kubectl("delete", kind, name, *where, check=False)


def _made(lab: Lab) -> set[tuple[str, ...]]:
    """The objects that remedies may make, by kind, namespace and name."""
    columns = "custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name"
    listed = lab.kubectl("get", _KINDS, "-A", "--no-headers", "-o", columns)
    return {tuple(line.split()) for line in listed.splitlines()}


def heal_as_printed(lab: Lab, diagnosis: dict[str, Any]) -> Tried:
    """Run what a diagnosis prints, one remedy after the other until the doctor is content."""
    remedies: list[dict[str, Any]] = diagnosis["remediation"]
    if not remedies:
        return Tried(outcome=Outcome.NONE)
    runnable = [r for r in remedies if is_commands(r["commands"])]
    if not runnable:
        return Tried(outcome=Outcome.ADVICE)
    began = time.monotonic()
    ran: list[Ran] = []
    for number, remedy in enumerate(runnable, 1):
        ran.append(run_as_printed(lab, remedy["commands"], COMMAND_SECONDS))
        last = number == len(runnable)
        said = healed_within(lab, diagnosis["code"], HEAL_SECONDS if last else ALTERNATIVE_SECONDS)
        if healed(said, diagnosis["code"]):
            seconds = time.monotonic() - began
            verified = run_as_printed(lab, [remedy["verify"]], COMMAND_SECONDS).exit_code == 0
            return Tried(outcome=Outcome.YES, seconds=seconds, verified=verified, said=_told(ran))
    lacking = all(r.lacked_a_program for r in ran)
    outcome = Outcome.ELSEWHERE if lacking else Outcome.NO
    return Tried(outcome=outcome, said=f"{_told(ran)}\n{said.lines}")


def _told(ran: Sequence[Ran]) -> str:
    """What commands said, with their exit codes."""
    return "\n".join(f"exit {r.exit_code}: {r.output.strip()}" for r in ran)
