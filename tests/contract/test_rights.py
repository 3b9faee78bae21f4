"""Every check can be granted what it needs: a source without rights fails here."""

import pytest

from checks import CHAIN
from doctor.cli.roles import needs
from doctor.collect.resources import RESOURCES
from doctor.collect.rights import EVERYTHING, Scope, permissions, roles, tier_of
from doctor.contract import Check
from doctor.evidence.finders import CONFIGMAPS
from doctor.evidence.tables import LOGS, TABLES, Source, Wave, needs_of
from doctor.model.rights import Review, Rights, Role, Tier

EACH = pytest.mark.parametrize("check", CHAIN, ids=[c.id for c in CHAIN])


def held(made: tuple[Role, ...]) -> Rights:
    """Hold roles."""
    return Rights(tuple(Review(r.namespace, r.rules) for r in made))


def sources_of(check: Check, *, required: bool = False) -> frozenset[Source]:
    """Name what a check's evidence is made of."""
    return needs_of(tuple(n.type for n in check.needs if n.required or not required))


@pytest.mark.parametrize("source", sorted({s for t in TABLES.values() for s in t.sources}, key=str))
def test_every_source_has_rights(source: Source) -> None:
    assert tier_of([source]) in Tier
    if not isinstance(source, Wave):
        assert source in RESOURCES or source in CONFIGMAPS or source == LOGS
        assert len(permissions([source], Tier.READ)) == 1


@EACH
@pytest.mark.parametrize("scope", [Scope(), Scope(("kube-flannel",), "probes")])
def test_the_roles_of_a_check_cover_it(check: Check, scope: Scope) -> None:
    sources = sources_of(check)
    tier = tier_of(sources)
    rights = held(roles(sources, tier, scope))
    for each in tier.up_to:
        for wanted in permissions(sources, each, scope):
            assert rights.permits(wanted) is True, wanted


@EACH
def test_the_tiers_of_a_check(check: Check) -> None:
    """What a check needs to answer is no more than what it can use."""
    said = needs(check)
    assert said.id == check.id
    assert said.answers is tier_of(sources_of(check, required=True))
    assert said.answers.rank <= said.more.rank
    assert said.roles
    assert {r.tier for r in said.roles} <= set(said.more.up_to)


def test_reading_takes_what_some_check_needs_and_nothing_else() -> None:
    needed = {s for c in CHAIN for s in sources_of(c) if not isinstance(s, Wave)}
    paths = {RESOURCES[s].path.partition("?")[0] for s in needed if s in RESOURCES}
    rules = [r for role in roles(EVERYTHING, Tier.READ) for r in role.rules]
    listed = {
        f"/apis/{group}/{resource}" if group else f"/api/{resource}"
        for rule in rules
        for group in rule.groups
        for resource in rule.resources
        if "list" in rule.verbs
    }
    assert listed == {p.replace("/v1beta1/", "/").replace("/v1/", "/") for p in paths}
    named = {n for r in rules for n in r.names}
    assert named == {CONFIGMAPS[s] for s in needed if s in CONFIGMAPS}
    assert {v for r in rules for v in r.verbs} == {"list", "get"}
