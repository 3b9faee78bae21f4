"""What a visitor of the site does, from this machine; and what the proxy in front of it does."""

import shlex
from collections.abc import Iterable

import msgspec

from doctor.bundle.schema import FlowRecord, ProxyRecord, Record
from doctor.collect.flows_site import (
    left_out,
    not_asked,
    plan_handshakes,
    plan_names,
    plan_targets,
    plan_upstreams,
)
from doctor.collect.here import observe_all
from doctor.collect.proxy_host import find_proxy
from doctor.collect.shells import LocalShell, Shell, SshShell
from doctor.collect.stations import measure, unseen
from doctor.evidence.tables import Source, Tables, Wave
from doctor.model.address import is_address, is_ipv4
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.model.target import parse_target
from doctor.probe.machine import resolvers
from doctor.probe.route import is_local

__all__ = ["Places", "visit"]

_LOOK_UP_SECONDS = 5
_MOST_SERVERS = 4
_MOST_ADDRESSES = 2


class Places(msgspec.Struct, frozen=True):
    """Where a reverse proxy can stand.

    Args:
        here: This machine.
        proxy: The proxy host, if one was named.
    """

    here: LocalShell
    proxy: SshShell | None = None

    @property
    def outside(self) -> tuple[Vantage, ...]:
        """The vantages outside the cluster."""
        return (self.here.vantage, *((self.proxy.vantage,) if self.proxy else ()))


def visit(tables: Tables, needs: frozenset[Source], places: Places) -> list[Record]:
    """Ask for each URL as a visitor does, and look at the reverse proxy in front of the cluster.

    Args:
        tables: Evidence so far: Ingresses, load balancers.
        needs: What is wanted.
        places: Where the proxy can stand.
    """
    if Wave.TARGET not in needs:
        return []
    given = tables.world.bundle.question.targets
    deadline = places.here.deadline
    resolving = [_resolve(t.host, t.url) for t in given]
    named, late = observe_all(resolving, deadline)
    addresses = {o.flow.name: tuple(a for a in o.answers if is_ipv4(a)) for o in named}
    flows = plan_targets(tables, addresses)
    unnamed = {o.flow.name for o in named if not o.ok}
    names = plan_names(tuple(t for t in given if t.host in unnamed), resolvers())
    asked, later = observe_all([*flows, *plan_handshakes(flows), *names], deadline)
    seen = [*named, *asked]
    records: list[Record] = [FlowRecord(observation=o) for o in seen]
    records += not_asked(named)
    records += left_out(tables, [Wave.TARGET])
    records += unseen(str(places.here.vantage), ((f, deadline.reason) for f in (*late, *later)))
    if Wave.PROXY in needs and given:
        records += _behind(tables, flows, places)
    return records


def _resolve(host: str, subject: str) -> Flow:
    """Ask this machine's resolver for a host."""
    return Flow(
        id=f"{Purpose.TARGET}:machine>{FlowKind.RESOLVE}:{subject}",
        purpose=Purpose.TARGET,
        vantage=Vantage(VantageKind.MACHINE),
        kind=FlowKind.RESOLVE,
        address="",
        name=host,
        subject=subject,
    )


def _behind(tables: Tables, flows: tuple[Flow, ...], places: Places) -> list[Record]:
    """Read the proxy, and send the same requests past it, from where it stands."""
    through = [f for f in flows if places.proxy or is_local(f.address)]
    found = find_proxy(places.proxy or places.here, through[0].port) if through else None
    shell: Shell = places.proxy or places.here
    upstreams = _upstreams(found, {parse_target(f.subject).host for f in through}, shell)
    past = plan_upstreams(tables, flows, upstreams, shell.vantage)
    return [*([found] if found else []), *_observed(shell, past)]


def _observed(shell: Shell, flows: tuple[Flow, ...]) -> Iterable[Record]:
    """Carry out flows where the proxy stands."""
    if isinstance(shell, LocalShell):
        own, late = observe_all(flows, shell.deadline)
        missing = unseen(str(shell.vantage), ((f, shell.deadline.reason) for f in late))
        return [*(FlowRecord(observation=o) for o in own), *missing]
    seen, missed = measure({shell.vantage: shell}, flows, lambda _line: None)
    return [*(FlowRecord(observation=o) for o in seen), *missed]


def _upstreams(
    proxy: ProxyRecord | None, hosts: set[str], shell: Shell
) -> tuple[tuple[str, int], ...]:
    """Return where the proxy forwards requests for these hosts; by address only."""
    if proxy is None or proxy.proxy is None:
        return ()
    servers = [s for s in proxy.proxy.servers if s.upstream_host]
    chosen = [s for s in servers if hosts & set(s.names)] or servers
    found: dict[tuple[str, int], None] = {}
    for server in chosen[:_MOST_SERVERS]:
        addresses = _addresses(server.upstream_host, shell)[:_MOST_ADDRESSES]
        found.update({(a, server.upstream_port): None for a in addresses})
    return tuple(found)


def _addresses(host: str, shell: Shell) -> tuple[str, ...]:
    """Resolve a host as the proxy's own machine does."""
    if isinstance(shell, LocalShell):
        seen, _ = observe_all([_resolve(host, host)], shell.deadline)
        return tuple(a for o in seen for a in o.answers if is_ipv4(a))
    said = shell.run(f"getent ahostsv4 -- {shlex.quote(host)}", _LOOK_UP_SECONDS)
    words = (line.split()[0] for line in said.stdout.splitlines() if line.split())
    return tuple(dict.fromkeys(w for w in words if is_address(w)))
