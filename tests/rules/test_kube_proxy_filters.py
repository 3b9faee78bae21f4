"""What a node drops of itself: by the kubelet's chain, by a full table, by rules of another kind."""

import msgspec
import pytest

from checks.kube_proxy.filters import conntrack, kubelet_chain
from checks.kube_proxy.kinds import one_kind
from doctor.model.evidence import KubeProxy, NodeNetworks
from doctor.model.finding import Severity
from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable, ServiceEntry
from doctor.model.node import NodeNetwork
from doctor.model.node_state import Conntrack, Sysctl
from doctor.model.verdict import Gap
from tests.rules.factories import MASTER, ONE, TWO, findings, flannel, network, networks, said
from tests.rules.proxied import RIGHT, entry, proxied, ruled

ALL, FULL, MIXED = "KUBE_FIREWALL_DROPS_ALL", "NODE_CONNTRACK_FULL", "KUBE_PROXY_BACKENDS_MIXED"
GONE = entry("10.244.9.9:53")
LOCALNET = Rule(
    Action.DROP,
    sources=("127.0.0.0/8",),
    destinations=("127.0.0.0/8",),
    states=("related", "established", "dnat"),
    inverted=("sources", "states"),
)
MARKED = Rule(Action.DROP, mark=(0x8000, 0x8000))
BARE = Rule(Action.DROP, text="-A KUBE-FIREWALL -j DROP")


def chained(*rules: Rule, chain: str = "KUBE-FIREWALL") -> NodeNetworks:
    """Put rules into a chain of the filter table of the first worker."""
    table = RuleTable(Origin.IPTABLES_NFT, "ip", "filter", (Chain(chain, rules),))
    return networks(msgspec.structs.replace(network(ONE), tables=(table,)))


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (networks(), set()),
        (chained(LOCALNET, MARKED), set()),
        (chained(LOCALNET, BARE), {(ALL, f"underlay:*>{ONE}")}),
        (chained(BARE, BARE), {(ALL, f"underlay:*>{ONE}")}),
        (chained(Rule(Action.DROP, other=True)), set()),
        (chained(Rule(Action.RETURN)), set()),
        # a DROP at the end of somebody else's chain is his own
        (chained(BARE, chain="MY-FIREWALL"), set()),
    ],
)
def test_the_kubelets_chain(read: NodeNetworks, expected: set[tuple[str, str]]) -> None:
    found = findings(kubelet_chain, read)
    assert said(found) == expected
    assert len(found) == len(expected)


def tracking(entries: int | None, most: int | None = 1000, *, drop: int = 0) -> NodeNetworks:
    """Make the first worker's table of connections. Not seen in a lab: the limit is the machine's."""
    count = Conntrack(entries=entries, drop=drop)
    limit = (Sysctl("net.netfilter.nf_conntrack_max", most),)
    return networks(msgspec.structs.replace(network(ONE), conntrack=count, sysctls=limit))


@pytest.mark.parametrize(
    ("read", "severity"),
    [
        (tracking(300), None),
        (tracking(300, drop=5), None),
        (tracking(900), None),
        (tracking(960), Severity.WARN),
        (tracking(1000, drop=70), Severity.FAIL),
        (tracking(850, drop=70), Severity.WARN),
        (tracking(None, drop=70), None),
        (tracking(1000, most=None), None),
        (networks(), None),
    ],
)
def test_a_full_table_of_connections(read: NodeNetworks, severity: Severity | None) -> None:
    found = findings(conntrack, read)
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert said(found) <= {(FULL, f"underlay:*>{ONE}")}


def twice(
    left: ServiceEntry, own: ServiceEntry = RIGHT, kind: Origin = Origin.IPTABLES_LEGACY
) -> NodeNetwork:
    """Make a node with rules of two kinds."""
    both = ((Origin.IPTABLES_NFT, (own,)), (kind, (left,)))
    return ruled(ONE, own, services_twice=both)


@pytest.mark.parametrize(
    ("read", "left"),
    [
        (ruled(ONE, RIGHT), ""),
        (twice(GONE), "iptables-legacy"),
        (twice(RIGHT), "iptables-legacy"),
        # the one that is kept up is the legacy one
        (twice(RIGHT, own=GONE), "iptables-nft"),
        (twice(GONE, kind=Origin.NFT), "nft"),
    ],
)
def test_rules_of_two_kinds(read: NodeNetwork, left: str) -> None:
    found = findings(one_kind, networks(read), proxied(), None, flannel())
    assert said(found) == ({(MIXED, f"kube-proxy:{ONE}")} if left else set())
    assert all(f"so {left} is left from before" in f.title for f in found)
    tool = "nft delete" if left == "nft" else f"{left}-save"
    assert all(tool in f.remediation[0].commands[0] for f in found)
    assert all("kubectl -n kube-flannel exec" in f.remediation[0].commands[0] for f in found)


def test_what_the_left_ones_mislead() -> None:
    (found,) = findings(one_kind, networks(twice(GONE)), proxied(), None, None)
    assert "lead kube-system/kube-dns:53 to 10.244.9.9:53" in found.title
    (harmless,) = findings(one_kind, networks(twice(RIGHT)), proxied(), None, None)
    assert "lead" not in harmless.title.partition("from before")[2]
    assert harmless.severity is Severity.WARN


def test_the_kind_that_kube_proxy_writes_is_not_taken_away() -> None:
    read = twice(RIGHT, kind=Origin.NFT)
    (found,) = findings(one_kind, networks(read), proxied(), KubeProxy(mode="nftables"), None)
    assert "so iptables-nft is left" in found.title
    assert MASTER not in found.title
    assert TWO not in found.title


def test_endpoints_that_could_not_be_listed_prove_nothing() -> None:
    gap = Gap(needs="api:endpointslices", reason="forbidden", essential=True)
    blind = msgspec.structs.replace(proxied(), gaps=(gap,))
    assert findings(one_kind, networks(twice(GONE)), blind, None, None) == []
