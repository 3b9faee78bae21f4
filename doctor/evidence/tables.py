"""Which table is built how, and of what: the one place that knows both."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import TypeVar, cast

import msgspec

from doctor.bundle.schema import Bundle
from doctor.evidence import logs, measurements, node_facts, proxying, states
from doctor.evidence.certificates import webhook_certificates, webhook_flows
from doctor.evidence.counters import counters
from doctor.evidence.finders import config_keys
from doctor.evidence.host_pods import host_pods
from doctor.evidence.measurements import Measurements
from doctor.evidence.pings import pings
from doctor.evidence.requeried import stale_queries
from doctor.evidence.resolving import network_policies, resolvers, upstreams
from doctor.evidence.world import World
from doctor.model import evidence as model
from doctor.model.evidence import Evidence
from doctor.model.flow import Observation, Purpose
from doctor.model.proxying import ProxiedServices
from doctor.model.verdict import Gap

__all__ = ["LOGS", "TABLES", "Source", "Table", "Tables", "Wave", "needs_of", "tables_of"]

E = TypeVar("E", bound=Evidence)


class Wave(StrEnum):
    """A group of measurements that is made together."""

    NODE = "node"
    PROBE_PODS = "probe-pods"
    MESH = "mesh"
    DNS = "dns"
    WEBHOOK = "webhook"
    SERVICE_IP = "service-ip"
    BACKEND = "backend"
    VIP = "vip"
    INGRESS = "ingress"
    TARGET = "target"
    PROXY = "proxy"
    EGRESS = "egress"


Source = str | Wave
"""An API resource's name, or a wave."""

LOGS = "pods/log"
"""The source that is the ends of system pods' logs."""

_PODS = ("nodes", "pods", "services", "endpointslices")
_FLANNEL = ("nodes", "pods", "daemonsets", "configmaps:flannel", "events:warning")
_PROBING = (*_FLANNEL, *_PODS, "apiservices", Wave.NODE, Wave.PROBE_PODS)
_DNS = (*_PODS, "deployments", "daemonsets", "configmaps:coredns", "events:warning")
_INGRESS = (*_PODS, "ingresses", "ingressclasses", "deployments", "daemonsets")
_METALLB = (
    "services",
    "pods",
    "deployments",
    "daemonsets",
    "ipaddresspools",
    "l2advertisements",
    "bgpadvertisements",
    "servicel2statuses",
    "events:services",
)
_BACKENDS = (*_INGRESS, "statefulsets", "events:warning")
_TARGETS = (*_INGRESS, *_METALLB)
_WEBHOOKS = (
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    *_PODS,
    "deployments",
    "statefulsets",
)


_PLANNED_FROM = frozenset({*_PODS, "deployments", "daemonsets", "ingresses", "ipaddresspools"})
"""Without these, it is not known what to measure: an empty table would look like a clean one."""


_MEASURED = (model.Measured, model.NodeNetworks)
"""Tables of what is looked at by probes, and inside nodes."""


class Table(msgspec.Struct, frozen=True):
    """How a table is built, what must be gathered for it, and which flows it is made of."""

    build: Callable[["Tables"], Evidence]
    sources: tuple[Source, ...]
    purposes: tuple[Purpose, ...] = ()


def _plain(
    kind: type[model.Measured], purposes: tuple[Purpose, ...], sources: tuple[Source, ...]
) -> Table:
    """Describe a table that holds observations and nothing else."""
    return Table(lambda tables: tables.measured.table(kind, *purposes), sources, purposes)


