"""Checks that clients' queries are led to where CoreDNS is now."""

from collections.abc import Iterator

from checks.common import and_list
from checks.dns.codes import VERIFY, dns_code
from doctor.contract import check
from doctor.model.evidence import KubeProxy, StaleQueries, StaleQuery
from doctor.model.finding import Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind

__all__ = ["DNS_CONNTRACK_STALE", "tracked"]

DNS_CONNTRACK_STALE = dns_code(
    "DNS_CONNTRACK_STALE",
    "A node keeps leading a client's queries to an address of CoreDNS that is gone.",
)


@check(
    id="dns.conntrack",
    title="Clients' queries are led to where CoreDNS is now",
    codes=(DNS_CONNTRACK_STALE,),
    essential=False,
)
def tracked(table: StaleQueries, proxy: KubeProxy | None = None) -> Iterator[Finding]:
    """Clients' queries are led to where CoreDNS is now.

    What it looks at:
        What each node's connection tracking remembers of queries to the DNS Service, beside the
        addresses that pods have and where kube-proxy's rules lead; twice, where an entry leads to
        nobody.

    Why it matters:
        UDP has no end that could be seen. A client that keeps asking from one port keeps its entry
        alive, and with it the endpoint that was chosen first, long after that pod is gone. All that
        is started anew works, so nobody finds out why this one does not.

    What proves it:
        The entry leads to an address that no pod has, kube-proxy's rules lead elsewhere, and between
        two looks its time was extended: somebody still asks.

    Look-alikes:
        Where the rules still lead to the address, kube-proxy is behind, and at fault. Two kinds of
        rules that disagree are kube-proxy's, too. An entry that only runs out harms nobody.

    Remediation:
        Delete the entries; the client's next query makes one that leads to a pod.

    Sources:
        Kubernetes issues 48370, 114668 and 125467; conntrack-tools manual.
    """
    kept = [i for i in table.items if i.kept]
    for node in sorted({i.node for i in kept}):
        yield _finding([i for i in kept if i.node == node], table.server, proxy or KubeProxy())


def _finding(items: list[StaleQuery], server: str, proxy: KubeProxy) -> Finding:
    """Say whose queries a node leads to nobody."""
    node = items[0].node
    who = and_list(f"{i.pod or i.client} (port {i.port})" for i in items)
    gone = sorted({i.replier for i in items})
    return Finding(
        code=DNS_CONNTRACK_STALE,
        title=f"Node {node} leads what {who} asks of the DNS Service's address {server} to "
        f"{and_list(gone)}, which no pod has: connection tracking still has the entry of before, as "
        "whoever asks keeps it alive",
        hop=Hop(HopKind.KUBE_PROXY, node, "udp/53"),
        evidence=(
            *dict.fromkeys(i.evidence for i in items),
            *dict.fromkeys(f"api:pods/{i.pod}" for i in items if i.pod),
        ),
        consequence_of=(Hop(HopKind.KUBE_PROXY, node),),
        remediation=(
            Remediation(
                "Delete the entries that lead to nobody; the next query makes a new one",
                tuple(f"{_enter(node, proxy)} {_delete(server, g)}" for g in gone),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"{items[0].pod or items[0].client} gets an answer from {server} from its port "
        f"{items[0].port}",
    )


def _enter(node: str, proxy: KubeProxy) -> str:
    """Write the start of a command that has the program at hand: kube-proxy's image brings it along."""
    pod = proxy.on(node)
    ready = pod is not None and pod.ready
    return f"kubectl -n {pod.namespace} exec {pod.name} --" if pod and ready else f"ssh {node} sudo"


def _delete(server: str, gone: str) -> str:
    """Write the command that deletes what leads to one address."""
    return f"conntrack -D -p udp --orig-dst {server} --orig-port-dst 53 --reply-src {gone}"
