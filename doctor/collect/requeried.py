"""A second look at queries that lead to nobody: only those that go on are somebody's trouble."""

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from doctor.bundle.schema import GapRecord, NodeRecord, Record
from doctor.collect.node_script import node_script, read_outputs
from doctor.collect.shells import Shell
from doctor.evidence.finders import coredns_service
from doctor.evidence.node_facts import QUERIES, QUERIES_LATER
from doctor.evidence.tables import Tables
from doctor.evidence.world import World
from doctor.model.evidence import StaleQueries
from doctor.model.verdict import Gap

__all__ = ["look_again", "queried"]

_SECONDS = 6.0
_MOST_BYTES = 65536
_MOST_NODES = 8
_WORKERS = 8


def queried(world: World) -> str:
    """Return the address of the DNS Service; empty where there is none."""
    service = coredns_service(world)
    return service.spec.cluster_ip if service else ""


def look_again(shells: Mapping[str, Shell], tables: Tables) -> Iterator[Record]:
    """Read once more what some nodes track, where it led to nobody the first time.

    Args:
        shells: Where nodes can be entered.
        tables: What was seen so far.
    """
    table = tables.get(StaleQueries)
    nodes = [n for n in dict.fromkeys(i.node for i in table.items) if n in shells]
    if not nodes:
        return
    with ThreadPoolExecutor(_WORKERS) as pool:
        yield from pool.map(lambda n: _read(shells[n], table.server), nodes[:_MOST_NODES])


def _read(shell: Shell, server: str) -> Record:
    """Read it on one node."""
    mark = f"@@{secrets.token_hex(8)}"
    script = node_script(mark, _MOST_BYTES, server, later=True)
    answer = shell.run(script, _SECONDS)
    outputs = read_outputs(answer.stdout, mark, _MOST_BYTES)
    found = [o for o in outputs if o.name == QUERIES]
    if answer.reason or not found:
        needs = f"a second look at connection tracking's table of node {shell.vantage.node}"
        gap = Gap(needs=needs, reason=answer.reason or "nothing was printed", essential=False)
        return GapRecord(gap=gap, tables=("StaleQueries",))
    named = tuple(msgspec.structs.replace(o, name=QUERIES_LATER) for o in found)
    return NodeRecord(node=shell.vantage.node, via=shell.via, outputs=named)
