"""A whole run: read the API, enter nodes, start probe pods, send probes, write it all down."""

import datetime as dt
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

import msgspec

from doctor import __version__
from doctor.bundle.schema import (
    SCHEMA,
    Bundle,
    FlowRecord,
    GapRecord,
    NodeRecord,
    Question,
    Record,
)
from doctor.collect.access import may_exec, may_probe
from doctor.collect.counting import count, rounds
from doctor.collect.flow import MACHINE, Stage
from doctor.collect.flows import plan
from doctor.collect.flows_deciding import plan_deciding
from doctor.collect.flows_egress import plan_egress
from doctor.collect.flows_resolving import plan_resolvers
from doctor.collect.flows_site import left_out, plan_traces
from doctor.collect.here import observe_all
from doctor.collect.kube import Api
from doctor.collect.logs import read_logs
from doctor.collect.node_facts import most_bytes, read_by_kube_proxy, read_node
from doctor.collect.probe_pods import ProbePodSet, Wish, use_probe_pods
from doctor.collect.reading import read_api
from doctor.collect.requeried import look_again, queried
from doctor.collect.shells import LocalShell, PodShell, Shell, SshShell
from doctor.collect.stations import measure, node_shells, pod_shells, unseen
from doctor.collect.visit import Places, visit
from doctor.evidence.log_choice import choose_logs
from doctor.evidence.proxying import kube_proxy
from doctor.evidence.tables import LOGS, Source, Tables, Wave
from doctor.evidence.topology import overlay
from doctor.evidence.world import World
from doctor.model.flow import Flow, FlowKind, Observation, Vantage, VantageKind
from doctor.model.kube import Pod
from doctor.model.rights import Rights
from doctor.model.verdict import Gap
from doctor.probe.packet_child import observe_packets
from doctor.probe.route import interface_towards, is_local

__all__ = ["Options", "gather"]

_WORKERS = 8
_RAW = (FlowKind.ARP, FlowKind.PING, FlowKind.TRACE)
_PACKET_SECONDS = 15.0
_READ_FIRST_SECONDS = 2.0
_MOST_NODES = 8
_MOST_ASKED = 64
_NONCES = 1 << 24
_POD_TABLES = (
    "ProbePods",
    "Mesh",
    "Pings",
    "DnsFlows",
    "Upstreams",
    "Resolvers",
    "ServiceIpFlows",
    "BackendFlows",
    "EgressFlows",
)
_NODE_TABLES = (
    *_POD_TABLES[1:],
    "NodeNetworks",
    "WebhookFlows",
    "WebhookCertificates",
    "IngressFlows",
    "VipFlows",
)
_MEASURED = tuple(dict.fromkeys((*_POD_TABLES, *_NODE_TABLES)))


class Options(msgspec.Struct, frozen=True):
    """What the user allows.

    Args:
        probing: Whether to enter pods and to start probe pods.
        probe_image: The image for probe pods, None to choose one per node.
        proxy_host: What ssh calls the host with the reverse proxy; None for this machine.
        sudo: Whether sudo may be used for what only root can see or send.
        probe_namespace: An existing namespace for probe pods, None for one of the run's own.
        host_probe: Whether to start a probe pod in a node's own network where no resident pod can
            be entered.
        note: Called with a line on progress.
        warn: Called with a line on what must not be missed.
    """

    probing: bool = True
    probe_image: str | None = None
    proxy_host: str | None = None
    sudo: bool = False
    probe_namespace: str | None = None
    host_probe: bool = False
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
        self.rights = Rights()
        self.created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._started = time.monotonic()
        here = LocalShell(deadline=api.deadline, sudo=o.sudo)
        away = SshShell(o.proxy_host, api.deadline, o.sudo) if o.proxy_host else None
        self.places = Places(here, away)

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

    def world(self) -> World:
        """Look at the objects that were read so far."""
        return World(self.bundle())

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
    wished = choose_logs(run.world()) if LOGS in needs else ()
    with ThreadPoolExecutor(2) as aside:
        try:
            said = [w for w in wished if not w.seconds]
            failing = aside.submit(read_logs, api, run.rights, said)
            visiting = aside.submit(visit, run.tables(), needs, run.places)
            if options.probing:
                _probe(run)
            elif any(isinstance(n, Wave) for n in needs):
                reason = "probing is switched off (--no-probe)"
                run.gap("probes inside the cluster", reason, _MEASURED)
            run.records.extend(failing.result())
            run.records.extend(read_logs(api, run.rights, [w for w in wished if w.seconds]))
            run.records.extend(visiting.result())
            _trace(run)
        except BaseException:
            # whoever still waits in another thread would hold up the end
            api.deadline.cut()
            raise
    return run.bundle()


