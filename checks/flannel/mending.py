"""How flannel is started again, once what its pods end with is mended: commands for this cluster."""

import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network

from checks.flannel.causes import Cause
from checks.flannel.codes import (
    FLANNEL_API_UNREACHABLE,
    FLANNEL_BR_NETFILTER_MISSING,
    FLANNEL_NETCONF_INVALID,
    FLANNEL_PODCIDR_EXHAUSTED,
    FLANNEL_PODCIDR_UNASSIGNED,
    FLANNEL_RBAC_DENIED,
    VERIFY,
    pod_cidr,
)
from doctor.model.address import network_of
from doctor.model.evidence import Flannel, Nodes
from doctor.model.finding import Code, Remediation, Risk
from doctor.model.kube import Pod

__all__ = ["free_cidrs", "mend"]

_MANIFEST = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
_USUAL_NETWORK = "10.244.0.0/16"
_MOST = 3

_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
]
"""What flannel's own manifest grants."""


def mend(nodes: Nodes, flannel: Flannel, cause: Cause, pods: list[Pod]) -> Remediation:
    """Say how to mend what keeps some pods of flannel from running."""
    title, commands = _MENDS.get(cause.code, _unknown)(nodes, flannel, pods)
    return Remediation(
        title=title,
        commands=(*commands, *_restart(pods)),
        risk=Risk.DISRUPTIVE if cause.code is FLANNEL_PODCIDR_EXHAUSTED else Risk.SAFE,
        verify=VERIFY,
    )


def _restart(pods: list[Pod]) -> Iterator[str]:
    """Start pods again, which would else wait for their back-off."""
    for namespace in dict.fromkeys(p.namespace for p in pods):
        names = " ".join(p.name for p in pods if p.namespace == namespace)
        yield f"kubectl -n {namespace} delete pod {names}"


