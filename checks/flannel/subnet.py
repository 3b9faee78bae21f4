"""The check that flannel gives the network that each node was assigned."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_network

from checks.common import and_list, node_hops, sharing
from checks.flannel.codes import (
    FLANNEL_SUBNET_ENV_MISSING,
    FLANNEL_SUBNET_MISMATCH,
    VERIFY,
    pod_cidr,
)
from doctor.contract import check
from doctor.model.address import network_of
from doctor.model.evidence import Flannel, NodeNetworks, Nodes
from doctor.model.finding import Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod

__all__ = ["outside_network", "subnet_env"]


@check(
    id="flannel.subnet-env",
    title="Flannel gives every node the subnet that Kubernetes assigned to it",
    codes=(FLANNEL_SUBNET_ENV_MISSING, FLANNEL_SUBNET_MISMATCH),
)
def subnet_env(nodes: Nodes, flannel: Flannel, networks: NodeNetworks | None) -> Iterator[Finding]:
    """Flannel gives every node the subnet that Kubernetes assigned to it.

    What it looks at:
        The network of net-conf.json, each node's podCIDR, and /run/flannel/subnet.env on each node.

    Why it matters:
        The CNI plugin takes subnet and MTU from that file. Without it no pod starts; with another
        subnet, pods get addresses that no other node routes to.

    What proves it:
        The file was read as absent while flannel's pod is ready, or containment of the three
        networks fails.

    Look-alikes:
        A file that could not be read is no absent file. A file that is absent because flannel does
        not run or is not ready is said by flannel.on-every-node.

    Remediation:
        Restart flannel's pod, which writes the file, or bring net-conf.json and podCIDR together.
        Never write the file by hand.

    Sources:
        Flannel documentation, "Kubernetes", "Configuration" and "Troubleshooting".
    """
    if not flannel.daemonsets:
        return
    outside = [n for n in nodes.linux if outside_network(nodes, flannel, n)]
    if outside:
        yield from _wrong_network(nodes, flannel, outside)
    for name in nodes.linux:
        pod, read = flannel.on(name), networks.of(name) if networks else None
        if pod and pod.ready and read and read.subnet_env is None:
            yield _absent(pod, read.evidence)
        elif read and read.subnet_env and name not in outside:
            yield from _other_subnet(nodes, pod, read.subnet_env.subnet, name, read.evidence)


def outside_network(nodes: Nodes, flannel: Flannel, name: str) -> bool:
    """Say whether a node's podCIDR lies outside flannel's network."""
    network, cidr = network_of(flannel.network), pod_cidr(nodes, name)
    return bool(network and cidr and not cidr.subnet_of(network))


def _wrong_network(nodes: Nodes, flannel: Flannel, names: list[str]) -> Iterator[Finding]:
    """Say that net-conf.json is not about the nodes' pod CIDRs."""
    cidrs = [c for c in (pod_cidr(nodes, n) for n in names) if c]
    for hop, after in node_hops(HopKind.FLANNEL, nodes, names):
        yield Finding(
            code=FLANNEL_SUBNET_MISMATCH,
            title=f"Flannel's network {flannel.network} (net-conf.json in ConfigMap "
            f"{flannel.config}) does not contain the podCIDR {and_list(map(str, cidrs))} of "
            f"{and_list(names)}",
            hop=hop,
            evidence=(f"api:configmaps/{flannel.config}", *(f"api:nodes/{n}" for n in names)),
            consequence_of=after,
            remediation=(_set_network(flannel, cidrs),),
            falsifier="The podCIDR of every node lies in the Network of net-conf.json",
        )


def _set_network(flannel: Flannel, cidrs: Iterable[IPv4Network]) -> Remediation:
    """Say how to give flannel the network that the podCIDRs come from."""
    namespace, _, name = flannel.config.partition("/")
    network = ip_network(flannel.network, strict=False)
    wider = {str(c.supernet(new_prefix=min(network.prefixlen, c.prefixlen))) for c in cidrs}
    replace = (
        f"kubectl -n {namespace} get configmap {name} -o yaml"
        f" | sed 's#{flannel.network}#{min(wider)}#' | kubectl replace -f -"
    )
    edit = f"kubectl -n {namespace} edit configmap {name}"
    return Remediation(
        title="Give flannel the network that the podCIDRs come from, and restart it",
        commands=(
            replace if len(wider) == 1 else edit,
            *(
                f"kubectl -n {d.namespace} rollout restart daemonset {d.name}"
                for d in flannel.daemonsets
            ),
        ),
        risk=Risk.DISRUPTIVE,
        verify=VERIFY,
    )


def _again(pod: Pod | None, node: str) -> tuple[Remediation, ...]:
    """Say how to make flannel write its file again."""
    command = f"kubectl -n {pod.namespace} delete pod {pod.name}" if pod else ""
    return (
        (Remediation(f"Let flannel on {node} write it anew", (command,), Risk.SAFE, VERIFY),)
        if command
        else ()
    )


def _absent(pod: Pod, evidence: str) -> Finding:
    """Say that the file is absent although flannel is ready."""
    return Finding(
        code=FLANNEL_SUBNET_ENV_MISSING,
        title=f"/run/flannel/subnet.env is absent on {pod.node} although flannel is ready there: "
        "new pods get no network",
        hop=Hop(HopKind.FLANNEL, pod.node),
        evidence=(evidence, f"api:pods/{pod.key}"),
        remediation=_again(pod, pod.node),
        falsifier=f"The file exists on {pod.node}, or a new pod starts there",
    )


def _other_subnet(
    nodes: Nodes, pod: Pod | None, subnet: str, name: str, evidence: str
) -> Iterator[Finding]:
    """Say that flannel's subnet on a node is not the node's podCIDR."""
    cidr, ours = pod_cidr(nodes, name), network_of(subnet)
    if not cidr or not ours or ours.subnet_of(cidr):
        return
    yield Finding(
        code=FLANNEL_SUBNET_MISMATCH,
        title=f"Flannel gives pods on {name} addresses of {subnet}, but the node's podCIDR is "
        f"{cidr}: no other node routes to them",
        hop=Hop(HopKind.FLANNEL, name),
        evidence=(evidence, f"api:nodes/{name}"),
        # whoever is given a podCIDR of another node's is soon at odds with it
        consequence_of=sharing(nodes, [name]),
        remediation=_again(pod, name),
        falsifier=f"FLANNEL_SUBNET in /run/flannel/subnet.env on {name} lies in {cidr}",
    )
