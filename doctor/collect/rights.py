"""Rights: what gathering evidence needs of the API server, as permissions and as roles. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from doctor.collect.resources import RESOURCES, Resource
from doctor.evidence.finders import CONFIGMAPS
from doctor.evidence.tables import LOGS, TABLES, Source, Wave
from doctor.model.rights import Permission, Review, Rights, Role, Rule, Tier

__all__ = [
    "EVERYTHING",
    "Scope",
    "entering",
    "getting",
    "listing",
    "permissions",
    "probing",
    "roles",
    "telling",
    "tier_of",
]

EVERYTHING: frozenset[Source] = frozenset(s for t in TABLES.values() for s in t.sources)
"""All sources of evidence."""

_WAVES = {
    Wave.NODE: Tier.EXEC,
    Wave.PROBE_PODS: Tier.PROBE,
    # What follows is sent from this machine, or from where the two above lead to.
    Wave.MESH: Tier.READ,
    Wave.DNS: Tier.READ,
    Wave.WEBHOOK: Tier.READ,
    Wave.SERVICE_IP: Tier.READ,
    Wave.BACKEND: Tier.READ,
    Wave.VIP: Tier.READ,
    Wave.INGRESS: Tier.READ,
    Wave.TARGET: Tier.READ,
    Wave.PROXY: Tier.READ,
    Wave.EGRESS: Tier.READ,
}
"""The tier that each wave needs by itself. None is left out, so that none needs what no role grants."""

_FALLBACK = "default"
_NAMESPACE_VERBS = ("create", "get", "list", "delete")
_POD_VERBS = ("create", "get", "list", "delete", "deletecollection")
_EXEC_VERBS = ("get", "create")
"""A WebSocket is opened by GET; from Kubernetes 1.35 on, that takes ``create`` as well."""


class Scope(msgspec.Struct, frozen=True):
    """Where rights are to hold, as far as that is known.

    Args:
        resident: Namespaces of flannel and kube-proxy; empty where they are not known.
        probes: The namespace given for probe pods; empty where each run makes one of its own.
        telling: Namespaces of the pods whose logs are to be read.
    """

    resident: tuple[str, ...] = ()
    probes: str = ""
    telling: tuple[str, ...] = ()


_ANYWHERE = Scope()


def tier_of(sources: Iterable[Source]) -> Tier:
    """Return the least tier that can gather all of these sources.

    Raises:
        LookupError: No right is known for a source.
    """
    return max((_tier(s) for s in sources), key=lambda t: t.rank, default=Tier.READ)


def _tier(source: Source) -> Tier:
    """Return the tier of one source."""
    if isinstance(source, Wave):
        return _WAVES[source]
    if source in RESOURCES or source in CONFIGMAPS or source == LOGS:
        return Tier.READ
    raise LookupError(f"no right is known for the source {source!r}")


def permissions(
    sources: Iterable[Source], tier: Tier, scope: Scope = _ANYWHERE
) -> tuple[Permission, ...]:
    """Return what one tier by itself asks of the API server for some sources.

    Args:
        sources: API resources and waves.
        tier: The tier; what it builds on is not repeated.
        scope: Where.

    Raises:
        LookupError: No right is known for a source.
    """
    needed = {s: _tier(s) for s in sources}
    match tier:
        case Tier.READ:
            # several sources may be one kind, told apart by a selector
            return tuple(dict.fromkeys(_read(frozenset(needed))))
        case Tier.EXEC if tier in needed.values():
            return tuple(p for n in scope.resident or ("",) for p in entering(n))
        case Tier.PROBE if tier in needed.values():
            return tuple(probing(scope.probes))
        case _:
            # A pod on a host's network is the same object, in a namespace with another label.
            return ()


def _read(sources: frozenset[Source]) -> Iterator[Permission]:
    """LIST whole kinds, GET single ConfigMaps and the ends of logs."""
    for name, resource in RESOURCES.items():
        if name in sources:
            yield listing(resource)
    for source, name in CONFIGMAPS.items():
        if source in sources:
            yield Permission("get", "", "configmaps", name=name)
    if LOGS in sources:
        yield telling("")


def listing(resource: Resource) -> Permission:
    """Return what a LIST takes; its path is ``/apis/GROUP/VERSION/PLURAL`` or ``/api/v1/PLURAL``."""
    parts = resource.path.partition("?")[0].strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    return Permission("list", group, parts[-1])


def getting(key: str) -> Permission:
    """Return what the GET of a ConfigMap takes, by its ``namespace/name``."""
    namespace, _, name = key.partition("/")
    return Permission("get", "", "configmaps", namespace, name)


def telling(namespace: str) -> Permission:
    """Return what reading a log takes; without a namespace, any pod's."""
    return Permission("get", "", "pods/log", namespace)


def entering(namespace: str) -> Iterator[Permission]:
    """Yield what entering a pod takes; without a namespace, any pod."""
    for verb in _EXEC_VERBS:
        yield Permission(verb, "", "pods/exec", namespace)


def probing(namespace: str) -> Iterator[Permission]:
    """Yield what probe pods take: to start, watch, enter and remove them, and what killed runs left.

    Args:
        namespace: The one they are to run in; empty where each run makes one of its own, whose
            name nobody knows beforehand.
    """
    if not namespace:
        for verb in _NAMESPACE_VERBS:
            yield Permission(verb, "", "namespaces")
        # Where a namespace could not be removed again, this one has to do, if none is in force.
        yield Permission("list", "networking.k8s.io", "networkpolicies", _FALLBACK)
        # Whether a node has just turned NotReady: without it, its pod is waited for a bit longer.
        yield Permission("get", "", "nodes")
    for verb in _POD_VERBS:
        yield Permission(verb, "", "pods", namespace)
    yield Permission("list", "", "events", namespace)
    yield from entering(namespace)


def roles(sources: Iterable[Source], tier: Tier, scope: Scope = _ANYWHERE) -> tuple[Role, ...]:
    """Return the roles of a tier and of those that it builds on: nothing twice, nothing to spare.

    Args:
        sources: API resources and waves.
        tier: The highest tier wanted.
        scope: Where.

    Raises:
        LookupError: No right is known for a source.
    """
    wanted = frozenset(sources)
    made: list[Role] = []
    for each in tier.up_to:
        granted = Rights(tuple(Review(r.namespace, r.rules) for r in made))
        new = [p for p in permissions(wanted, each, scope) if not granted.permits(p)]
        by_namespace: dict[str, list[Permission]] = {}
        for p in new:
            by_namespace.setdefault(p.namespace, []).append(p)
        made += [Role(each, _rules(these), where) for where, these in by_namespace.items()]
    return tuple(made)


def _rules(wanted: Iterable[Permission]) -> tuple[Rule, ...]:
    """Fold permissions into as few rules as allow them and nothing else."""
    verbs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for p in wanted:
        verbs[p.group, p.resource, p.name].append(p.verb)
    names: dict[tuple[str, str, tuple[str, ...], bool], list[str]] = defaultdict(list)
    for (group, resource, name), found in verbs.items():
        names[group, resource, tuple(found), bool(name)].append(name)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, some, named), these in names.items():
        resources[group, some, tuple(these) if named else ()].append(resource)
    return tuple(
        Rule(verbs=some, groups=(group,), resources=tuple(alike), names=these)
        for (group, some, these), alike in resources.items()
    )
