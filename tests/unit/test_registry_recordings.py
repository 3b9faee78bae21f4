"""One link, and what it crosses: it comes to the same cause as a whole run does."""

from functools import cache
from pathlib import Path

import pytest

from doctor.bundle.io import load as load_bundle
from doctor.engine.registry import load, select
from doctor.engine.run import diagnose
from doctor.model.link import Link
from doctor.model.verdict import Result, Verdict

FOLDER = Path(__file__).parents[2] / "doctor" / "recordings"
RECORDINGS = sorted(p.stem for p in FOLDER.glob("*.bundle"))
HURT = {Verdict.FAIL, Verdict.WARN, Verdict.MASKED}


@cache
def judged(name: str, *links: Link) -> Result:
    """Judge a recording, by some links or by all."""
    return diagnose(load_bundle(FOLDER / f"{name}.bundle"), select(load(), links))


@pytest.mark.parametrize("link", Link)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_link_names_no_other_cause_than_a_whole_run(name: str, link: Link) -> None:
    whole, one = judged(name), judged(name, link)
    known = {d.finding.code.name for d in whole.diagnoses}
    assert {d.finding.code.name for d in one.diagnoses} <= known
    if any(c.link is link and c.verdict in HURT for c in whole.checks):
        assert one.diagnoses[0].finding == whole.diagnoses[0].finding


@pytest.mark.parametrize("link", Link)
def test_what_is_crossed_is_crossed_with_all_behind_it(link: Link) -> None:
    near = {c.link for c in select(load(), [link])}
    far = {c.link for other in near for c in select(load(), [other])}
    assert far == near


def test_the_visitors_way_crosses_everything_but_webhooks() -> None:
    assert {c.link for c in judged("healthy", Link.HOST_PROXY).checks} == {*Link} - {Link.WEBHOOK}
