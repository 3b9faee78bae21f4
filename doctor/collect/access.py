"""Access: what the API server lets one do, learned up front, and what to say where it does not."""

import secrets
from collections.abc import Iterable

import msgspec

from doctor.collect.kube import Api
from doctor.collect.rights import EVERYTHING, Scope, entering, permissions, probing, telling
from doctor.evidence.tables import LOGS, Source, Wave
from doctor.model.rights import Permission, Review, Rights, Rule, Tier

__all__ = ["learn", "may_exec", "may_probe", "refusal", "undecided"]

_PATH = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_CONCERNS = frozenset((p.group, p.resource) for t in Tier for p in permissions(EVERYTHING, t))
_HELPFUL = frozenset(
    {
        # only older API servers do without it, and they are not known beforehand
        ("create", "pods/exec"),
        # they are deleted one by one then
        ("deletecollection", "pods"),
        ("get", "namespaces"),
        ("get", "nodes"),
        ("get", "pods"),
        ("list", "events"),
        ("list", "namespaces"),
        ("list", "networkpolicies"),
    }
)
"""What probe pods can do without: it tells more, or sooner, or is needed seldom."""


class _Rule(msgspec.Struct, rename="camel"):
    """A rule, as a review lists it."""

    verbs: tuple[str, ...] | None = None
    api_groups: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    resource_names: tuple[str, ...] | None = None


class _Status(msgspec.Struct, rename="camel"):
    """What a review found."""

    resource_rules: tuple[_Rule, ...] | None = None
    incomplete: bool = False


class _Answer(msgspec.Struct):
    """The API server's answer to a review."""

    status: _Status


def learn(api: Api, rights: Rights, namespaces: Iterable[str]) -> Rights:
    """Ask what is allowed in namespaces, one request each.

    Args:
        api: The API server.
        rights: What is known already.
        namespaces: Their names; an empty one asks what is allowed everywhere.
    """
    return Rights((*rights.reviews, *(_review(api, n) for n in namespaces)))


def _review(api: Api, namespace: str) -> Review:
    """Ask what is allowed in one namespace.

    In one that does not exist no role is bound: what is allowed there is allowed everywhere.
    """
    where = namespace or f"wwwm-doctor-{secrets.token_hex(4)}"
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": where},
    }
    answer = api.call("POST", _PATH, body)
    if not answer.ok:
        return Review(namespace, reason=answer.reason)
    try:
        status = msgspec.json.decode(answer.body, type=_Answer).status
    except msgspec.DecodeError as error:
        return Review(namespace, reason=f"a review of an unexpected shape: {error}")
    found = (
        Rule(
            verbs=r.verbs or (),
            groups=r.api_groups or (),
            resources=r.resources or (),
            names=r.resource_names or (),
        )
        for r in status.resource_rules or ()
    )
    kept = tuple(r for r in found if any(r.concerns(*c) for c in _CONCERNS))
    return Review(namespace, kept, incomplete=status.incomplete)


def undecided(rights: Rights, needs: frozenset[Source], scope: Scope) -> tuple[str, ...]:
    """Name the namespaces whose own roles may allow what is not allowed everywhere.

    Args:
        rights: What is allowed everywhere.
        needs: API resources and waves.
        scope: The namespaces that may come into question.
    """
    if not any(r.namespace == "" and not r.incomplete and not r.reason for r in rights.reviews):
        # then a review decides nothing: it may only be tried
        return ()
    found: list[str] = []
    if Wave.NODE in needs:
        found += [n for n in scope.resident if not all(map(rights.permits, entering(n)))]
    if Wave.PROBE_PODS in needs and scope.probes:
        wanted = probing(scope.probes)
        found += [] if all(map(rights.permits, wanted)) else [scope.probes]
    if LOGS in needs:
        found += [n for n in scope.telling if not rights.permits(telling(n))]
    return tuple(dict.fromkeys(found))


def refusal(wanted: Permission, hint: str = "wwwm-doctor rbac prints the role") -> str:
    """Say in one line what is not allowed, and what helps."""
    return f"may not {wanted}; {hint}"


def may_exec(rights: Rights, namespace: str) -> str:
    """Say why pods of a namespace cannot be entered; empty where they can, or may be tried."""
    first = next(iter(entering(namespace)))
    return refusal(first) if rights.permits(first) is False else ""


def may_probe(rights: Rights, namespace: str | None) -> str:
    """Say why no probe pods can be started; empty where they can, or may be tried.

    Without the right to remove them, none is started.

    Args:
        rights: What is known.
        namespace: The one given for them; None where the run makes one of its own.
    """
    wanted = (p for p in probing(namespace or "") if (p.verb, p.resource) not in _HELPFUL)
    missing = rights.missing(wanted)
    if missing is None:
        return ""
    if namespace:
        return refusal(missing, f"wwwm-doctor rbac --probe-namespace {namespace} prints the role")
    return refusal(missing, "give --probe-namespace NAME, or wwwm-doctor rbac prints the role")
