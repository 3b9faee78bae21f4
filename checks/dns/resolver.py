"""Checks that pods are told to ask the cluster's DNS, and to search where its names are."""

from collections.abc import Iterator

from checks.common import and_list, ids
from checks.dns.codes import VERIFY, dns_code
from checks.dns.mending import KUBELET_CONFIG, kubelets, namespace_of, restarts
from doctor.contract import check
from doctor.model.evidence import DnsService, NodeResolver, Resolvers, Upstreams
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind

__all__ = [
    "DNS_CLUSTER_DNS_MISMATCH",
    "DNS_CLUSTER_DNS_UNSET",
    "DNS_CLUSTER_DOMAIN_MISMATCH",
    "DNS_NODE_LOCAL_DEAD",
    "DNS_SEARCH_WILDCARD",
    "pod_resolver",
    "search",
]

DNS_CLUSTER_DNS_MISMATCH = dns_code(
    "DNS_CLUSTER_DNS_MISMATCH",
    "A kubelet tells its pods to ask an address that is not the cluster's DNS.",
)
DNS_CLUSTER_DNS_UNSET = dns_code(
    "DNS_CLUSTER_DNS_UNSET",
    "A kubelet knows no address of the cluster's DNS: its pods ask the node's resolvers.",
)
DNS_CLUSTER_DOMAIN_MISMATCH = dns_code(
    "DNS_CLUSTER_DOMAIN_MISMATCH",
    "A kubelet has its pods search another cluster domain than CoreDNS answers for.",
)
DNS_NODE_LOCAL_DEAD = dns_code(
    "DNS_NODE_LOCAL_DEAD",
    "Pods are told to ask a DNS cache on their node, and none answers there.",
)
DNS_SEARCH_WILDCARD = dns_code(
    "DNS_SEARCH_WILDCARD",
    "A domain that pods search answers for every name, so names outside resolve to its address.",
)

_LINK_LOCAL = "169.254."


@check(
    id="dns.pod-resolver",
    title="Pods are told to ask the cluster's DNS",
    codes=(
        DNS_CLUSTER_DNS_MISMATCH,
        DNS_CLUSTER_DNS_UNSET,
        DNS_CLUSTER_DOMAIN_MISMATCH,
        DNS_NODE_LOCAL_DEAD,
    ),
)
def pod_resolver(resolvers: Resolvers, dns: DnsService) -> Iterator[Finding]:
    """Pods are told to ask the cluster's DNS.

    What it looks at:
        The resolv.conf of a probe pod on each node, as the kubelet wrote it just now, beside the
        DNS Service's address and the zones of the Corefile. An address in it that is not the
        Service's is asked for a name of the cluster.

    Why it matters:
        CoreDNS and its Service may be in perfect order, and pods of one node ask somebody else.

    What proves it:
        The address in resolv.conf is not the Service's, and who is asked there does not answer for
        the cluster, while the Service is there. The search list ends in another domain than the
        Corefile's.

    Look-alikes:
        A DNS cache on the node has an address of its own, and answers: no finding. Pods that get
        no answer from the right address are another check's. A list of resolvers or domains that
        the kubelet shortened costs nothing where the cluster's own come first.

    Remediation:
        Correct clusterDNS or clusterDomain in the kubelet's configuration, restart it, and make the
        node's pods anew.

    Sources:
        Kubernetes documentation, "Debugging DNS Resolution", "DNS for Services and Pods" and "Using
        NodeLocal DNSCache in Kubernetes Clusters"; kubelet configuration, clusterDNS.
    """
    service = dns.backend.service if dns.backend else None
    if service is None:
        return
    address = service.spec.cluster_ip
    wrong: dict[tuple[str, str], list[NodeResolver]] = {}
    for item in resolvers.items:
        if said := _wrong_server(item, address, resolvers):
            wrong.setdefault(said, []).append(item)
        elif (domain := _domain(item)) and not _served(domain, dns):
            wrong.setdefault((DNS_CLUSTER_DOMAIN_MISMATCH.name, domain), []).append(item)
    for (code, told), items in wrong.items():
        yield _say(code, told, items, dns, resolvers)


