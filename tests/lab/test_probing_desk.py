"""From a desk, the proxy host is looked at over ssh."""

from collections.abc import Callable

import pytest

from tests.lab.faults import FAULTS, mend, put_in
from tests.lab.lab import Lab
from tests.lab.patient import Said, examine, no_finding
from tests.lab.shell import poll
from tests.lab.ssh import Client, Ssh
from tests.lab.topology import DESK
from tests.lab.traces import left

pytestmark = [pytest.mark.lab, pytest.mark.shapes("article")]


def _over_ssh(lab: Lab, *arguments: str, client: Client | None = None) -> Said:
    given = ("--url", f"{lab.site_url}/", "--proxy-host", lab.ssh.destination)
    return examine(lab, *given, *arguments, vantage="desk", client=client)


def _core(said: Said) -> list[tuple[str, str]]:
    """What identifies the causes; the rest is said as it is seen from where one sits."""
    return [(d["code"], d["hop"]) for d in said.diagnoses]


def test_the_proxy_host_is_seen_from_a_desk(lab: Lab) -> None:
    """A healthy one has no finding, and nothing about it is left open."""
    said = _over_ssh(lab)
    no_finding(said)
    assert not [notice for notice in said.document["notices"] if "proxy" in notice], said.lines
    assert left(lab) == []


def _mend_as_told(lab: Lab, said: Said) -> None:
    """Run the first remediation as it is printed, where it was printed."""
    for command in said.diagnoses[0]["remediation"][0]["commands"]:
        lab.at(DESK, "sh", "-c", command)


def test_a_fault_of_the_proxy_is_the_same_from_a_desk(lab: Lab) -> None:
    """It is found as on the proxy host itself, and mended from the desk as is printed there."""
    fault = FAULTS["host-header-lost"]
    try:
        put_in(lab, fault)
        there = _over_ssh(lab)
        here = examine(lab, "--url", f"{lab.site_url}/")
        _mend_as_told(lab, there)
        poll(lab.site_answers, seconds=10, what="the site")
    finally:
        mend(lab, fault)
    assert here.codes == list(fault.expected), here.lines
    assert _core(there) == _core(here), there.lines
    assert there.exit_code == here.exit_code == 3


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (Ssh.with_another_key, "Permission denied"),
        (Ssh.with_no_host, "Host key verification failed"),
        (Ssh.with_another_host, "Host key verification failed"),
    ],
    ids=["wrong-key", "unknown-host", "changed-host"],
)
def test_a_refused_login_is_a_gap(lab: Lab, client: Callable[[Ssh], Client], why: str) -> None:
    """It says what ssh said; no fault is made of it, and no host is trusted on the way."""
    said = _over_ssh(lab, "--no-probe", client=client(lab.ssh))
    assert said.codes == [], said.lines
    assert said.exit_code == 5, said.lines
    reasons = [gap["reason"] for gap in said.gaps if lab.ssh.destination in gap["reason"]]
    assert reasons, said.lines
    assert all(why in reason for reason in reasons), said.lines
