"""What a run may ask is told from what it may not; this needs no lab."""

from typing import Any

import pytest

from tests.lab.traces import changing, forbidden, own_namespaces

OWN = "wwwm-doctor-0a1b2c3d"


def entry(verb: str, resource: str, **where: str) -> dict[str, Any]:
    """A line of an audit log."""
    return {"verb": verb, "requestURI": "/x", "objectRef": {"resource": resource, **where}}


ALLOWED = [
    {"verb": "get", "requestURI": "/version"},
    entry("list", "pods"),
    entry("get", "configmaps", namespace="kube-system", name="coredns"),
    entry("create", "selfsubjectaccessreviews"),
    entry("create", "selfsubjectrulesreviews"),
    entry("create", "namespaces"),
    entry("create", "namespaces", name=OWN),
    entry("delete", "namespaces", name=OWN),
    entry("create", "pods", namespace=OWN),
    entry("delete", "pods", namespace=OWN, name="probe"),
    entry("deletecollection", "pods", namespace=OWN),
    entry("get", "pods", namespace="kube-flannel", name="x", subresource="exec"),
    entry("create", "pods", namespace="kube-flannel", name="x", subresource="exec"),
]
REFUSED = [
    entry("watch", "pods"),
    entry("update", "pods", namespace=OWN),
    entry("patch", "nodes", name="master"),
    entry("create", "subjectaccessreviews"),
    entry("create", "pods", namespace="default"),
    entry("delete", "pods", namespace="default", name="web"),
    entry("deletecollection", "pods", namespace="default"),
    entry("delete", "namespaces", name="default"),
    entry("create", "configmaps", namespace=OWN),
    entry("get", "pods", namespace="default", name="web", subresource="log"),
    entry("create", "pods", namespace=OWN, name="web", subresource="eviction"),
    entry("create", "serviceaccounts", namespace=OWN, name="x", subresource="token"),
]


@pytest.mark.parametrize("asked", ALLOWED)
def test_what_a_run_may_ask(asked: dict[str, Any]) -> None:
    assert forbidden([asked]) == []


@pytest.mark.parametrize("asked", REFUSED)
def test_what_a_run_may_not_ask(asked: dict[str, Any]) -> None:
    assert forbidden([asked]) == [f"{asked['verb']} /x"]


def test_what_changes_something_is_told_from_what_looks() -> None:
    assert len(changing(ALLOWED)) == 6
    assert changing(ALLOWED[:5]) == []


def test_own_namespaces_are_told_by_what_is_in_them() -> None:
    assert own_namespaces([*ALLOWED, *REFUSED]) == {OWN}


def test_logs_may_be_read_if_no_more_than_their_end() -> None:
    asked = entry("get", "pods", namespace="kube-system", name="dns", subresource="log")
    assert forbidden([asked | {"requestURI": "/x?tailLines=30&limitBytes=32768"}]) == []
    assert forbidden([asked]) == ["get /x"]
