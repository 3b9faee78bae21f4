"""Which further flow tells suspects apart."""

import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.path.decide import deciding
from doctor.path.predict import predict
from doctor.path.tomography import Evidence, explain
from doctor.path.topology import Pod, Topology

NODES = ("a", "b", "c", "d", "e")
PODS = {n: f"10.0.{i}.5" for i, n in enumerate(NODES, 1)}
PLACES = tuple(Vantage(kind, n) for kind in (VantageKind.POD, VantageKind.NODE) for n in NODES)
MAP = Topology(
    nodes={f"192.0.2.{i}": n for i, n in enumerate(NODES, 1)},
    pods={a: Pod(f"x/{n}", n) for n, a in PODS.items()},
    services={},
    vips={},
    announcers={},
    overlay="udp/8472",
)


def ask(kind: VantageKind, a: str, b: str) -> Flow:
    """Ask a pod."""
    vantage = Vantage(kind, a)
    name = f"mesh:{vantage.key}>tcp:{PODS[b]}:8080"
    return Flow(name, Purpose.MESH, vantage, FlowKind.TCP, PODS[b], 8080, subject=b)


def see(flow: Flow, broken: Hop) -> Observation:
    """Observe a flow of a cluster in which a hop is broken."""
    path = predict(flow, MAP)
    lost = any(broken.covers(h) for h in path.hops)
    failure = Failure.TIMEOUT if lost else None
    return Observation(flow, failure, 0.1, hops=path.hops, certain=path.certain)


def ring(broken: Hop) -> Evidence:
    """Observe what pods and nodes get from the next node's pod, and from their own."""
    following = dict(zip(NODES, (*NODES[1:], NODES[0]), strict=True))
    return Evidence(
        tuple(
            see(ask(kind, a, b), broken)
            for a, next_one in following.items()
            for b in (a, next_one)
            for kind in (VantageKind.POD, VantageKind.NODE)
        )
    )


@pytest.mark.parametrize(
    "broken",
    [Hop(HopKind.FORWARD, "b", "tcp/8080"), Hop(HopKind.POD, "x/b", "tcp/8080")],
    ids=str,
)
def test_what_was_not_asked_yet_decides(broken: Hop) -> None:
    evidence = ring(broken)
    flows = deciding(evidence, explain(evidence), MAP, PLACES)
    both = Evidence((*evidence.observations, *(see(f, broken) for f in flows)))
    (before,), (after,) = explain(evidence), explain(both)
    assert len(after.suspects) <= len(before.suspects)
    assert any(s.hop.covers(broken) for s in after.suspects)


def test_a_flow_that_only_one_suspect_explains_is_chosen() -> None:
    """The node's own question passes no FORWARD chain of that node."""
    broken = Hop(HopKind.FORWARD, "a")
    asked = (ask(VantageKind.POD, "a", "b"), ask(VantageKind.NODE, "c", "b"))
    evidence = Evidence(tuple(see(f, broken) for f in asked))
    parts = explain(evidence)
    assert len(parts[0].suspects) > 1
    flows = deciding(evidence, parts, MAP, PLACES)
    assert flows
    (after,) = explain(Evidence((*evidence.observations, *(see(f, broken) for f in flows))))
    assert len(after.suspects) < len(parts[0].suspects)


def test_nothing_is_asked_where_nothing_failed_or_all_is_decided() -> None:
    healthy = ring(Hop(HopKind.NODE, "a"))
    assert deciding(healthy, explain(healthy), MAP, PLACES) == ()


def test_what_is_asked_is_new_and_named_like_the_others() -> None:
    evidence = Evidence(
        tuple(see(ask(VantageKind.POD, a, "b"), Hop(HopKind.FORWARD, "a")) for a in "ac")
    )
    asked = {o.flow.id for o in evidence.observations}
    for flow in deciding(evidence, explain(evidence), MAP, PLACES):
        assert flow.id not in asked
        assert flow.id == ask(flow.vantage.kind, flow.vantage.node, flow.subject).id
