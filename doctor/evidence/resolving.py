"""Builders of how names are resolved: what pods are told, and whom CoreDNS asks in turn."""

from collections.abc import Iterable, Iterator

from doctor.bundle.schema import NodeRecord, ResolverRecord
from doctor.evidence.finders import coredns_service, policy_engine
from doctor.evidence.world import World
from doctor.model.address import is_ipv4
from doctor.model.evidence import (
    NetworkPolicies,
    NodeResolver,
    Resolvers,
    Upstream,
    Upstreams,
)
from doctor.model.flow import Observation
from doctor.model.kube import NetworkPolicy
from doctor.model.resolver import DNS_PORT, Corefile, Plugin, ResolvConf, ServerBlock
from doctor.parse.corefile import parse_corefile
from doctor.parse.resolv_conf import parse_resolv_conf

__all__ = ["corefile", "network_policies", "resolvers", "searched", "upstreams"]

_MOST_UPSTREAMS = 8
_SCHEMES = {"dns": 53, "tls": 853}
_LAST_PORT = 65535
_RESOLVER_EVENTS = ("MissingClusterDNS",)


def corefile(world: World, namespace: str) -> Corefile | None:
    """Read the Corefile; None where there is none to be read."""
    found = world.configmap(f"{namespace}/coredns")
    text = (found.data or {}).get("Corefile") if found else None
    parsed = parse_corefile(text) if text is not None else None
    # records of earlier versions hold single lines of it
    return parsed if parsed and any(b.plugins for b in parsed.blocks) else None


def upstreams(world: World, observations: tuple[Observation, ...] = ()) -> Upstreams:
    """Build the table of the resolvers that CoreDNS asks."""
    service = coredns_service(world)
    if service is None:
        return Upstreams(absent="" if world.gaps("services") else "there is no DNS Service")
    conf = corefile(world, service.namespace)
    gaps = (*world.gaps("services", "pods"), *world.table_gaps("Upstreams"))
    key = f"configmaps/{service.namespace}/coredns"
    gaps += world.gaps(key)
    confs = _node_confs(world, service.spec.cluster_ip)
    running = world.selected(service.namespace, service.spec.selector)
    nodes = tuple(sorted({p.node for p in running if p.node}))
    cluster = any(p.spec.dns_policy not in ("", "Default") for p in running)
    found: dict[tuple[str, str, int], Upstream] = {}
    for zone, target in _targets(conf):
        if not target.startswith("/"):
            upstream = _target(zone, target, nodes)
            if upstream:
                found.setdefault((zone, upstream.address, upstream.port), upstream)
            continue
        for node in nodes:
            conf_there = ResolvConf((service.spec.cluster_ip,)) if cluster else confs.get(node)
            for address in conf_there.nameservers[:3] if conf_there else ():
                old = found.get((zone, address, 53))
                there = tuple(dict.fromkeys((*(old.nodes if old else ()), node)))
                made = Upstream(zone, address, source="resolv.conf", nodes=there)
                found[zone, address, 53] = made
    return Upstreams(
        gaps=gaps,
        absent=world.nodeless,
        observations=observations,
        items=tuple(found.values())[:_MOST_UPSTREAMS],
        key=service.key,
        service=service.spec.cluster_ip,
    )


def _targets(conf: Corefile | None) -> Iterator[tuple[str, str]]:
    """List zones and targets of all ``forward`` directives of port 53."""
    for block in conf.blocks if conf else ():
        for plugin in _forwards(block):
            first, *targets = plugin.args or (".",)
            for zone in block.zones if first == "." else (first.lower().rstrip("."),):
                yield from ((zone, target) for target in targets)


def _forwards(block: ServerBlock) -> Iterable[Plugin]:
    """Select the directives that ask others, where clients can ask."""
    return (p for p in block.plugins if p.name in ("forward", "proxy") and block.port == DNS_PORT)


def _target(zone: str, word: str, nodes: tuple[str, ...]) -> Upstream | None:
    """Understand ``192.0.2.1``, ``192.0.2.1:5353`` and ``tls://192.0.2.1``; else None."""
    scheme, slashes, rest = word.partition("://")
    scheme, rest = (scheme.lower(), rest) if slashes else ("dns", word)
    address, _, port = rest.partition("%")[0].partition(":")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= len("65535") else 0
    if not is_ipv4(address) or scheme not in _SCHEMES or number > _LAST_PORT:
        return None
    return Upstream(zone, address, number or _SCHEMES[scheme], scheme, nodes=nodes)


def _node_confs(world: World, service: str) -> dict[str, ResolvConf]:
    """Read the nodes' own resolv.conf; one that names the cluster's DNS is no node's."""
    return {n: c for n, c in _own_confs(world).items() if service not in c.nameservers}


def _own_confs(world: World) -> dict[str, ResolvConf]:
    """Read the resolv.conf of who was entered on each node: of pods on the node's own network.

    It is as the kubelet had it when that pod was made.
    """
    read = {
        r.node: parse_resolv_conf(o.stdout)
        for r in world.of(NodeRecord)
        for o in r.outputs
        if o.name == "resolv.conf" and o.status == 0
    }
    return {node: conf for node, conf in read.items() if conf.nameservers}


def searched(world: World) -> tuple[str, ...]:
    """Name the domains that pods search besides the cluster's own: those of their nodes."""
    service = coredns_service(world)
    confs = _node_confs(world, service.spec.cluster_ip if service else "").values()
    return tuple(dict.fromkeys(d for c in confs for d in c.search if d != "."))


def resolvers(world: World, observations: tuple[Observation, ...] = ()) -> Resolvers:
    """Build the table of what pods' resolvers are told."""
    own = _own_confs(world)
    found: dict[str, NodeResolver] = {}
    for record in world.of(ResolverRecord):
        conf = parse_resolv_conf(record.text)
        if conf.nameservers:
            node = record.node
            made = NodeResolver(node, conf, own.get(node), f"resolv.conf:{node}")
            found.setdefault(node, made)
    return Resolvers(
        gaps=world.table_gaps("Resolvers"),
        absent=world.nodeless,
        observations=observations,
        items=tuple(found[n] for n in sorted(found)),
        events=tuple(e for e in world.warnings if e.reason in _RESOLVER_EVENTS),
    )


def network_policies(world: World) -> NetworkPolicies:
    """Build the table of NetworkPolicies."""
    items = world.items("networkpolicies", NetworkPolicy)
    none = world.lists("networkpolicies") and not items
    return NetworkPolicies(
        gaps=world.gaps("networkpolicies"),
        absent="there is no NetworkPolicy" if none else "",
        items=items,
        engine=policy_engine(world),
        pods=world.pods,
    )
