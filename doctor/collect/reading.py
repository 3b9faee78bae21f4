"""Reading the API: what is allowed, then whole kinds, then the ConfigMaps whose names those tell."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import msgspec

from doctor import __version__
from doctor.bundle.schema import SCHEMA, ApiRecord, Bundle, Question, Record, RightsRecord
from doctor.collect.access import learn, refusal, undecided
from doctor.collect.kube import Api, ApiAnswer
from doctor.collect.resources import RESOURCES, Resource, reduce_items
from doctor.collect.rights import Scope, getting, listing
from doctor.evidence.finders import (
    CONFIGMAPS,
    config_keys,
    flannel_daemonsets,
    kube_proxy_daemonset,
)
from doctor.evidence.log_choice import choose_logs
from doctor.evidence.tables import Source
from doctor.evidence.world import World
from doctor.model.rights import Permission, Rights

__all__ = ["Reading", "read_api"]

_WORKERS = 8


class Reading(msgspec.Struct, frozen=True):
    """What was read.

    Args:
        rights: What is allowed, as far as it is known.
        records: Reviews, and objects or why there are none.
    """

    rights: Rights
    records: tuple[Record, ...]


def read_api(api: Api, needs: frozenset[Source], probes: str | None = None) -> Reading:
    """Read what is needed; what is certainly not allowed is not asked for.

    Args:
        api: The API server.
        needs: API resources, and the waves for which rights are wanted.
        probes: The namespace given for probe pods; None where the run makes one.
    """
    anywhere = learn(api, Rights(), ("",))
    wanted = [r for name, r in RESOURCES.items() if name in needs]
    with ThreadPoolExecutor(_WORKERS) as pool:
        listed = tuple(pool.map(lambda r: _list(api, anywhere, r), wanted))
        world = _world(listed)
        rights = learn(api, anywhere, undecided(anywhere, needs, _scope(world, probes)))
        keys = [k for s in CONFIGMAPS if s in needs for k in config_keys(world, s)]
        configured = tuple(pool.map(lambda k: _configmap(api, rights, k), keys))
    reviewed = (RightsRecord(review=r) for r in rights.reviews)
    return Reading(rights, (*reviewed, *listed, *configured))


def _world(records: Iterable[ApiRecord]) -> World:
    """Look at objects while nothing else is known."""
    return World(Bundle(SCHEMA, __version__, "", Question(), tuple(records)))


def _scope(world: World, probes: str | None) -> Scope:
    """Find the namespaces in which pods are entered and started, and logs read."""
    proxy = kube_proxy_daemonset(world)
    found = (*flannel_daemonsets(world), *((proxy,) if proxy else ()))
    resident = tuple(dict.fromkeys(d.namespace for d in found))
    telling = tuple(dict.fromkeys(w.namespace for w in choose_logs(world)))
    return Scope(resident=resident, probes=probes or "", telling=telling)


def _list(api: Api, rights: Rights, resource: Resource) -> ApiRecord:
    """LIST one kind."""
    wanted = listing(resource)
    if rights.permits(wanted) is False:
        return _refused(resource.name, wanted)
    answer, items = api.pages(resource.path)
    return _record(resource.name, resource, wanted, answer, items)


def _configmap(api: Api, rights: Rights, key: str) -> ApiRecord:
    """GET one ConfigMap."""
    name, wanted = f"configmaps/{key}", getting(key)
    if rights.permits(wanted) is False:
        return _refused(name, wanted)
    path = f"/api/v1/namespaces/{wanted.namespace}/configmaps/{wanted.name}"
    answer = api.call("GET", path)
    return _record(name, RESOURCES["configmaps"], wanted, answer, [msgspec.Raw(answer.body)])


def _record(
    name: str,
    resource: Resource,
    wanted: Permission,
    answer: ApiAnswer,
    items: list[msgspec.Raw],
) -> ApiRecord:
    """Keep what is judged of objects, or why there are none."""
    if answer.status == HTTPStatus.FORBIDDEN:
        return _refused(name, wanted)
    empty = msgspec.Raw(b"[]")
    if not answer.ok:
        return ApiRecord(name, empty, status=answer.status, reason=answer.reason)
    try:
        reduced = reduce_items(resource, items)
    except msgspec.DecodeError as error:
        return ApiRecord(name, empty, status=0, reason=f"an object of an unexpected shape: {error}")
    return ApiRecord(name, msgspec.Raw(msgspec.json.encode(reduced)))


def _refused(name: str, wanted: Permission) -> ApiRecord:
    """Write down that something is not allowed, whether the API server was asked or knew before."""
    empty = msgspec.Raw(b"[]")
    return ApiRecord(name, empty, status=HTTPStatus.FORBIDDEN, reason=refusal(wanted))