def _wrong_server(item: NodeResolver, address: str, seen: Resolvers) -> tuple[str, str] | None:
    """Say which code an address in resolv.conf deserves, if it does; and the address."""
    servers = item.pod.nameservers
    if address in servers:
        return None
    asked = _asked(item, seen)
    if any(o.ok for o in asked):
        return None
    if not _domain(item):
        return DNS_CLUSTER_DNS_UNSET.name, ",".join(servers)
    if not asked:
        return None
    near = servers[0].startswith(_LINK_LOCAL)
    code = DNS_NODE_LOCAL_DEAD if near else DNS_CLUSTER_DNS_MISMATCH
    return code.name, ",".join(servers)


def _asked(item: NodeResolver, seen: Resolvers) -> list[Observation]:
    """Select what a pod asked of those that it is told of."""
    return [
        o
        for o in seen.of(Purpose.POD_RESOLVER)
        if o.flow.vantage.node == item.node and o.flow.address in item.pod.nameservers
    ]


def _domain(item: NodeResolver) -> str:
    """Read the cluster domain from a search list; empty where it names none."""
    found = (d.removeprefix("svc.") for d in item.pod.search if d.startswith("svc."))
    return next(found, "")


def _served(domain: str, dns: DnsService) -> bool:
    """Say whether CoreDNS answers for a cluster domain, or it is not known whether."""
    if dns.guessed or dns.corefile is None or not dns.corefile.whole:
        return True
    return domain in dns.corefile.cluster_zones or not dns.corefile.cluster_zones


_CODES = {
    c.name: c
    for c in (
        DNS_CLUSTER_DNS_MISMATCH,
        DNS_CLUSTER_DNS_UNSET,
        DNS_CLUSTER_DOMAIN_MISMATCH,
        DNS_NODE_LOCAL_DEAD,
    )
}


def _say(
    name: str, told: str, items: list[NodeResolver], dns: DnsService, seen: Resolvers
) -> Finding:
    """Say what the pods of some nodes are told, and what would be right."""
    code = _CODES[name]
    nodes = [i.node for i in items]
    flows = [o for i in items for o in _asked(i, seen)]
    key = dns.backend.key if dns.backend else ""
    return Finding(
        code=code,
        title=_title(code, told, nodes, dns),
        hop=Hop(HopKind.RESOLVER, ",".join(sorted(nodes))),
        evidence=(
            *(i.evidence for i in items),
            *ids(flows),
            f"api:services/{key}",
            *(_events(seen) if code is DNS_CLUSTER_DNS_UNSET else ()),
        ),
        remediation=_mend(code, told, nodes, dns),
        falsifier=f"a new pod on {nodes[0]} resolves kubernetes.default",
    )


def _events(seen: Resolvers) -> tuple[str, ...]:
    """List a few warnings of kubelets that they know no cluster DNS."""
    return tuple(f"api:events/{e.key}" for e in seen.events[:3])


def _title(code: Code, told: str, nodes: list[str], dns: DnsService) -> str:
    """Put it into words."""
    service = dns.backend.service if dns.backend else None
    address = service.spec.cluster_ip if service else ""
    where = and_list(nodes)
    words = told.replace(",", " and ")
    if code is DNS_CLUSTER_DNS_UNSET:
        return (
            f"The kubelet of {where} has no clusterDNS: pods there ask {words}, the node's own "
            f"resolvers, and not the cluster's DNS at {address}"
        )
    if code is DNS_NODE_LOCAL_DEAD:
        return (
            f"Pods on {where} are told to ask the DNS cache on their node, {words}, and nothing "
            f"answers there"
        )
    if code is DNS_CLUSTER_DOMAIN_MISMATCH:
        return (
            f"Pods on {where} search the cluster domain {told}, but the Corefile answers for "
            f"{dns.domain}"
        )
    return (
        f"The kubelet of {where} tells pods to ask {words}, which does not answer for the cluster; "
        f"the cluster's DNS is at {address}"
    )


