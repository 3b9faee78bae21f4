"""Plan the flows to what failing workloads depend on outside the cluster. Pure."""

from collections.abc import Iterable, Iterator

from doctor.collect.flow import Stage, flow
from doctor.evidence.measurements import dependants
from doctor.evidence.tables import Wave
from doctor.model.address import is_address
from doctor.model.evidence import DnsService
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import Pod, Service

__all__ = ["egress_names", "plan_egress"]

_MOST_EGRESS = 12


def egress_names(stage: Stage) -> Iterator[Flow]:
    """Resolve what failing workloads depend on, as they would."""
    table = stage.tables.get(DnsService)
    service = table.backend.service if table.backend else None
    if service is None:
        return
    for subject, host, _, pods in _outside(stage):
        if is_address(host):
            continue
        for vantage in _egress_vantages(stage, pods):
            if vantage.kind is VantageKind.POD:
                yield flow(
                    Purpose.EGRESS_NAME,
                    vantage,
                    FlowKind.DNS_UDP,
                    service.spec.cluster_ip,
                    53,
                    name=f"{host}.",
                    subject=subject,
                )


def plan_egress(stage: Stage, seen: Iterable[Observation]) -> tuple[Flow, ...]:
    """Connect to what the names resolved to, from pods and from nodes."""
    if Wave.EGRESS not in stage.waves:
        return ()
    resolved = {
        o.flow.subject: o.answers[0]
        for o in seen
        if o.flow.purpose is Purpose.EGRESS_NAME and o.answers
    }
    flows = (
        flow(Purpose.EGRESS, v, FlowKind.TCP, address, port, name=host, subject=subject)
        for subject, host, port, pods in _outside(stage)
        if (address := host if is_address(host) else resolved.get(subject, ""))
        for v in _egress_vantages(stage, pods)
    )
    return tuple({f.id: f for f in flows}.values())


def _outside(stage: Stage) -> list[tuple[str, str, int, tuple[Pod, ...]]]:
    """List dependencies that are not Services of the cluster: subject, host, port, dependants."""
    services = stage.tables.world.services
    found = []
    for subject, pods in dependants(stage.tables.world).items():
        host, _, port = subject.rpartition(":")
        own = host in ("localhost", "0.0.0.0", "127.0.0.1")  # noqa: S104 - not bound
        if not own and not _inside(host, services):
            found.append((subject, host, int(port), pods))
    return found[:_MOST_EGRESS]


def _inside(host: str, services: dict[str, Service]) -> bool:
    """Say whether a host is a Service: by its address, or its name with as much as pods may write.

    That is ``name``, ``name.namespace``, ``name.namespace.svc`` and so on, and the same after a
    pod's own name.
    """
    words = host.split(".")
    if any(host in (s.name, s.spec.cluster_ip) for s in services.values()):
        return True
    return any(
        "/".join(part[1::-1]) in services and part[2:3] in ([], ["svc"])
        for part in (words, words[1:])
    )


def _egress_vantages(stage: Stage, pods: tuple[Pod, ...]) -> tuple[Vantage, ...]:
    """From where the dependants run, from other nodes too: in a pod, and on the node itself."""
    own = {p.node for p in pods if p.node}
    nodes = sorted({*stage.pods, *stage.nodes}, key=lambda n: (n not in own, n))[:3]
    return tuple(v for n in nodes for v in stage.vantages if v.node == n)
