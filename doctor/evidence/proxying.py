"""Builders of kube-proxy's state, and of the Services that it has to serve."""

from doctor.evidence.finders import coredns_service, kube_proxy_daemonsets, pods_of_image
from doctor.evidence.states import backends, pods_of, webhooks
from doctor.evidence.world import World
from doctor.model.evidence import KubeProxy
from doctor.model.proxying import ProxiedServices
from doctor.parse.proxy_conf import ProxyConf, parse_proxy_conf, parse_server

__all__ = ["kube_proxy", "proxied_services"]

_API_SERVER = "default/kubernetes"
_MOST = 64
_RANGE = "--service-cluster-ip-range="


def kube_proxy(world: World) -> KubeProxy:
    """Build kube-proxy's state."""
    gaps = world.gaps("nodes", "pods", "daemonsets")
    daemonsets = kube_proxy_daemonsets(world)
    if not daemonsets:
        return KubeProxy(gaps=gaps, absent="" if gaps else "no kube-proxy runs in this cluster")
    daemonset, *others = daemonsets
    key = f"{daemonset.namespace}/kube-proxy"
    found = world.configmap(key)
    data = (found.data or {}) if found else {}
    text = data.get("config.conf")
    conf = ProxyConf() if text is None else parse_proxy_conf(text)
    return KubeProxy(
        gaps=gaps,
        daemonset=daemonset,
        pods=tuple({p.key: p for p in pods_of(world, daemonsets)}.values()),
        more=tuple(others),
        mode="" if text is None else conf.mode or "iptables",
        config=key if found else "",
        cluster_cidr=conf.cluster_cidr,
        detect_local=conf.detect_local or "",
        server=parse_server(data.get("kubeconfig.conf", "")),
        instances=pods_of_image(world, "/kube-proxy"),
    )


def proxied_services(world: World) -> ProxiedServices:
    """Build the table of Services that something on the way needs by their address."""
    gaps = world.gaps("services", "endpointslices")
    called = tuple(dict.fromkeys(w.backend.key for w in webhooks(world).items))
    name = coredns_service(world)
    dns = name.key if name else ""
    keys = dict.fromkeys(
        (_API_SERVER, *([dns] if dns else []), *called, *(b.key for b in backends(world).items))
    )
    found = (world.services[k] for k in keys if k in world.services)
    addressed = [s for s in found if s.spec.ipv4]
    items = [
        world.backend(s.key, p.name or str(p.port)) for s in addressed for p in s.spec.ports or ()
    ]
    return ProxiedServices(
        gaps=gaps,
        absent="" if gaps or items else "there is no Service with an IPv4 address",
        items=tuple(items[:_MOST]),
        dns=dns,
        webhooks=called,
        ranges=_ranges(world),
        taken=tuple(s.spec.ipv4 for s in world.services.values() if s.spec.ipv4),
    )


def _ranges(world: World) -> tuple[str, ...]:
    """Read the Services' networks out of the API servers' arguments; those of IPv6 are left out."""
    words = (
        w
        for p in pods_of_image(world, "/kube-apiserver")
        for c in p.spec.containers
        for w in (*(c.command or ()), *(c.args or ()))
    )
    found = (w.partition("=")[2] for w in words if w.startswith(_RANGE))
    parts = (part for text in found for part in text.split(",") if ":" not in part)
    return tuple(dict.fromkeys(p.strip() for p in parts if p.strip()))
