"""kube-proxy's rules on each node against the endpoints that the API server lists."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from checks.common import and_list, node_hops
from checks.kube_proxy.shared import write_anew
from doctor.contract import check
from doctor.model.evidence import Backend, KubeProxy, NodeNetworks, Nodes
from doctor.model.finding import Code, Finding
from doctor.model.hop import ANY, HopKind
from doctor.model.link import Link
from doctor.model.node import NodeNetwork
from doctor.model.node_state import ProxyHealth
from doctor.model.proxying import ProxiedServices

__all__ = ["KUBE_PROXY_RULES_STALE", "endpoints"]

KUBE_PROXY_RULES_STALE = Code(
    "KUBE_PROXY_RULES_STALE",
    Link.KUBE_PROXY,
    "kube-proxy no longer keeps its rules on a node up to date: they lead to endpoints that are gone.",
)
_OK = 200
_LONG_AGO = 20.0
_ALL = 4


class _Wrong(NamedTuple):
    """A port of a Service that a node's rules lead astray: to what is gone, past what is ready."""

    backend: Backend
    gone: tuple[str, ...]
    missed: tuple[str, ...]


@check(
    id="kube-proxy.endpoints",
    title="Rules of kube-proxy lead to the ready endpoints on every node",
    codes=(KUBE_PROXY_RULES_STALE,),
    essential=False,
)
def endpoints(
    services: ProxiedServices,
    networks: NodeNetworks,
    proxy: KubeProxy | None,
    nodes: Nodes | None,
) -> Iterator[Finding]:
    """Rules of kube-proxy lead to the ready endpoints on every node.

    What it looks at:
        The addresses that the rules on each node translate a Service's address to, in iptables and
        in nftables mode, against the endpoints that the API server lists; and what kube-proxy says
        on its health port. Services that pods, the API server or a target need are compared.

    Why it matters:
        A kube-proxy that hangs, or that cannot reach the API server, leaves its rules as they were.
        They go on to work until a pod moves; from then on some connections meet nobody.

    What proves it:
        Rules that lead to an address that is no endpoint any more, or lead nowhere although an
        endpoint is ready, on a node whose kube-proxy does not answer, says that it is behind, or
        wrote them a good while ago.

    Look-alikes:
        While a pod moves, rules and objects differ for a second on every node: kube-proxy has just
        written them. Entries of connection tracking outlive rules that are right by now. Rules of
        the other kind of iptables lead astray beside right ones: kube-proxy.one-kind-of-rules.

    Remediation:
        Start kube-proxy anew on that node: it writes all rules when it starts.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies", "Debug Services".
        kubernetes/kubernetes issues 125467, 109811.
    """
    if services.lacks("services", "endpointslices"):
        return
    wrong: dict[str, list[_Wrong]] = {}
    why: dict[str, str] = {}
    for read in networks.items:
        found = [] if read.services_twice else list(_wrong(read, services.items))
        reason = _late(read.proxy)
        if found and reason:
            wrong[read.node], why[read.node] = found, reason
    for reason in dict.fromkeys(why.values()):
        names = [n for n in why if why[n] == reason]
        for hop, after in node_hops(HopKind.KUBE_PROXY, nodes or Nodes(), names):
            here = [n for n in names if hop.where in (ANY, n)]
            yield Finding(
                code=KUBE_PROXY_RULES_STALE,
                title=(
                    f"kube-proxy's rules on {and_list(here)} are not kept up: "
                    f"{_said(w for n in here for w in wrong[n])}; {reason}"
                ),
                hop=hop,
                evidence=_cited(networks, wrong, here),
                consequence_of=after,
                remediation=(write_anew(proxy, here),),
                falsifier=f"The rules on {and_list(here)} lead to the endpoints that are listed",
            )


def _wrong(read: NodeNetwork, services: Iterable[Backend]) -> Iterator[_Wrong]:
    """Compare a node's rules with the endpoints of Services; where there is none, it is missing."""
    for backend in services if read.services else ():
        if backend.service is None or backend.port is None:
            continue
        spec, port = backend.service.spec, backend.port
        if not spec.ipv4:
            continue
        entry = read.service(spec.ipv4, port.protocol.lower(), port.port)
        targets = entry.endpoints if entry else ()
        listed = {f"{e.address}:{e.port}" for e in backend.endpoints}
        ready = tuple(f"{e.address}:{e.port}" for e in backend.ready)
        gone = tuple(t for t in targets if t not in listed)
        local = spec.internal_traffic_policy == "Local"
        missed = tuple(r for r in ready if r not in targets)
        # of several endpoints, rules may leave some out: those of another zone
        if gone or (ready and not targets and not local):
            yield _Wrong(backend, gone, missed)


def _late(health: ProxyHealth | None) -> str:
    """Say what shows that a node's rules are not just about to be written; empty for nothing."""
    if health is None:
        return ""
    if health.reason:
        return "kube-proxy there does not answer on its health port"
    if health.status != _OK:
        return "kube-proxy there says itself that it is behind"
    long_ago = health.age is not None and health.age >= _LONG_AGO
    return "kube-proxy there has not written them for a while" if long_ago else ""


def _said(wrong: Iterable[_Wrong]) -> str:
    """Put the first difference into words, and count the others."""
    found = list(wrong)
    first = next((w for w in found if w.gone), found[0])
    port = first.backend.port
    what = f"{first.backend.key}:{port.port if port else 0}"
    text = (
        f"{what} leads to {and_list(first.gone)}, which "
        + ("is no endpoint" if len(first.gone) == 1 else "are no endpoints")
        if first.gone
        else f"{what} leads nowhere"
    )
    if first.missed:
        verb = "is" if len(first.missed) == 1 else "are"
        text += f", while {and_list(first.missed)} {verb} ready"
    others = {w.backend.key for w in found} - {first.backend.key}
    return text + (f"; so with {and_list(others)}" if others else "")


def _cited(
    networks: NodeNetworks, wrong: dict[str, list[_Wrong]], names: list[str]
) -> tuple[str, ...]:
    """Cite what was read on the nodes, and the Services."""
    keys = dict.fromkeys(w.backend.key for n in names for w in wrong[n])
    read = (networks.of(n) for n in names[:_ALL])
    return (*(r.evidence for r in read if r), *(f"api:services/{k}" for k in keys))
