"""Record goldens in the lab, or judge them anew: python -m tests.lab.goldens."""

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from doctor.engine.registry import load
from tests.golden.store import HEALTHY, Golden, Named, Stated, all_goldens, judge, of, pack, unpack
from tests.lab import bringup
from tests.lab.faults import FAULTS, Fault, put_in
from tests.lab.faults.pairs import faults_of, pair_name
from tests.lab.faults.pairs import fitting as pairs
from tests.lab.faults.representatives import representatives
from tests.lab.lab import Lab
from tests.lab.patient import doctor
from tests.lab.places import PREFIX, places
from tests.lab.shape import ARTICLE, SHAPES, Shape
from tests.lab.shell import LabError

__all__ = ["due", "keep", "main", "settled_in", "wanted", "wrong"]

NGINX = "/etc/nginx/nginx.conf"
HEAL_SECONDS = 180
"""How long the lab may take to recover, beside other work of the machine."""


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wanted(shape: Shape) -> tuple[str, ...]:
    """The goldens that a shape is to have.

    The article's has all that fit. In another it is the network that differs: representatives show
    that, beside what fits nowhere else.
    """
    few = {f.name for f in representatives(shape)}
    fitting = [f for f in FAULTS.values() if f.fits(shape)]
    two = [p for p in pairs(shape) if shape == ARTICLE or p not in pairs(ARTICLE)]
    return (
        HEALTHY,
        *(f.name for f in fitting if shape == ARTICLE or f.name in few or not f.fits(ARTICLE)),
        *map(pair_name, two),
    )


def wrong(name: str, stated: Stated) -> str:
    """Say what is wrong with a diagnosis; empty if nothing is.

    Args:
        name: What was put in: a fault, two joined by `+`, or nothing in a healthy lab.
        stated: What was said, with the texts that each diagnosis has to have.
    """
    faults = [f for f in faults_of(name) if not f.decoy]
    if not faults:
        clean = not stated.diagnoses and not stated.findings and stated.exit_code == 0
        return "" if clean else f"nothing is broken, and it says {list(stated.codes)}"
    told = "; ".join(f"{d.code}: {d.title} ({d.hop})" for d in stated.diagnoses) or "nothing"
    for fault in faults:
        texts = stated.names.get(fault.name, ())
        if not any(_names(d, fault, texts) for d in stated.diagnoses):
            wanted_ = " or ".join(sorted(fault.expected))
            return f"no diagnosis is {wanted_} and names {', '.join(texts)}; it says {told}"
    if len(faults) == 1 and (forbidden := [c for c in stated.codes if faults[0].forbids(c)]):
        return f"forbidden: {', '.join(forbidden)}; it says {told}"
    return f"there are more than were put in: {told}" if len(stated.codes) > len(faults) else ""


def _names(diagnosis: Named, fault: Fault, texts: Iterable[str]) -> bool:
    """Say whether a diagnosis is about a fault."""
    said = f"{diagnosis.title} {diagnosis.hop}"
    return diagnosis.code in fault.expected and all(t in said for t in texts)


def settled_in(lab: Lab, text: bytes) -> bytes:
    """Let the proxy's configuration be where a host has it, rather than in the lab's cache."""
    return text.replace(str(lab.world.nginx_config).encode(), NGINX.encode())


