"""Builder of what nodes track of queries that lead to nobody."""

from collections.abc import Iterator

from doctor.evidence.finders import coredns_service
from doctor.evidence.world import World
from doctor.model.evidence import NodeNetworks, StaleQueries, StaleQuery
from doctor.model.kube import EndpointSlice, Pod
from doctor.model.node import NodeNetwork
from doctor.model.node_state import TrackedQueries, TrackedQuery
from doctor.model.resolver import DNS_PORT
from doctor.model.verdict import Gap

__all__ = ["stale_queries"]

_SLACK = 1.0
"""Seconds are told in whole numbers, and are not read all at one time."""


def stale_queries(world: World, networks: NodeNetworks) -> StaleQueries:
    """Build the table.

    Args:
        world: Objects.
        networks: What was read inside the nodes.
    """
    service = coredns_service(world)
    server = service.spec.cluster_ip if service else ""
    pods = {p.status.pod_ip: p for p in world.pods if p.status.pod_ip}
    known = {
        *pods,
        *(e for s in world.slices.get(service.key if service else "", ()) for e in _all(s)),
    }
    read = tuple(n for n in networks.items if n.queries is not None)
    lacking = [n.node for n in networks.items if n.queries is None] if server else []
    return StaleQueries(
        gaps=(
            *world.gaps("pods", "services", "endpointslices"),
            *world.table_gaps("StaleQueries"),
            *(g for g in networks.gaps if g.essential),
            *(
                Gap(
                    needs=f"connection tracking's table of node {n}",
                    reason="its kernel does not show it, or it was not read",
                    essential=not read,
                )
                for n in lacking
            ),
        ),
        absent=world.nodeless,
        items=tuple(
            item for n in read for item in _of(n, server, frozenset(known), pods) if world.pods
        ),
        server=server,
        nodes=tuple(n.node for n in read),
    )


def _all(item: EndpointSlice) -> Iterator[str]:
    """Yield the addresses of a slice."""
    for endpoint in item.endpoints or ():
        yield from endpoint.addresses


def _of(
    read: NodeNetwork, server: str, known: frozenset[str], pods: dict[str, Pod]
) -> Iterator[StaleQuery]:
    """Yield the entries of a node that lead to nobody, where its rules lead to somebody.

    While kube-proxy has not written rules for what runs now, it is kube-proxy that is late.
    """
    entry = read.service(server, "udp", DNS_PORT)
    ruled = {e.rpartition(":")[0] for e in entry.endpoints} if entry else set()
    if not ruled or not ruled <= known:
        return
    for query in read.queries.items if read.queries else ():
        if query.replier in known:
            continue
        pod = pods.get(query.client)
        own = pod.key if pod and not pod.spec.host_network else ""
        yield StaleQuery(
            node=read.node,
            client=query.client,
            port=query.port,
            replier=query.replier,
            seconds=query.seconds,
            pod=own,
            kept=_kept(query, read.queries, read.queries_later),
            evidence=read.evidence,
        )


def _kept(query: TrackedQuery, first: TrackedQueries | None, later: TrackedQueries | None) -> bool:
    """Say whether an entry lives longer than it could without a further query."""
    if first is None or later is None:
        return False
    same = (query.client, query.port, query.replier)
    found = (q for q in later.items if (q.client, q.port, q.replier) == same)
    left = query.seconds - (later.at - first.at) + _SLACK
    return later.at - first.at > 2 * _SLACK and any(q.seconds > left for q in found)
