"""Every recorded fault is judged anew: no root, no network, no process."""

from functools import cache

import pytest

from doctor.contract import Check
from doctor.engine.registry import load
from tests.golden.store import HEALTHY, Golden, Stated, all_goldens, judge, regenerate
from tests.lab.faults import FAULTS
from tests.lab.faults.lookalikes import LOOKALIKES
from tests.lab.goldens import wrong
from tests.lab.shape import SHAPES

GOLDENS = all_goldens()
MOST = 40_000
"""Bytes of compressed evidence: a repository keeps each for good."""

each = pytest.mark.parametrize("golden", GOLDENS, ids=[g.id for g in GOLDENS])


@cache
def checks() -> tuple[Check, ...]:
    """The installed checks, found once."""
    return load()


@cache
def today(golden: Golden) -> Stated:
    """What is said of a golden today."""
    return judge(golden.bundle(), checks(), golden.stated().names)


@each
def test_it_is_the_golden_of_a_fault_that_fits(golden: Golden) -> None:
    assert golden.shape in SHAPES
    if golden.fault != HEALTHY:
        assert golden.fault in FAULTS, f"{golden.folder}: no fault is called so; remove the folder"
        assert FAULTS[golden.fault].fits(SHAPES[golden.shape])


@each
def test_the_cause_is_named_first_and_alone(golden: Golden) -> None:
    """Also where the checks have changed since: what they found then, they find today."""
    trouble = wrong(FAULTS.get(golden.fault), today(golden))
    assert not trouble, f"{golden.id}: {trouble}; {regenerate(golden)}"


@each
def test_it_is_said_as_it_is_stored(golden: Golden) -> None:
    """Each title, hop, echo, verdict and command: a change of them is there to be reviewed."""
    assert today(golden).dump() == golden.text, f"{golden.id} reads otherwise; {regenerate(golden)}"


@each
def test_it_is_small(golden: Golden) -> None:
    assert len(golden.evidence) <= MOST


@each
def test_it_holds_nothing_of_the_machine_that_it_was_recorded_on(golden: Golden) -> None:
    assert "/.cache/" not in str(golden.bundle())


@pytest.mark.parametrize("number", LOOKALIKES)
def test_a_lookalike_is_not_called_by_the_name_of_another(number: str) -> None:
    members = LOOKALIKES[number].members
    for golden in (g for g in GOLDENS if g.fault in members):
        own = FAULTS[golden.fault].expected
        others = {c for m in members if m != golden.fault for c in FAULTS[m].expected} - own
        assert set(today(golden).codes) & own, golden.id
        assert not set(today(golden).codes) & others, golden.id


@pytest.mark.parametrize("shape", sorted({g.shape for g in GOLDENS}))
def test_the_healthy_lab_of_a_shape_is_recorded_too(shape: str) -> None:
    assert HEALTHY in {g.fault for g in GOLDENS if g.shape == shape}
