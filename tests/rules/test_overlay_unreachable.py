"""Nodes that nothing reaches, and those of which only the kubelet, the pods or the pings are silent."""

from collections.abc import Iterable

import msgspec
import pytest

from doctor.model.evidence import Mesh
from doctor.model.failure import Failure
from doctor.model.finding import Confidence
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.netfilter import RuleTable
from doctor.model.node import Neighbour
from doctor.parse.iptables_save import read_saved, rule_tables
from tests.rules.factories import ADDRESSES, MASTER, ONE, TWO, network, networks, said
from tests.rules.test_overlay import around, bridge, judge, mesh, nothing

DOWN = ("UNDERLAY_UNREACHABLE", f"underlay:*>{TWO}")
WHOLE = mesh(nothing, around(TWO))


def without(flows: Mesh, *, start: bool = True, pods: bool = True) -> Mesh:
    """Leave out what starts on the second worker, which nobody enters, and what its pods are asked."""

    def left(seen: Observation) -> bool:
        from_there = start and seen.flow.vantage.node == TWO
        of_pods = pods and seen.flow.purpose in {Purpose.MESH, Purpose.MESH_SIZE}
        return not from_there and not (of_pods and seen.flow.subject == TWO)

    return of(flows, filter(left, flows.observations))


def of(flows: Mesh, kept: Iterable[Observation]) -> Mesh:
    """Make a mesh of these flows."""
    return msgspec.structs.replace(flows, observations=tuple(kept))


def refusing(flows: Mesh) -> Mesh:
    """Let the kubelet of the second worker be stopped: its machine refuses."""
    own = Purpose.UNDERLAY
    return of(
        flows,
        (
            msgspec.structs.replace(o, failure=Failure.CONNECTION_REFUSED)
            if o.flow.purpose is own and o.flow.subject == TWO
            else o
            for o in flows.observations
        ),
    )


def pinged(flows: Mesh) -> Mesh:
    """Let the second worker answer pings, and drop what is for its kubelet."""
    size = Purpose.UNDERLAY_SIZE
    return of(
        flows,
        (
            msgspec.structs.replace(o, failure=None, lost=0)
            if o.flow.purpose is size and o.flow.subject == TWO
            else o
            for o in flows.observations
        ),
    )


@pytest.mark.parametrize(
    ("flows", "found"),
    [
        (without(WHOLE), {DOWN}),
        (without(WHOLE, pods=False), set()),
        (without(refusing(WHOLE)), set()),
        (without(pinged(WHOLE)), set()),
        (without(WHOLE, start=False), set()),
        (of(WHOLE, (o for o in WHOLE.observations if o.flow.purpose is Purpose.UNDERLAY)), set()),
        (without(mesh(nothing)), set()),
        (without(mesh(nothing, lambda _, a, b: (a, b) == (ONE, TWO))), set()),
    ],
    ids=["down", "pods", "refuses", "pings", "entered", "bare", "healthy", "one way"],
)
def test_which_nodes_nothing_reaches(flows: Mesh, found: set[tuple[str, str]]) -> None:
    assert said(judge(flows, networks())) == found


def test_it_is_said_from_where_and_what_arp_tells() -> None:
    (found,) = judge(without(WHOLE), networks())
    assert "neither TCP 10250 nor a ping" in found.title
    assert f"is answered from {ONE} and {MASTER}; its link is down" in found.title
    assert found.confidence is Confidence.CERTAIN
    unheard = Neighbour(ADDRESSES[TWO], "eth0", "", "FAILED")
    asked = msgspec.structs.replace(network(MASTER), neighbours=(unheard,))
    (found,) = judge(without(WHOLE), networks(asked))
    assert f"and ARP gets no answer on {MASTER}" in found.title
    assert f"node:{MASTER}" in found.evidence


def test_seen_from_one_place_alone_it_is_likely() -> None:
    flows = without(mesh(nothing, around(TWO), names=(ONE, TWO)))
    (found,) = judge(flows, networks())
    assert found.confidence is Confidence.LIKELY


def test_what_is_broken_at_a_node_that_drops_everything_comes_of_that_rule() -> None:
    """Its pods, its tunnel: and nothing of what is broken elsewhere."""
    bare = "-A KUBE-FIREWALL -j DROP"
    shut = msgspec.structs.replace(network(TWO), tables=kubelets(bare))
    marked = msgspec.structs.replace(
        network(TWO), tables=kubelets(f"{bare[:-8]} -m mark --mark 0x8000 -j DROP")
    )
    every = Hop(HopKind.UNDERLAY, f"*>{TWO}")
    for flows in (mesh(around(TWO)), mesh(bridge(TWO))):
        (found,) = judge(flows, networks(shut))
        assert any(every.covers(h) for h in found.consequence_of)
        tunnel = Hop(HopKind.UNDERLAY, f"*>{TWO}", "udp/8472")
        assert not any(tunnel.covers(h) or h.covers(tunnel) for h in found.consequence_of)
        (found,) = judge(flows, networks(marked))
        assert not any(every.covers(h) for h in found.consequence_of)
    (found,) = judge(mesh(bridge(ONE)), networks(shut))
    assert not any(every.covers(h) for h in found.consequence_of)


def kubelets(rule: str) -> tuple[RuleTable, ...]:
    """Make the table filter with a rule of the kubelet's."""
    lines = (
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":KUBE-FIREWALL - [0:0]",
        "-A INPUT -j KUBE-FIREWALL",
    )
    return rule_tables(read_saved("\n".join([*lines, rule, "COMMIT", ""])))
