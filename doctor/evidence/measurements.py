"""Builders of measurements: observations by purpose, with their predicted paths."""

from collections import defaultdict

import msgspec

from doctor.bundle.schema import (
    FlowRecord,
    ProbePodRecord,
    ProxyRecord,
)
from doctor.evidence.refusals import told_from_filters
from doctor.evidence.states import LEADS_TO_TARGETS
from doctor.evidence.topology import overlay, topology
from doctor.evidence.world import World
from doctor.model.evidence import (
    DnsFlows,
    DnsService,
    EgressFlows,
    IngressFlows,
    Measured,
    Mesh,
    ProbePod,
    ProbePods,
    Proxy,
    TargetFlows,
)
from doctor.model.failure import Failure
from doctor.model.flow import Observation, Purpose
from doctor.model.kube import Pod
from doctor.model.verdict import Gap
from doctor.path.predict import predict
from doctor.path.topology import Pod as PlacedPod
from doctor.path.topology import Topology

__all__ = [
    "NO_URL",
    "Measurements",
    "dependants",
    "probe_pods",
]


NO_URL = "no URL was given, and none follows from an Ingress and a load balancer's address"

_BELOW_DNS = frozenset(
    {
        Failure.CONNECTION_REFUSED,
        Failure.CONNECTION_RESET,
        Failure.NO_ROUTE,
        Failure.NETWORK_UNREACHABLE,
        Failure.HOST_PROHIBITED,
        Failure.PORT_UNREACHABLE,
    }
)
"""How a query fails whatever name it asks for."""


class Measurements:
    """All observations of a bundle, with their hops; computed once."""

    def __init__(self, world: World) -> None:
        """Predict the path of every flow."""
        self._world = world
        self._map = topology(world)
        own = {
            r.address: PlacedPod(key=f"probe pod on {r.node}", node=r.node)
            for r in world.of(ProbePodRecord)
            if r.address
        }
        self._map = msgspec.structs.replace(self._map, pods={**self._map.pods, **own})
        self._by_purpose: dict[Purpose, list[Observation]] = defaultdict(list)
        found = (record.observation for record in world.of(FlowRecord))
        for seen in told_from_filters(found, self._map):
            path = predict(seen.flow, self._map)
            placed = msgspec.structs.replace(seen, hops=path.hops, certain=path.certain)
            self._by_purpose[seen.flow.purpose].append(placed)

    @property
    def topology(self) -> Topology:
        """The map that the paths were predicted on."""
        return self._map

    def all(self) -> tuple[Observation, ...]:
        """Return every observation."""
        return tuple(o for purpose in Purpose for o in self._by_purpose[purpose])

    def of(self, *purposes: Purpose) -> tuple[Observation, ...]:
        """Return the observations of some purposes, in the order in which they were made."""
        return tuple(o for p in purposes for o in self._by_purpose[p])

    def table(self, kind: type[Measured], *purposes: Purpose) -> Measured:
        """Build a plain table of observations."""
        return kind(
            observations=self.of(*purposes),
            gaps=self._world.table_gaps(kind.__name__),
            absent=self._world.nodeless,
        )

    def ingress(self) -> IngressFlows:
        """Build the requests to the ingress controllers themselves, for each URL."""
        seen = self.of(Purpose.INGRESS)
        gaps = self._world.table_gaps("IngressFlows")
        return IngressFlows(observations=seen, gaps=gaps, absent=self._untried(seen, gaps))

    def _untried(self, seen: tuple[Observation, ...], gaps: tuple[Gap, ...]) -> str:
        """Say why there is no URL to ask for; empty where there is, or that is not known."""
        world = self._world
        known = not gaps and world.lists(*LEADS_TO_TARGETS)
        tried = seen or world.bundle.question.urls
        return NO_URL if known and not tried else ""

    def dns(self, service: DnsService) -> DnsFlows:
        """Build the queries to the cluster's DNS.

        They ask for a name in the cluster domain. Where that is only guessed and nowhere answered,
        the name may not exist: CoreDNS then asks elsewhere, and may come back with any error, or
        not in time. Such failures tell nothing, and are left out.
        """
        seen = self.of(Purpose.DNS, Purpose.DNS_CONTROL)
        gaps = self._world.table_gaps("DnsFlows")
        none = service.backend is None and not service.gaps
        absent = "there is no DNS Service to ask" if none else self._world.nodeless
        asked = [o for o in seen if o.flow.purpose is Purpose.DNS]
        if not service.guessed or not asked or any(o.ok for o in asked):
            return DnsFlows(observations=seen, gaps=gaps, absent=absent)
        reason = f"no Corefile could be read, and nothing answers for {service.domain}"
        return DnsFlows(
            observations=tuple(o for o in seen if o not in asked or o.failure in _BELOW_DNS),
            gaps=(*gaps, Gap(needs="the cluster domain", reason=reason)),
        )

    def mesh(self) -> Mesh:
        """Build the mesh."""
        return Mesh(
            observations=self.of(
                *(Purpose.UNDERLAY, Purpose.UNDERLAY_SIZE, Purpose.OWN_NODE),
                *(Purpose.MESH, Purpose.MESH_SIZE),
            ),
            gaps=self._world.table_gaps("Mesh"),
            absent=self._world.single,
            overlay=overlay(self._world),
        )

    def targets(self) -> TargetFlows:
        """Build what a visitor sees."""
        urls = self._world.bundle.question.urls
        seen = self.of(Purpose.TARGET)
        beside = self.of(Purpose.TARGET_TLS, Purpose.NAME, Purpose.TRACE)
        gaps = self._world.table_gaps("TargetFlows")
        return TargetFlows(
            observations=(*seen, *beside),
            gaps=gaps,
            absent=self._untried(seen, gaps),
            urls=urls or tuple(dict.fromkeys(o.flow.subject for o in seen)),
            derived=not urls,
        )

    def proxy(self) -> Proxy:
        """Build what is known of the reverse proxy on this machine."""
        record = next(iter(self._world.of(ProxyRecord)), ProxyRecord(proxy=None))
        unseen = Gap(f"the reverse proxy on {record.place}", record.reason, not record.reached)
        return Proxy(
            observations=self.of(Purpose.UPSTREAM),
            gaps=(*self._world.table_gaps("Proxy"), *((unseen,) if record.reason else ())),
            proxy=record.proxy,
            place=record.place,
            ssh=record.ssh,
        )

    def egress(self) -> EgressFlows:
        """Build what failing workloads depend on outside."""
        return EgressFlows(
            observations=self.of(Purpose.EGRESS_NAME, Purpose.EGRESS),
            gaps=self._world.table_gaps("EgressFlows"),
            absent=self._world.nodeless,
            wanted_by=tuple(dependants(self._world).items()),
        )


def dependants(world: World) -> dict[str, tuple[Pod, ...]]:
    """Map ``host:port`` to the failing pods whose environment names it."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for pod in world.pods:
        named = (t for c in pod.spec.containers for d in c.dependencies or () for t in d.targets)
        for target in dict.fromkeys(named):
            found[target].append(pod)
    return {target: tuple(pods) for target, pods in sorted(found.items())}


def probe_pods(world: World) -> ProbePods:
    """List what became of the probe pods."""
    return ProbePods(
        gaps=world.table_gaps("ProbePods"),
        items=tuple(
            ProbePod(
                node=r.node,
                address=r.address,
                reason=r.reason,
                evidence=f"probe-pod:{r.node}",
                port=r.port,
            )
            for r in world.of(ProbePodRecord)
        ),
    )
