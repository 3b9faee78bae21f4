"""Packets that are too large, and packets that are lost; and what only looks like it."""

from collections.abc import Callable

import msgspec
import pytest

from checks.overlay.quality import quality
from doctor.model.evidence import NodeNetworks, Pings
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Severity
from doctor.model.flow import FlowKind, Icmp, Observation, Purpose
from doctor.model.node import Link
from tests.rules.factories import (
    ADDRESSES,
    MASTER,
    NAMES,
    ONE,
    PODS,
    TWO,
    VXLAN,
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

Bend = Callable[[Observation], Observation]
SIZES = {Purpose.UNDERLAY_SIZE: 1500, Purpose.MESH_SIZE: 1450}
SAMPLES = 5


def ping(purpose: Purpose, start: str, to: str, size: int) -> Observation:
    """Make a ping that is answered."""
    address = (ADDRESSES if purpose is Purpose.UNDERLAY_SIZE else PODS)[to]
    made = seen(purpose, vantage("node", start), address, size, subject=to, kind=FlowKind.PING)
    flow = msgspec.structs.replace(made.flow, port=0, size=size, samples=SAMPLES)
    return msgspec.structs.replace(made, flow=flow, sent=SAMPLES)


def mesh(bend: Bend = lambda o: o) -> Pings:
    """Ping everybody from everywhere, small and large."""
    pings = (
        bend(ping(purpose, a, b, size))
        for purpose, full in SIZES.items()
        for a in NAMES
        for b in NAMES
        for size in (0, full)
        if a != b
    )
    return Pings(observations=tuple(pings), overlay=VXLAN)


def lose(o: Observation, lost: int = SAMPLES, failure: Failure = Failure.TIMEOUT) -> Observation:
    """Lose some of the samples, or all."""
    return msgspec.structs.replace(o, lost=lost, failure=failure if lost == o.sent else None)


def large(o: Observation, purpose: Purpose | None = None) -> bool:
    """Select pings of full size."""
    return bool(o.flow.size) and purpose in (None, o.flow.purpose)


def test_a_healthy_cluster() -> None:
    assert findings(quality, nodes(), mesh(), flannel(), None) == []


def test_the_network_between_the_nodes_takes_small_packets_only() -> None:
    """The pods' large ones go the same way: one finding."""
    cut = mesh(lambda o: lose(o) if large(o) else o)
    (found,) = findings(quality, nodes(), cut, flannel(), None)
    assert said([found]) == {("UNDERLAY_MTU_TOO_SMALL", "underlay:*>*")}
    assert "1500" in found.title
    assert found.severity is Severity.FAIL
    assert found.confidence is Confidence.LIKELY


def test_a_router_that_says_so_makes_it_certain() -> None:
    def told(o: Observation) -> Observation:
        if not large(o):
            return o
        lost = lose(o, failure=Failure.TOO_BIG)
        return msgspec.structs.replace(lost, icmp=Icmp(3, 4, "192.0.2.9"))

    (found,) = findings(quality, nodes(), mesh(told), flannel(), None)
    assert found.confidence is Confidence.CERTAIN
    assert "192.0.2.9" in found.title


def test_the_pods_packets_alone_are_too_large() -> None:
    cut = mesh(lambda o: lose(o) if large(o, Purpose.MESH_SIZE) else o)
    found = findings(quality, nodes(), cut, flannel(), None)
    assert said(found) == {("OVERLAY_MTU_TOO_LARGE", f"underlay:*>*:{VXLAN}")}
    # what nodes send is larger than what pods do
    assert found[0].remediation[0].title.endswith("an MTU of 1500")


def test_where_the_pods_largest_packets_pass_it_is_a_warning() -> None:
    """Flannel's MTU was lowered to what the network takes: the pods are served."""
    cut = mesh(lambda o: lose(o) if large(o, Purpose.UNDERLAY_SIZE) else o)
    (found,) = findings(quality, nodes(), cut, flannel(), None)
    assert found.code.name == "UNDERLAY_MTU_TOO_SMALL"
    assert found.severity is Severity.WARN


def test_one_node_behind_a_narrow_link() -> None:
    def narrow(o: Observation) -> Observation:
        return lose(o) if large(o) and ONE in (o.flow.vantage.node, o.flow.subject) else o

    found = findings(quality, nodes(), mesh(narrow), flannel(), None)
    assert said(found) == {("UNDERLAY_MTU_TOO_SMALL", f"underlay:*>{ONE}")}


@pytest.mark.parametrize("lost", [SAMPLES, 1], ids=["every ping", "some pings"])
def test_large_ones_prove_nothing_without_the_small_ones(lost: int) -> None:
    """A filter on ICMP, or a lossy path: the size is not what matters."""
    filtered = mesh(lambda o: lose(o) if o.flow.size else lose(o, lost))
    codes = {c for c, _ in said(findings(quality, nodes(), filtered, flannel(), None))}
    assert codes <= {"UNDERLAY_LOSSY"}
    assert bool(codes) is (lost < SAMPLES)


def test_one_small_packet_that_is_lost_hides_no_narrow_network() -> None:
    def narrow(o: Observation) -> Observation:
        if o.flow.size:
            return lose(o)
        return lose(o, 1) if o.flow.vantage.node < o.flow.subject else o

    found = findings(quality, nodes(), mesh(narrow), flannel(), None)
    assert {c for c, _ in said(found)} == {"UNDERLAY_MTU_TOO_SMALL"}


@pytest.mark.parametrize(
    ("pods", "severity"), [(0, Severity.WARN), (2, Severity.FAIL), (SAMPLES, Severity.WARN)]
)
def test_nodes_that_answer_few_pings_lose_nothing_of_the_pods(
    pods: int, severity: Severity
) -> None:
    """A limit on ICMP is none on traffic; nor does a broken overlay say what the network loses."""

    def limited(o: Observation) -> Observation:
        under = o.flow.purpose is Purpose.UNDERLAY_SIZE
        return o if o.flow.size else lose(o, 3 if under else pods)

    found = findings(quality, nodes(), mesh(limited), flannel(), None)
    assert {(f.code.name, f.severity) for f in found} == {("UNDERLAY_LOSSY", severity)}


@pytest.mark.parametrize("lost", [(1, 1), (2, 0), (2, 1), (3, 0)])
def test_a_packet_each_way_between_two_nodes_is_no_loss_yet(lost: tuple[int, int]) -> None:
    """On a busy machine they are late; of one more it is told."""

    def late(o: Observation) -> Observation:
        ends = (o.flow.vantage.node, o.flow.subject)
        if o.flow.size or set(ends) != {ONE, TWO} or o.flow.purpose is not Purpose.MESH_SIZE:
            return o
        return lose(o, lost[ends == (ONE, TWO)])

    found = findings(quality, nodes(), mesh(late), flannel(), None)
    assert bool(found) is (sum(lost) > 2)


def test_a_filter_on_what_one_node_sends_is_no_loss() -> None:
    """The way back is answered throughout: half of all is gone, and none by chance."""
    filtered = mesh(lambda o: lose(o) if o.flow.vantage.node == ONE else o)
    assert findings(quality, nodes(), filtered, flannel(), None) == []


def test_loss_is_told_from_a_filter_beside_it() -> None:
    both = mesh(lambda o: lose(o, SAMPLES if o.flow.vantage.node == ONE else 2))
    (found,) = findings(quality, nodes(), both, flannel(), None)
    assert said([found]) == {("UNDERLAY_LOSSY", "underlay:*>*")}
    assert "8 of 20" in found.title


@pytest.mark.parametrize("lost", [2, 3])
def test_what_a_filter_takes_whole_is_not_counted_as_lost(lost: int) -> None:
    """Between two nodes one way is filtered, and the other way late: as if there were no filter."""

    def late(o: Observation) -> Observation:
        ends = (o.flow.vantage.node, o.flow.subject)
        if o.flow.size or set(ends) != {ONE, TWO} or o.flow.purpose is not Purpose.MESH_SIZE:
            return o
        return lose(o, SAMPLES if ends == (ONE, TWO) else lost)

    found = findings(quality, nodes(), mesh(late), flannel(), None)
    assert bool(found) is (lost > 2)


@pytest.mark.parametrize(
    ("lost", "severity", "words"),
    [(1, Severity.WARN, "6 of 30"), (2, Severity.FAIL, "12 of 30")],
)
def test_a_part_is_lost_between_the_nodes(lost: int, severity: Severity, words: str) -> None:
    """What the pods lose by it is not said again."""
    (found,) = findings(quality, nodes(), mesh(lambda o: lose(o, lost)), flannel(), None)
    assert said([found]) == {("UNDERLAY_LOSSY", "underlay:*>*")}
    assert found.severity is severity
    assert words in found.title


def test_a_part_of_the_pods_packets_is_lost() -> None:
    lossy = mesh(lambda o: lose(o, 2) if o.flow.purpose is Purpose.MESH_SIZE else o)
    assert said(findings(quality, nodes(), lossy, flannel(), None)) == {
        ("OVERLAY_LOSSY", f"underlay:*>*:{VXLAN}")
    }


def test_one_lost_packet_is_nothing() -> None:
    first = mesh().observations[0].flow.id
    assert (
        findings(
            quality, nodes(), mesh(lambda o: lose(o, 1) if o.flow.id == first else o), None, None
        )
        == []
    )


def test_loss_between_two_nodes_names_the_two() -> None:
    pair = {MASTER, TWO}

    def between(o: Observation) -> Observation:
        return lose(o, 2) if {o.flow.vantage.node, o.flow.subject} == pair else o

    found = findings(quality, nodes(), mesh(between), flannel(), None)
    assert said(found) == {("UNDERLAY_LOSSY", f"underlay:{TWO}>{MASTER}")}


def test_a_single_node_is_not_judged() -> None:
    alone = nodes(node(MASTER), names=[MASTER])
    assert findings(quality, alone, mesh(lambda o: lose(o, 2)), flannel(), None) == []


def narrowed(name: str, uplink: int, device: int) -> NodeNetworks:
    """Read nodes whose devices fit together, but for one."""

    def links(n: str) -> tuple[Link, ...]:
        sizes = (uplink, device) if n == name else (1500, 1450)
        below = Link("eth0", mtu=sizes[0], addresses=(f"{ADDRESSES[n]}/24",))
        return (below, Link("flannel.1", mtu=sizes[1], vxlan_id=1, vxlan_port=8472))

    return networks(*(msgspec.structs.replace(network(n), links=links(n)) for n in NAMES))


def test_a_node_whose_own_devices_do_not_fit_together() -> None:
    """Its interface was made smaller under running pods: nothing between the nodes is to blame."""

    def cut(o: Observation) -> Observation:
        return (
            lose(o)
            if large(o, Purpose.MESH_SIZE) and ONE in (o.flow.vantage.node, o.flow.subject)
            else o
        )

    (found,) = findings(quality, nodes(), mesh(cut), flannel(), narrowed(ONE, 1400, 1450))
    assert said([found]) == {("OVERLAY_MTU_INCONSISTENT", f"underlay:*>{ONE}:{VXLAN}")}
    assert "1450" in found.title
    assert "1350" in found.title
    assert found.remediation[0].commands == (f"ssh {ONE} sudo ip link set dev eth0 mtu 1500",)
    for fits in (narrowed(ONE, 1500, 1450), narrowed(ONE, 1400, 1350), narrowed(TWO, 1400, 1450)):
        (other,) = findings(quality, nodes(), mesh(cut), flannel(), fits)
        assert said([other]) == {("OVERLAY_MTU_TOO_LARGE", f"underlay:*>{ONE}:{VXLAN}")}
    assert findings(quality, nodes(), mesh(), flannel(), narrowed(ONE, 1400, 1450)) == []
