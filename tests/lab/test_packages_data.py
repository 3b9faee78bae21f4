"""Installing a package starts nothing; this installs nothing."""

import os
from pathlib import Path

import pytest

from tests.lab import packages


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the policy on a machine that has none."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "_POLICY", path)
    return path


def test_no_service_may_start_meanwhile(policy: Path) -> None:
    """Debian asks this program, and 101 means no."""
    with packages._starting_nothing():
        assert os.waitstatus_to_exitcode(os.system(f"{policy} ssh start")) == 101  # noqa: S605
    assert not policy.exists()


def test_the_policy_goes_when_an_installation_fails(policy: Path) -> None:
    with pytest.raises(KeyboardInterrupt), packages._starting_nothing():
        raise KeyboardInterrupt
    assert not policy.exists()


def test_an_owners_policy_stays(policy: Path) -> None:
    policy.write_text("theirs")
    with packages._starting_nothing():
        assert policy.read_text() == "theirs"
    assert policy.read_text() == "theirs"


def test_what_runs_as_a_service_is_a_package_of_the_labs() -> None:
    assert set(packages._SERVICES) <= set(packages.PACKAGES)