def _mend(code: Code, told: str, nodes: list[str], dns: DnsService) -> tuple[Remediation, ...]:
    """Say how to correct it."""
    service = dns.backend.service if dns.backend else None
    address = service.spec.cluster_ip if service else ""
    if code is DNS_NODE_LOCAL_DEAD:
        commands = tuple(
            f"kubectl get pods -A -o wide -l k8s-app=node-local-dns --field-selector spec.nodeName={n}"
            for n in nodes
        )
        title = "Start the DNS cache there"
        other = kubelets(f"clusterDNS: [{address}]", nodes, "Or let pods ask the Service")
        restart = "kubectl -n kube-system rollout restart daemonset node-local-dns"
        return (Remediation(title, (*commands, restart), Risk.SAFE, VERIFY), other)
    if code is DNS_CLUSTER_DOMAIN_MISMATCH:
        return (_zone(told, nodes, dns),)
    title = "Correct clusterDNS in the kubelet's configuration, and restart it"
    return (kubelets(f"clusterDNS: [{address}]", nodes, title),)


def _zone(told: str, nodes: list[str], dns: DnsService) -> Remediation:
    """Say how to make both ends agree: most nodes are right."""
    namespace = namespace_of(dns.backend)
    old, new = dns.domain.replace(".", "[.]"), told
    get = f"kubectl -n {namespace} get configmap coredns -o yaml"
    return Remediation(
        f"Let CoreDNS answer for {told}; or, if {dns.domain} is meant, correct clusterDomain in "
        f"{KUBELET_CONFIG} on {and_list(nodes)}",
        (
            f"{get} | sed '/kubernetes /s|{old}|{new}|' | kubectl replace -f -",
            *restarts(dns.backend),
        ),
        Risk.SAFE,
        VERIFY,
    )


@check(
    id="dns.search",
    title="Domains that pods search answer for their own names only",
    codes=(DNS_SEARCH_WILDCARD,),
    essential=False,
)
def search(table: Upstreams, resolvers: Resolvers, dns: DnsService) -> Iterator[Finding]:
    """Domains that pods search answer for their own names only.

    What it looks at:
        A name that nobody has, asked below each domain of the nodes that pods search, too.

    Why it matters:
        A pod tries a name of fewer than five dots below each of these domains first. Where one has
        a wildcard record, example.org becomes example.org.that-domain, and leads to another host.

    What proves it:
        The made-up name is answered with an address. The same question for the absolute name of
        the cluster is answered rightly, and so is each name that ends in a dot.

    Look-alikes:
        A resolver that fails answers nothing, or with an error. A name that resolves wrongly with a
        dot at its end, too, is wrong at its source.

    Remediation:
        Take the domain out of what the kubelet hands on (resolvConf), or remove the wildcard; for
        single workloads, lower ndots.

    Sources:
        Kubernetes documentation, "DNS for Services and Pods" (dnsConfig); resolv.conf(5); kubelet
        configuration, resolvConf.
    """
    found = [o for o in table.of(Purpose.SEARCH) if o.ok and o.answers]
    for domain in dict.fromkeys(o.flow.subject for o in found):
        mine = [o for o in found if o.flow.subject == domain]
        nodes = [i.node for i in resolvers.items if domain in i.pod.search]
        yield _wildcard(domain, mine, nodes, dns)


def _wildcard(domain: str, seen: list[Observation], nodes: list[str], dns: DnsService) -> Finding:
    """Say that every name below a searched domain exists."""
    answers = and_list(a for o in seen for a in o.answers)
    where = f"pods on {and_list(nodes)}" if nodes else "pods"
    key = dns.backend.key if dns.backend else ""
    drop = f"/^search/s/ {domain.replace('.', '[.]')}\\b//"
    return Finding(
        code=DNS_SEARCH_WILDCARD,
        title=f"The domain {domain}, which {where} search, answers any name with {answers}: names "
        "outside the cluster resolve to that address in pods",
        hop=Hop(HopKind.DNS_NAME, domain),
        evidence=(*ids(seen), f"api:services/{key}"),
        remediation=(
            Remediation(
                "Give the kubelets a resolv.conf without that domain; pods keep the old one until "
                "they are made anew",
                tuple(
                    command
                    for n in nodes
                    for command in (
                        f"ssh {n} \"sudo sed -i '{drop}' /etc/resolv.conf\"",
                        f"ssh {n} sudo systemctl restart kubelet",
                    )
                )
                or (f"nslookup does-not-exist.{domain}.",),
                Risk.DISRUPTIVE,
                VERIFY,
            ),
            Remediation(
                f"Or remove the wildcard record *.{domain} at its DNS server, and see that it is gone",
                (f"nslookup does-not-exist.{domain}.",),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"does-not-exist.{domain}. does not resolve",
    )
