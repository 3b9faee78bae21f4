"""Measure how often the doctor is right: python -m tests.lab.accuracy."""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab import bringup
from tests.lab.accuracy.journal import Journal, commit, commits_since
from tests.lab.accuracy.measure import Bench
from tests.lab.accuracy.row import HEALTHY, Row
from tests.lab.accuracy.table import numbers, page
from tests.lab.faults import FAULTS, Fault
from tests.lab.faults.pairs import PAIRS, fitting, pair_name
from tests.lab.lab import Lab
from tests.lab.places import PREFIX, ROOT, places
from tests.lab.shape import SHAPES, Shape
from tests.lab.shell import LabError

PAGE = ROOT / "docs" / "accuracy.md"
DEFAULT_SHAPES = ("article", "hostgw", "nftables")
ABOUT = {"hostgw": {"flannel", "overlay"}, "nftables": {"kube-proxy"}}
"""The links that are made otherwise in a shape: of others, one shape shows what another does."""


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measured(fault: Fault, shape: Shape, options: argparse.Namespace) -> bool:
    """Whether a fault is put into a shape: everywhere, or where it shows something of its own."""
    if shape.name not in options.shapes or not fault.fits(shape):
        return False
    shown = any(fault.fits(before) for before in _before(shape, options))
    return options.everywhere or not shown or fault.link in ABOUT.get(shape.name, ())


def _before(shape: Shape, options: argparse.Namespace) -> list[Shape]:
    """The shapes that are broken before a shape is."""
    return [SHAPES[name] for name in options.shapes[: options.shapes.index(shape.name)]]


def _pairs(shape: Shape, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The pairs of faults that are put into a shape."""
    if not options.pairs or shape.name not in options.shapes:
        return []
    shown = {p for before in _before(shape, options) for p in fitting(before)}
    return [p for p in fitting(shape) if options.everywhere or p not in shown]


def items(shape: Shape, options: argparse.Namespace) -> list[str]:
    """What is to be measured in a shape: all of it, or this shard's part."""
    names = [f.name for f in FAULTS.values() if measured(f, shape, options)]
    names += map(pair_name, _pairs(shape, options))
    number, of = options.shard
    names = [n for i, n in enumerate(names) if i % of == number - 1]
    # last, when all was put in and taken out again
    names.append(HEALTHY)
    return [n for n in names if not options.only or n in options.only]


def _lab(shape: Shape, prefix: str) -> Lab:
    """A lab of a shape: the one that is up, if it will do."""
    try:
        there = Lab.attach(prefix)
        if there.shape == shape and there.healthy() is None:
            return there
        bringup.down(places(prefix), _tell)
    except LabError:
        _tell(f"no lab is up; one of shape {shape.name} is made")
    return bringup.up(shape, places(prefix), _tell)


def _measure(shape: Shape, due: list[str], head: str, options: argparse.Namespace) -> Iterator[Row]:
    """Measure what is due in one shape."""
    bench = Bench(_lab(shape, options.prefix), head, _tell, record=options.record)
    for name in due:
        row = bench.measure(name, remedy=not options.no_remedy)
        said = "ok" if row.found or (not row.ranks and not row.false) else "MISSED"
        told = row.error or ", ".join(row.codes) or "nothing"
        _tell(
            f"{shape.name}/{name}: {said}, {told}, {row.slowest:.1f} s"
            + (f", remedy: {row.remedy}" if row.remedy else "")
        )
        yield row


def _shard(text: str) -> tuple[int, int]:
    """Read `2/3`: the second of three."""
    number, _, of = text.partition("/")
    found = (int(number), int(of))
    if not 1 <= found[0] <= found[1]:
        raise ValueError(text)
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _shapes(text: str) -> tuple[str, ...]:
    """Read a list of shapes."""
    found = _words(text)
    if unknown := [n for n in found if n not in SHAPES]:
        msg = f"no shape is called {', '.join(unknown)}"
        raise argparse.ArgumentTypeError(msg)
    return found


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.accuracy", description=__doc__)
    add = parser.add_argument
    add("--prefix", default=PREFIX, help="the lab to use")
    add("--shapes", type=_shapes, default=DEFAULT_SHAPES, metavar="A,B", help="in which shapes")
    add(
        "--also-healthy", type=_shapes, default=(), metavar="A,B", help="shapes only to see healthy"
    )
    add(
        "--only",
        type=_words,
        default=(),
        metavar="A,B",
        help="only these faults, pairs (a+b), healthy",
    )
    add("--shard", type=_shard, default=(1, 1), metavar="I/N", help="the I-th of N parts")
    add("--everywhere", action="store_true", help="each fault in each shape that it fits")
    add("--pairs", action="store_true", help="also two faults at once")
    add("--no-remedy", action="store_true", help="do not run what is printed")
    add("--record", action="store_true", help="store the goldens that are due on the way")
    add("--again", action="store_true", help="measure also what the journal has already")
    add("--report", action="store_true", help="only write the page from the journal")
    add("--commit", default="", help="whose results the page is about (default: this one's)")
    add("--since", default="", metavar="COMMIT", help="count what was measured since then, too")
    add("--page", type=Path, default=PAGE, help="where the page is written")
    return parser


def main() -> None:
    """Measure what is not measured yet, write the page, and say whether the numbers are reached."""
    options = parser().parse_args()
    head, journal = options.commit or commit(), Journal()
    counted = (*(commits_since(options.since) if options.since else ()), head)
    known = () if options.again else {r.key for r in journal.rows(counted) if not r.error}
    shapes = () if options.report else (*options.shapes, *options.also_healthy)
    for shape in map(SHAPES.__getitem__, shapes):
        due = [n for n in items(shape, options) if (shape.name, n) not in known]
        if due:
            for row in _measure(shape, due, head, options):
                journal.add(row)
    rows = journal.rows(counted)
    of = (*FAULTS, *map(pair_name, PAIRS))
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    options.page.write_text(page(rows, date=date, of=of), encoding="utf-8")
    for number in numbers(rows):
        mark = "" if number.reached else "  MISSED"
        _tell(f"{number.what:52}{number.is_:>16}{number.target:>10}{mark}")
    sys.exit(0 if all(n.reached for n in numbers(rows)) else 1)


if __name__ == "__main__":
    main()
