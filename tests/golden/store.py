"""What a golden is, where it lies, and what is said of its evidence today. Pure but for its files.

A golden is a folder `SHAPE/FAULT`, or `SHAPE/FAULT+FAULT` for two at once, with two files: `evidence.xz`, the bundle of a run with `--url`, and
`diagnosis.json`, what that run amounted to, without timings, to be reviewed as any other code.
"""

import lzma
from pathlib import Path
from typing import Final

import msgspec

from doctor.bundle.schema import Bundle
from doctor.contract import Check
from doctor.engine.run import diagnose
from doctor.model.verdict import Result
from doctor.render.json_ import render_json

__all__ = [
    "FOLDER",
    "HEALTHY",
    "Golden",
    "Named",
    "Stated",
    "all_goldens",
    "asked",
    "judge",
    "of",
    "pack",
    "regenerate",
    "stated_of",
    "unpack",
]

FOLDER: Final = Path(__file__).parent
HEALTHY: Final = "healthy"
"""The golden of a lab that nothing ails."""

_EVIDENCE: Final = "evidence.xz"
_DIAGNOSIS: Final = "diagnosis.json"
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


class Explained(msgspec.Struct, frozen=True):
    """A finding folded under a diagnosis."""

    check: str
    code: str
    text: str


class Remedy(msgspec.Struct, frozen=True):
    """How a cause is mended."""

    title: str
    commands: tuple[str, ...]
    risk: str
    verify: str


class Rival(msgspec.Struct, frozen=True):
    """Another hop that would explain the same."""

    hop: str
    decided_by: str


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """A diagnosis."""

    code: str
    title: str
    hop: str
    severity: str
    confidence: str
    check: str
    evidence: tuple[str, ...]
    explains: tuple[Explained, ...]
    remediation: tuple[Remedy, ...]
    falsifier: str
    against: tuple[str, ...] = ()
    rivals: tuple[Rival, ...] = ()


class _Found(msgspec.Struct, frozen=True):
    """A finding, as a check said it."""

    code: str
    title: str
    hop: str
    severity: str


class _Gap(msgspec.Struct, frozen=True):
    """What could not be looked at."""

    needs: str
    reason: str
    essential: bool


class _Checked(msgspec.Struct, frozen=True):
    """What became of a check."""

    id: str
    verdict: str
    findings: tuple[_Found, ...]
    gaps: tuple[_Gap, ...]


class _Target(msgspec.Struct, frozen=True):
    """Whether a URL is served."""

    url: str
    reachable: bool
    stopped_at: str | None
    status: int | None


class _Document(msgspec.Struct, frozen=True):
    """The part of the JSON result that a golden keeps."""

    verdict: str
    exit_code: int
    targets: tuple[_Target, ...]
    diagnoses: tuple[Named, ...]
    checks: tuple[_Checked, ...]
    notices: tuple[str, ...]


class Stated(msgspec.Struct, frozen=True):
    """What a run amounted to: `diagnosis.json`.

    Args:
        names: Per fault, the texts by which its diagnosis is known to be the right one.
        verdict: The run's.
        exit_code: The run's.
        targets: Which URLs are served.
        diagnoses: The diagnoses, the first first.
        findings: All findings, of those checks that have any, by check.
        gaps: What could not be looked at, by check.
        verdicts: All verdicts by check.
        notices: What is worth knowing and no finding.
    """

    names: dict[str, tuple[str, ...]]
    verdict: str
    exit_code: int
    targets: tuple[_Target, ...]
    diagnoses: tuple[Named, ...]
    findings: dict[str, tuple[_Found, ...]]
    gaps: dict[str, tuple[_Gap, ...]]
    verdicts: dict[str, str]
    notices: tuple[str, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the diagnoses."""
        return tuple(d.code for d in self.diagnoses)

    def dump(self) -> str:
        """Write it to be read by people: one thing on a line, the same always the same."""
        packed = msgspec.json.encode(self, order="deterministic")
        return msgspec.json.format(packed, indent=1).decode() + "\n"


class Golden(msgspec.Struct, frozen=True):
    """A folder with recorded evidence and its diagnosis."""

    shape: str
    fault: str
    root: Path = FOLDER

    @property
    def id(self) -> str:
        """What it is called in a report."""
        return f"{self.shape}/{self.fault}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.root / self.shape / self.fault

    @property
    def evidence(self) -> bytes:
        """The file with the bundle."""
        return (self.folder / _EVIDENCE).read_bytes()

    def bundle(self) -> Bundle:
        """The bundle."""
        return unpack(self.evidence)

    @property
    def text(self) -> str:
        """The stored diagnosis as it stands in its file."""
        return (self.folder / _DIAGNOSIS).read_text(encoding="utf-8")

    def stated(self) -> Stated:
        """The stored diagnosis."""
        return msgspec.json.decode(self.text, type=Stated)

    def write(self, stated: Stated, evidence: bytes | None = None) -> None:
        """Store a diagnosis, and evidence where there is any that is new."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if evidence is not None:
            (self.folder / _EVIDENCE).write_bytes(evidence)
        (self.folder / _DIAGNOSIS).write_text(stated.dump(), encoding="utf-8")


def all_goldens(root: Path = FOLDER) -> tuple[Golden, ...]:
    """Every golden that is stored, by shape and fault."""
    found = sorted(root.glob(f"*/*/{_EVIDENCE}"))
    return tuple(Golden(p.parts[-3], p.parts[-2], root) for p in found)


def of(fault: str) -> tuple[Golden, ...]:
    """The goldens of a fault, in all shapes."""
    return tuple(g for g in all_goldens() if g.fault == fault)


def pack(bundle: bytes) -> bytes:
    """Compress the JSON of a bundle as far as it goes: repositories keep it for good."""
    return lzma.compress(bundle, lzma.FORMAT_XZ, filters=_FILTERS)


def unpack(packed: bytes) -> Bundle:
    """Read what `pack` wrote."""
    return msgspec.json.decode(lzma.decompress(packed), type=Bundle)


def asked(bundle: Bundle, checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return the checks that the run asked.

    Others were added since: nothing was gathered for them, and they have nothing to say.
    """
    return tuple(c for c in checks if c.id in bundle.question.checks)


def stated_of(result: Result, names: dict[str, tuple[str, ...]]) -> Stated:
    """Reduce a result to what is the same each time."""
    document = msgspec.json.decode(render_json(result), type=_Document)
    return Stated(
        names=names,
        verdict=document.verdict,
        exit_code=document.exit_code,
        targets=document.targets,
        diagnoses=document.diagnoses,
        findings={c.id: c.findings for c in document.checks if c.findings},
        gaps={c.id: c.gaps for c in document.checks if c.gaps},
        verdicts={c.id: c.verdict for c in document.checks},
        notices=document.notices,
    )


def judge(bundle: Bundle, checks: tuple[Check, ...], names: dict[str, tuple[str, ...]]) -> Stated:
    """Say what recorded evidence amounts to today."""
    return stated_of(diagnose(bundle, asked(bundle, checks)), names)


def regenerate(golden: Golden) -> str:
    """Say how a golden is made anew."""
    return (
        f"if the change is meant: `python -m tests.lab.goldens --judge --only {golden.fault}` judges"
        " the recorded evidence anew (no lab, review the difference); if the evidence is too old:"
        f" `python -m tests.lab --shape {golden.shape} up && python -m tests.lab.goldens --only"
        f" {golden.fault}` records it again (root)"
    )
