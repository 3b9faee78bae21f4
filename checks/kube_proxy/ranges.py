"""The networks of Services and of pods beside what else the nodes know."""

from collections.abc import Container, Iterator
from ipaddress import ip_address

import msgspec

from checks.common import and_list
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.address import is_address, specific_network
from doctor.model.evidence import Flannel, NodeNetworks, Nodes
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.link import Link
from doctor.model.node import NodeNetwork, Route
from doctor.model.proxying import ProxiedServices

__all__ = [
    "POD_CIDR_OVERLAPS",
    "SERVICE_CIDR_EXHAUSTED",
    "SERVICE_CIDR_OVERLAPS",
    "overlaps",
    "room",
]

SERVICE_CIDR_OVERLAPS = Code(
    "SERVICE_CIDR_OVERLAPS",
    Link.KUBE_PROXY,
    "Part of the network of Services is a network of somebody else's, too.",
)
POD_CIDR_OVERLAPS = Code(
    "POD_CIDR_OVERLAPS",
    Link.KUBE_PROXY,
    "Part of the network of pods is a network of somebody else's, too.",
)
SERVICE_CIDR_EXHAUSTED = Code(
    "SERVICE_CIDR_EXHAUSTED",
    Link.KUBE_PROXY,
    "There is no address left for another Service, or almost none.",
)
_OWN = (
    *("lo", "cni", "flannel", "veth", "kube-", "nodelocaldns", "docker", "br-"),
    *("cali", "vxlan.calico", "wireguard.cali", "tunl", "cilium", "lxc", "weave", "antrea", "ovn-"),
)
"""How devices begin that lead to no other network: the node's own, and what CNIs make for pods."""

_NETWORK_AND_BROADCAST = 2
_SCARCE = 0.95


@check(
    id="kube-proxy.networks",
    title="The networks of Services and of pods are the cluster's alone",
    codes=(SERVICE_CIDR_OVERLAPS, POD_CIDR_OVERLAPS),
    essential=False,
)
def overlaps(
    services: ProxiedServices, networks: NodeNetworks, nodes: Nodes, flannel: Flannel | None
) -> Iterator[Finding]:
    """The networks of Services and of pods are the cluster's alone.

    What it looks at:
        The network that the API server takes Services' addresses from, and flannel's, against the
        nodes' own addresses and their routes to elsewhere.

    Why it matters:
        A host whose address lies in the Services' network is out of reach as soon as a Service gets
        that address; one in the pods' network is out of reach from each node that holds its part.
        kube-proxy in nftables mode refuses what goes to any address of Services that none has.

    What proves it:
        A node's address, or a route to somewhere outside the cluster, lies inside of such a network.

    Look-alikes:
        A route to a network that contains the Services', as 10.0.0.0/8 does, is passed over by
        translation, and is no conflict by itself. Routes to pods by other nodes are flannel's own,
        whichever of a node's addresses they lead by: flannel may use another interface than the
        kubelet. Devices that another CNI plugin made lead to pods, too.
        A route that takes the pods of a node away right now is the overlay's fault.

    Remediation:
        Take the route away if nobody needs it. Else the cluster has to be made with other networks.

    Sources:
        Kubernetes documentation, "Cluster Networking", "Service ClusterIP allocation". kubeadm issue
        1591. kubernetes/kubernetes issue 17962.
    """
    addresses = {a: n.name for n in nodes.items for a in n.addresses}
    if not addresses:  # a route by another node would look like one to elsewhere
        return
    ours = {*addresses, *_of_interfaces(networks)}
    pods = flannel.network if flannel and not flannel.absent else ""
    kinds = [(SERVICE_CIDR_OVERLAPS, "Services", r) for r in services.ranges]
    kinds += [(POD_CIDR_OVERLAPS, "pods", pods)] if pods else []
    for code, whose, text in kinds:
        network = specific_network(text)
        if network is None:
            continue
        found: dict[str, list[NodeNetwork]] = {}
        for read in networks.items:
            for route in _foreign(read, ours):
                inner = specific_network(route.destination)
                if inner and inner != network and inner.subnet_of(network):
                    found.setdefault(_written(route), []).append(read)
        inside = sorted({n for a, n in addresses.items() if ip_address(a) in network})
        if inside:
            yield _inside(code, whose, text, inside)
        for written, readers in found.items():
            stated = _routed(code, whose, text, written, readers)
            yield msgspec.structs.replace(stated, consequence_of=_between(nodes, stated, readers))


def _of_interfaces(networks: NodeNetworks) -> Iterator[str]:
    """Yield the addresses that nodes have on any interface."""
    for read in networks.items:
        for link in read.links:
            yield from (a.partition("/")[0] for a in link.addresses)


