"""Rules for Services in more than one kind of packet filter."""

from collections.abc import Iterator

from checks.common import and_list
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.evidence import Backend, Flannel, KubeProxy, NodeNetworks
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.netfilter import Origin, ServiceEntry
from doctor.model.node import NodeNetwork
from doctor.model.proxying import ProxiedServices

__all__ = ["KUBE_PROXY_BACKENDS_MIXED", "one_kind"]

KUBE_PROXY_BACKENDS_MIXED = Code(
    "KUBE_PROXY_BACKENDS_MIXED",
    Link.KUBE_PROXY,
    "Two kinds of packet filters on a node hold rules for Services; one kind is left from before.",
)
_TAKE_AWAY = {
    Origin.IPTABLES_NFT: "iptables-nft",
    Origin.IPTABLES_LEGACY: "iptables-legacy",
}


@check(
    id="kube-proxy.one-kind-of-rules",
    title="One kind of packet filter holds the rules for Services",
    codes=(KUBE_PROXY_BACKENDS_MIXED,),
    essential=False,
)
def one_kind(
    networks: NodeNetworks,
    services: ProxiedServices,
    proxy: KubeProxy | None,
    flannel: Flannel | None,
) -> Iterator[Finding]:
    """One kind of packet filter holds the rules for Services.

    What it looks at:
        On each node the entries of Services in iptables-nft, in iptables-legacy, and in kube-proxy's
        own table of nftables.

    Why it matters:
        The kernel asks all of them. If the programs that write rules change from one kind to
        another, as with an upgrade of the system or of an image, the rules of the other kind stay
        behind for good. Whichever translates an address first wins, though nobody keeps it up.

    What proves it:
        More than one kind leads Services to endpoints. Where one leads to addresses that are no
        endpoints while another leads to those that are, traffic may go where nobody is.

    Look-alikes:
        The kubelet makes a few chains called KUBE- of its own, in its own kind: they lead to no
        endpoint. A kube-proxy that hangs leaves wrong rules in the one kind there is.

    Remediation:
        Take kube-proxy's chains out of the kind that is left from before, or restart the node.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies". kubernetes/kubernetes issues
        71305, 109811, 107965. kubernetes-sigs/iptables-wrappers.
    """
    if services.lacks("services", "endpointslices"):
        return
    for read in networks.items:
        kinds = dict(read.services_twice)
        if len(kinds) < 2:  # noqa: PLR2004 - one is as it should be
            continue
        wrong = {k: found for k, e in kinds.items() if (found := _astray(e, services.items))}
        left = next((k for k in wrong if len(wrong) < len(kinds)), None)
        yield _finding(read, tuple(kinds), left or _other(proxy, tuple(kinds)), wrong, flannel)


def _astray(entries: tuple[ServiceEntry, ...], services: tuple[Backend, ...]) -> str:
    """Say where one kind's rules lead a Service to what is no endpoint; empty if they do not."""
    by_place = {(e.address, e.protocol, e.port): e for e in entries}
    for backend in services:
        if backend.service is None or backend.port is None:
            continue
        place = (
            backend.service.spec.ipv4,
            backend.port.protocol.lower(),
            backend.port.port,
        )
        entry = by_place.get(place)
        listed = {f"{e.address}:{e.port}" for e in backend.endpoints}
        gone = [t for t in (entry.endpoints if entry else ()) if t not in listed]
        if gone:
            return f"{backend.key}:{backend.port.port} to {and_list(gone)}"
    return ""


def _other(proxy: KubeProxy | None, kinds: tuple[Origin, ...]) -> Origin:
    """Choose the kind that kube-proxy does not write, as far as that is known."""
    own = Origin.NFT if proxy and proxy.mode == "nftables" else Origin.IPTABLES_NFT
    return next((k for k in reversed(kinds) if k is not own), kinds[-1])


def _finding(
    read: NodeNetwork,
    kinds: tuple[Origin, ...],
    left: Origin,
    wrong: dict[Origin, str],
    flannel: Flannel | None,
) -> Finding:
    """Say that rules are left from before, and whether they mislead."""
    misled = f"; those of {left} lead {wrong[left]}, which is no endpoint" if left in wrong else ""
    return Finding(
        code=KUBE_PROXY_BACKENDS_MIXED,
        title=(
            f"{and_list(kinds)} on {read.node} both hold rules for Services, so {left} is left "
            f"from before{misled}"
        ),
        hop=Hop(HopKind.KUBE_PROXY, read.node),
        evidence=(read.evidence,),
        severity=Severity.FAIL if wrong else Severity.WARN,
        remediation=(
            Remediation(
                title=f"Take the rules for Services out of {left} on {read.node}",
                commands=_commands(read.node, left, flannel),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{left} on {read.node} has no chain of kube-proxy's",
    )


def _commands(node: str, left: Origin, flannel: Flannel | None) -> tuple[str, ...]:
    """Write what takes kube-proxy's chains out of one kind."""
    enter = flannel.enter(node) if flannel else f"ssh {node} sudo"
    if left is Origin.NFT:
        return (f"{enter} nft delete table ip kube-proxy",)
    tool = _TAKE_AWAY[left]
    script = "; ".join(
        f"{tool}-save -t {table} | grep -v KUBE- | {tool}-restore -T {table}"
        for table in ("nat", "filter", "mangle")
    )
    return (f'{enter} sh -c "{script}"',)
