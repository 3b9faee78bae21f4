"""Rights: what may be asked of the API server, in the words of RBAC."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = [
    "CLUSTER_SCOPED",
    "Needs",
    "Permission",
    "Review",
    "Rights",
    "Role",
    "Rule",
    "Tier",
]

CLUSTER_SCOPED = frozenset(
    {
        "apiservices",
        "ingressclasses",
        "mutatingwebhookconfigurations",
        "namespaces",
        "nodes",
        "validatingwebhookconfigurations",
    }
)
"""Kinds that live in no namespace."""


class Tier(StrEnum):
    """How much is allowed, the least first; each builds on those before it."""

    READ = "read"
    EXEC = "exec"
    PROBE = "probe"
    HOST = "host"

    @property
    def rank(self) -> int:
        """How many tiers come before it."""
        return list(Tier).index(self)

    @property
    def up_to(self) -> tuple["Tier", ...]:
        """This tier and those that it builds on, the least first."""
        return tuple(Tier)[: self.rank + 1]


class Permission(msgspec.Struct, frozen=True):
    """One verb on one resource.

    Args:
        verb: ``get``, ``list``, ``create``, ``delete``, ``deletecollection``.
        group: API group; empty for the core one.
        resource: Plural name, with a subresource as ``pods/exec``.
        namespace: Where; empty for all namespaces, and for what lives in none.
        name: The object's name; empty for any.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Write it as a reason has it: ``list pods (core) in all namespaces``."""
        name = f' "{self.name}"' if self.name else ""
        where = f" in {self.namespace}" if self.namespace else " in all namespaces"
        scope = "" if self.resource in CLUSTER_SCOPED else where
        return f"{self.verb} {self.resource} ({self.group or 'core'}){name}{scope}"


class Rule(msgspec.Struct, frozen=True):
    """A rule of RBAC: any of the verbs on any of the resources of any of the groups.

    Args:
        verbs: Verbs; ``*`` for all.
        groups: API groups, the core one empty; ``*`` for all.
        resources: Plural names; ``pods/exec``, ``*/exec`` and ``*`` are understood as RBAC does.
        names: Names of objects; empty for all.
    """

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it for people: ``list nodes, pods (core)``."""
        groups = ", ".join(g or "core" for g in self.groups)
        names = f" named {', '.join(self.names)}" if self.names else ""
        return f"{', '.join(self.verbs)} {', '.join(self.resources)} ({groups}){names}"

    def concerns(self, group: str, resource: str) -> bool:
        """Say whether the rule is about a resource, whatever the verb and the name."""
        _, slash, subresource = resource.partition("/")
        matching = {"*", resource, f"*/{subresource}"} if slash else {"*", resource}
        return not {"*", group}.isdisjoint(self.groups) and not matching.isdisjoint(self.resources)

    def grants(self, wanted: Permission) -> bool:
        """Say whether the rule alone allows something, wherever it holds."""
        return (
            self.concerns(wanted.group, wanted.resource)
            and not {"*", wanted.verb}.isdisjoint(self.verbs)
            and (not self.names or wanted.name in self.names)
        )


class Role(msgspec.Struct, frozen=True):
    """Rules to be granted together.

    Args:
        tier: The tier that they make possible.
        rules: The rules.
        namespace: Where they hold; empty for the whole cluster.
    """

    tier: Tier
    rules: tuple[Rule, ...]
    namespace: str = ""


class Needs(msgspec.Struct, frozen=True):
    """What a check needs.

    Args:
        id: The check's id.
        answers: The least tier in which it comes to an answer.
        more: The tier in which it has all evidence that may sharpen that answer.
        roles: The roles of that tier, or where it crosses links, of the tier of them all.
        crosses: The links that its traffic crosses: their checks are run with it.
        all: The tier in which those have all their evidence, too; None where it crosses nothing.
    """

    id: str
    answers: Tier
    more: Tier
    roles: tuple[Role, ...] = ()
    crosses: tuple[str, ...] = ()
    all: Tier | None = None


class Review(msgspec.Struct, frozen=True):
    """What the API server said of one's own rights in one namespace.

    Args:
        namespace: The namespace; empty where it is one that holds no bindings: what is allowed
            there is allowed everywhere.
        rules: Rules that concern what the doctor may ask for.
        incomplete: Whether there may be more that the API server does not list, as authorizers
            other than RBAC may allow things without being able to list them.
        reason: Why it could not be learned; empty where it was.
    """

    namespace: str = ""
    rules: tuple[Rule, ...] = ()
    incomplete: bool = False
    reason: str = ""


class Rights(msgspec.Struct, frozen=True):
    """All that is known of one's own rights. Nothing is, without a review.

    Args:
        reviews: One per namespace that was asked about.
    """

    reviews: tuple[Review, ...] = ()

    def allows(
        self,
        verb: str,
        group: str,
        resource: str,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
    ) -> bool | None:
        """Say whether a request would be allowed.

        Args:
            verb: As RBAC has it.
            group: API group; empty for the core one.
            resource: Plural name.
            namespace: Empty for all namespaces, and for what lives in none.
            name: The object's name; empty for a LIST, a creation, or any.
            subresource: ``exec``.

        Returns:
            None where it cannot be known without asking.
        """
        full = f"{resource}/{subresource}" if subresource else resource
        return self.permits(Permission(verb, group, full, namespace, name))

    def permits(self, wanted: Permission) -> bool | None:
        """Say whether something is allowed; None where it cannot be known without trying."""
        heard = [r for r in self.reviews if r.namespace in ("", wanted.namespace)]
        if any(rule.grants(wanted) for review in heard for rule in review.rules):
            return True
        # what holds everywhere says nothing of what else a single namespace grants
        decisive = [r for r in heard if r.namespace == wanted.namespace]
        known = any(not r.incomplete and not r.reason for r in decisive)
        return False if known else None

    def missing(self, wanted: Iterable[Permission]) -> Permission | None:
        """Return the first of several that is certainly not allowed."""
        return next((p for p in wanted if self.permits(p) is False), None)
