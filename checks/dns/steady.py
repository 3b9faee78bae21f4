"""Checks that CoreDNS answers each query, not only some."""

from collections.abc import Iterator

from checks.common import and_list, ids
from checks.dns.codes import VERIFY, dns_code
from doctor.contract import check
from doctor.model.evidence import DnsFlows, DnsService
from doctor.model.finding import Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import Hop, HopKind

__all__ = ["DNS_LOSSY", "steady"]

DNS_LOSSY = dns_code("DNS_LOSSY", "A part of the queries over UDP gets no answer.")

_LEAST_LOST = 2
_LEAST_SHARE = 0.05


@check(
    id="dns.steady",
    title="CoreDNS answers each query over UDP",
    codes=(DNS_LOSSY,),
    essential=False,
)
def steady(dns: DnsService, flows: DnsFlows) -> Iterator[Finding]:
    """CoreDNS answers each query over UDP.

    What it looks at:
        A fixed number of queries from every vantage to every replica, sent once each.

    Why it matters:
        A lost query costs the program that asks five seconds. Pages are then slow now and then,
        and nothing else shows it.

    What proves it:
        Of the queries of one kind some are answered and some are not, and more than a moment's.

    Look-alikes:
        If no query at all is answered, port 53 or the path is broken: another check's. If pings
        between the nodes are lost, too, the network between them is at fault, and this is folded
        under it.

    Remediation:
        See whether the replica that answers unsteadily is short of CPU, and whether conntrack
        drops or the network loses packets.

    Sources:
        Kubernetes documentation, "Debugging DNS Resolution" (known issues); "Using NodeLocal
        DNSCache in Kubernetes Clusters".
    """
    if dns.backend is None:
        return
    seen = [
        o
        for o in flows.of(Purpose.DNS, kind=FlowKind.DNS_UDP)
        if o.sent > 1 and o.ok and o.flow.address in {e.address for e in dns.backend.ready}
    ]
    lossy = [o for o in seen if o.degraded]
    lost, sent = sum(o.lost for o in seen), sum(o.sent for o in seen)
    if lost >= _LEAST_LOST and lost >= _LEAST_SHARE * sent:
        yield _lossy(dns.backend.key, lossy, lost, sent)


def _lossy(key: str, lossy: list[Observation], lost: int, sent: int) -> Finding:
    """Say how many queries were lost, and where."""
    namespace = key.partition("/")[0]
    where = and_list(f"{o.flow.address} from {o.flow.vantage}" for o in lossy)
    return Finding(
        code=DNS_LOSSY,
        title=f"{lost} of {sent} queries over UDP to the DNS server behind {key} get no answer: "
        f"{where}",
        hop=Hop(HopKind.SERVICE, key),
        evidence=ids(lossy),
        severity=Severity.WARN,
        confidence=Confidence.LIKELY,
        flows=ids(lossy),
        remediation=(
            Remediation(
                "See whether CoreDNS is short of CPU, and whether its node drops packets",
                (
                    f"kubectl -n {namespace} top pods -l k8s-app=kube-dns",
                    f"kubectl -n {namespace} logs -l k8s-app=kube-dns --tail=50",
                ),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier="A hundred queries over UDP are all answered",
    )
