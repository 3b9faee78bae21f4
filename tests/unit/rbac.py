"""RBAC, by the book and by brute force: what a set of rules allows, written out."""

from collections.abc import Iterable
from itertools import combinations, product

from hypothesis import strategies as st

from doctor.model.rights import Rule

VERBS = ("get", "list", "create", "delete")
GROUPS = ("", "apps")
RESOURCES = ("pods", "pods/exec", "pods/log", "nodes", "nodes/exec")
NAMES = ("", "a", "b")

Request = tuple[str, str, str, str]
"""Verb, group, resource, name."""


def _meant(resource: str, universe: Iterable[str]) -> set[str]:
    """Write out a rule's resource: all of them, one subresource of all, or itself."""
    if resource == "*":
        return set(universe)
    if resource.startswith("*/"):
        return {r for r in universe if r.endswith(resource[1:])}
    return {resource}


def allowed(
    rules: Iterable[Rule],
    universe: tuple[Iterable[str], ...] = (VERBS, GROUPS, RESOURCES, NAMES),
) -> set[Request]:
    """Write out all requests that rules allow among a universe of verbs, groups, and so on."""
    verbs, groups, resources, names = universe
    found: set[Request] = set()
    for rule in rules:
        found |= set(
            product(
                verbs if "*" in rule.verbs else rule.verbs,
                groups if "*" in rule.groups else rule.groups,
                {m for r in rule.resources for m in _meant(r, resources)},
                rule.names or names,
            )
        )
    return found


def _some(known: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """Draw up to two of them at once: drawing each by itself is slow on a busy machine."""
    return st.sampled_from([c for n in range(3) for c in combinations(known, n)])


RULES = st.builds(
    Rule,
    verbs=_some((*VERBS, "*")),
    groups=_some((*GROUPS, "*")),
    resources=_some((*RESOURCES, "*", "*/exec", "pods/*")),
    names=_some(NAMES[1:]),
)
REQUESTS = st.tuples(*(st.sampled_from(each) for each in (VERBS, GROUPS, RESOURCES, NAMES)))
