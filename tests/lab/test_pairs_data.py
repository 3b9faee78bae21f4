"""Two faults at once: the data holds together; this needs no lab."""

import pytest

from tests.lab.faults import FAULTS
from tests.lab.faults.pairs import PAIRS, both, fitting, pair_name
from tests.lab.shape import SHAPES

each = pytest.mark.parametrize("pair", PAIRS, ids=pair_name)


def test_there_are_enough() -> None:
    assert len(PAIRS) >= 20
    assert len({frozenset(p) for p in PAIRS}) == len(PAIRS)


@each
def test_both_are_faults_that_differ(pair: tuple[str, str]) -> None:
    assert set(pair) <= set(FAULTS)
    one, other = both(pair)
    assert not one.decoy
    assert not other.decoy
    assert one.expected.isdisjoint(other.expected)


@each
def test_they_are_in_different_places(pair: tuple[str, str]) -> None:
    one, other = both(pair)
    assert one.link != other.link


@each
def test_both_fit_some_shape(pair: tuple[str, str]) -> None:
    assert any(pair in fitting(shape) for shape in SHAPES.values())
