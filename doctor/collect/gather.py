"""A whole run: read the API, enter nodes, start probe pods, send probes, write it all down."""

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from doctor import __version__
from doctor.bundle.schema import (
    SCHEMA,
    ApiRecord,
    Bundle,
    FlowRecord,
    GapRecord,
    ProbePodRecord,
    ProxyRecord,
    Question,
    Record,
)
from doctor.collect.flows import Stage, plan, plan_egress, plan_targets, plan_upstreams
from doctor.collect.host_proxy import find_proxy, is_local
from doctor.collect.kube import Api, ApiAnswer
from doctor.collect.node_facts import most_bytes, read_node
from doctor.collect.probe_pods import choose_image, probe_pods
from doctor.collect.resources import RESOURCES, Resource, reduce_items
from doctor.collect.shells import Shell
from doctor.collect.stations import measure, node_shells, pod_shells
from doctor.evidence.finders import (
    coredns_service,
    flannel_config_keys,
    kube_proxy_daemonset,
)
from doctor.evidence.tables import Source, Tables, Wave
from doctor.evidence.world import World
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.target import parse_target
from doctor.model.verdict import Gap
from doctor.probe.machine import observe

__all__ = ["Options", "gather"]

_WORKERS = 8
_POD_TABLES = ("ProbePods", "Mesh", "DnsFlows", "ServiceIpFlows", "BackendFlows", "EgressFlows")
_NODE_TABLES = (*_POD_TABLES[1:], "NodeNetworks", "WebhookFlows", "IngressFlows", "VipFlows")
_MEASURED = (*_POD_TABLES, "NodeNetworks", "WebhookFlows", "IngressFlows", "VipFlows")


class Options(msgspec.Struct, frozen=True):
    """What the user allows.

    Args:
        probing: Whether to enter pods and to start probe pods.
        probe_image: The image for probe pods, None to choose one per node.
        note: Called with a line on progress.
        warn: Called with a line on what must not be missed.
    """

    probing: bool = True
    probe_image: str | None = None
    note: Callable[[str], None] = lambda _line: None
    warn: Callable[[str], None] = lambda _line: None


class _Run:
    """The state of one run: records, in the order in which they were made."""

    def __init__(self, api: Api, question: Question, needs: frozenset[Source], o: Options) -> None:
        self.api = api
        self.question = question
        self.needs = needs
        self.options = o
        self.records: list[Record] = []
        self.created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._started = time.monotonic()

    def bundle(self) -> Bundle:
        """Return what was gathered so far."""
        return Bundle(
            schema=SCHEMA,
            tool=__version__,
            created=self.created,
            question=self.question,
            records=tuple(self.records),
            seconds=round(time.monotonic() - self._started, 2),
            api_requests=self.api.requests,
        )

    def tables(self) -> Tables:
        """Look at what was gathered so far."""
        return Tables(self.bundle())

    def gap(
        self, needs: str, reason: str, tables: Iterable[str], *, essential: bool = True
    ) -> None:
        """Write down what could not be looked at."""
        gap = Gap(needs=needs, reason=reason, essential=essential)
        self.records.append(GapRecord(gap=gap, tables=tuple(tables)))

    def seen(self, observations: Iterable[Observation]) -> None:
        """Write down observations."""
        self.records.extend(FlowRecord(observation=o) for o in observations)


def gather(api: Api, question: Question, needs: frozenset[Source], options: Options) -> Bundle:
    """Gather what is needed, and no more.

    Args:
        api: The API server.
        question: What is asked.
        needs: API resources and waves.
        options: What the user allows.
    """
    run = _Run(api, question, needs, options)
    options.note("reading the API")
    _read_api(run)
    with ThreadPoolExecutor(1) as aside:
        visiting = aside.submit(_visit, run.tables(), needs)
        if options.probing:
            _probe(run)
        elif any(isinstance(n, Wave) for n in needs):
            run.gap("probes inside the cluster", "probing is switched off (--no-probe)", _MEASURED)
        run.records.extend(visiting.result())
    return run.bundle()


def _read_api(run: _Run) -> None:
    """LIST what is needed, then the ConfigMaps whose names depend on it."""
    wanted = [r for name, r in RESOURCES.items() if name in run.needs]
    with ThreadPoolExecutor(_WORKERS) as pool:
        run.records.extend(pool.map(lambda r: _list(run.api, r), wanted))
        world = World(run.bundle())
        keys: list[str] = []
        if "configmaps:flannel" in run.needs:
            keys += flannel_config_keys(world)
        proxy = kube_proxy_daemonset(world) if "configmaps:kube-proxy" in run.needs else None
        if proxy:
            keys.append(f"{proxy.namespace}/kube-proxy")
        service = coredns_service(world) if "configmaps:coredns" in run.needs else None
        if service:
            keys.append(f"{service.namespace}/coredns")
        run.records.extend(pool.map(lambda k: _configmap(run.api, k), keys))


def _list(api: Api, resource: Resource) -> ApiRecord:
    """LIST one kind."""
    answer, items = api.pages(resource.path)
    return _record(resource.name, resource, answer, items)


def _configmap(api: Api, key: str) -> ApiRecord:
    """GET one ConfigMap."""
    namespace, _, name = key.partition("/")
    answer = api.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    items = [msgspec.Raw(answer.body)]
    return _record(f"configmaps/{key}", RESOURCES["configmaps"], answer, items)


