"""Plan the questions to resolvers: those that CoreDNS asks, and those that pods are told of. Pure.

The names disclose nothing and depend on nobody else: an address of the loopback network is looked up
backwards, which resolvers do by themselves (RFC 6303). Its last three numbers are drawn for each run,
so that no cache answers in the resolver's place.
"""

from collections.abc import Iterable, Iterator

from doctor.collect.flow import Stage, flow, some
from doctor.evidence.resolving import searched as search_domains
from doctor.evidence.tables import Wave
from doctor.model.address import is_ipv4
from doctor.model.evidence import DnsService, EndpointAddress, Resolvers, Upstream, Upstreams
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.model.resolver import ROOT, Corefile, is_within

__all__ = ["plan_resolvers", "searched", "upstreams"]

_MOST_NODES = 4
_MOST_DOMAINS = 4
_SAMPLES = 2
_PORT = 53
_REVERSE = "127.in-addr.arpa"


def upstreams(stage: Stage) -> Iterator[Flow]:
    """From where CoreDNS runs, each resolver that it asks; and one question through each replica."""
    table = stage.tables.get(Upstreams)
    for upstream in table.items:
        if not table.loops(upstream) and is_ipv4(upstream.address):
            for vantage in _near(stage, upstream.nodes):
                yield from _to_upstream(upstream, vantage, _reverse_name(stage.nonce))
    dns = stage.tables.get(DnsService)
    if dns.backend and dns.corefile and _forwards(dns.corefile):
        for replica in some(dns.backend.ready):
            for vantage in _beside(stage, replica):
                yield flow(
                    Purpose.FORWARDED,
                    vantage,
                    FlowKind.DNS_UDP,
                    replica.address,
                    replica.port,
                    name=_reverse_name(stage.nonce),
                    subject=dns.backend.key,
                )


def _reverse_name(nonce: int) -> str:
    """Write an address of the loopback network backwards."""
    return f"{nonce & 255}.{nonce >> 8 & 255}.{nonce >> 16 & 255}.{_REVERSE}."


def _to_upstream(upstream: Upstream, vantage: Vantage, name: str) -> Iterator[Flow]:
    """Ask a resolver over UDP; of one that speaks TLS only, see whether it can be dialled."""
    if upstream.scheme == "tls":
        kinds = [(FlowKind.TCP, 1)]
    else:
        kinds = [(FlowKind.DNS_UDP, _SAMPLES), (FlowKind.DNS_TCP, 1)]
    for kind, samples in kinds:
        yield flow(
            Purpose.RESOLVER,
            vantage,
            kind,
            upstream.address,
            upstream.port,
            name=name,
            subject=upstream.zone,
            samples=samples,
        )


def _near(stage: Stage, nodes: Iterable[str]) -> Iterator[Vantage]:
    """List the vantages on some nodes; where none of them is one, those of the first node."""
    wanted = [n for n in nodes if n in {*stage.pods, *stage.nodes}]
    wanted = wanted or sorted({*stage.pods, *stage.nodes})[:1]
    return (v for v in stage.vantages if v.node in wanted[:_MOST_NODES])


def _beside(stage: Stage, replica: EndpointAddress) -> list[Vantage]:
    """Choose the vantage that is nearest to a replica, best its node itself."""
    order = sorted(
        stage.vantages,
        key=lambda v: (v.node != replica.node, v.kind is not VantageKind.NODE),
    )
    return order[:1]


def _forwards(conf: Corefile) -> bool:
    """Say whether CoreDNS hands on questions for addresses of the loopback network."""
    block = conf.block_for(_REVERSE)
    forward = block.plugin("forward") if block else None
    own = block.plugin("kubernetes") if block else None
    if not block or not forward or (forward.args or ("",))[0] != ROOT:
        return False
    zones = [z for z in (own.args or block.zones) if is_within(_REVERSE, z)] if own else []
    through = own.values("fallthrough") if own and zones else ()
    return through is not None and (not through or any(is_within(_REVERSE, z) for z in through))


def searched(stage: Stage) -> Iterator[Flow]:
    """From one pod: a name that nobody has, below each domain that pods search besides the cluster's."""
    yield from _made_up(stage, search_domains(stage.tables.world), stage.vantages[:1])


def _made_up(stage: Stage, domains: Iterable[str], vantages: Iterable[Vantage]) -> Iterator[Flow]:
    """Ask the DNS Service for a made-up name below each domain."""
    dns = stage.tables.get(DnsService)
    service = dns.backend.service if dns.backend else None
    outside = [d for d in domains if not is_within(d, dns.domain)]
    for vantage in vantages if service else ():
        for domain in outside[:_MOST_DOMAINS]:
            yield flow(
                Purpose.SEARCH,
                vantage,
                FlowKind.DNS_UDP,
                service.spec.cluster_ip if service else "",
                _PORT,
                name=f"wwwm-doctor-{stage.nonce:06x}.{domain}.",
                subject=domain,
            )


def plan_resolvers(stage: Stage) -> tuple[Flow, ...]:
    """Ask whom pods are told to ask, where that is not the DNS Service; and below what they search."""
    if Wave.DNS not in stage.waves:
        return ()
    dns = stage.tables.get(DnsService)
    service = dns.backend.service if dns.backend else None
    known = {*search_domains(stage.tables.world), "."}
    flows: dict[str, Flow] = {}
    for item in stage.tables.get(Resolvers).items if service else ():
        vantage = Vantage(VantageKind.POD, item.node)
        others = [a for a in item.pod.nameservers[:3] if is_ipv4(a)]
        made = []
        if service and service.spec.cluster_ip not in others:
            made = [
                flow(
                    Purpose.POD_RESOLVER,
                    vantage,
                    FlowKind.DNS_UDP,
                    address,
                    _PORT,
                    name=f"kubernetes.default.svc.{dns.domain}.",
                    subject=dns.backend.key if dns.backend else "",
                    samples=_SAMPLES,
                )
                for address in others
            ]
        new = [d for d in item.pod.search if d not in known and not d.startswith("svc.")]
        new = [d for d in new if ".svc." not in d]
        known.update(new)
        flows |= {f.id: f for f in (*made, *_made_up(stage, new, (vantage,)))}
    return tuple(flows.values())
