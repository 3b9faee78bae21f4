"""What becomes of a run whose user may not do everything."""

import pytest

from tests.lab.accounts import READ_ONLY, account
from tests.lab.lab import Lab
from tests.lab.patient import Said, examine
from tests.lab.traces import forbidden, left, requests

pytestmark = [pytest.mark.lab, pytest.mark.shapes("hostgw")]

_REVIEWS = {"selfsubjectaccessreviews", "selfsubjectrulesreviews"}


def _verdicts(said: Said) -> dict[str, str]:
    return {check["id"]: check["verdict"] for check in said.document["checks"]}


def test_who_may_only_read_gets_every_answer_of_the_api(lab: Lab) -> None:
    """The same as an administrator who does not probe; the rest is open, and nothing was tried."""
    url = ("--url", f"{lab.site_url}/")
    told = examine(lab, *url, "--no-probe", vantage="desk")
    with account(lab, "reader", READ_ONLY) as reader:
        mark = lab.audit_mark()
        said = examine(lab, *url, "--kubeconfig", str(reader.kubeconfig), vantage="desk")
        asked = requests(lab, mark, "desk")
    assert said.codes == [], said.lines
    assert said.exit_code == 5, said.lines
    assert _verdicts(said) == _verdicts(told), said.lines
    assert "pass" in _verdicts(said).values()
    assert any("pods/exec" in gap["reason"] for gap in said.gaps), said.lines
    assert forbidden(asked) == []
    tried = [e for e in asked if e["verb"] not in ("get", "list")]
    assert {e["objectRef"]["resource"] for e in tried} <= _REVIEWS
    assert {e["user"]["username"] for e in asked} == {reader.user}
    assert left(lab) == []