def _record(
    name: str, resource: Resource, answer: ApiAnswer, items: list[msgspec.Raw]
) -> ApiRecord:
    """Keep what is judged of objects, or why there are none."""
    empty = msgspec.Raw(b"[]")
    if not answer.ok:
        return ApiRecord(name, empty, status=answer.status, reason=answer.reason)
    try:
        reduced = reduce_items(resource, items)
    except msgspec.DecodeError as error:
        return ApiRecord(name, empty, status=0, reason=f"an object of an unexpected shape: {error}")
    return ApiRecord(name, msgspec.Raw(msgspec.json.encode(reduced)))


def _visit(tables: Tables, needs: frozenset[Source]) -> list[Record]:
    """Do what a visitor of the site does, from this machine; look at a proxy that stands here."""
    if Wave.TARGET not in needs:
        return []
    records: list[Record] = []
    given = tables.world.bundle.question.targets
    resolved: dict[str, tuple[str, ...]] = {}
    for target in given:
        seen = observe(_resolve(target.host, target.url))
        records.append(FlowRecord(observation=seen))
        resolved[target.host] = seen.answers
    flows = plan_targets(tables, resolved)
    local = [f for f in flows if given and is_local(f.address)]
    proxy = find_proxy(local[0].port) if local and Wave.PROXY in needs else None
    if proxy:
        records.append(proxy)
    upstreams = _upstreams(proxy, {parse_target(f.subject).host for f in local})
    if Wave.PROXY in needs:
        flows += plan_upstreams(tables, flows, upstreams)
    with ThreadPoolExecutor(_WORKERS) as pool:
        records.extend(FlowRecord(observation=o) for o in pool.map(observe, flows))
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


def _upstreams(proxy: ProxyRecord | None, hosts: set[str]) -> tuple[tuple[str, int], ...]:
    """Return where the proxy forwards requests for these hosts; by address only."""
    if proxy is None or proxy.proxy is None:
        return ()
    servers = [s for s in proxy.proxy.servers if s.upstream_host]
    chosen = [s for s in servers if hosts & set(s.names)] or servers
    found: dict[tuple[str, int], None] = {}
    for server in chosen[:4]:
        seen = observe(_resolve(server.upstream_host, server.upstream_host))
        found.update({(a, server.upstream_port): None for a in seen.answers[:2]})
    return tuple(found)


def _probe(run: _Run) -> None:
    """Measure inside the cluster."""
    world = World(run.bundle())
    entered = node_shells(run.api, world) if Wave.NODE in run.needs else {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        # nodes are read while the probe pods start
        most = most_bytes(len(entered))
        reading = pool.map(lambda shell: read_node(shell, most), entered.values())
        with _pods(run, world) as pods:
            run.records.extend(reading)
            _note_missing(run, world, entered, pods)
            _send(run, entered, pods)


def _send(run: _Run, entered: dict[str, Shell], pods: dict[str, Shell]) -> None:
    """Send the probes that what is known by now calls for."""
    shells = {s.vantage: s for s in (*entered.values(), *pods.values())}
    stage = Stage(tables=run.tables(), nodes=tuple(entered), pods=tuple(pods), waves=run.needs)
    run.options.note("sending probes")
    seen = _measure(run, shells, plan(stage))
    _measure(run, shells, plan_egress(stage, seen))


def _measure(run: _Run, shells: dict[Vantage, Shell], flows: tuple[Flow, ...]) -> list[Observation]:
    """Carry out flows: those of this machine here, the others by the relay."""
    here = [f for f in flows if f.vantage.kind is VantageKind.MACHINE]
    there = tuple(f for f in flows if f.vantage.kind is not VantageKind.MACHINE)
    with ThreadPoolExecutor(_WORKERS) as pool:
        own = pool.submit(lambda: list(pool.map(observe, here)))
        seen, gaps = measure(shells, there, run.options.note)
        seen = [*seen, *own.result()]
    run.seen(seen)
    for gap in gaps:
        run.gap(gap.needs, gap.reason, _MEASURED, essential=gap.essential)
    return seen


@contextlib.contextmanager
def _pods(run: _Run, world: World) -> Iterator[dict[str, Shell]]:
    """Start probe pods, and remove them in the end."""
    if Wave.PROBE_PODS not in run.needs:
        yield {}
        return
    ready = [n for n in world.linux if n.ready]
    images = {n.name: choose_image(world, n, run.options.probe_image) for n in ready}
    with probe_pods(run.api, world, images, run.options.note, run.options.warn) as started:
        run.records.extend(started.records)
        yield pod_shells(run.api, started)


def _note_missing(
    run: _Run, world: World, entered: dict[str, Shell], pods: dict[str, Shell]
) -> None:
    """Write down which vantages are missing, and why."""
    reasons = {r.node: r.reason for r in run.records if isinstance(r, ProbePodRecord) and r.reason}
    for node in world.linux:
        if Wave.PROBE_PODS in run.needs and node.name not in pods:
            reason = reasons.get(node.name, "the node is not Ready")
            run.gap(f"a probe pod on {node.name}", reason, _POD_TABLES)
        if Wave.NODE in run.needs and node.name not in entered:
            reason = "no ready kube-flannel pod there to enter"
            essential = node.control_plane
            run.gap(f"entering node {node.name}", reason, _NODE_TABLES, essential=essential)