def _read_api(run: _Run) -> None:
    """Read objects, and learn what else is allowed."""
    asked = run.needs if run.options.probing else frozenset(run.needs) - frozenset(Wave)
    read = read_api(run.api, asked, run.options.probe_namespace)
    run.rights = read.rights
    run.records.extend(read.records)


def _probe(run: _Run) -> None:
    """Measure inside the cluster."""
    world = run.world()
    found = node_shells(run.api, world) if Wave.NODE in run.needs else {}
    denied = _denied(run, found)
    entered: dict[str, Shell] = {n: s for n, s in found.items() if n not in denied.nodes}
    with ThreadPoolExecutor(_WORKERS) as pool:
        most, server = most_bytes(len(entered)), queried(world)
        reading = [pool.submit(read_node, s, most, server) for s in entered.values()]

        def measure_with(started: ProbePodSet) -> None:
            pods = pod_shells(run.api, started)
            hosts = pod_shells(run.api, started, host=True)
            run.records.extend(started.records)
            run.records.extend(r.result() for r in reading)
            run.records.extend(pool.map(lambda s: read_node(s, most, server), hosts.values()))
            everywhere = {**entered, **hosts}
            bare = [p for p in _kube_proxies(run, world) if p.node not in everywhere]
            run.records.extend(pool.map(lambda p: _rules(run.api, p, most), bare))
            _note_missing(run, world, everywhere, started, denied)
            _send(run, everywhere, pods)

        if denied.pods:
            measure_with(ProbePodSet())
        else:
            # the network plugin of a pod that starts mends the bridge that it finds
            wait(reading, timeout=run.api.deadline.bound(_READ_FIRST_SECONDS))
            _pods(run, world, entered, measure_with)


def _kube_proxies(run: _Run, world: World) -> tuple[Pod, ...]:
    """Return the pods of kube-proxy that may be entered, for the rules of their nodes."""
    found = kube_proxy(world).pods if Wave.NODE in run.needs else ()
    return tuple(
        p for p in found if p.ready and p.spec.containers and not may_exec(run.rights, p.namespace)
    )


def _rules(api: Api, pod: Pod, most: int) -> NodeRecord:
    """Read a node's rules by the programs that kube-proxy brings along."""
    container = pod.spec.containers[0].name
    return read_by_kube_proxy(api, pod.namespace, pod.name, container, pod.node, most)


class _Denied(msgspec.Struct, frozen=True):
    """What is certainly not allowed.

    Args:
        nodes: Nodes whose resident pod may not be entered.
        pods: Why no probe pod may be started; empty where they may.
    """

    nodes: frozenset[str] = frozenset()
    pods: str = ""


def _denied(run: _Run, found: dict[str, PodShell]) -> _Denied:
    """See what is not allowed, and write it down once, however many nodes there are."""
    barred = {n: why for n, s in found.items() if (why := may_exec(run.rights, s.namespace))}
    for why in dict.fromkeys(barred.values()):
        run.gap("entering nodes", why, _NODE_TABLES)
    pods = may_probe(run.rights, run.options.probe_namespace)
    if pods and Wave.PROBE_PODS in run.needs:
        run.gap("probe pods", pods, _POD_TABLES)
    return _Denied(frozenset(barred), pods)


def _send(run: _Run, entered: dict[str, Shell], pods: dict[str, Shell]) -> None:
    """Send the probes that what is known by now calls for."""
    shells = {s.vantage: s for s in (*entered.values(), *pods.values())}
    if run.places.proxy:
        shells[run.places.proxy.vantage] = run.places.proxy
    stage = Stage(
        tables=run.tables(),
        nodes=tuple(entered),
        pods=tuple(pods),
        waves=run.needs,
        outside=run.places.outside,
        segments=_segments(run.world()),
        nonce=secrets.randbelow(_NONCES),
    )
    run.records.extend(left_out(stage.tables, run.needs - {Wave.TARGET}))
    run.options.note("sending probes")
    seen = _measure(run, shells, plan(stage))
    later = msgspec.structs.replace(stage, tables=run.tables())
    seen += _measure(run, shells, (*plan_egress(stage, seen), *plan_resolvers(later)))
    _measure(run, shells, plan_deciding(seen, run.tables(), stage.vantages))
    run.records.extend(look_again(entered, later.tables))
    if overlay(run.world()):
        run.records.extend(count(entered, rounds(stage, seen)))