TABLES: dict[type[Evidence], Table] = {
    model.Nodes: Table(lambda t: states.nodes(t.world), ("nodes",)),
    model.Flannel: Table(lambda t: states.flannel(t.world), _FLANNEL),
    model.NodeNetworks: Table(lambda t: node_facts.node_networks(t.world), (*_FLANNEL, Wave.NODE)),
    model.ProbePods: Table(lambda t: measurements.probe_pods(t.world), _PROBING),
    model.Mesh: Table(
        lambda t: t.measured.mesh(),
        (*_PROBING, Wave.MESH),
        (
            *(Purpose.UNDERLAY, Purpose.UNDERLAY_SIZE, Purpose.OWN_NODE),
            *(Purpose.MESH, Purpose.MESH_SIZE),
        ),
    ),
    model.Pings: Table(
        lambda t: pings(
            t.world,
            t.measured.of(Purpose.UNDERLAY_SIZE, Purpose.MESH_SIZE),
            t.measured.of(Purpose.UNDERLAY, Purpose.MESH),
        ),
        (*_PROBING, Wave.MESH),
        (Purpose.UNDERLAY_SIZE, Purpose.MESH_SIZE),
    ),
    model.Logs: Table(
        lambda t: logs.logs(t.world),
        ("nodes", "pods", "daemonsets", "deployments", "services", LOGS),
    ),
    model.Counters: Table(
        lambda t: counters(t.world, t.measured.of(Purpose.BURST)),
        (*_PROBING, Wave.MESH),
        (Purpose.BURST,),
    ),
    model.DnsService: Table(lambda t: states.dns_service(t.world), _DNS),
    model.DnsFlows: Table(
        lambda t: t.measured.dns(t.get(model.DnsService)),
        (*_PROBING, *_DNS, Wave.DNS),
        (Purpose.DNS, Purpose.DNS_CONTROL),
    ),
    model.Upstreams: Table(
        lambda t: upstreams(
            t.world, t.measured.of(Purpose.RESOLVER, Purpose.FORWARDED, Purpose.SEARCH)
        ),
        (*_PROBING, *_DNS, Wave.DNS),
        (Purpose.RESOLVER, Purpose.FORWARDED, Purpose.SEARCH),
    ),
    model.Resolvers: Table(
        lambda t: resolvers(t.world, t.measured.of(Purpose.POD_RESOLVER)),
        (*_PROBING, *_DNS, Wave.DNS),
        (Purpose.POD_RESOLVER,),
    ),
    model.StaleQueries: Table(
        lambda t: stale_queries(t.world, t.get(model.NodeNetworks)),
        (*_FLANNEL, *_DNS, Wave.NODE),
    ),
    model.HostPods: Table(
        lambda t: host_pods(t.world, t.get(model.DnsService).domain),
        _DNS,
    ),
    model.NetworkPolicies: Table(lambda t: network_policies(t.world), ("networkpolicies", "pods")),
    model.KubeProxy: Table(
        lambda t: proxying.kube_proxy(t.world),
        ("nodes", "pods", "daemonsets", "configmaps:kube-proxy"),
    ),
    # with what else the run is about: the Services of webhooks and Ingresses, if those are read
    ProxiedServices: Table(lambda t: proxying.proxied_services(t.world), _PODS),
    model.ServiceIpFlows: _plain(
        model.ServiceIpFlows,
        (Purpose.SERVICE_IP, Purpose.API_DIRECT, Purpose.PROXY_API),
        (*_PROBING, Wave.SERVICE_IP),
    ),
    model.Webhooks: Table(lambda t: states.webhooks(t.world), _WEBHOOKS),
    model.WebhookFlows: Table(
        lambda t: webhook_flows(t.world, t.measured.of(Purpose.WEBHOOK)),
        (*_FLANNEL, *_WEBHOOKS, Wave.WEBHOOK, Wave.NODE),
        (Purpose.WEBHOOK,),
    ),
    model.WebhookCertificates: Table(
        lambda t: webhook_certificates(t.world, t.measured.of(Purpose.WEBHOOK_TLS)),
        (*_FLANNEL, *_WEBHOOKS, Wave.WEBHOOK, Wave.NODE),
        (Purpose.WEBHOOK_TLS,),
    ),
    model.Backends: Table(lambda t: states.backends(t.world), _BACKENDS),
    model.BackendFlows: _plain(
        model.BackendFlows,
        (Purpose.BACKEND, Purpose.READINESS, Purpose.NODE_PORT),
        (*_PROBING, *_BACKENDS, Wave.BACKEND),
    ),
    model.LoadBalancers: Table(lambda t: states.load_balancers(t.world), _METALLB),
    model.VipFlows: _plain(
        model.VipFlows,
        (Purpose.VIP_ARP, Purpose.ARP_CONTROL, Purpose.VIP),
        (*_FLANNEL, *_TARGETS, Wave.NODE, Wave.VIP),
    ),
    model.Ingresses: Table(lambda t: states.ingresses(t.world), _INGRESS),
    model.IngressFlows: Table(
        lambda t: t.measured.ingress(),
        (*_FLANNEL, *_INGRESS, Wave.NODE, Wave.INGRESS),
        (Purpose.INGRESS,),
    ),
    model.TargetFlows: Table(
        lambda t: t.measured.targets(),
        (*_TARGETS, Wave.TARGET),
        (Purpose.TARGET, Purpose.TARGET_TLS, Purpose.NAME, Purpose.TRACE),
    ),
    model.Proxy: Table(
        lambda t: t.measured.proxy(), (*_TARGETS, Wave.TARGET, Wave.PROXY), (Purpose.UPSTREAM,)
    ),
    model.EgressFlows: Table(
        lambda t: t.measured.egress(),
        (*_PROBING, *_DNS, Wave.EGRESS),
        (Purpose.EGRESS, Purpose.EGRESS_NAME),
    ),
}


def needs_of(kinds: tuple[type[Evidence], ...]) -> frozenset[Source]:
    """Return all that must be gathered for some tables."""
    return frozenset(s for kind in kinds for s in TABLES[kind].sources)


def tables_of(purposes: Iterable[Purpose]) -> tuple[str, ...]:
    """Name the tables that miss something where flows of these purposes were not seen."""
    asked = frozenset(purposes)
    return tuple(k.__name__ for k, t in TABLES.items() if asked & set(t.purposes))


class Tables:
    """The tables of one bundle, each built once, when it is first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        """Look at a bundle."""
        self.world: World = World(bundle)
        self._built: dict[type[Evidence], Evidence] = {}

    @cached_property
    def measured(self) -> Measurements:
        """The observations, with their paths."""
        return Measurements(self.world)

    def get(self, kind: type[E]) -> E:
        """Return one table."""
        if kind not in self._built:
            table = TABLES[kind].build(self)
            gaps = (*table.gaps, *self._unread(kind, {g.needs for g in table.gaps}))
            self._built[kind] = msgspec.structs.replace(table, gaps=gaps)
        return cast("E", self._built[kind])

    def _unread(self, kind: type[Evidence], said: set[str]) -> Iterator[Gap]:
        """Say which objects could not be read, and were not said to be already.

        What flows are planned from is essential to a table of flows; of all else, the builder of a
        table knows what it cannot do without.
        """
        for source in dict.fromkeys(TABLES[kind].sources):
            planned = issubclass(kind, _MEASURED) and source in _PLANNED_FROM
            keys = (f"configmaps/{k}" for k in config_keys(self.world, source))
            for gap in self.world.gaps(source, *keys):
                if gap.needs not in said:
                    yield msgspec.structs.replace(gap, essential=planned)

    def observations(self) -> tuple[Observation, ...]:
        """Return every observation, whatever table it is in."""
        return self.measured.all()
