"""What is suggested asks the same cluster: given options come back in it."""

import sys

import pytest

from doctor.cli.again import again, program
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.verdict import CheckResult, Diagnosis, Outcome, Result, Verdict

COMMANDS = ("wwwm-doctor run --url http://x/", "kubectl get nodes", "wwwm-doctor rbac --tier read")


def result() -> Result:
    """A result with one finding, which says what to run."""
    mend = Remediation("Mend it", COMMANDS, Risk.SAFE, "wwwm-doctor check dns")
    code = Code("BAD", Link.DNS, "Bad.")
    found = Finding(code, "Bad", Hop(HopKind.NODE, "n0"), ("e",), remediation=(mend,))
    check = CheckResult("dns.one", Link.DNS, "Good", Verdict.FAIL, (found,))
    diagnosis = Diagnosis("d1", "dns.one", found, (("dns.two", found),))
    return Result(outcome=Outcome.FAIL, exit_code=3, diagnoses=(diagnosis,), checks=(check,))


def test_what_was_given_is_in_what_asks_anew() -> None:
    given = {"--kubeconfig": "/my conf", "--context": None, "--proxy-host": "root@front"}
    told = again(result(), given)
    words = "--kubeconfig '/my conf' --proxy-host root@front"
    everywhere = (
        told.diagnoses[0].finding,
        told.diagnoses[0].explains[0][1],
        told.checks[0].findings[0],
    )
    for finding in everywhere:
        (mend,) = finding.remediation
        assert mend.commands == (f"wwwm-doctor run {words} --url http://x/", *COMMANDS[1:])
        assert mend.verify == f"wwwm-doctor check {words} dns"


def test_without_options_nothing_is_changed() -> None:
    assert again(result(), {"--kubeconfig": None}) == result()


def test_what_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [".venv/bin/wwwm-doctor", "demo"])
    assert program() == ".venv/bin/wwwm-doctor"
    monkeypatch.setattr(sys, "argv", ["/x/doctor/__main__.py", "demo"])
    assert program() == f"{sys.executable} -m doctor"