def _run(lab: Lab) -> tuple[bytes, list[str]]:
    """Run the doctor; returns its bundle and the codes that it named."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.bundle"
        url = f"{lab.site_url}/"
        done = doctor(lab, "run", "--output", "json", "--url", url, "--save", str(path))
        if not path.exists():
            msg = f"exit {done.returncode} and no bundle: {done.stderr.strip()[-400:]}"
            raise LabError(msg)
        codes = [d["code"] for d in json.loads(done.stdout)["diagnoses"]]
        return path.read_bytes(), codes


def keep(
    lab: Lab, name: str, bundle: bytes, codes: Sequence[str], names: dict[str, tuple[str, ...]]
) -> str:
    """Store a golden; returns what is wrong with it, in which case it is not stored.

    Args:
        lab: Where it was recorded.
        name: What was put in.
        bundle: What the run saved.
        codes: Those of the run's diagnoses: its bundle has to say the same.
        names: Per fault, the texts that its diagnosis has to have.
    """
    packed = pack(settled_in(lab, gzip.decompress(bundle)))
    stated = judge(unpack(packed), load(), names)
    if list(stated.codes) != list(codes):
        return f"the run said {list(codes)}, and its bundle says {list(stated.codes)}"
    if not (trouble := wrong(name, stated)):
        Golden(lab.shape.name, name).write(stated, packed)
    return trouble


def due(shape: Shape) -> frozenset[str]:
    """The goldens that a shape is to have and has not."""
    return frozenset(n for n in wanted(shape) if not any(g.shape == shape.name for g in of(n)))


def _record(lab: Lab, name: str) -> str:
    """Record one golden; returns what is wrong with it, in which case it is not stored."""
    faults = faults_of(name)
    names = {f.name: f.names(lab) for f in faults}
    try:
        for fault in faults:
            put_in(lab, fault)
        bundle, codes = _run(lab)
    finally:
        for fault in reversed(faults):
            fault.heal(lab)
        lab.wait_healthy(HEAL_SECONDS)
    return keep(lab, name, bundle, codes, names)


def _lab(prefix: str) -> Lab:
    """The lab that is up, or a new one."""
    try:
        return Lab.attach(prefix)
    except LabError:
        return bringup.up(ARTICLE, places(prefix), _tell)


def _due(shape: Shape, options: argparse.Namespace) -> Iterator[str]:
    """The goldens to record in a lab of a shape."""
    for name in options.only or wanted(shape):
        if not all(f.fits(shape) for f in faults_of(name)):
            _tell(f"{name}: does not fit the shape {shape.name}")
        elif not options.missing or name in due(shape):
            yield name


def _record_all(options: argparse.Namespace) -> int:
    """Record what is due; returns how many went wrong."""
    lab, bad = _lab(options.prefix), 0
    for name in _due(lab.shape, options):
        began = time.monotonic()
        try:
            trouble = _record(lab, name)
        except LabError as error:
            trouble = str(error)
            bringup.down(lab.places, _tell)
            lab = bringup.up(lab.shape, lab.places, _tell)
        bad += bool(trouble)
        _tell(f"{lab.shape.name}/{name}: {trouble or 'stored'}, {time.monotonic() - began:.0f} s")
    return bad


def _judge_all(only: Iterable[str]) -> int:
    """Judge what is recorded anew; returns how many are wrong."""
    checks, bad, chosen = load(), 0, set(only)
    for golden in all_goldens():
        if chosen and golden.fault not in chosen:
            continue
        before = golden.text
        stated = judge(golden.bundle(), checks, golden.stated().names)
        if trouble := wrong(golden.fault, stated):
            _tell(f"{golden.id}: {trouble}")
            bad += 1
        elif stated.dump() != before:
            golden.write(stated)
            _tell(f"{golden.id}: changed")
    return bad


def _listed(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of goldens."""
    found = tuple(filter(None, text.split(",")))
    parts = [p for name in found for p in name.split("+")]
    if unknown := [p for p in parts if p not in FAULTS and p != HEALTHY]:
        msg = f"no fault is called {', '.join(unknown)}"
        raise argparse.ArgumentTypeError(msg)
    return found


def main() -> None:
    """Do what the command line says; the exit code says whether all are right."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.goldens", description=__doc__)
    parser.add_argument(
        "--prefix", default=PREFIX, help="the lab to use; its shape is the goldens'"
    )
    parser.add_argument("--only", type=_listed, default=(), metavar="A,B", help="only these")
    parser.add_argument("--missing", action="store_true", help="only those that are not there")
    parser.add_argument("--judge", action="store_true", help="judge recorded evidence: no lab")
    parser.add_argument("--list", action="store_true", help="only list what each shape is to have")
    options = parser.parse_args()
    if options.list:
        for shape in SHAPES.values():
            _tell(f"{shape.name}: {' '.join(wanted(shape))}")
        return
    bad = _judge_all(options.only) if options.judge else _record_all(options)
    sys.exit(f"{bad} went wrong and were left as they are" if bad else 0)


if __name__ == "__main__":
    main()
