"""The cluster as the API describes it: records decoded once, indexed, joined."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import TypeVar, cast

import msgspec

from doctor.bundle.schema import ApiRecord, Bundle, GapRecord, Record
from doctor.model.evidence import Backend, EndpointAddress
from doctor.model.kube import (
    ConfigMap,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Event,
    Item,
    Node,
    Pod,
    Service,
    ServicePort,
)
from doctor.model.probe_pod import LABEL, MANAGER
from doctor.model.verdict import Gap

__all__ = ["World", "matches"]

T = TypeVar("T", bound=Item)
R = TypeVar("R", bound=Record)


def matches(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Say whether a non-empty selector matches labels."""
    return bool(selector) and all(labels.get(k) == v for k, v in (selector or {}).items())


class World:
    """Lazily decoded view of a bundle's API records. Everything is computed once."""

    def __init__(self, bundle: Bundle) -> None:
        """Look at a bundle."""
        self.bundle = bundle
        self._lists: dict[str, tuple[Item, ...]] = {}

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """Return the records of one kind, in order."""
        return tuple(r for r in self.bundle.records if isinstance(r, kind))

    @cached_property
    def _records(self) -> dict[str, ApiRecord]:
        """API records by resource."""
        return {r.resource: r for r in self.of(ApiRecord)}

    def asked(self, resource: str) -> bool:
        """Say whether a resource was asked for."""
        return resource in self._records

    def served(self, resource: str) -> bool:
        """Say whether the API server knows a resource (a 404 says it does not)."""
        record = self._records.get(resource)
        return record is not None and record.status != HTTPStatus.NOT_FOUND

    def items(self, resource: str, kind: type[T]) -> tuple[T, ...]:
        """Decode one LIST; empty where it could not be had."""
        if resource not in self._lists:
            record = self._records.get(resource)
            raw = msgspec.json.decode(record.items, type=list[msgspec.Raw]) if record else []
            self._lists[resource] = tuple(msgspec.json.decode(r, type=kind) for r in raw)
        return cast("tuple[T, ...]", self._lists[resource])

    def gaps(self, *resources: str) -> tuple[Gap, ...]:
        """Say which of these resources could not be read."""
        records = (self._records[r] for r in resources if r in self._records)
        return tuple(
            Gap(needs=f"api:{r.resource}", reason=r.reason)
            for r in records
            if r.reason and r.status != HTTPStatus.NOT_FOUND
        )

    def lists(self, *resources: str) -> bool:
        """Say whether all of these were asked for and could be read: then none means none."""
        return all(map(self.asked, resources)) and not self.gaps(*resources)

    def table_gaps(self, table: str) -> tuple[Gap, ...]:
        """Say which gaps a table of evidence has, as they were recorded while gathering."""
        return tuple(r.gap for r in self.of(GapRecord) if table in r.tables)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        return tuple(sorted(self.items("nodes", Node), key=lambda n: n.name))

    @cached_property
    def linux(self) -> tuple[Node, ...]:
        """Linux nodes."""
        return tuple(n for n in self.nodes if n.linux)

    @cached_property
    def nodeless(self) -> str:
        """Say that there is no node to look at; empty where there is one, or that is not known."""
        return "" if self.linux or not self.lists("nodes") else "the cluster has no Linux node"

    @cached_property
    def single(self) -> str:
        """Say that there are no two nodes for anything to cross between; empty as above."""
        return "there is only one Linux node" if len(self.linux) == 1 else self.nodeless

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """All pods but those that ended, and but the doctor's own."""
        return tuple(
            sorted(
                (
                    p
                    for p in self.items("pods", Pod)
                    if p.status.phase not in ("Succeeded", "Failed")
                    and p.labels.get(LABEL) != MANAGER
                ),
                key=lambda p: p.key,
            )
        )

    @cached_property
    def services(self) -> dict[str, Service]:
        """Services by key."""
        return {s.key: s for s in self.items("services", Service)}

    @cached_property
    def daemonsets(self) -> tuple[DaemonSet, ...]:
        """All DaemonSets."""
        return self.items("daemonsets", DaemonSet)

    @cached_property
    def workloads(self) -> tuple[Deployment, ...]:
        """All Deployments and StatefulSets."""
        return self.items("deployments", Deployment) + self.items("statefulsets", Deployment)

    @cached_property
    def slices(self) -> dict[str, list[EndpointSlice]]:
        """EndpointSlices by the Service they belong to."""
        found: dict[str, list[EndpointSlice]] = defaultdict(list)
        for item in self.items("endpointslices", EndpointSlice):
            found[item.service].append(item)
        return found

    @cached_property
    def warnings(self) -> tuple[Event, ...]:
        """Warning events."""
        return self.items("events:warning", Event)

    @cached_property
    def pods_by_namespace(self) -> dict[str, list[Pod]]:
        """Pods by namespace."""
        found: dict[str, list[Pod]] = defaultdict(list)
        for pod in self.pods:
            found[pod.namespace].append(pod)
        return found

    @cached_property
    def pods_by_node(self) -> dict[str, list[Pod]]:
        """Pods by the node that they are bound to."""
        found: dict[str, list[Pod]] = defaultdict(list)
        for pod in self.pods:
            found[pod.node].append(pod)
        return found

    def configmap(self, key: str) -> ConfigMap | None:
        """Return one ConfigMap that was asked for by name."""
        return next(iter(self.items(f"configmaps/{key}", ConfigMap)), None)

    def selected(self, namespace: str, selector: Mapping[str, str] | None) -> tuple[Pod, ...]:
        """Return the pods of a namespace that a selector matches."""
        pods = self.pods_by_namespace.get(namespace, [])
        return tuple(p for p in pods if matches(selector, p.labels))

    def events_of(self, pods: Iterable[Pod]) -> tuple[Event, ...]:
        """Return the warning events about these pods."""
        keys = {p.key for p in pods}
        return tuple(
            e
            for e in self.warnings
            if e.involved_object.kind == "Pod"
            and f"{e.involved_object.namespace}/{e.involved_object.name}" in keys
        )

    def backend(self, key: str, asked_port: str = "", referrers: tuple[str, ...] = ()) -> Backend:
        """Join a Service with all that stands behind it.

        Args:
            key: ``namespace/name``.
            asked_port: Its port by number or name; empty for its first.
            referrers: Who refers to it.
        """
        service = self.services.get(key)
        if service is None:
            return Backend(
                key=key, service=None, port=None, asked_port=asked_port, referrers=referrers
            )
        port = _port(service, asked_port)
        selector = service.spec.selector
        pods = self.selected(service.namespace, selector)
        return Backend(
            key=key,
            service=service,
            port=port,
            asked_port=asked_port,
            endpoints=self._endpoints(key, port) if port else (),
            pods=pods,
            workloads=tuple(w for w in self.workloads if _makes(w, service)),
            daemonsets=tuple(d for d in self.daemonsets if _makes(d, service)),
            nearly=() if pods else self._nearly(service),
            events=self.events_of(pods),
            referrers=referrers,
        )

    def _nearly(self, service: Service) -> tuple[Pod, ...]:
        """Return pods that carry a label key of the selector with another value."""
        keys = set(service.spec.selector or {})
        pods = self.pods_by_namespace.get(service.namespace, [])
        return tuple(p for p in pods if keys & set(p.labels))

    def _endpoints(self, key: str, port: ServicePort) -> tuple[EndpointAddress, ...]:
        """List a Service port's endpoints."""
        return tuple(
            EndpointAddress(
                address=address,
                port=p.port or 0,
                ready=e.ready,
                node=e.node_name,
                pod=f"{e.target_ref.namespace}/{e.target_ref.name}" if e.target_ref else "",
            )
            for s in self.slices.get(key, [])
            for p in s.ports or ()
            if p.name == port.name
            for e in s.endpoints or ()
            for address in e.addresses
            if ":" not in address
        )


def _makes(workload: Deployment | DaemonSet, service: Service) -> bool:
    """Say whether the pods that a workload makes are a Service's."""
    labels = workload.spec.template.metadata.labels or {}
    return workload.namespace == service.namespace and matches(service.spec.selector, labels)


def _port(service: Service, asked: str) -> ServicePort | None:
    """Find a Service's port by number or name; the first where none is asked for."""
    ports = service.spec.ports or ()
    if not asked:
        return ports[0] if ports else None
    return next((p for p in ports if asked in (str(p.port), p.name)), None)
