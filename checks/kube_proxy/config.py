"""What kube-proxy is told, and how many of it there are."""

from collections.abc import Iterator

from checks.common import and_list, ids
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.address import network_of
from doctor.model.evidence import Flannel, KubeProxy, Nodes, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.flow import Purpose
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "KUBE_PROXY_API_UNREACHABLE",
    "KUBE_PROXY_CLUSTER_CIDR_WRONG",
    "KUBE_PROXY_DUPLICATE",
    "api_server",
    "cluster_cidr",
    "one_instance",
]

KUBE_PROXY_CLUSTER_CIDR_WRONG = Code(
    "KUBE_PROXY_CLUSTER_CIDR_WRONG",
    Link.KUBE_PROXY,
    "kube-proxy's clusterCIDR is not the pods' network: it takes one's traffic for the other's.",
)
KUBE_PROXY_API_UNREACHABLE = Code(
    "KUBE_PROXY_API_UNREACHABLE",
    Link.KUBE_PROXY,
    "kube-proxy is told to find the API server where nobody answers.",
)
KUBE_PROXY_DUPLICATE = Code(
    "KUBE_PROXY_DUPLICATE",
    Link.KUBE_PROXY,
    "Two kube-proxies run on one node, and each writes over the other's rules.",
)
_FLAG_OR_MODE = ("", "ClusterCIDR")


