"""How results are judged, kept and added up; this needs no lab."""

from pathlib import Path

import msgspec
import pytest

from tests.lab.accuracy.__main__ import items, parser
from tests.lab.accuracy.journal import Journal, commits_since
from tests.lab.accuracy.row import Row, extra, rank
from tests.lab.accuracy.table import numbers, page
from tests.lab.faults import FAULTS
from tests.lab.faults.pairs import PAIRS, fitting, pair_name
from tests.lab.shape import SHAPES
from tests.lab.shell import LabError

FAULT = FAULTS["coredns-at-zero"]
OTHER = FAULTS["host-header-lost"]
FIRST = {"code": "DNS_SCALED_TO_ZERO", "title": "Deployment coredns is at 0", "hop": "service:x"}
SECOND = {"code": "PROXY_HOST_HEADER_LOST", "title": "Host is lost", "hop": "host-proxy:y"}


def row(name: str = "coredns-at-zero", **changes: object) -> Row:
    """A fault that was found first, and whose remedy heals."""
    good = Row(
        commit="c",
        shape="article",
        name=name,
        kind="fault",
        link="dns",
        ranks=(1,),
        codes=("DNS_SCALED_TO_ZERO",),
        seconds=9.0,
        remedy="yes",
        remedy_seconds=30.0,
        verified=True,
    )
    return msgspec.structs.replace(good, **changes)


PAIR = row("coredns-at-zero+host-header-lost", kind="pair", ranks=(2, 1), codes=("A_B", "C_D"))
WELL = row("healthy", kind="healthy", ranks=(), codes=(), seconds=4.0, remedy="", verified=None)


@pytest.mark.parametrize(
    ("diagnoses", "place"),
    [([FIRST], 1), ([SECOND, FIRST], 2), ([SECOND], 0), ([], 0)],
)
def test_the_rank_is_the_place_of_the_true_cause(
    diagnoses: list[dict[str, str]], place: int
) -> None:
    assert rank(FAULT, ("coredns",), diagnoses) == place


def test_a_diagnosis_that_names_another_object_is_not_the_cause() -> None:
    assert rank(FAULT, ("coredns",), [{**FIRST, "title": "Deployment dns is at 0"}]) == 0


def test_what_no_fault_explains_is_false() -> None:
    assert extra([FAULT], ["DNS_SCALED_TO_ZERO", "DNS_TIMEOUT"]) == ("DNS_TIMEOUT",)
    assert extra([FAULT, OTHER], ["PROXY_HOST_HEADER_LOST"]) == ()
    assert extra([], ["DNS_TIMEOUT"]) == ("DNS_TIMEOUT",)


def test_two_faults_are_found_when_both_are_named_and_nothing_else() -> None:
    assert PAIR.found
    assert not msgspec.structs.replace(PAIR, ranks=(1, 0)).found
    assert not msgspec.structs.replace(PAIR, false=("E_F",)).found
    assert not msgspec.structs.replace(PAIR, codes=("A_B", "C_D", "A_B")).found


def test_all_good_is_all_reached() -> None:
    found = numbers([row(), PAIR, WELL])
    assert [n.what for n in found if not n.reached] == []
    assert len(found) == 7


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        (row(ranks=(2,)), {"root cause ranked first"}),
        (row(ranks=(0,)), {"root cause ranked first"}),
        (row(false=("A_B",)), {"faults with a false finding"}),
        (row(seconds_untold=20.1), {"slowest run with a fault"}),
        (row(remedy="no"), {"printed remedy heals, of those that are commands"}),
        (msgspec.structs.replace(WELL, false=("A_B",)), {"alarms in healthy labs and on decoys"}),
        (msgspec.structs.replace(WELL, error="x"), {"alarms in healthy labs and on decoys"}),
        (msgspec.structs.replace(WELL, seconds=6.1), {"slowest healthy run"}),
        (msgspec.structs.replace(PAIR, ranks=(1, 0)), {"two faults at once: both named"}),
    ],
)
def test_each_number_can_be_missed(changed: Row, missed: set[str]) -> None:
    rows = [r for r in (row(), PAIR, WELL) if r.name != changed.name] + [changed]
    assert {n.what for n in numbers(rows) if not n.reached} == missed


