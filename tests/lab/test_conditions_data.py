"""The conditions' data holds together, and so do their helpers; this needs no lab."""

import re

import pytest
import yaml

from tests.lab import accounts
from tests.lab.cluster import pod_security
from tests.lab.conditions import CONDITIONS, Condition
from tests.lab.faults import FAULTS
from tests.lab.lab import Lab
from tests.lab.shape import SHAPES
from tests.lab.test_probing_conditions import HOSTGW
from tests.lab.workload import POD_SECURITY, namespaces

NAMES = {
    "apiservice-unavailable",
    "metrics-behind-overlay",
    "pull-policy-rewritten",
    "pods-refused",
    "quota-none",
    "kubelet-silent",
    "node-not-ready",
    "node-cordoned",
    "node-tainted",
    "node-tainted-noexecute",
    "node-full",
    "underlay-loss",
    "underlay-small-frames",
}

each = pytest.mark.parametrize("condition", CONDITIONS.values(), ids=list(CONDITIONS))


def test_all_are_there_and_none_is_called_as_a_fault_is() -> None:
    assert set(CONDITIONS) == NAMES
    assert not NAMES & set(FAULTS)


def test_what_runs_in_one_shape_is_known() -> None:
    assert HOSTGW < NAMES


@each
def test_the_name_leads_to_the_condition(condition: Condition) -> None:
    assert CONDITIONS[condition.name] is condition
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", condition.name)


@each
def test_the_story_is_one_sentence(condition: Condition) -> None:
    assert re.fullmatch(r"\S[^\n]*[^.\s]\.", condition.story)
    assert "  " not in condition.story


@each
def test_it_fits_the_shape_that_it_is_tested_in(condition: Condition) -> None:
    assert condition.fits(SHAPES["hostgw" if condition.name in HOSTGW else "article"])


@each
def test_what_is_complete_leaves_nothing_to_say(condition: Condition) -> None:
    lab = Lab(SHAPES["article"])
    assert bool(condition.says(lab)) != condition.complete
    assert all(condition.says(lab))


def test_namespaces_have_the_level_that_their_pods_need() -> None:
    for shape in SHAPES.values():
        made = list(yaml.safe_load_all(namespaces(shape)))
        levels = {item["metadata"]["labels"].get(POD_SECURITY) for item in made}
        assert levels == ({"baseline"} if shape.pod_security == "restricted" else {None})


def test_namespaces_without_labels_get_the_shapes_level() -> None:
    (plugin,) = pod_security("restricted")["plugins"]
    assert plugin["configuration"]["defaults"]["enforce"] == "restricted"


ROLES = """\
kind: ClusterRole
metadata: {name: everywhere}
---
kind: Role
metadata: {name: here, namespace: shop}
---
kind: ClusterRole
metadata: {name: bound}
---
kind: ClusterRoleBinding
metadata: {name: bound}
roleRef: {kind: ClusterRole, name: bound}
"""


def test_roles_are_bound_to_the_account_unless_they_are_bound_already() -> None:
    documents = list(yaml.safe_load_all(ROLES))
    identity = accounts._identity(documents, "reader")
    assert identity["metadata"] == {"name": "reader", "namespace": accounts.NAMESPACE}
    made = accounts._bindings(documents, identity["metadata"])
    assert [(b["kind"], b["metadata"]) for b in made] == [
        ("ClusterRoleBinding", {"name": "reader-everywhere"}),
        ("RoleBinding", {"name": "reader-here", "namespace": "shop"}),
    ]
    assert all(b["subjects"][0] | identity["metadata"] == b["subjects"][0] for b in made)


def test_an_account_that_is_brought_along_is_the_one() -> None:
    own = {"kind": "ServiceAccount", "metadata": {"name": "doctor", "namespace": "ops"}}
    assert accounts._identity([own], "reader") is own
