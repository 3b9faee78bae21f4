"""Sets of faults that show much the same, each told from the others by what discriminates them.

The numbers are those of the catalogue. A fault may be in several sets; one that is found under a name
of its own in a set is never called by the name of another member.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Faults that look alike.

    Attributes:
        seen: What an operator sees of each of them.
        members: Their names in the catalogue.
    """

    seen: str
    members: tuple[str, ...]


LOOKALIKES: Final[dict[str, Alike]] = {
    "L1": Alike(
        seen="Names do not resolve on other nodes.",
        members=(
            "sg-drops-8472",
            "sg-drops-53",
            "udp53-dropped",
            "tcp53-dropped",
            "coredns-at-zero",
            "dns-kubelet-clusterdns-mismatch",
            "dns-netpol-ingress-kube-system",
            "kube-proxy-gone",
        ),
    ),
    "L2": Alike(
        seen="Pods of two nodes do not reach each other, while the nodes do.",
        members=(
            "sg-drops-8472",
            "sg-drops-8472-oneway",
            "vxlan-8472-blocked-host-fw",
            "vxlan-8472-blocked-oneway",
            "vxlan-8472-blocked-nft",
            "flannel-vtep-mac-drift",
            "vxlan-port-mismatch",
            "vxlan-port-in-use",
            "vxlan-vni-mismatch",
            "vxlan-backend-type-mismatch",
            "vxlan-fdb-missing",
            "vxlan-neighbour-missing",
            "vxlan-route-missing",
            "vxlan-route-shadowed",
            "vxlan-flannel1-down",
            "node-rp-filter-strict",
            "node-underlay-down",
            "kp-kube-firewall-drop-all",
        ),
    ),
    "L3": Alike(
        seen="A pod does not get out of the cluster.",
        members=(
            "db-port-closed",
            "node-forward-policy-drop",
            "node-ip-forward-off",
            "eg-masquerade-missing",
        ),
    ),
    "L4": Alike(
        seen="A connection fails: timed out, refused, or no route.",
        members=(
            "sg-drops-8472",
            "coredns-at-zero",
            "selector-matches-nothing",
            "node-forward-policy-drop",
            "node-firewalld-reject",
            "node-forward-reject-default",
            "node-input-drops-pod-to-host",
        ),
    ),
    "L5": Alike(
        seen="Answers are missing only now and then.",
        members=(
            "bridge-nf-call-off",
            "hairpin-off",
            "dns-one-replica-bad-node",
            "dns-stale-udp-conntrack",
        ),
    ),
    "L6": Alike(
        seen="Traffic goes to an address that no pod has any more.",
        members=(
            "kube-proxy-hung",
            "kube-proxy-backends-mixed",
            "kube-proxy-rules-flushed",
            "dns-stale-udp-conntrack",
        ),
    ),
    "L7": Alike(
        seen="Small packets cross between nodes, or connections stand, and still it hangs.",
        members=("sg-drops-8472", "vxlan-mtu-blackhole", "mtu-inconsistent-pod-vs-flannel"),
    ),
    "L16": Alike(
        seen="Names outside of the cluster do not resolve.",
        members=(
            "dns-upstream-unreachable",
            "dns-upstream-pods-filtered",
            "dns-upstream-one-of-n-dead",
            "dns-ndots-wildcard-hijack",
            "dns-coredns-loop",
        ),
    ),
    "L17": Alike(
        seen="/run/flannel/subnet.env is missing on a node.",
        members=(
            "flannel-not-on-node",
            "cni-subnet-env-missing",
            "flannel-podcidr-unassigned",
            "flannel-podcidr-exhausted",
            "flannel-rbac-denied",
            "flannel-netconf-malformed",
            "flannel-br-netfilter-missing",
            "cni-stale-conflist",
        ),
    ),
    "L18": Alike(
        seen="Pods have addresses twice, or ones that nobody reaches.",
        members=("cni-stale-conflist", "podcidr-duplicate"),
    ),
}