def _unknown(_nodes: Nodes, _flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Nothing more is known: look."""
    return "Read its last words, mend what they name, and start it again", [
        f"kubectl -n {p.namespace} logs {p.name} --all-containers --previous" for p in pods[:_MOST]
    ]


def free_cidrs(nodes: Nodes, flannel: Flannel, count: int) -> list[IPv4Network]:
    """Choose parts of flannel's network that overlap no node's podCIDR."""
    network = network_of(flannel.network) or network_of(_USUAL_NETWORK)
    taken = [c for n in nodes.items if (c := pod_cidr(nodes, n.name))]
    if network is None:
        return []
    size = max((c.prefixlen for c in taken), default=24)
    free = (
        s
        for s in network.subnets(new_prefix=max(size, network.prefixlen))
        if not any(s.overlaps(t) for t in taken)
    )
    return [s for s, _ in zip(free, range(count), strict=False)]


def _assign(nodes: Nodes, flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Have the controller manager assign podCIDRs, or give each node one by hand."""
    masters = [n.name for n in nodes.items if n.control_plane]
    told = " ".join(flannel.assigner)
    if "--allocate-node-cidrs=false" in told and "--cluster-cidr=" in told and masters:
        change = f"sed -i 's/--allocate-node-cidrs=false/--allocate-node-cidrs=true/' {_MANIFEST}"
        names = " ".join(dict.fromkeys(p.node for p in pods))
        wait = f"kubectl wait --for=jsonpath='{{.spec.podCIDR}}' --timeout=120s node {names}"
        return "Have the controller manager assign a podCIDR to each node, and start flannel", [
            *(f"ssh {m} sudo {change}" for m in masters),
            wait,
        ]
    bare = list(dict.fromkeys(p.node for p in pods))
    given = zip(bare, free_cidrs(nodes, flannel, len(bare)), strict=False)
    look = "kubectl -n kube-system get pods -l component=kube-controller-manager -o yaml"
    return "Give the node a podCIDR, as the controller manager should, and start flannel there", [
        f"{look} | grep -E 'allocate-node-cidrs|cluster-cidr'",
        *(
            f"kubectl patch node {n} --type=merge -p "
            f'\'{{"spec":{{"podCIDR":"{c}","podCIDRs":["{c}"]}}}}\''
            for n, c in given
        ),
    ]


def _widen(nodes: Nodes, flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Give the controller manager a range that holds a podCIDR for each node."""
    told = next((a.partition("=")[2] for a in flannel.assigner if "cluster-cidr=" in a), "")
    narrow, network = network_of(told), network_of(flannel.network)
    masters = [n.name for n in nodes.items if n.control_plane]
    if narrow is None or not masters:
        return _assign(nodes, flannel, pods)
    wide = network if network and narrow.subnet_of(network) and narrow != network else None
    wide = wide or narrow.supernet(prefixlen_diff=min(1, narrow.prefixlen))
    change = f"sed -i 's#--cluster-cidr={told}#--cluster-cidr={wide}#' {_MANIFEST}"
    names = " ".join(dict.fromkeys(p.node for p in pods))
    return f"Let the controller manager assign podCIDRs of {wide}, and start flannel", [
        *(f"ssh {m} sudo {change}" for m in masters),
        f"kubectl wait --for=jsonpath='{{.spec.podCIDR}}' --timeout=120s node {names}",
    ]


def _allow(_nodes: Nodes, _flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Grant flannel's account what its own manifest grants."""
    account, namespace = pods[0].spec.service_account_name or "flannel", pods[0].namespace
    head = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    role = {**head, "kind": "ClusterRole", "metadata": {"name": "flannel"}, "rules": _RULES}
    bind = (
        "kubectl create clusterrolebinding flannel --clusterrole=flannel"
        f" --serviceaccount={namespace}:{account} --dry-run=client -o yaml | kubectl apply -f -"
    )
    return "Grant flannel's service account again what its manifest grants, and start flannel", [
        f"kubectl auth can-i list nodes --as=system:serviceaccount:{namespace}:{account} || true",
        f"echo '{json.dumps(role)}' | kubectl apply -f -",
        bind,
    ]


def _configure(nodes: Nodes, flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Write a net-conf.json that can be read, with the network that the podCIDRs come from."""
    namespace, _, name = flannel.config.partition("/")
    namespace, name = namespace or pods[0].namespace, name or "kube-flannel-cfg"
    conf = json.dumps({"Network": _network(nodes, flannel), "Backend": _backend(flannel)})
    patch = json.dumps({"data": {"net-conf.json": conf}})
    return "Write a net-conf.json that can be read, with the backend in use, and start flannel", [
        f"kubectl -n {namespace} get configmap {name} -o jsonpath='{{.data.net-conf\\.json}}'",
        f"kubectl -n {namespace} patch configmap {name} --type=merge -p '{patch}'",
    ]


def _backend(flannel: Flannel) -> dict[str, object]:
    """Describe the backend in use, as net-conf.json does."""
    port = {"Port": flannel.port} if flannel.port and flannel.backend == "vxlan" else {}
    return {"Type": flannel.backend or "vxlan", **port}


def _network(nodes: Nodes, flannel: Flannel) -> str:
    """Name the network that podCIDRs come from: the controller manager's, else the narrowest of all."""
    told = next((a.partition("=")[2] for a in flannel.assigner if "cluster-cidr=" in a), "")
    if network_of(told):
        return told
    cidrs = [c for n in nodes.items if (c := pod_cidr(nodes, n.name))]
    usual = network_of(_USUAL_NETWORK)
    if not cidrs or (usual and all(c.subnet_of(usual) for c in cidrs)):
        return _USUAL_NETWORK
    wide = cidrs[0]
    while not all(c.subnet_of(wide) for c in cidrs):
        wide = wide.supernet()
    return str(wide.supernet(new_prefix=min(16, wide.prefixlen)))


def _load(_nodes: Nodes, _flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """Load the module, now and after each start."""
    write = "sh -c 'echo br_netfilter > /etc/modules-load.d/br_netfilter.conf'"
    return "Load the module on the node, now and at each start, and start flannel again", [
        command
        for node in dict.fromkeys(p.node for p in pods)
        for command in (f"ssh {node} sudo modprobe br_netfilter", f'ssh {node} "sudo {write}"')
    ]


def _reach(_nodes: Nodes, _flannel: Flannel, pods: list[Pod]) -> tuple[str, list[str]]:
    """See where the way to the API server ends."""
    proxies = "kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide --field-selector"
    look = "sudo iptables-save | grep -E 'DROP|REJECT'"
    return "See whether the node reaches the API server at its Service and directly", [
        command
        for node in dict.fromkeys(p.node for p in pods[:_MOST])
        for command in (f"{proxies} spec.nodeName={node}", f'ssh {node} "{look}"')
    ]


_Mend = Callable[[Nodes, Flannel, list[Pod]], tuple[str, list[str]]]

_MENDS: dict[Code, _Mend] = {
    FLANNEL_PODCIDR_UNASSIGNED: _assign,
    FLANNEL_PODCIDR_EXHAUSTED: _widen,
    FLANNEL_RBAC_DENIED: _allow,
    FLANNEL_NETCONF_INVALID: _configure,
    FLANNEL_BR_NETFILTER_MISSING: _load,
    FLANNEL_API_UNREACHABLE: _reach,
}
