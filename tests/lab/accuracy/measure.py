"""Breaking the lab, asking the doctor, and running what it prints."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.lab import bringup
from tests.lab.accuracy.row import HEALTHY, Row, extra, rank
from tests.lab.faults import Fault, put_in
from tests.lab.faults.pairs import faults_of
from tests.lab.goldens import due, keep
from tests.lab.lab import Lab
from tests.lab.patient import Said, examine
from tests.lab.remedy.run import Outcome, heal_as_printed, leaving_nothing
from tests.lab.shell import LabError

__all__ = ["Bench"]

MEND_SECONDS: Final = 180
"""How long the lab may take to recover, beside other work of the machine."""

_KEPT: Final = 2000


def _timed(lab: Lab, *arguments: str) -> tuple[Said, float]:
    began = time.monotonic()
    said = examine(lab, *arguments)
    return said, time.monotonic() - began


class Bench:
    """Measures in one lab, which it makes anew when it does not heal."""

    def __init__(
        self, lab: Lab, commit: str, tell: Callable[[str], None], *, record: bool = False
    ) -> None:
        """Remember the lab, what is measured in it, whom to tell, and whether to store goldens."""
        self.lab = lab
        self._record = record
        self._commit = commit
        self._tell = tell

    def measure(self, name: str, *, remedy: bool = True) -> Row:
        """Measure one fault, pair, or the healthy lab."""
        faults = faults_of(name)
        kind = {0: HEALTHY, 1: "fault", 2: "pair"}[len(faults)]
        if any(f.decoy for f in faults):
            kind = "decoy"
        row = Row(
            commit=self._commit,
            shape=self.lab.shape.name,
            name=name,
            kind=kind,
            link="+".join(dict.fromkeys(f.link for f in faults)),
        )
        try:
            row = self._looked(row, faults, remedy=remedy and kind == "fault")
        except (LabError, AssertionError) as error:
            row = msgspec.structs.replace(row, error=str(error)[:_KEPT])
        self._mend(faults)
        return row

    def _looked(self, row: Row, faults: Sequence[Fault], *, remedy: bool) -> Row:
        """Put all in, ask, and try the remedy of the first diagnosis."""
        names = {f.name: f.names(self.lab) for f in faults}
        for fault in faults:
            put_in(self.lab, fault)
        told, seconds = self._told(row.name, names)
        untold, seconds_untold = _timed(self.lab)
        row = msgspec.structs.replace(
            _judged(row, faults, names, (told, untold)),
            seconds=round(seconds, 1),
            seconds_untold=round(seconds_untold, 1),
        )
        if not remedy or not told.diagnoses:
            return row
        if any(f.stands_in for f in faults):
            return msgspec.structs.replace(row, remedy=Outcome.ELSEWHERE.value)
        with leaving_nothing(self.lab):
            tried = heal_as_printed(self.lab, told.diagnoses[0])
        return msgspec.structs.replace(
            row,
            remedy=tried.outcome.value,
            remedy_seconds=round(tried.seconds, 1),
            verified=tried.verified,
            said=tried.said[-_KEPT:],
        )

    def _told(self, name: str, names: dict[str, tuple[str, ...]]) -> tuple[Said, float]:
        """Ask with the URL; keep the evidence where a golden is due and the cause is named."""
        url = ("--url", f"{self.lab.site_url}/")
        if not self._record or name not in due(self.lab.shape):
            return _timed(self.lab, *url)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "evidence.bundle"
            told, seconds = _timed(self.lab, *url, "--save", str(path))
            trouble = keep(self.lab, name, path.read_bytes(), told.codes, names)
        self._tell(f"golden of {name}: {trouble or 'stored'}")
        return told, seconds

    def _mend(self, faults: Sequence[Fault]) -> None:
        """Take all out and see that the lab is healthy; if it is not, make it anew."""
        try:
            for fault in reversed(faults):
                fault.heal(self.lab)
            self.lab.wait_healthy(MEND_SECONDS)
        except LabError as error:
            self._tell(f"the lab is made anew: {error}")
            bringup.down(self.lab.places, self._tell)
            self.lab = bringup.up(self.lab.shape, self.lab.places, self._tell)


def _judged(
    row: Row, faults: Sequence[Fault], names: dict[str, tuple[str, ...]], said: tuple[Said, Said]
) -> Row:
    """Compare what was said, with the URL and without, with what was done."""
    told, untold = said
    real = [f for f in faults if not f.decoy]
    found = [*told.codes, *untold.codes]
    if not real:
        # what a check found is an alarm, be it folded or not
        found += [f["code"] for s in said for c in s.document["checks"] for f in c["findings"]]
    unwell = not real and (told.exit_code or untold.exit_code)
    return msgspec.structs.replace(
        row,
        ranks=tuple(rank(f, names[f.name], told.diagnoses) for f in real),
        codes=tuple(told.codes),
        untold=tuple(untold.codes),
        false=tuple(dict.fromkeys(extra(real, found))),
        error=f"exit codes {told.exit_code} and {untold.exit_code}" if unwell else "",
    )