def _measure(run: _Run, shells: dict[Vantage, Shell], flows: tuple[Flow, ...]) -> list[Observation]:
    """Carry out flows: those of this machine here, the others by the relay."""
    here = [f for f in flows if f.vantage.kind is VantageKind.MACHINE]
    raw = tuple(f for f in here if f.kind in _RAW)
    there = tuple(f for f in flows if f.vantage.kind is not VantageKind.MACHINE)
    with ThreadPoolExecutor(_WORKERS) as pool:
        packets = pool.submit(_packets, run, raw)
        own = pool.submit(observe_all, [f for f in here if f not in raw], run.api.deadline)
        seen, missed = measure(shells, there, run.options.note)
        ours, late = own.result()
        seen = [*seen, *ours]
    missed.extend(unseen(str(MACHINE), ((f, run.api.deadline.reason) for f in late)))
    seen += packets.result()
    run.seen(seen)
    run.records.extend(missed)
    return seen


def _packets(run: _Run, flows: tuple[Flow, ...]) -> list[Observation]:
    """Send packets that are built by hand from this machine, by the child that alone may."""
    if not flows:
        return []
    seconds = run.api.deadline.bound(_PACKET_SECONDS)
    seen, missed = observe_packets(flows, sudo=run.options.sudo, seconds=seconds)
    run.records.extend(unseen(str(MACHINE), missed))
    return seen


def _trace(run: _Run) -> None:
    """See how far packets of this machine get, where it got no answer."""
    seen = [r.observation for r in run.records if isinstance(r, FlowRecord)]
    run.seen(_packets(run, plan_traces(seen)))


def _segments(world: World) -> dict[str, str]:
    """Say which nodes and load balancer addresses are on a segment of this machine.

    A node asks for itself already, by a pod that can be entered.
    """
    nodes = [n.address for n in world.linux if n.address]
    if any(is_local(a) for a in nodes):
        return {}
    vips = [v for s in world.services.values() for v in s.vips]
    asked = (*dict.fromkeys(vips), *nodes[:_MOST_NODES])
    found = ((a, interface_towards(a)) for a in asked[:_MOST_ASKED])
    return {address: device for address, device in found if device}


def _pods(
    run: _Run, world: World, entered: dict[str, Shell], use: Callable[[ProbePodSet], None]
) -> None:
    """Start probe pods, use them, and remove them in the end."""
    ready = tuple(n for n in world.linux if n.ready)
    hosts = run.options.host_probe and Wave.NODE in run.needs
    wish = Wish(
        nodes=ready if Wave.PROBE_PODS in run.needs else (),
        hosts=tuple(n for n in ready if n.name not in entered) if hosts else (),
        image=run.options.probe_image,
        namespace=run.options.probe_namespace,
        note=run.options.note,
        warn=run.options.warn,
    )
    if wish.nodes or wish.hosts:
        use_probe_pods(run.api, world, wish, use)
    else:
        use(ProbePodSet())


def _note_missing(
    run: _Run,
    world: World,
    entered: dict[str, Shell],
    started: ProbePodSet,
    denied: _Denied,
) -> None:
    """Write down which vantages are missing, and why."""
    pods = {p.node for p in started.running(host=False)}
    reasons, hosts = started.missing(host=False), started.missing(host=True)
    for node in world.linux:
        if Wave.PROBE_PODS in run.needs and not denied.pods and node.name not in pods:
            reason = reasons.get(node.name, "the node is not Ready")
            run.gap(f"a probe pod on {node.name}", reason, _POD_TABLES)
        if Wave.NODE in run.needs and node.name not in {*denied.nodes, *entered}:
            reason = "no ready kube-flannel pod there to enter"
            tried = hosts.get(node.name, "")
            if tried:
                reason += f", and no host-network probe pod: {tried}"
            elif node.ready and not run.options.host_probe:
                reason += " (--allow-host-probe starts one)"
            essential = node.control_plane
            run.gap(f"entering node {node.name}", reason, _NODE_TABLES, essential=essential)
