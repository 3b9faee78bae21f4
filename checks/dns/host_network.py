"""Checks that pods on their nodes' own network are told whom to ask for Services."""

from collections.abc import Iterator

from checks.common import and_list
from checks.dns.codes import VERIFY, dns_code
from doctor.contract import check
from doctor.model.evidence import HostPod, HostPods, Resolvers
from doctor.model.finding import Confidence, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind

__all__ = ["DNS_HOST_NETWORK_POLICY", "host_network"]

DNS_HOST_NETWORK_POLICY = dns_code(
    "DNS_HOST_NETWORK_POLICY",
    "Pods on their node's own network ask the node's resolver for a Service, which it does not know.",
)
_POLICY = "ClusterFirstWithHostNet"


@check(
    id="dns.host-network",
    title="Failing pods on their nodes' own network can look up the Services that they name",
    codes=(DNS_HOST_NETWORK_POLICY,),
    essential=False,
)
def host_network(table: HostPods, resolvers: Resolvers | None = None) -> Iterator[Finding]:
    """Failing pods on their nodes' own network can look up the Services that they name.

    What it looks at:
        Pods with hostNetwork that are not ready, whose environment names a Service of the cluster,
        their dnsPolicy, and the resolv.conf of pods on the node's own network.

    Why it matters:
        On the node's own network ClusterFirst, which is what a pod has that says nothing, means the
        node's resolvers. They know no Service, and the pod crashes on a name that works elsewhere.

    What proves it:
        The pod fails, its environment names a Service, its dnsPolicy is ClusterFirst, and the node's
        resolv.conf does not name the cluster's DNS.

    Look-alikes:
        Programs of the cluster itself run on the nodes' network all the time, and ask for no
        Service: only a pod that fails and names one is judged. Where the node's resolv.conf names
        the cluster's DNS, such pods can ask it. A pod that names Services by address needs no DNS.

    Remediation:
        Set dnsPolicy to ClusterFirstWithHostNet.

    Sources:
        Kubernetes documentation, "DNS for Services and Pods" (Pod's DNS Policy); ingress-nginx
        documentation, "Bare-metal considerations".
    """
    known = {r.node: r for r in resolvers.items} if resolvers else {}
    groups: dict[tuple[str, str], list[HostPod]] = {}
    for item in table.items if table.server else ():
        own = known[item.pod.node].own if item.pod.node in known else None
        if own is None or table.server not in own.nameservers:
            made = item.workload or f"pod/{item.pod.name}"
            groups.setdefault((item.pod.namespace, made), []).append(item)
    for (namespace, made), items in groups.items():
        aside = bool(table.site) and not any(i.pod.key in table.site for i in items)
        read = all(i.pod.node in known and known[i.pod.node].own for i in items)
        yield _finding(namespace, made, items, aside=aside, read=read)


def _finding(
    namespace: str, made: str, items: list[HostPod], *, aside: bool, read: bool
) -> Finding:
    """Say which pods ask the wrong resolvers, and for what."""
    names = and_list(n for i in items for n in i.names)
    pods = sorted(i.pod.key for i in items)
    nodes = sorted({i.pod.node for i in items if i.pod.node})
    patch = f'{{"spec":{{"template":{{"spec":{{"dnsPolicy":"{_POLICY}"}}}}}}}}'
    single = made.startswith("pod/")
    command = (
        f"kubectl -n {namespace} get {made} -o yaml | sed 's|dnsPolicy: .*|dnsPolicy: {_POLICY}|'"
        " | kubectl replace --force -f -"
        if single
        else f"kubectl -n {namespace} patch {made} --type=merge -p '{patch}'"
    )
    return Finding(
        code=DNS_HOST_NETWORK_POLICY,
        title=f"{and_list(pods)} run on their nodes' own network with dnsPolicy ClusterFirst, which "
        f"there means the node's resolvers: they do not know {names}, which these pods depend on",
        hop=Hop(HopKind.POD, ",".join(pods)),
        evidence=(
            *(f"api:pods/{p}" for p in pods),
            *((f"node:{n}" for n in nodes) if read else ()),
        ),
        severity=Severity.WARN if aside else Severity.FAIL,
        confidence=Confidence.LIKELY if read else Confidence.POSSIBLE,
        remediation=(
            Remediation(
                f"Have these pods ask the cluster's DNS ({_POLICY})",
                (command,),
                Risk.DISRUPTIVE if single else Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"{names} resolves in {pods[0]}",
    )
