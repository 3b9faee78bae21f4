"""The page that says how good the doctor is, and whether that is good enough. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from tests.lab.accuracy.row import HEALTHY, Row
from tests.lab.remedy.run import Outcome

__all__ = ["Number", "numbers", "page"]

_FIRST: Final = 0.95
_PAIRS: Final = 0.90
_HEALS: Final = 0.90
_HEALTHY_SECONDS: Final = 6.0
_BROKEN_SECONDS: Final = 20.0
_SHORT: Final = 7

_HEAD: Final = """\
# Accuracy

Every fault of the catalogue put into a lab, each diagnosis judged, each remedy run as it is printed, by
`make accuracy`. [The lab](lab.md#accuracy) says what the columns mean.

{commits}, {date}: **{verdict}**.
"""


class Number(msgspec.Struct, frozen=True):
    """One of the numbers that a release is judged by.

    Args:
        what: What is counted.
        is_: What it is, as it is printed.
        target: What it has to be, as it is printed.
        reached: Whether it is.
    """

    what: str
    is_: str
    target: str
    reached: bool


def _share(what: str, good: int, all_: int, least: float) -> Number:
    """A share that has to be large; of nothing at all, none is."""
    told = f"{good} of {all_}" + (f" ({good / all_:.0%})" if all_ else "")
    return Number(what, told, f"≥ {least:.0%}", bool(all_) and good >= least * all_)


def _most(what: str, is_: float, target: float, unit: str = "", of: str = "") -> Number:
    """A number that has to be small."""
    return Number(what, f"{is_:g}{unit}{of}", f"≤ {target:g}{unit}", is_ <= target)


def numbers(rows: Iterable[Row]) -> tuple[Number, ...]:
    """Add up what was measured, in the order of the design's list."""
    listed = list(rows)
    kinds = {kind: [r for r in listed if r.kind == kind] for kind in ("fault", "pair", "decoy")}
    faults, pairs = kinds["fault"], kinds["pair"]
    well = [r for r in listed if r.kind == HEALTHY]
    innocent = [*kinds["decoy"], *well]
    ran = [r for r in faults if r.remedy in (Outcome.YES, Outcome.NO)]
    alarms = sum(bool(r.false or r.error) for r in innocent)
    found = [
        _share("root cause ranked first", sum(r.found for r in faults), len(faults), _FIRST),
        _most("alarms in healthy labs and on decoys", alarms, 0, of=f" of {len(innocent)}"),
        _most("faults with a false finding", sum(bool(r.false) for r in faults), 0),
    ]
    if pairs:
        both = sum(r.found for r in pairs)
        found.append(_share("two faults at once: both named", both, len(pairs), _PAIRS))
    healed = sum(r.remedy == Outcome.YES for r in ran)
    found.append(
        _share("printed remedy heals, of those that are commands", healed, len(ran), _HEALS)
    )
    slowest = max((r.slowest for r in (*faults, *pairs)), default=0.0)
    found.append(_most("slowest run with a fault", slowest, _BROKEN_SECONDS, " s"))
    three = [r.slowest for r in well if r.shape != "five"]
    found.append(_most("slowest healthy run", max(three, default=0.0), _HEALTHY_SECONDS, " s"))
    return tuple(found)


def page(rows: Sequence[Row], *, date: str, of: Iterable[str] = ()) -> str:
    """Write the page; of results of several commits it says so, and each row names its own.

    Args:
        rows: What was measured.
        date: When.
        of: The names of all that is to be measured: what has no result is listed.
    """
    found = numbers(rows)
    missed = [n for n in found if not n.reached]
    verdict = f"{len(missed)} of {len(found)} numbers are missed" if missed else "all reached"
    blocks = [_HEAD.format(commits=_commits(rows), date=date, verdict=verdict), *_totals(found)]
    if open_ := sorted(set(of) - {r.name for r in rows}):
        blocks += ["", f"Not measured: {', '.join(open_)}."]
    for shape in dict.fromkeys(r.shape for r in rows):
        mine = [r for r in rows if r.shape == shape]
        blocks += ["", f"## Shape {shape}", "", *_faults(mine), *_pairs(mine)]
    return "\n".join(blocks) + "\n"


def _commits(rows: Iterable[Row]) -> str:
    """Name what was measured."""
    named = dict.fromkeys(r.commit for r in rows)
    return f"Commit{'s' if len(named) > 1 else ''} {', '.join(named) or '(nothing was measured)'}"


def _totals(found: Iterable[Number]) -> Iterator[str]:
    yield "| number | is | target | |"
    yield "| --- | ---: | ---: | --- |"
    for number in found:
        mark = "reached" if number.reached else "**missed**"
        yield f"| {number.what} | {number.is_} | {number.target} | {mark} |"


def _faults(rows: Iterable[Row]) -> Iterator[str]:
    yield "| fault | link | rank | false findings | seconds | remedy heals | commit |"
    yield "| --- | --- | ---: | --- | ---: | --- | --- |"
    for row in (r for r in rows if r.kind != "pair"):
        place = ", ".join(str(r) if r else "none" for r in row.ranks) or "-"
        if row.error:
            place = f"no result: {_cell(row.error)}"
        false = ", ".join(row.false) or "none"
        seconds, of = f"{row.slowest:.1f}", row.commit[:_SHORT]
        cells = (row.name, row.link or "-", place, false, seconds, _remedy(row), of)
        yield f"| {' | '.join(cells)} |"


def _pairs(rows: Iterable[Row]) -> Iterator[str]:
    pairs = [r for r in rows if r.kind == "pair"]
    if not pairs:
        return
    yield ""
    yield "| two faults | both named, and nothing else | diagnoses | seconds | commit |"
    yield "| --- | --- | --- | ---: | --- |"
    for row in pairs:
        told = f"no result: {_cell(row.error)}" if row.error else ", ".join(row.codes)
        named = "yes" if row.found else "**no**"
        names, of = row.name.replace("+", " and "), row.commit[:_SHORT]
        yield f"| {names} | {named} | {told} | {row.slowest:.1f} | {of} |"


def _remedy(row: Row) -> str:
    """Say what came of the remedy."""
    if not row.remedy:
        return "-"
    told = f"{row.remedy}, {row.remedy_seconds:.0f} s" if row.remedy == Outcome.YES else row.remedy
    return told + (", but its check says otherwise" if row.verified is False else "")


def _cell(text: str) -> str:
    """Put text on one line of a table."""
    return " ".join(text.split()).replace("|", "/")[:120]
