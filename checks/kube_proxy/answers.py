"""Service addresses answer from every node."""

from collections.abc import Iterator

from checks.common import and_list, by_chance, ids, node_hops
from checks.kube_proxy.shared import write_anew
from doctor.contract import check
from doctor.model.evidence import KubeProxy, NodeNetworks, Nodes, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import ANY, HopKind
from doctor.model.link import Link
from doctor.model.node import NodeNetwork

__all__ = ["KUBE_PROXY_RULES_MISSING", "SERVICE_IP_DEAD", "service_ip"]

KUBE_PROXY_RULES_MISSING = Code(
    "KUBE_PROXY_RULES_MISSING",
    Link.KUBE_PROXY,
    "kube-proxy runs on a node, but the rules that it should have written there do not work.",
)
SERVICE_IP_DEAD = Code(
    "SERVICE_IP_DEAD",
    Link.KUBE_PROXY,
    "Service addresses do not answer from a node that reaches what stands behind them.",
)
IPTABLES = {"", "iptables"}
_TABLE = "kube-proxy"
_DUMMY = "kube-ipvs0"


@check(
    id="kube-proxy.service-ip",
    title="Service addresses answer from every node",
    codes=(SERVICE_IP_DEAD, KUBE_PROXY_RULES_MISSING),
)
def service_ip(
    flows: ServiceIpFlows,
    nodes: Nodes | None,
    proxy: KubeProxy | None,
    networks: NodeNetworks | None,
) -> Iterator[Finding]:
    """Service addresses answer from every node.

    What it looks at:
        TCP to the API server's ClusterIP and to the API server itself, from pods and nodes alike.

    Why it matters:
        Every Service, CoreDNS's included, is reached by the same rules of the same node.

    What proves it:
        The ClusterIP fails while the API server's own address answers the same vantage in the same
        minute. The chains of the nat table tell whether the rules are there.

    Look-alikes:
        Where the direct connection fails too, the network below is broken: no finding here. A node
        without kube-proxy is said by kube-proxy.on-every-node, which explains this.

    Remediation:
        Restart kube-proxy on the node, and stop what flushed its rules.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies" and "Debug Services".
    """
    dead: dict[str, list[Observation]] = {}
    for seen in flows.of(Purpose.SERVICE_IP):
        vantage = seen.flow.vantage
        direct = [o for o in flows.of(Purpose.API_DIRECT) if o.flow.vantage == vantage]
        failed = seen.failure not in {None, Failure.UNKNOWN}
        if vantage.node and failed and direct and all(o.ok for o in direct):
            dead.setdefault(vantage.node, []).append(seen)
    groups: dict[tuple[Code, str], list[str]] = {}
    for name in sorted(dead):
        groups.setdefault(_kind(name, proxy, networks, dead[name][0].flow.address), []).append(name)
    for (code, why), names in groups.items():
        for hop, after in node_hops(HopKind.KUBE_PROXY, nodes or Nodes(), names):
            lost = [o for n in names for o in dead[n]]
            title = (
                f"Service address {and_list(o.flow.address for o in lost)} does not answer from "
                f"{and_list(names)}, though the API server behind it does" + (why and f": {why}")
            )
            made = Finding(
                code=code,
                title=title,
                hop=hop,
                evidence=_proofs(flows, lost, names, networks),
                confidence=Confidence.LIKELY if why else Confidence.CERTAIN,
                consequence_of=((hop,) if hop.where != ANY else ()) + after,
                remediation=(write_anew(proxy, names),),
                falsifier=f"The same address answers from {and_list(names)}",
            )
            yield by_chance(made, lost) if code is SERVICE_IP_DEAD else made


def _proofs(
    flows: ServiceIpFlows,
    lost: list[Observation],
    names: list[str],
    networks: NodeNetworks | None,
) -> tuple[str, ...]:
    """Cite the flows that failed, those that passed, and the chains that were read."""
    vantages = {o.flow.vantage for o in lost}
    direct = [o for o in flows.of(Purpose.API_DIRECT) if o.flow.vantage in vantages]
    read = [r.evidence for r in map(networks.of, names) if r] if networks else []
    return (*ids(lost), *ids(direct), *read)


def _kind(
    name: str, proxy: KubeProxy | None, networks: NodeNetworks | None, address: str
) -> tuple[Code, str]:
    """Say whether kube-proxy's rules are missing although it is ready."""
    pod, read = proxy.on(name) if proxy else None, networks.of(name) if networks else None
    if not proxy or not pod or not pod.ready:
        return SERVICE_IP_DEAD, ""
    if read and proxy.mode == "nftables" and read.chain(_TABLE, "nat-prerouting"):
        return _by_nftables(read)
    if read and proxy.mode == "ipvs" and read.links:
        return _by_ipvs(read, address)
    if not read or not read.tools or proxy.mode not in IPTABLES:
        return KUBE_PROXY_RULES_MISSING, "kube-proxy is ready there, so its rules are missing"
    return _by_iptables(read)


def _by_iptables(read: NodeNetwork) -> tuple[Code, str]:
    """Say whether iptables leads to kube-proxy's chains."""
    if "KUBE-SERVICES" not in read.nat_chains:
        return KUBE_PROXY_RULES_MISSING, "kube-proxy is ready, but there is no chain KUBE-SERVICES"
    if empty := _unhooked(read, "nat", ("PREROUTING", "OUTPUT"), "KUBE-SERVICES"):
        why = f"kube-proxy is ready, but nothing in {empty} leads to its chain KUBE-SERVICES"
        return KUBE_PROXY_RULES_MISSING, why
    return SERVICE_IP_DEAD, "kube-proxy is ready and its chain KUBE-SERVICES is there"


def _by_nftables(read: NodeNetwork) -> tuple[Code, str]:
    """Say whether kube-proxy's table leads packets to its chain of Services."""
    if empty := _unhooked(read, _TABLE, ("nat-prerouting", "nat-output"), "services"):
        why = (
            f"kube-proxy is ready, but nothing in {empty} of its table leads to its chain services"
        )
        return KUBE_PROXY_RULES_MISSING, why
    return SERVICE_IP_DEAD, "kube-proxy is ready and its table is there"


def _by_ipvs(read: NodeNetwork, address: str) -> tuple[Code, str]:
    """Say whether the node has the Service's address for itself, as IPVS needs it."""
    dummy = read.link(_DUMMY)
    own = [a.partition("/")[0] for a in dummy.addresses] if dummy else []
    if address in own:
        return SERVICE_IP_DEAD, f"kube-proxy is ready and {_DUMMY} has the address"
    lacks = f"{_DUMMY} does not have the address" if dummy else f"there is no {_DUMMY}"
    return KUBE_PROXY_RULES_MISSING, f"kube-proxy is ready in IPVS mode, but {lacks}"


def _unhooked(read: NodeNetwork, table: str, hooks: tuple[str, ...], target: str) -> str:
    """Name the chains at hooks that were read and do not lead on to kube-proxy's."""
    chains = [c for h in hooks if (c := read.chain(table, h))]
    return and_list(c.name for c in chains if all(r.target != target for r in c.rules))
