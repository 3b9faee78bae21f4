"""What pods are told: the Service's address, another one, a cache on the node, another domain."""

import msgspec
import pytest

from checks.dns.resolver import pod_resolver
from doctor.model.evidence import DnsService, NodeResolver, Resolvers
from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.resolver import Corefile, Plugin, ResolvConf, ServerBlock
from doctor.parse.corefile import parse_corefile
from tests.rules.factories import DNS_IP, DNS_KEY, ONE, TWO, dns, findings, said, seen, vantage

SEARCH = ("x.svc.cluster.local", "svc.cluster.local", "cluster.local", "novalocal")
CACHE, OTHER, OUTSIDE = "169.254.20.10", "10.96.0.99", "203.0.113.53"


def told(node: str, *servers: str, search: tuple[str, ...] = SEARCH) -> NodeResolver:
    """Make what a pod on a node is told."""
    return NodeResolver(
        node, ResolvConf(servers, search, ("ndots:5",)), None, f"resolv.conf:{node}"
    )


RIGHT = told(ONE, DNS_IP)


def asked(node: str, address: str, failure: Failure | None) -> Observation:
    """Ask whom a pod is told of."""
    where = vantage("pod", node)
    return seen(Purpose.POD_RESOLVER, where, address, 53, failure, kind=FlowKind.DNS_UDP)


def corefile(*zones: str, whole: bool = True) -> DnsService:
    """Make the DNS Service with a Corefile that answers for some zones."""
    block = ServerBlock((".",), 53, (Plugin("kubernetes", zones),))
    return msgspec.structs.replace(
        dns(ONE, TWO), corefile=Corefile((block,), whole), domain=zones[0]
    )


def judge(
    *items: NodeResolver,
    observations: tuple[Observation, ...] = (),
    table: DnsService | None = None,
) -> set[tuple[str, str]]:
    """Run the check."""
    resolvers = Resolvers(items=items, observations=observations)
    return said(findings(pod_resolver, resolvers, table or corefile("cluster.local")))


def test_a_domain_that_stands_in_the_environment_is_not_known() -> None:
    conf = parse_corefile(".:53 {\n kubernetes {$CLUSTER_DOMAIN} in-addr.arpa\n}\n")
    table = msgspec.structs.replace(dns(ONE, TWO), corefile=conf)
    assert not conf.cluster_zones
    assert judge(RIGHT, table=table) == set()
    both = parse_corefile(".:53 {\n kubernetes {$CLUSTER_DOMAIN} corp.local\n}\n")
    assert judge(RIGHT, table=msgspec.structs.replace(table, corefile=both)) == set()


def test_the_service_is_asked() -> None:
    assert judge(RIGHT, told(TWO, DNS_IP)) == set()
    # a shortened list, and a spare behind the right one
    assert judge(told(ONE, DNS_IP, OUTSIDE, search=SEARCH[:3])) == set()
    assert judge() == set()


@pytest.mark.parametrize(
    ("address", "code"),
    [(OTHER, "DNS_CLUSTER_DNS_MISMATCH"), (CACHE, "DNS_NODE_LOCAL_DEAD")],
)
def test_another_address_that_does_not_answer(address: str, code: str) -> None:
    wrong = told(TWO, address)
    for failure in (Failure.TIMEOUT, Failure.NO_ROUTE, Failure.CONNECTION_REFUSED):
        lost = (asked(TWO, address, failure),)
        assert judge(RIGHT, wrong, observations=lost) == {(code, f"resolver:{TWO}")}
    assert judge(RIGHT, wrong, observations=(asked(TWO, address, None),)) == set()
    # it was not asked: then nothing is known of it
    assert judge(RIGHT, wrong) == set()


def test_nodes_that_are_told_the_same_are_one_finding() -> None:
    items = (told(ONE, OTHER), told(TWO, OTHER))
    lost = tuple(asked(n, OTHER, Failure.TIMEOUT) for n in (ONE, TWO))
    assert judge(*items, observations=lost) == {
        ("DNS_CLUSTER_DNS_MISMATCH", f"resolver:{ONE},{TWO}")
    }


def test_no_cluster_dns_at_all() -> None:
    bare = told(TWO, OUTSIDE, search=("novalocal",))
    answer = (asked(TWO, OUTSIDE, Failure.DNS_NXDOMAIN),)
    assert judge(RIGHT, bare, observations=answer) == {("DNS_CLUSTER_DNS_UNSET", f"resolver:{TWO}")}
    # a resolver outside that knows the cluster's names is somebody's design
    assert judge(RIGHT, bare, observations=(asked(TWO, OUTSIDE, None),)) == set()


def test_another_domain_than_the_corefiles() -> None:
    assert judge(RIGHT, table=corefile("k8s.local")) == {
        ("DNS_CLUSTER_DOMAIN_MISMATCH", f"resolver:{ONE}")
    }
    assert judge(RIGHT, table=corefile("k8s.local", "cluster.local")) == set()
    assert judge(RIGHT, table=corefile("k8s.local", whole=False)) == set()
    guessed = msgspec.structs.replace(corefile("k8s.local"), guessed=True)
    assert judge(RIGHT, table=guessed) == set()
    assert judge(RIGHT, table=dns(ONE)) == set()


def test_what_is_told_is_shown() -> None:
    resolvers = Resolvers(
        items=(told(TWO, OTHER),), observations=(asked(TWO, OTHER, Failure.TIMEOUT),)
    )
    (found,) = findings(pod_resolver, resolvers, corefile("cluster.local"))
    assert OTHER in found.title
    assert DNS_IP in found.title
    assert f"api:services/{DNS_KEY}" in found.evidence
    commands = " ".join(found.remediation[0].commands)
    assert f"ssh {TWO} \"sudo sed -i '" in commands
    assert ";\\$a clusterDNS" in commands
    assert f"clusterDNS: [{DNS_IP}]" in commands
