"""The checks of addresses: no podCIDR twice, and every pod inside that of its node."""

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_address
from itertools import combinations, islice

from checks.common import and_list
from checks.flannel.codes import (
    CNI_POD_OUTSIDE_PODCIDR,
    FLANNEL_PODCIDR_OVERLAP,
    VERIFY,
    pod_cidr,
)
from doctor.contract import check
from doctor.model.address import network_of
from doctor.model.evidence import Flannel, NodeNetworks, Nodes, PodAddress
from doctor.model.finding import Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind

__all__ = ["pod_addresses", "pod_cidrs"]

_CONFLIST = "10-flannel.conflist"
_ASIDE = "/var/lib/cni/set-aside"


@check(
    id="flannel.pod-cidrs",
    title="Every node has a podCIDR of its own",
    codes=(FLANNEL_PODCIDR_OVERLAP,),
)
def pod_cidrs(nodes: Nodes, flannel: Flannel) -> Iterator[Finding]:
    """Every node has a podCIDR of its own.

    What it looks at:
        The podCIDRs of all nodes.

    Why it matters:
        Pods of two nodes get the same addresses, and all other nodes send what is for either of
        them to one of the two.

    What proves it:
        The podCIDRs of two nodes overlap.

    Look-alikes:
        Pods that have addresses outside of their node's podCIDR: that is said by
        flannel.pod-addresses, and podCIDRs do not overlap then. A VXLAN device whose hardware
        address changed: all addresses are as they should be.

    Remediation:
        Take the node out of the cluster that was given the other's podCIDR, and register it anew
        with one that is free: the controller manager would take the podCIDR of the node that was
        deleted for free, although the other one still has it.

    Sources:
        Flannel documentation, "Kubernetes"; Kubernetes documentation, "Nodes".
    """
    if not flannel.daemonsets:
        return
    known = [(n.name, c) for n in nodes.items if (c := pod_cidr(nodes, n.name))]
    for (a, ours), (b, theirs) in combinations(known, 2):
        if not ours.overlaps(theirs):
            continue
        later = max((a, b), key=lambda n: _age(nodes, n))
        yield Finding(
            code=FLANNEL_PODCIDR_OVERLAP,
            title=f"The podCIDRs of {a} ({ours}) and {b} ({theirs}) overlap: their pods get the "
            "same addresses",
            hop=Hop(HopKind.POD_NETWORK, f"{a},{b}"),
            evidence=(f"api:nodes/{a}", f"api:nodes/{b}"),
            consequence_of=(),
            remediation=(_register_anew(nodes, later, flannel),),
            falsifier=f"The podCIDRs of {a} and {b} share no address",
        )


def _age(nodes: Nodes, name: str) -> tuple[str, str]:
    """Order nodes by when they were registered."""
    node = nodes.named(name)
    return (node.metadata.creation_timestamp or "" if node else ""), name


def _free(nodes: Nodes, name: str, flannel: Flannel) -> IPv4Network | None:
    """Return the first network of the pods' that is as wide as a node's and that no node has."""
    span, own = network_of(flannel.network or ""), pod_cidr(nodes, name)
    if not span or not own or own.prefixlen < span.prefixlen:
        return None
    taken = {c for n in nodes.items if (c := pod_cidr(nodes, n.name))}
    others = islice(span.subnets(new_prefix=own.prefixlen), len(taken) + 1)
    return next((c for c in others if not any(c.overlaps(t) for t in taken)), None)


def _created(name: str, cidr: IPv4Network) -> str:
    """Write the command that registers a node with a podCIDR."""
    spec = f'"spec":{{"podCIDR":"{cidr}","podCIDRs":["{cidr}"],"unschedulable":true}}'
    node = f'{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}},{spec}}}'
    return f"printf '%s' '{node}' | kubectl create -f -"


def _register_anew(nodes: Nodes, name: str, flannel: Flannel) -> Remediation:
    """Say how a node gets another podCIDR."""
    free = _free(nodes, name, flannel)
    return Remediation(
        title=f"Register {name} anew, so that it is assigned another podCIDR, and make its pods anew",
        commands=(
            f"kubectl drain {name} --ignore-daemonsets --delete-emptydir-data --force",
            f"kubectl delete node {name}",
            *((_created(name, free),) if free else ()),
            f'ssh {name} "sudo ip link delete cni0; sudo systemctl restart kubelet"',
            f"kubectl wait --for=create --timeout=120s node/{name}",
            *(() if free else (f"kubectl cordon {name}",)),
            *(
                f"kubectl -n {d.namespace} rollout {word}"
                for d in flannel.daemonsets
                for word in (
                    f"restart daemonset {d.name}",
                    f"status daemonset {d.name} --timeout=180s",
                )
            ),
            f"kubectl uncordon {name}",
        ),
        risk=Risk.DISRUPTIVE,
        verify=VERIFY,
    )


