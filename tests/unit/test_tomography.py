"""Tomography: the fewest hops that explain what failed, given what passed."""

from collections.abc import Iterable
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.path.predict import predict
from doctor.path.tomography import Evidence, Suspect, explain, outcome
from doctor.path.topology import Pod, Service, Topology

NODES = ("a", "b", "c", "d")
ADDRESS = {n: f"192.0.2.{i}" for i, n in enumerate(NODES, 1)}
PODS = {n: f"10.0.{i}.5" for i, n in enumerate(NODES, 1)}
VXLAN = "udp/8472"
MAP = Topology(
    nodes={a: n for n, a in ADDRESS.items()},
    pods={a: Pod(f"x/{n}", n) for n, a in PODS.items()},
    services={"10.96.0.5": Service("x/web", tuple((PODS[n], 8080) for n in "ab"))},
    vips={},
    announcers={},
    overlay=VXLAN,
)


def flow(  # noqa: PLR0913 - a flow has many parts
    start: VantageKind,
    node: str,
    address: str,
    port: int = 8080,
    *,
    kind: FlowKind = FlowKind.TCP,
    size: int = 0,
    purpose: Purpose = Purpose.MESH,
) -> Flow:
    """Make a flow."""
    name = f"{start}@{node}>{kind}:{address}:{port}:{size}"
    return Flow(name, purpose, Vantage(start, node), kind, address, port, size=size)


def every_flow() -> tuple[Flow, ...]:
    """Make all flows between pods and nodes, on two ports."""
    return tuple(
        flow(kind, a, address[b], port)
        for kind in (VantageKind.POD, VantageKind.NODE)
        for a in NODES
        for b in NODES
        for address in (PODS, ADDRESS)
        for port in (8080, 53)
    )


def see(asked: Flow, broken: Iterable[Hop], failure: Failure = Failure.TIMEOUT) -> Observation:
    """Observe a flow of a cluster in which some hops are broken."""
    path = predict(asked, MAP)
    lost = any(b.covers(h) for b in broken for h in path.hops)
    return Observation(asked, failure if lost else None, 0.1, hops=path.hops, certain=path.certain)


def world(*broken: Hop) -> Evidence:
    """Observe all flows of a cluster in which some hops are broken."""
    return Evidence(tuple(see(f, broken) for f in every_flow()))


def names(evidence: Evidence, priors: Iterable[Hop] = ()) -> list[set[str]]:
    """Explain, written down."""
    return [{str(s.hop) for s in e.suspects} for e in explain(evidence, priors=priors)]


def hop(kind: HopKind, where: str, what: str = "") -> Hop:
    """Make a hop."""
    return Hop(kind, where, what)


U, F, P = HopKind.UNDERLAY, HopKind.FORWARD, HopKind.POD_NETWORK


def test_a_healthy_cluster_has_nothing_to_explain() -> None:
    assert explain(world()) == ()


@pytest.mark.parametrize(
    "broken",
    [
        hop(U, "*>*", VXLAN),
        hop(F, "a"),
        hop(F, "b", "tcp/53"),
        hop(F, "*", "tcp/53"),
        hop(P, "c"),
        hop(HopKind.POD, "x/d"),
        hop(HopKind.POD, "x/d", "tcp/53"),
    ],
    ids=str,
)
def test_one_broken_hop_is_the_one_explanation(broken: Hop) -> None:
    """With flows of both kinds between all nodes, nothing else explains what fails."""
    assert names(world(broken)) == [{str(broken)}]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        # an answer that does not come back has the same face as a question that does not arrive
        (hop(U, "a>b", VXLAN), {"underlay:a>b:udp/8472", "underlay:b>a:udp/8472"}),
        (hop(U, "a>*", VXLAN), {"underlay:a>*:udp/8472", "underlay:*>a:udp/8472"}),
    ],
    ids=["one pair", "one node"],
)
def test_a_direction_is_not_told_by_answers_alone(broken: Hop, expected: set[str]) -> None:
    assert names(world(broken)) == [expected]


def test_silence_alone_accuses_no_rule_that_was_read() -> None:
    asked = flow(VantageKind.POD, "a", ADDRESS["b"], 53, kind=FlowKind.DNS_UDP)
    path = (hop(HopKind.MASQUERADE, "a"), hop(HopKind.EGRESS, "x"))
    lost = Observation(asked, Failure.TIMEOUT, 0.1, hops=path, certain=path)
    (part,) = explain(Evidence((lost,)))
    assert [str(s.hop) for s in part.suspects] == ["egress:x"]


