"""What rules allow, what sources need, and roles that grant just that."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import CHAIN
from doctor.collect.resources import RESOURCES
from doctor.collect.rights import (
    EVERYTHING,
    Scope,
    entering,
    getting,
    listing,
    permissions,
    roles,
    tier_of,
)
from doctor.evidence.finders import CONFIGMAPS
from doctor.evidence.tables import Source, Wave, needs_of
from doctor.model.rights import Permission, Review, Rights, Role, Rule, Tier
from tests.unit.rbac import NAMES, REQUESTS, RULES, Request, allowed

ADMIN = Rule(("*",), ("*",), ("*",))


@given(st.lists(RULES, max_size=4), REQUESTS)
def test_rules_allow_what_rbac_says(rules: list[Rule], request: Request) -> None:
    verb, group, resource, name = request
    known = Rights((Review(rules=tuple(rules)),))
    base, _, sub = resource.partition("/")
    expected = request in allowed(rules)
    assert known.allows(verb, group, base, name=name, subresource=sub) is expected
    assert known.permits(Permission(verb, group, resource, name=name)) is expected


@given(st.lists(RULES, max_size=3), st.lists(RULES, max_size=3), REQUESTS)
def test_a_namespaces_own_rules_add_to_those_of_the_cluster(
    everywhere: list[Rule], here: list[Rule], request: Request
) -> None:
    verb, group, resource, name = request
    known = Rights((Review(rules=tuple(everywhere)), Review("here", tuple(here))))

    def said(namespace: str) -> bool | None:
        return known.permits(Permission(verb, group, resource, namespace, name))

    assert said("") is (request in allowed(everywhere))
    assert said("here") is (request in allowed([*everywhere, *here]))
    assert said("there") is (True if request in allowed(everywhere) else None)


@given(st.lists(RULES, max_size=4), REQUESTS, st.sampled_from(["incomplete", "failed", "none"]))
def test_what_is_not_known_is_not_denied(rules: list[Rule], request: Request, how: str) -> None:
    verb, group, resource, name = request
    kept = tuple(rules) if how == "incomplete" else ()
    review = Review(rules=kept, incomplete=how == "incomplete", reason="x" * (how == "failed"))
    known = Rights(() if how == "none" else (review,))
    said = known.permits(Permission(verb, group, resource, name=name))
    assert said is (True if request in allowed(kept) else None)


@pytest.mark.parametrize(
    ("rule", "wanted", "expected"),
    [
        (ADMIN, ("create", "", "pods/exec", "x"), True),
        (Rule(("get",), ("",), ("pods",)), ("get", "", "pods/exec", "x"), False),
        (Rule(("get",), ("",), ("pods/*",)), ("get", "", "pods/exec", "x"), False),
        (Rule(("get",), ("",), ("*/exec",)), ("get", "", "pods/exec", "x"), True),
        (Rule(("get",), ("",), ("*/exec",)), ("get", "", "pods", "x"), False),
        (Rule(("list",), ("",), ("pods",), ("x",)), ("list", "", "pods", ""), False),
        (Rule(("get",), ("",), ("pods",), ("x",)), ("get", "", "pods", "x"), True),
        (Rule(("get",), ("*",), ("pods",)), ("get", "metrics.k8s.io", "pods", "x"), True),
        (Rule(("get",), ("apps",), ("pods",)), ("get", "", "pods", "x"), False),
        (Rule((), (), ()), ("get", "", "pods", "x"), False),
    ],
)
def test_rbac_by_the_book(rule: Rule, wanted: Request, *, expected: bool) -> None:
    verb, group, resource, name = wanted
    assert rule.grants(Permission(verb, group, resource, name=name)) is expected


def test_tiers_build_on_each_other() -> None:
    assert [t.value for t in Tier.HOST.up_to] == ["read", "exec", "probe", "host"]
    assert Tier.READ.up_to == (Tier.READ,)


@pytest.mark.parametrize(
    ("name", "group", "plural"),
    [
        ("nodes", "", "nodes"),
        ("events:warning", "", "events"),
        ("endpointslices", "discovery.k8s.io", "endpointslices"),
        ("servicel2statuses", "metallb.io", "servicel2statuses"),
    ],
)
def test_what_a_list_takes(name: str, group: str, plural: str) -> None:
    assert listing(RESOURCES[name]) == Permission("list", group, plural)


@pytest.mark.parametrize(
    ("permission", "text"),
    [
        (Permission("list", "", "pods"), "list pods (core) in all namespaces"),
        (Permission("list", "", "nodes"), "list nodes (core)"),
        (Permission("create", "", "namespaces"), "create namespaces (core)"),
        (getting("kube-system/coredns"), 'get configmaps (core) "coredns" in kube-system'),
        (next(entering("kube-flannel")), "get pods/exec (core) in kube-flannel"),
        (
            listing(RESOURCES["ipaddresspools"]),
            "list ipaddresspools (metallb.io) in all namespaces",
        ),
    ],
)
def test_a_permission_in_words(permission: Permission, text: str) -> None:
    assert str(permission) == text


@pytest.mark.parametrize(
    ("sources", "tier"),
    [
        ((), Tier.READ),
        (("nodes", "configmaps:coredns", Wave.TARGET, Wave.PROXY), Tier.READ),
        (("nodes", Wave.NODE), Tier.EXEC),
        ((Wave.NODE, Wave.MESH, Wave.PROBE_PODS), Tier.PROBE),
    ],
)
def test_the_least_tier(sources: tuple[Source, ...], tier: Tier) -> None:
    assert tier_of(sources) is tier


@pytest.mark.parametrize("source", ["secrets", "configmaps:other"])
def test_a_source_without_rights_is_refused(source: str) -> None:
    for ask in (lambda: tier_of([source]), lambda: roles([source], Tier.READ)):
        with pytest.raises(LookupError, match=source):
            ask()


def test_no_wave_is_forgotten() -> None:
    for wave in Wave:
        assert tier_of([wave]) in Tier


Scoped = tuple[str, str, str, str, str]
"""Namespace, verb, group, resource, name."""


def granted(made: tuple[Role, ...]) -> list[Scoped]:
    """Write out what roles grant; a rule without names stands as one about any."""
    return [
        (role.namespace, *request)
        for role in made
        for request in allowed(role.rules, ((), (), (), ("",)))
    ]


def asked(sources: frozenset[Source], tier: Tier, scope: Scope) -> set[Scoped]:
    """Write out what a tier asks for, with those that it builds on."""
    wanted = chain.from_iterable(permissions(sources, t, scope) for t in tier.up_to)
    return {(p.namespace, p.verb, p.group, p.resource, p.name) for p in wanted}


SELECTIONS = {c.id: needs_of(tuple(n.type for n in c.needs)) for c in CHAIN}
SELECTIONS["everything"] = EVERYTHING
SCOPES = (
    Scope(),
    Scope(resident=("kube-flannel", "kube-system")),
    Scope(probes="probes"),
    Scope(resident=("kube-flannel",), probes="kube-flannel"),
)


@pytest.mark.parametrize("scope", SCOPES, ids=["anywhere", "resident", "given", "same"])
@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_roles_grant_what_is_asked_and_nothing_else(
    selection: str, tier: Tier, scope: Scope
) -> None:
    made = roles(SELECTIONS[selection], tier, scope)
    wanted, given = asked(SELECTIONS[selection], tier, scope), granted(made)
    assert set(given) <= wanted
    assert {w for w in wanted if w not in given and ("", *w[1:]) not in given} == set()
    assert len(set(given)) == len(given)
    for number, (namespace, *request) in enumerate(given):
        assert not {(namespace, *request), ("", *request)} & set(given[:number])
    assert len({(r.tier, r.namespace) for r in made}) == len(made)
    assert all(r.tier in tier.up_to for r in made)
    for rule in (r for role in made for r in role.rules):
        for part in (rule.verbs, rule.groups, rule.resources, rule.names):
            assert len(set(part)) == len(part), rule


@given(
    st.lists(
        st.builds(
            Permission,
            verb=st.sampled_from(["get", "list", "create"]),
            group=st.sampled_from(["", "apps"]),
            resource=st.sampled_from(["pods", "pods/exec", "nodes"]),
            name=st.sampled_from(NAMES),
        ),
        unique=True,
    )
)
def test_folding_neither_adds_nor_loses(wanted: list[Permission]) -> None:
    from doctor.collect.rights import _rules

    rules = _rules(wanted)
    assert allowed(rules, ((), (), (), ("",))) == {
        (p.verb, p.group, p.resource, p.name) for p in wanted
    }


def test_roles_stay_small() -> None:
    rules = [r for role in roles(EVERYTHING, Tier.HOST) for r in role.rules]
    said = {w for r in rules for part in (r.verbs, r.groups, r.resources) for w in part}
    assert said & {"*", "secrets", "update", "patch", "watch", "escalate", "bind"} == set()
    assert {n for r in rules for n in r.names} == set(CONFIGMAPS.values())
    (configmaps,) = [r for r in rules if "configmaps" in r.resources]
    assert (configmaps.verbs, configmaps.resources) == (("get",), ("configmaps",))
    changing = {(v, x) for r in rules for v in r.verbs for x in r.resources if v not in _LOOKING}
    assert changing == {
        ("create", "namespaces"),
        ("delete", "namespaces"),
        ("create", "pods"),
        ("delete", "pods"),
        ("deletecollection", "pods"),
        ("create", "pods/exec"),
    }


_LOOKING = {"get", "list"}


def test_a_namespace_given_for_probes_takes_no_right_to_make_one() -> None:
    scope = Scope(resident=("kube-flannel",), probes="probes")
    made = roles(EVERYTHING, Tier.PROBE, scope)
    assert [(r.tier, r.namespace) for r in made] == [
        (Tier.READ, ""),
        (Tier.EXEC, "kube-flannel"),
        (Tier.PROBE, "probes"),
    ]
    assert all(v in _LOOKING for r in made[0].rules for v in r.verbs)
    assert not any("namespaces" in r.resources for role in made for r in role.rules)
