"""A node that was switched off and on again comes back, and the doctor finds nothing."""

import pytest

from tests.lab.lab import Lab
from tests.lab.patient import examine

pytestmark = pytest.mark.lab


def test_a_rebooted_node_comes_back(lab: Lab) -> None:
    """Its disk stays, its processes and /run are new; the cluster heals by itself."""
    node = list(lab.nodes.values())[-1]
    before = node.pid
    lab.reboot(node.name)
    lab.wait_healthy(seconds=180)
    assert node.pid != before
    said = examine(lab, "--url", f"{lab.site_url}/")
    assert said.codes == [], said.lines
    assert said.exit_code == 0, said.lines