def test_two_broken_hops_are_two_explanations() -> None:
    assert sorted(names(world(hop(F, "a"), hop(P, "c"))), key=str) == sorted(
        [{"forward:a"}, {"pod-network:c"}], key=str
    )


def test_what_was_read_on_a_hop_decides_between_rivals() -> None:
    broken = hop(U, "a>b", VXLAN)
    assert names(world(broken), priors=[broken]) == [{str(broken)}]


def test_a_large_packet_accuses_for_its_size_only() -> None:
    small, large = (
        flow(VantageKind.NODE, "a", ADDRESS["b"], 0, kind=FlowKind.PING, size=s) for s in (0, 1500)
    )
    seen = (see(small, ()), see(large, [hop(U, "a>b"), hop(U, "b>a")], Failure.TOO_BIG))
    (part,) = explain(Evidence(seen))
    assert Suspect(hop(U, "a>b", "icmp"), 1500) in part.suspects
    assert explain(Evidence((*seen[:1], see(large, ())))) == ()


def test_a_service_that_answers_exonerates_none_of_its_endpoints() -> None:
    """Which one answered is not known; what lies before them all is."""
    asked = flow(VantageKind.NODE, "c", "10.96.0.5", 80)
    passed = Evidence((see(asked, ()),)).passed
    assert hop(HopKind.KUBE_PROXY, "c") in passed
    assert not any(h.kind is HopKind.POD for h in passed)


@pytest.mark.parametrize("failure", [Failure.CONNECTION_REFUSED, Failure.UNKNOWN])
def test_what_others_may_have_said_tells_nothing(failure: Failure) -> None:
    asked = flow(VantageKind.NODE, "a", PODS["b"])
    assert outcome(Observation(asked, failure, 0.1)) is None


def test_what_passes_at_times_tells_nothing() -> None:
    asked = flow(VantageKind.NODE, "a", PODS["b"], kind=FlowKind.PING)
    assert outcome(Observation(asked, None, 0.1, sent=10, lost=3)) is None


def test_an_error_page_tells_nothing_of_the_way_behind_a_proxy() -> None:
    asked = flow(
        VantageKind.MACHINE, "", "198.51.100.7", kind=FlowKind.HTTP, purpose=Purpose.TARGET
    )
    assert outcome(Observation(asked, None, 0.1, status=502)) is None
    assert outcome(Observation(asked, None, 0.1, status=200)) is True


PLACES = st.sampled_from(
    [
        *(hop(U, f"{a}>{b}", VXLAN) for a, b in permutations(NODES, 2)),
        *(hop(k, n) for k in (F, P) for n in NODES),
        *(hop(F, n, "tcp/53") for n in NODES),
        hop(U, "*>*", VXLAN),
        hop(U, "*>a", VXLAN),
        hop(HopKind.POD, "x/b", "tcp/53"),
    ]
)
SEEN = st.sets(st.sampled_from(range(len(every_flow()))), min_size=1).map(
    lambda chosen: [every_flow()[i] for i in sorted(chosen)]
)


@given(st.sets(PLACES, max_size=2), SEEN)
def test_every_failure_is_explained_and_nothing_that_passed_is_blamed(
    broken: set[Hop], flows: list[Flow]
) -> None:
    evidence = Evidence(tuple(see(f, broken) for f in flows))
    parts = explain(evidence)
    assert {i for p in parts for i in p.flows} == {o.flow.id for o in evidence.failed}
    for part in parts:
        for suspect in part.suspects:
            assert not any(suspect.hop.covers(h) for h in evidence.passed)


@given(st.sets(PLACES, max_size=2), SEEN, st.randoms())
def test_the_order_of_evidence_does_not_matter(
    broken: set[Hop], flows: list[Flow], random: Random
) -> None:
    seen = [see(f, broken) for f in flows]
    expected = explain(Evidence(tuple(seen)))
    random.shuffle(seen)
    assert explain(Evidence(tuple(seen))) == expected


@given(st.sets(PLACES, max_size=2), SEEN, st.sampled_from(every_flow()))
def test_a_working_flow_never_makes_its_hops_suspect(
    broken: set[Hop], flows: list[Flow], more: Flow
) -> None:
    working = see(more, ())
    before = tuple(see(f, broken) for f in flows if f.id != more.id)
    after = explain(Evidence((*before, working)))
    blamed = [s.hop for p in after for s in p.suspects]
    assert not any(b.covers(h) for b in blamed for h in working.certain)


@given(st.sets(PLACES, max_size=3))
def test_what_is_broken_is_never_more_than_it_has_to_be(broken: set[Hop]) -> None:
    """The truth is one explanation: none that is found has more parts."""
    assert len(explain(world(*broken))) <= len(broken)
