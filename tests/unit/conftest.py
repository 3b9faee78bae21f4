"""What the unit tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.probe_site import SIGNALS, Site

# generated examples are the same on each run, and no slow machine makes a test fail
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make a cluster for probe pods; in the end no signal is handled otherwise than before."""
    before = [signal.getsignal(s) for s in SIGNALS]
    found = Site(tmp_path)
    yield found
    found.released.set()
    assert [signal.getsignal(s) for s in SIGNALS] == before
