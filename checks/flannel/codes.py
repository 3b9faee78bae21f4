"""The codes of flannel and of what it sets up on a node, with the words that several checks share."""

from ipaddress import IPv4Network

from doctor.model.address import network_of
from doctor.model.evidence import Nodes
from doctor.model.finding import Code
from doctor.model.link import Link

__all__ = [
    "CNI_ADDRESSES_EXHAUSTED",
    "CNI_BRIDGE_ADDRESS_CONFLICT",
    "CNI_BRIDGE_DOWN",
    "CNI_BRIDGE_WITHOUT_ADDRESS",
    "CNI_CONFIG_MISSING",
    "CNI_PLUGIN_MISSING",
    "CNI_POD_OUTSIDE_PODCIDR",
    "CNI_VETH_DETACHED",
    "FLANNEL_API_UNREACHABLE",
    "FLANNEL_BR_NETFILTER_MISSING",
    "FLANNEL_NETCONF_INVALID",
    "FLANNEL_NOT_ON_NODE",
    "FLANNEL_NOT_READY",
    "FLANNEL_PODCIDR_EXHAUSTED",
    "FLANNEL_PODCIDR_OVERLAP",
    "FLANNEL_PODCIDR_UNASSIGNED",
    "FLANNEL_RBAC_DENIED",
    "FLANNEL_SUBNET_ENV_MISSING",
    "FLANNEL_SUBNET_MISMATCH",
    "VERIFY",
    "pod_cidr",
]

VERIFY = "wwwm-doctor check flannel"


def _code(name: str, meaning: str) -> Code:
    """Make a code of this link."""
    return Code(name, Link.FLANNEL, meaning)


FLANNEL_NOT_ON_NODE = _code(
    "FLANNEL_NOT_ON_NODE",
    "No flannel pod exists on a Linux node: pods that start there get no network.",
)
FLANNEL_NOT_READY = _code("FLANNEL_NOT_READY", "Flannel's pod on a node exists and is not ready.")
FLANNEL_PODCIDR_UNASSIGNED = _code(
    "FLANNEL_PODCIDR_UNASSIGNED",
    "Flannel does not run on a node for want of a podCIDR, which nobody assigns.",
)
FLANNEL_PODCIDR_EXHAUSTED = _code(
    "FLANNEL_PODCIDR_EXHAUSTED",
    "Flannel does not run on a node for want of a podCIDR: the cluster's range has none left.",
)
FLANNEL_PODCIDR_OVERLAP = _code(
    "FLANNEL_PODCIDR_OVERLAP",
    "The podCIDRs of nodes overlap: their pods get the same addresses.",
)
FLANNEL_NETCONF_INVALID = _code(
    "FLANNEL_NETCONF_INVALID",
    "Flannel cannot read net-conf.json, its configuration.",
)
FLANNEL_RBAC_DENIED = _code(
    "FLANNEL_RBAC_DENIED",
    "The API server forbids flannel's service account what flannel needs.",
)
FLANNEL_API_UNREACHABLE = _code(
    "FLANNEL_API_UNREACHABLE",
    "Flannel does not reach the API server from a node.",
)
FLANNEL_BR_NETFILTER_MISSING = _code(
    "FLANNEL_BR_NETFILTER_MISSING",
    "Flannel ends because a node's kernel has not loaded the module br_netfilter.",
)
FLANNEL_SUBNET_ENV_MISSING = _code(
    "FLANNEL_SUBNET_ENV_MISSING",
    "Flannel runs on a node, but /run/flannel/subnet.env, which its CNI plugin reads, is absent.",
)
FLANNEL_SUBNET_MISMATCH = _code(
    "FLANNEL_SUBNET_MISMATCH",
    "Flannel's network or a node's subnet is not the one that Kubernetes assigned to the node.",
)
CNI_PLUGIN_MISSING = _code(
    "CNI_PLUGIN_MISSING",
    "The program of a CNI plugin is absent on a node: pods that start there get no network.",
)
CNI_CONFIG_MISSING = _code(
    "CNI_CONFIG_MISSING",
    "Flannel runs on a node, but its runtime finds no CNI configuration there.",
)
CNI_ADDRESSES_EXHAUSTED = _code(
    "CNI_ADDRESSES_EXHAUSTED",
    "All addresses of a node's podCIDR are taken: pods that start there get no network.",
)
CNI_BRIDGE_ADDRESS_CONFLICT = _code(
    "CNI_BRIDGE_ADDRESS_CONFLICT",
    "The pods' bridge on a node has another address than the gateway of the node's subnet.",
)
CNI_BRIDGE_WITHOUT_ADDRESS = _code(
    "CNI_BRIDGE_WITHOUT_ADDRESS",
    "The pods' bridge on a node has no address, so its pods have no gateway.",
)
CNI_BRIDGE_DOWN = _code(
    "CNI_BRIDGE_DOWN", "The pods' bridge on a node is down: it forwards nothing."
)
CNI_VETH_DETACHED = _code(
    "CNI_VETH_DETACHED", "The link of a pod is not attached to the pods' bridge on its node."
)
CNI_POD_OUTSIDE_PODCIDR = _code(
    "CNI_POD_OUTSIDE_PODCIDR",
    "Pods have addresses outside of their node's podCIDR: another CNI configuration gave them.",
)


def pod_cidr(nodes: Nodes, name: str) -> IPv4Network | None:
    """Return the podCIDR of a node, of IPv4."""
    node = nodes.named(name)
    return network_of(node.pod_cidr) if node else None