@check(
    id="flannel.pod-addresses",
    title="Every pod has an address of its node's podCIDR",
    codes=(CNI_POD_OUTSIDE_PODCIDR,),
)
def pod_addresses(
    nodes: Nodes, flannel: Flannel, networks: NodeNetworks | None
) -> Iterator[Finding]:
    """Every pod has an address of its node's podCIDR.

    What it looks at:
        The addresses of all pods that have one of their own, against their node's podCIDR.

    Why it matters:
        Other nodes route podCIDRs: what has another address is reached on its own node only.

    What proves it:
        Pods have addresses outside of the podCIDR, and outside of the subnet that flannel gives
        there: another CNI configuration than flannel's was in force when they started. It still
        is if all pods that were made since have such addresses, or most pods have; else it is
        not said to be, and it is a warning. The runtime takes the first file of /etc/cni/net.d in
        the order of names.

    Look-alikes:
        Flannel itself gives another subnet than the podCIDR: said by flannel.subnet-env. Two
        nodes with the same podCIDR: said by flannel.pod-cidrs, and pods are inside then. Pods that
        asked Multus for another network by an annotation have the address that they wanted.

    Remediation:
        Set the other configuration aside where it is in force, and make the pods anew.

    Sources:
        Flannel documentation, "Troubleshooting"; CNI specification, "Network configuration".
    """
    if not flannel.daemonsets:
        return
    for name in nodes.linux:
        cidr = pod_cidr(nodes, name)
        read = networks.of(name) if networks else None
        own = network_of(read.subnet_env.subnet) if read and read.subnet_env else None
        given = [n for n in (cidr, own) if n]
        pods = [p for p in flannel.addressed if p.node == name]
        strays = [p for p in pods if cidr and not any(_inside(p, str(n)) for n in given)]
        if strays:
            rest = [p for p in pods if p not in strays]
            yield _outside(name, str(cidr), strays, now=_in_force(strays, rest))


def _in_force(strays: list[PodAddress], rest: list[PodAddress]) -> bool:
    """Say whether pods that are made now are outside, too: all since the first, or most of all."""
    first = min(p.since for p in strays)
    return len(strays) > len(rest) or not any(p.since > first for p in rest)


def _inside(pod: PodAddress, network: str) -> bool:
    """Say whether a pod's address is in a network, or is none of IPv4."""
    try:
        address = ip_address(pod.address)
    except ValueError:
        return True
    net = network_of(network)
    return address.version != 4 or net is None or address in net  # noqa: PLR2004


def _outside(name: str, cidr: str, strays: list[PodAddress], *, now: bool) -> Finding:
    """Say which pods of a node have addresses that nobody routes to."""
    shown = and_list((f"{p.pod} {p.address}" for p in strays), most=2)
    owners = " && ".join(
        f"kubectl -n {p.pod.partition('/')[0]} delete pod {p.pod.partition('/')[2]}"
        for p in sorted(strays, key=lambda p: p.pod)[:8]
    )
    why = (
        "another CNI configuration than flannel's is in force there"
        if now
        else "they did not get them from flannel, as pods made later did"
    )
    move = f'[ "$f" = {_CONFLIST} ] || [ ! -f "$f" ] || mv "$f" {_ASIDE}/'
    aside = (
        f"ssh {name} \"sudo sh -c 'mkdir -p {_ASIDE}; cd /etc/cni/net.d && for f in *; "
        f"do {move}; done'\"".replace('"$f"', '\\"\\$f\\"')
    )
    return Finding(
        code=CNI_POD_OUTSIDE_PODCIDR,
        title=f"Pods on {name} have addresses outside of its podCIDR {cidr} ({shown}): {why}, "
        "and no other node routes to them",
        hop=Hop(HopKind.POD_NETWORK, name),
        evidence=(f"api:nodes/{name}", *(f"api:pods/{p.pod}" for p in strays[:8])),
        severity=Severity.FAIL if now else Severity.WARN,
        remediation=(
            Remediation(
                title=f"Set all but flannel's configuration aside on {name}, and make the pods anew"
                if now
                else "Make these pods anew, unless they are to be in another network",
                commands=(
                    f"ssh {name} ls /etc/cni/net.d",
                    *((aside,) if now else ()),
                    owners,
                ),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"A new pod on {name} has an address of {cidr}"
        if now
        else f"Pods of other nodes reach {strays[0].address}",
    )
