"""The recordings in the package: judged anew, with no cluster and no network."""

import subprocess
import sys
from pathlib import Path

import pytest

from checks import CHAIN
from doctor.bundle.io import load
from doctor.cli.demonstrate import RECORDINGS

FOLDER = Path(__file__).parents[2] / "doctor" / "recordings"
EXPECTED = {
    "article": "DNS_PORT_FILTERED",
    "overlay": "OVERLAY_UDP_FILTERED",
    "port-security": "METALLB_VIP_FILTERED",
    "host-header": "PROXY_HOST_HEADER_LOST",
    "healthy": None,
}

_WITHOUT_NETWORK = """\
import socket, subprocess, sys
def refuse(*_a, **_k):
    raise AssertionError("the demo opened a socket or started a process")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
subprocess.Popen = refuse
sys.argv = ["wwwm-doctor", *sys.argv[1:]]
from doctor.cli.main import main
main()
"""


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `demo` in a process that can open no socket."""
    command = (sys.executable, "-c", _WITHOUT_NETWORK, "demo", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_recording_is_expected() -> None:
    assert set(EXPECTED) == set(RECORDINGS)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_gives_its_diagnosis(name: str) -> None:
    done = demo(name)
    assert done.returncode == 0, done.stderr
    code = EXPECTED[name]
    first = next((line for line in done.stdout.splitlines() if "code:" in line), "")
    assert (code or "") in first
    last = done.stdout.splitlines()[-1]
    assert last.startswith("1 root cause" if code else "healthy")


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_was_made_for_the_checks_of_today(name: str) -> None:
    """Else `make recordings` is due."""
    asked = load(FOLDER / f"{name}.bundle").question.checks
    assert list(asked) == [c.id for c in CHAIN]


def test_the_articles_recording_is_the_default() -> None:
    assert demo().stdout.startswith(demo("article").stdout)


def test_an_unknown_recording_is_one_line() -> None:
    done = demo("nope")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "article" in done.stderr


def test_recordings_are_listed() -> None:
    done = demo("--list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(RECORDINGS)


def test_the_readme_shows_what_is_printed() -> None:
    """Its excerpt is the recording's real output, not a drawing of it."""
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    shown = readme.partition("```console\n")[2].partition("```")[0].splitlines()[1:]
    printed = [line.rstrip() for line in demo("overlay").stdout.splitlines()[2:]]
    assert shown == printed
