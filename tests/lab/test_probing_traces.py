"""What a full run asks of the API server, and that it pulls nothing and leaves nothing."""

import json
from itertools import pairwise

import pytest

from tests.lab.conditions.spaces import ELSEWHERE, pod
from tests.lab.lab import Lab
from tests.lab.patient import doctor, examine, no_finding
from tests.lab.shell import poll
from tests.lab.traces import (
    Images,
    await_nothing,
    budget,
    changing,
    forbidden,
    left,
    own_namespaces,
    requests,
    unburied,
)

pytestmark = pytest.mark.lab


def test_a_full_run_asks_little_and_changes_nothing(lab: Lab) -> None:
    """Reads, reviews of its own rights, pods in a namespace of its own, exec; nothing is pulled."""
    zombies, before, mark = unburied(lab), Images.now(lab), lab.audit_mark()
    said = examine(lab, "--url", f"{lab.site_url}/")
    gone, asked = left(lab), requests(lab, mark)
    after = Images.now(lab)
    no_finding(said)
    assert said.stderr == ""
    assert asked
    assert forbidden(asked) == []
    assert len(own_namespaces(asked)) == 1
    assert len(asked) <= budget(lab)
    assert said.document["stats"]["api_requests"] == len(asked)
    assert before.pulls(lab) == []
    assert after.held == before.held
    assert gone == []
    assert unburied(lab) == zombies
    await_nothing(lab)


def test_a_pull_would_have_been_seen(lab: Lab) -> None:
    """The control: where a pod makes its node pull, the runtime's log tells of it."""
    before = Images.now(lab)
    node = list(lab.nodes.values())[-1]
    try:
        lab.apply(json.dumps(pod("pulls", ELSEWHERE, node.fqdn, pull="Always")))
        poll(lambda: before.pulls(lab), seconds=30, what="a pull")
    finally:
        lab.kubectl("delete", "pod", "pulls", "-n", ELSEWHERE, "--ignore-not-found")


@pytest.mark.shapes("article")
def test_images_names_what_is_on_each_node(lab: Lab) -> None:
    """For every node an image that it holds; nothing is started to find out."""
    mark = lab.audit_mark()
    done = doctor(lab, "images")
    assert done.returncode == 0, done.stderr
    asked = requests(lab, mark)
    assert asked
    assert changing(asked) == []
    held = {lab.nodes[name].fqdn: images for name, images in Images.now(lab).held.items()}
    lines = done.stdout.splitlines()
    told = {
        node: image.strip()
        for nodes, image in pairwise(lines)
        if not nodes.startswith(" ")
        for node in nodes.split(", ")
    }
    assert told.keys() == held.keys(), done.stdout
    assert all(image in held[node] for node, image in told.items()), done.stdout