@check(
    id="kube-proxy.cluster-cidr",
    title="The network that kube-proxy takes for pods' is theirs",
    codes=(KUBE_PROXY_CLUSTER_CIDR_WRONG,),
    essential=False,
)
def cluster_cidr(
    proxy: KubeProxy, flannel: Flannel | None, nodes: Nodes | None = None
) -> Iterator[Finding]:
    """The network that kube-proxy takes for pods' is theirs.

    What it looks at:
        clusterCIDR in kube-proxy's configuration against the network that flannel gives out, and
        the podCIDRs of the nodes.

    Why it matters:
        kube-proxy puts a node's own address on packets for Services that do not come from pods, so
        that answers find their way back; clusterCIDR tells it which do. Without it, it cannot know:
        what comes from nodes or from outside may be answered past the node that translated it.
        With another network it hides every pod behind its node, from NetworkPolicies too.

    What proves it:
        The two networks do not overlap, or there is no clusterCIDR, while kube-proxy is told no other
        way to tell pods' traffic.

    Look-alikes:
        detectLocalMode NodeCIDR, BridgeInterface or InterfaceNamePrefix needs no clusterCIDR.
        Service addresses that do not answer at all are another fault. Where the nodes' podCIDRs are
        in clusterCIDR and not in flannel's network, flannel's is the wrong one.

    Remediation:
        Set clusterCIDR, and start kube-proxy anew.

    Sources:
        Kubernetes documentation, "kube-proxy Configuration". kubernetes/kubernetes issues 124587,
        36835, 24224.
    """
    pods = flannel.network if flannel and not flannel.absent else ""
    told = proxy.cluster_cidr
    if not pods or told is None or proxy.detect_local not in _FLAG_OR_MODE:
        return
    given = [n.pod_cidr for n in nodes.items if n.pod_cidr] if nodes else []
    if any(_overlap(part, own) for part in told.split(",") for own in (pods, *given)):
        return
    namespace, _, name = proxy.config.partition("/")
    owner = proxy.daemonset
    says = f"says {told}" if told else "is empty"
    yield Finding(
        code=KUBE_PROXY_CLUSTER_CIDR_WRONG,
        title=(
            f"clusterCIDR in kube-proxy's configuration {proxy.config} {says}, while pods are in "
            f"{pods}: kube-proxy cannot tell pods' traffic from others'"
        ),
        hop=Hop(HopKind.KUBE_PROXY, ANY, "cluster-cidr"),
        evidence=(f"api:configmaps/{proxy.config}",),
        severity=Severity.WARN,
        remediation=(
            Remediation(
                title=f"Set clusterCIDR to {pods}, and start kube-proxy anew",
                commands=(
                    (
                        f"kubectl -n {namespace} get configmap {name} -o yaml | "
                        f"sed -E 's#^( *clusterCIDR:).*#\\1 {pods}#' | kubectl apply -f -"
                    ),
                    *(
                        (f"kubectl -n {owner.namespace} rollout restart daemonset {owner.name}",)
                        if owner
                        else ()
                    ),
                ),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"clusterCIDR in {proxy.config} holds {pods}",
    )


def _overlap(one: str, other: str) -> bool:
    """Say whether two networks overlap; one that is not of IPv4, or not understood, does not."""
    a, b = network_of(one.strip()), network_of(other)
    return a is not None and b is not None and a.overlaps(b)


@check(
    id="kube-proxy.api-server",
    title="The API server answers where kube-proxy looks for it",
    codes=(KUBE_PROXY_API_UNREACHABLE,),
    essential=False,
)
def api_server(proxy: KubeProxy, flows: ServiceIpFlows, nodes: Nodes | None) -> Iterator[Finding]:
    """The API server answers where kube-proxy looks for it.

    What it looks at:
        The server in kube-proxy's kubeconfig. Where that is none of the API server's endpoints, a
        connection to it from every node, beside those to the endpoints themselves.

    Why it matters:
        kube-proxy reads Services and endpoints there. Without, it goes on with what it knew, and
        one that starts anew knows nothing: it writes no rule at all.

    What proves it:
        No node gets a connection to that server, while the API server's endpoints answer them.

    Look-alikes:
        A load balancer in front of several API servers is no endpoint, either, and answers. Where
        the endpoints do not answer, the network is broken. Some nodes alone: a filter, or a route.

    Remediation:
        Name a server in kube-proxy's ConfigMap that answers, and start kube-proxy anew.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies". kubernetes/kubernetes issues
        56642, 10480. kubeadm's documentation, "Creating Highly Available Clusters".
    """
    asked = flows.of(Purpose.PROXY_API)
    dead = [o for o in asked if o.failure not in {None, Failure.UNKNOWN}]
    places = {o.flow.vantage for o in asked}
    fine = [o for o in flows.of(Purpose.API_DIRECT) if o.flow.vantage in places and o.ok]
    if not dead or len(dead) < len(asked) or not fine or not proxy.server:
        return
    owner = proxy.daemonset
    namespace, _, name = proxy.config.partition("/")
    working = _working(proxy, nodes)
    server = f"https://{fine[0].flow.address}:{fine[0].flow.port}"
    yield Finding(
        code=KUBE_PROXY_API_UNREACHABLE,
        title=(
            f"kube-proxy looks for the API server at {proxy.server}, as {proxy.config} says, where "
            f"nobody answers any node, while {server} does"
            + ("" if working else "; it is not ready, or its rules are not kept up")
        ),
        hop=Hop(HopKind.KUBE_PROXY, ANY),
        evidence=(f"api:configmaps/{proxy.config}", *ids(dead), *ids(fine)),
        remediation=(
            Remediation(
                title=f"Let kube-proxy look at {server}, and start it anew",
                commands=(
                    (
                        f"kubectl -n {namespace} get configmap {name} -o yaml | "
                        f"sed -E 's#^( *(- )?server:).*#\\1 {server}#' | kubectl apply -f -"
                    ),
                    *(
                        (f"kubectl -n {owner.namespace} rollout restart daemonset {owner.name}",)
                        if owner
                        else ()
                    ),
                ),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{proxy.server} answers the nodes",
    )


def _working(proxy: KubeProxy, nodes: Nodes | None) -> bool:
    """Say whether kube-proxy is ready on every Linux node."""
    there = [proxy.on(n) for n in (nodes.linux if nodes else ())]
    return all(p is not None and p.ready for p in there)


@check(
    id="kube-proxy.one-instance",
    title="One kube-proxy runs on each node",
    codes=(KUBE_PROXY_DUPLICATE,),
    essential=False,
)
def one_instance(proxy: KubeProxy) -> Iterator[Finding]:
    """One kube-proxy runs on each node.

    What it looks at:
        The pods of every node with kube-proxy's image.

    Why it matters:
        Two of them write the same chains, each as it is told to. If they are told differently, or are
        of two versions, rules change to and fro, and some Services vanish for a while.

    What proves it:
        Two pods with kube-proxy's image on one node that run and are not on their way out.

    Look-alikes:
        While its DaemonSet is rolled out, the old pod of a node ends before the new one starts. One
        that the system starts itself is no pod: it is not seen here.

    Remediation:
        Delete the one that is not the DaemonSet's, with whatever makes it.

    Sources:
        Kubernetes documentation, "Virtual IPs and Service Proxies". zalando/postgres-operator issue
        1198 (a comment tells of one beside another).
    """
    by_node: dict[str, list[Pod]] = {}
    for pod in proxy.instances:
        if pod.ready and not pod.metadata.deletion_timestamp:
            by_node.setdefault(pod.node, []).append(pod)
    own = {p.key for p in proxy.pods}
    for node, there in sorted(by_node.items()):
        strays = [p for p in there if p.key not in own] or there[1:]
        if len(there) > 1:
            yield _duplicate(node, there, strays)


def _duplicate(node: str, there: list[Pod], strays: list[Pod]) -> Finding:
    """Say that two kube-proxies run on a node."""
    return Finding(
        code=KUBE_PROXY_DUPLICATE,
        title=(
            f"{len(there)} kube-proxies run on {node} ({and_list(p.key for p in there)}) and write "
            "over each other's rules"
        ),
        hop=Hop(HopKind.KUBE_PROXY, node, "instances"),
        evidence=tuple(f"api:pods/{p.key}" for p in there),
        severity=Severity.WARN,
        remediation=(
            Remediation(
                title=f"Take {and_list(p.key for p in strays)} away, with what makes it",
                commands=tuple(f"kubectl -n {p.namespace} delete {_owner(p)}" for p in strays),
                risk=Risk.DISRUPTIVE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"One pod on {node} has kube-proxy's image",
    )


def _owner(pod: Pod) -> str:
    """Name what makes a pod: its DaemonSet, or the pod itself."""
    owner = next((o for o in pod.metadata.owner_references or () if o.kind == "DaemonSet"), None)
    return f"daemonset {owner.name}" if owner else f"pod {pod.name}"
