"""Faults, put in for real: the doctor names each first.

Few stand for all: goldens replay the others, and WWWM_LAB_FAULTS chooses any.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import bringup
from tests.lab.faults import FAULTS, Fault, mend, put_in
from tests.lab.faults.representatives import representatives
from tests.lab.lab import Lab
from tests.lab.patient import Said, examine_fault, no_finding
from tests.lab.remedy.run import Outcome, heal_as_printed, leaving_nothing
from tests.lab.shape import ARTICLE, SHAPES
from tests.lab.shell import LabError

pytestmark = pytest.mark.lab

SHAPE = SHAPES[os.environ.get("WWWM_LAB_SHAPE", ARTICLE.name)]
ONLY = frozenset(filter(None, os.environ.get("WWWM_LAB_FAULTS", "").split(",")))
CHOSEN = [f for f in FAULTS.values() if f.name in ONLY] if ONLY else representatives(SHAPE)
FITTING = [f for f in CHOSEN if f.fits(SHAPE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The lab with a fault in it, and what the doctor said of it, with the site's URL and without."""

    fault: Fault
    told: Said
    untold: Said


@pytest.fixture(scope="module")
def broken(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Broken]:
    """The lab with one fault in it; taken out again whatever the tests say.

    A lab that does not heal is made anew, so that the next test does not pay for this one.
    """
    fault: Fault = request.param
    try:
        put_in(lab, fault)
        told, untold = examine_fault(lab, once=fault.fleeting)
        yield Broken(fault=fault, told=told, untold=untold)
    finally:
        try:
            mend(lab, fault)
        except LabError:
            bringup.down(lab.places, print)
            bringup.up(lab.shape, lab.places, print)
            raise


each = pytest.mark.parametrize("broken", FITTING, ids=lambda f: f.name, indirect=True)


@each
def test_the_cause_is_named_first(lab: Lab, broken: Broken) -> None:
    """One fault gives one diagnosis, whose code, title and hop alone identify it."""
    fault, told, untold = broken.fault, broken.told, broken.untold
    if fault.decoy:
        no_finding(told)
        no_finding(untold)
        return
    assert told.exit_code == (0 if fault.warns else 3), told.lines
    first = told.diagnoses[0]
    assert first["code"] in fault.expected, told.lines
    for text in fault.names(lab):
        assert text in f"{first['title']} {first['hop']}", told.lines
    assert [c for c in told.codes if fault.forbids(c)] == [], told.lines
    assert len(told.diagnoses) == 1, told.lines
    assert set(untold.codes) <= fault.expected, untold.lines


@each
@pytest.mark.remedies
@pytest.mark.shapes(ARTICLE.name)
def test_what_is_printed_heals(lab: Lab, broken: Broken) -> None:
    """The commands of the first diagnosis, run as printed; advice is no command."""
    if broken.fault.decoy or broken.fault.stands_in:
        return
    with leaving_nothing(lab):
        tried = heal_as_printed(lab, broken.told.diagnoses[0])
    assert tried.outcome is not Outcome.NO, tried.said
    assert tried.verified is not False, tried.said
