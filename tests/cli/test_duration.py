"""Durations on the command line."""

import click
import pytest

from doctor.cli.duration import Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600)]
)
def test_what_kubectl_takes_is_read(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "10x", "-1s", "0", "0s", "1s2", "ten"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)
