"""The lab once all faults were put in and taken out again; it comes after them by its name."""

import pytest

from tests.lab.lab import Lab
from tests.lab.patient import examine_both_ways, no_finding

pytestmark = pytest.mark.lab


def test_a_healthy_lab_has_no_finding(lab: Lab) -> None:
    """After all faults were healed, nothing is found, with the URL and without."""
    lab.wait_healthy()
    told, untold = examine_both_ways(lab)
    no_finding(told)
    no_finding(untold)
    assert told.document["targets"] == [
        {"url": f"{lab.site_url}/", "reachable": True, "stopped_at": None, "status": 200}
    ]