def test_advice_is_not_counted_among_commands() -> None:
    found = numbers([row(), row("a", remedy="not commands"), row("b", remedy="none printed")])
    assert next(n.is_ for n in found if "remedy" in n.what) == "1 of 1 (100%)"


def test_nothing_measured_reaches_nothing() -> None:
    assert not numbers([])[0].reached


def test_the_page_says_each_result_and_whose_they_are() -> None:
    said = page([row(), PAIR, WELL, row("x", error="a | b\nc", ranks=())], date="D")
    assert "Commit c, D: **1 of 7 numbers are missed**." in said
    assert "| coredns-at-zero | dns | 1 | none | 9.0 | yes, 30 s | c |" in said
    assert "| coredns-at-zero and host-header-lost | yes | A_B, C_D | 9.0 | c |" in said
    assert "| x | dns | no result: a / b c |" in said


def test_a_journal_keeps_the_last_result_of_each_and_survives_a_half_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    journal = Journal(path)
    assert journal.rows({"c"}) == ()
    journal.add(row(ranks=(2,)))
    journal.add(row())
    journal.add(row(commit="d"))
    with path.open("ab") as file:
        file.write(b'{"commit":"c","sha')
    assert journal.rows({"c"}) == (row(),)
    assert journal.rows({"c", "d"}) == (row(commit="d"),)
    journal.add(WELL)
    assert len(Journal(path).rows({"c"})) == 1


def test_a_page_of_several_commits_says_so() -> None:
    said = page([row(commit="a" * 12), row("x", commit="b" * 12)], date="D")
    assert f"Commits {'a' * 12}, {'b' * 12}, D:" in said
    assert "| coredns-at-zero | dns | 1 | none | 9.0 | yes, 30 s | aaaaaaa |" in said


def test_what_was_not_measured_is_listed() -> None:
    said = page([row()], date="D", of=["coredns-at-zero", "z", "a+b"])
    assert "\nNot measured: a+b, z.\n" in said
    assert "Not measured" not in page([row()], date="D", of=["coredns-at-zero"])


def test_the_commits_since_one_begin_with_it() -> None:
    first, *later = commits_since("HEAD")
    assert (later, len(first)) == ([], 12)
    with pytest.raises(LabError):
        commits_since("no-such-commit")


def chosen(*arguments: str) -> dict[str, set[str]]:
    """What is to be measured, by shape."""
    options = parser().parse_args(arguments)
    return {name: set(items(SHAPES[name], options)) for name in options.shapes}


def test_every_fault_is_measured_and_few_of_them_twice() -> None:
    found = chosen("--pairs")
    pairs = {pair_name(p) for p in PAIRS}
    assert sum(len(pairs & names) for names in found.values()) == len(pairs)
    assert set(FAULTS) <= set().union(*found.values())
    assert found["nftables"] < found["article"]
    assert "sg-drops-53" in found["hostgw"]
    assert "coredns-at-zero" not in found["hostgw"] | found["nftables"]


def test_everywhere_is_everywhere() -> None:
    found = chosen("--everywhere", "--pairs")
    for name, names in found.items():
        assert names >= {f.name for f in FAULTS.values() if f.fits(SHAPES[name])}
        assert names >= {pair_name(p) for p in fitting(SHAPES[name])}


def test_shards_share_all_there_is() -> None:
    parts = [chosen("--shard", f"{n}/3")["article"] for n in (1, 2, 3)]
    assert set().union(*parts) == chosen()["article"]
    assert set.intersection(*parts) == {"healthy"}
