"""A run asks once more where what it has seen leaves two places to blame."""

from pathlib import Path

import pytest

from doctor.bundle.io import load
from doctor.bundle.schema import FlowRecord
from doctor.model.flow import Purpose, VantageKind
from tests.lab.faults import FAULTS, mend, put_in
from tests.lab.faults.overlay_sizes import BLACKHOLE
from tests.lab.lab import Lab
from tests.lab.patient import examine

pytestmark = [pytest.mark.lab, pytest.mark.shapes("article")]


def test_a_node_is_asked_for_what_only_pods_ask_for_otherwise(lab: Lab, tmp_path: Path) -> None:
    """Small packets pass and the site is silent: a node's own question tells where it is lost."""
    path, fault = tmp_path / "bundle", FAULTS[BLACKHOLE]
    try:
        put_in(lab, fault)
        said = examine(lab, "--url", f"{lab.site_url}/", "--save", str(path))
    finally:
        mend(lab, fault)
    assert said.codes == list(fault.expected), said.lines
    flows = [r.observation.flow for r in load(path).records if isinstance(r, FlowRecord)]
    asked = {f.vantage.kind for f in flows if f.purpose is Purpose.BACKEND}
    assert VantageKind.NODE in asked
