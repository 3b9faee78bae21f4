"""What a bundle holds for an evidence id that a finding cites."""

from collections.abc import Iterator
from difflib import get_close_matches

import msgspec

from doctor.bundle.schema import (
    ApiRecord,
    FlowRecord,
    LogRecord,
    NodeRecord,
    ProbePodRecord,
    ProxyRecord,
    ResolverRecord,
)
from doctor.evidence.node_facts import node_network
from doctor.evidence.tables import Tables
from doctor.model.flow import Observation
from doctor.model.node import NodeNetwork
from doctor.model.proxy import HostProxy

__all__ = ["Found", "Held", "closest", "look_up"]

_CLOSEST = 3
_MOST_NAMES = 20_000


class Held(msgspec.Struct, frozen=True):
    """An object of the API, or why there is none.

    Args:
        resource: What was asked for.
        status: The HTTP status.
        reason: Why nothing came; empty on success.
        count: How many objects came.
        objects: Those that the id means, as they were kept.
        names: The names of all, where the id means the whole list.
    """

    resource: str
    status: int
    reason: str
    count: int
    objects: tuple[msgspec.Raw, ...] = ()
    names: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """All that a bundle holds for one evidence id.

    Args:
        id: The id.
        observation: A flow's outcome, with its predicted hops.
        held: What the API said.
        nodes: What was read inside a node.
        network: What was made of that.
        probe_pods: What became of a probe pod.
        proxies: What was seen of the reverse proxy.
        logs: The last words of a container.
        resolvers: The resolv.conf of a probe pod.
    """

    id: str
    observation: Observation | None = None
    held: tuple[Held, ...] = ()
    nodes: tuple[NodeRecord, ...] = ()
    network: NodeNetwork | None = None
    probe_pods: tuple[ProbePodRecord, ...] = ()
    proxies: tuple[ProxyRecord, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    resolvers: tuple[ResolverRecord, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    """The part of an object's metadata that tells it from others."""

    name: str = ""
    namespace: str = ""


class _Named(msgspec.Struct, frozen=True):
    """Any object."""

    metadata: _Meta = _Meta()

    @property
    def key(self) -> str:
        """``namespace/name``, or the name alone."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def look_up(tables: Tables, id_: str, *, cited: bool) -> Found | None:
    """Return all that a bundle holds for an id; None where it holds nothing.

    Args:
        tables: The bundle's tables.
        id_: The id.
        cited: Whether a finding cites it: an object that is in no list then is missing, and that is
            the evidence; else the id is a wrong one.
    """
    kind, _, rest = id_.partition(":")
    match kind:
        case "api":
            held = tuple(_held(tables, rest))
            known = [h for h in held if h.objects or h.names or h.reason]
            return Found(id_, held=tuple(known) or held) if known or (cited and held) else None
        case "node":
            records = tuple(r for r in tables.world.of(NodeRecord) if r.node == rest)
            read = node_network(records) if any(r.outputs for r in records) else None
            return Found(id_, nodes=records, network=read) if records else None
        case "log" | "resolv.conf":
            logs = tuple(r for r in tables.world.of(LogRecord) if r.log.evidence == id_)
            confs = tuple(
                r for r in tables.world.of(ResolverRecord) if kind != "log" and r.node == rest
            )
            return Found(id_, logs=logs, resolvers=confs) if logs or confs else None
        case "probe-pod":
            pods = tuple(r for r in tables.world.of(ProbePodRecord) if r.node == rest)
            return Found(id_, probe_pods=pods) if pods else None
        case "proxy":
            proxies = tuple(r for r in tables.world.of(ProxyRecord) if _is(r.proxy, id_))
            return Found(id_, proxies=proxies) if proxies else None
        case _:
            seen = next((o for o in tables.observations() if o.flow.id == id_), None)
            return Found(id_, observation=seen) if seen else None


def _is(proxy: HostProxy | None, id_: str) -> bool:
    """Say whether this is the proxy that an id means; one of which nothing is known has none."""
    return proxy is None or proxy.evidence == id_


def _lists(tables: Tables, kind: str) -> Iterator[ApiRecord]:
    """Return the answers of the API about one kind: ``events`` are asked for in several ways."""
    for record in tables.world.of(ApiRecord):
        if record.resource.partition("/")[0].partition(":")[0] == kind:
            yield record


def _held(tables: Tables, rest: str) -> Iterator[Held]:
    """Look for ``resource``, ``resource/name``, ``resource/namespace`` or the whole key."""
    kind, _, key = rest.partition("/")
    for record in _lists(tables, kind):
        items = msgspec.json.decode(record.items, type=list[msgspec.Raw])
        keys = [msgspec.json.decode(i, type=_Named).key for i in items]
        meant = tuple(i for i, k in zip(items, keys, strict=True) if _means(key, k))
        yield Held(
            resource=record.resource,
            status=record.status,
            reason=record.reason,
            count=len(items),
            objects=meant if key else (),
            names=() if key else tuple(keys) or ("none",),
        )


def _means(wanted: str, key: str) -> bool:
    """Say whether a key is the one wanted, or lies in the namespace that is."""
    return wanted == key or ("/" not in wanted and key.startswith(f"{wanted}/"))


def closest(tables: Tables, id_: str, cited: frozenset[str]) -> tuple[str, ...]:
    """Return the ids that a wrong one may have meant, the likeliest first."""
    known = [*sorted(cited), *(r.observation.flow.id for r in tables.world.of(FlowRecord))]
    known += [f"node:{r.node}" for r in tables.world.of(NodeRecord)]
    known += [f"probe-pod:{r.node}" for r in tables.world.of(ProbePodRecord)]
    known += [f"resolv.conf:{r.node}" for r in tables.world.of(ResolverRecord)]
    known += [r.log.evidence for r in tables.world.of(LogRecord)]
    if id_.startswith("api:"):
        known += _object_ids(tables, id_.removeprefix("api:").partition("/")[0])
    return tuple(get_close_matches(id_, dict.fromkeys(known), n=_CLOSEST, cutoff=0.5))


def _object_ids(tables: Tables, kind: str) -> list[str]:
    """List the ids of the objects of a kind; of very many only some."""
    found: list[str] = []
    for record in _lists(tables, kind):
        items = msgspec.json.decode(record.items, type=list[_Named])
        found += [f"api:{kind}/{i.key}" for i in items[:_MOST_NAMES]]
    return found