def _foreign(read: NodeNetwork, nodes: Container[str]) -> Iterator[Route]:
    """Yield a node's routes to outside the cluster."""
    for route in read.routes:
        if not route.device.startswith(_OWN) and route.device and route.gateway not in nodes:
            yield route


def _written(route: Route) -> str:
    """Write a route as ip does."""
    by = f" via {route.gateway}" if route.gateway else ""
    return f"{route.destination}{by} dev {route.device}"


def _routed(
    code: Code, whose: str, network: str, route: str, readers: list[NodeNetwork]
) -> Finding:
    """Say that a route leads to a part of the network."""
    names = [r.node for r in readers]
    return Finding(
        code=code,
        title=(
            f"{and_list(names)} has a route to {route}, which is part of {network}, the network of "
            f"{whose}: hosts there are out of reach from the cluster, now or later"
        ),
        hop=Hop(HopKind.KUBE_PROXY, ",".join(names), route.partition(" ")[0]),
        evidence=tuple(r.evidence for r in readers),
        severity=Severity.WARN,
        remediation=(
            Remediation(
                title="Take the route away, if nobody needs what is there",
                commands=tuple(f"ssh {n} sudo ip route del {route}" for n in names),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"No route of {and_list(names)} leads into {network}",
    )


def _between(nodes: Nodes, said: Finding, readers: list[NodeNetwork]) -> tuple[Hop, ...]:
    """List the ways to the nodes whose pods a route leads elsewhere: broken by it, they tell of it."""
    network = specific_network(said.hop.what)
    ends = [
        n.name
        for n in nodes.items
        if network and (c := specific_network(n.pod_cidr)) and c.overlaps(network)
    ]
    return tuple(Hop(HopKind.UNDERLAY, f"{r.node}>{to}") for r in readers for to in ends)


def _inside(code: Code, whose: str, network: str, names: list[str]) -> Finding:
    """Say that nodes' own addresses lie in the network."""
    return Finding(
        code=code,
        title=(
            f"The addresses of {and_list(names)} lie in {network}, the network of {whose}: what is "
            "meant for one may reach the other"
        ),
        hop=Hop(HopKind.KUBE_PROXY, ANY, network),
        evidence=tuple(f"api:nodes/{n}" for n in names),
        remediation=(
            Remediation(
                title="Make the cluster anew with networks of its own",
                commands=("kubectl get nodes -o wide", "kubeadm init --help"),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"No node's address lies in {network}",
    )


@check(
    id="kube-proxy.addresses-left",
    title="There are addresses left for other Services",
    codes=(SERVICE_CIDR_EXHAUSTED,),
    essential=False,
)
def room(services: ProxiedServices) -> Iterator[Finding]:
    """There are addresses left for other Services.

    What it looks at:
        How many Services have an address, and how many the API server's network holds.

    Why it matters:
        Without a free address no Service can be made: "failed to allocate a serviceIP: range is
        full". Those that exist work on.

    What proves it:
        As many addresses are taken as the network has, or nearly.

    Look-alikes:
        Where Services have addresses outside of it, there are more networks than the one that the
        API server was told of: then nothing is said. A load balancer's pool is another matter.

    Remediation:
        Add a ServiceCIDR object with another network; before Kubernetes 1.33, give the API server a
        larger one. Delete Services that nobody needs.

    Sources:
        Kubernetes documentation, "Extend Service IP Ranges". kubernetes/kubernetes issues 131866,
        104088.
    """
    found = [n for r in services.ranges if (n := specific_network(r))]
    addresses = [ip_address(t) for t in services.taken if is_address(t)]
    if len(found) != 1 or services.lacks("services") or any(a not in found[0] for a in addresses):
        return
    size, taken = found[0].num_addresses - _NETWORK_AND_BROADCAST, len(set(addresses))
    if size <= 0 or taken < _SCARCE * size:
        return
    full = taken >= size
    yield Finding(
        code=SERVICE_CIDR_EXHAUSTED,
        title=(
            f"{taken} of the {size} addresses of {found[0]}, the network of Services, are taken"
            + (": no other Service can be made" if full else "")
        ),
        hop=Hop(HopKind.KUBE_PROXY, ANY, str(found[0])),
        evidence=("api:services",),
        severity=Severity.FAIL if full else Severity.WARN,
        remediation=(
            Remediation(
                title="Add another network for Services; $NETWORK is one that nobody else has",
                commands=(
                    "kubectl get servicecidrs",
                    (
                        'printf \'{"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR",'
                        '"metadata":{"name":"more-services"},"spec":{"cidrs":["%s"]}}\' "$NETWORK"'
                        " | kubectl apply -f -"
                    ),
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"Less than {round(_SCARCE * size)} addresses of {found[0]} are taken",
    )
