"""Pods and the node under them: what it drops of theirs, and what only looks so."""

import msgspec
import pytest

from checks.overlay.own_node import own_node
from doctor.model.evidence import Mesh, NodeNetworks, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Finding, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import NodeSpec
from doctor.model.node import Link
from tests.rules.factories import (
    ADDRESSES,
    CIDRS,
    MASTER,
    ONE,
    filter_table,
    findings,
    flannel,
    network,
    networks,
    node,
    nodes,
    said,
    seen,
    vantage,
)

DROPS = "NODE_INPUT_DROPS_PODS"
LOST = Failure.TIMEOUT
NEW = "-A INPUT -i cni0 -m conntrack --ctstate NEW -j DROP"
KUBELET = 10250
API = 6443


def ask(failure: Failure | None = LOST) -> Observation:
    """Dial the kubelet of the control plane's node from a pod there."""
    where = vantage("pod", MASTER)
    return seen(Purpose.OWN_NODE, where, ADDRESSES[MASTER], KUBELET, failure, subject=MASTER)


def control(failure: Failure | None = None) -> Observation:
    """Dial it from another node."""
    where = vantage("node", ONE)
    return seen(Purpose.UNDERLAY, where, ADDRESSES[MASTER], KUBELET, failure, subject=MASTER)


def api(failure: Failure | None = LOST, kind: HopKind = HopKind.HOST_INPUT) -> ServiceIpFlows:
    """Dial the API server from that pod."""
    made = seen(Purpose.API_DIRECT, vantage("pod", MASTER), ADDRESSES[MASTER], API, failure)
    path = (Hop(kind, MASTER, f"tcp/{API}"),)
    return ServiceIpFlows(observations=(msgspec.structs.replace(made, hops=path, certain=path),))


def read(*rules: str, bridge: str = "cni0") -> NodeNetworks:
    """Make what was read inside the node."""
    made = network(MASTER)
    links = (*made.links, Link(bridge, kind="bridge"))
    return networks(msgspec.structs.replace(made, links=links, tables=filter_table(*rules)))


def judge(
    *flows: Observation, rules: NodeNetworks | None = None, others: ServiceIpFlows | None = None
) -> list[Finding]:
    """Run the check."""
    mesh = Mesh(observations=flows or (ask(), control()))
    return findings(own_node, mesh, rules or read(NEW), nodes(), flannel(), others)


@pytest.mark.parametrize(
    ("flows", "rule", "severity"),
    [
        ((ask(), control()), NEW, Severity.WARN),
        ((ask(), control()), "-A INPUT -i cni0 -j REJECT", Severity.WARN),
        ((ask(), control()), "-A INPUT ! -i eth0 -j DROP", Severity.WARN),
        ((ask(), control(Failure.CONNECTION_REFUSED)), NEW, Severity.WARN),
        # a precaution about the kubelet
        ((ask(), control()), "-A INPUT -i cni0 -p tcp --dport 10250 -j DROP", None),
        # answered, refused, or nobody is answered
        ((ask(None), control()), NEW, None),
        ((ask(Failure.CONNECTION_REFUSED), control()), NEW, None),
        ((ask(Failure.UNKNOWN), control()), NEW, None),
        ((ask(), control(LOST)), NEW, None),
        ((ask(),), NEW, None),
        # a rule about others, a chain that is not met, or a condition that is not understood
        ((ask(), control()), "-A INPUT -i eth0 -j DROP", None),
        ((ask(), control()), "-A INPUT -i cni0 -s 10.9.0.0/16 -j DROP", None),
        ((ask(), control()), "-A FORWARD -i cni0 -j DROP", None),
        ((ask(), control()), "-A INPUT -i cni0 -m set --match-set bad src -j DROP", None),
        ((ask(), control()), "-A INPUT -i cni0 -m conntrack --ctstate INVALID -j DROP", None),
    ],
)
def test_what_a_node_drops_of_its_own_pods(
    flows: tuple[Observation, ...], rule: str, severity: Severity | None
) -> None:
    found = judge(*flows, rules=read(rule))
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert said(found) <= {(DROPS, f"host-input:{MASTER}")}


def test_the_pods_network_of_ipv4_need_not_come_first() -> None:
    both = NodeSpec(pod_cidr="fd00:10:244::/64", pod_cidrs=("fd00:10:244::/64", CIDRS[MASTER]))
    table = nodes(msgspec.structs.replace(node(MASTER), spec=both))
    rule = read(f"-A INPUT -s {CIDRS[MASTER]} -j DROP")
    mesh = Mesh(observations=(ask(), control()))
    found = findings(own_node, mesh, rule, table, flannel(), None)
    assert said(found) == {(DROPS, f"host-input:{MASTER}")}


def test_it_fails_what_is_needed_there() -> None:
    (found,) = judge(others=api())
    assert found.severity is Severity.FAIL
    assert "reach other nodes and not the API server there and the kubelet" in found.title
    assert found.title.endswith(NEW)
    assert found.remediation[0].commands[0].endswith(f"iptables -D{NEW[2:]}")
    for others in (api(None), api(kind=HopKind.FORWARD)):
        assert [f.severity for f in judge(others=others)] == [Severity.WARN]
    closed = read("-A INPUT -i cni0 -p tcp -m multiport --dports 6443,10250 -j DROP")
    assert [f.severity for f in judge(rules=closed, others=api())] == [Severity.FAIL]


def test_what_was_not_read_is_not_known() -> None:
    made = read(NEW)
    bare = msgspec.structs.replace(made.items[0], tools=False)
    assert judge(rules=networks(bare)) == []
    assert judge(rules=NodeNetworks()) == []
    # another network plugin's bridge
    assert judge(rules=read(NEW, bridge="cbr0")) == []
