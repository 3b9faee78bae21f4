"""A few faults stand for all; this needs no lab."""

import pytest

from tests.lab.faults import FAULTS
from tests.lab.faults.lookalikes import LOOKALIKES
from tests.lab.faults.representatives import DECOY, covered_by, needs_of, representatives
from tests.lab.goldens import wanted
from tests.lab.shape import ARTICLE, HOSTGW, SHAPES, Shape

MOST = 14
"""Faults that one lab of `make test` has the time for."""

SETS = {"L1", "L2", "L3", "L4", "L5", "L6", "L7", "L16", "L17", "L18"}

each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def test_the_sets_are_those_of_the_catalogue() -> None:
    assert set(LOOKALIKES) == SETS


@pytest.mark.parametrize("number", LOOKALIKES)
def test_the_members_are_faults_that_are_each_known_by_a_code(number: str) -> None:
    members = LOOKALIKES[number].members
    assert set(members) <= set(FAULTS)
    assert len(set(members)) == len(members) >= 2
    assert not [m for m in members if FAULTS[m].decoy]


@each_shape
def test_each_link_and_each_set_has_one_who_stands_for_it(shape: Shape) -> None:
    fitting = [f for f in FAULTS.values() if f.fits(shape)]
    chosen = {f.name for f in representatives(shape)}
    assert chosen <= {f.name for f in fitting}
    for link in {f.link for f in fitting if not f.decoy}:
        assert chosen & {f.name for f in fitting if f.link == link}, link
    for number, alike in LOOKALIKES.items():
        members = {f.name for f in fitting if f.name in alike.members}
        assert not members or chosen & members, number
    assert [f for f in representatives(shape) if f.decoy]
    assert DECOY in needs_of(shape)


@pytest.mark.parametrize("shape", [ARTICLE, HOSTGW], ids=lambda shape: shape.name)
def test_few_stand_for_all(shape: Shape) -> None:
    assert len(representatives(shape)) <= MOST


@each_shape
def test_none_is_one_too_many(shape: Shape) -> None:
    """Each stands for something that none before it stood for."""
    chosen = representatives(shape)
    for one in chosen:
        others = frozenset[str]().union(*(covered_by(f) for f in chosen if f is not one))
        assert covered_by(one) - others, one.name


def test_goldens_cover_every_fault_in_some_shape() -> None:
    recorded = {name for shape in SHAPES.values() for name in wanted(shape)}
    assert set(FAULTS) <= recorded


@each_shape
def test_goldens_cover_who_stands_for_all(shape: Shape) -> None:
    assert {f.name for f in representatives(shape)} <= set(wanted(shape))
