"""What pings leave open: where none is answered, nothing passes and nothing fails."""

from collections.abc import Callable

import msgspec
import pytest

from checks.overlay.quality import quality
from doctor.bundle.schema import FlowRecord, GapRecord
from doctor.engine.run import diagnose
from doctor.evidence.tables import Tables
from doctor.model.evidence import Mesh
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.verdict import CheckResult, Gap, Verdict
from tests.unit.support import address, bundle, cluster, names, pod_address

SIZES = {Purpose.UNDERLAY_SIZE: 1500, Purpose.MESH_SIZE: 1450}
CONTROLS = (Purpose.UNDERLAY, Purpose.MESH)
SAMPLES = 5
Bend = Callable[[Observation], Observation]


def seen(purpose: Purpose, start: str, to: str, size: int = 0) -> Observation:
    """Make a ping, or a connection, that is answered."""
    ping = purpose in SIZES
    pods = purpose in (Purpose.MESH, Purpose.MESH_SIZE)
    flow = Flow(
        id=f"{purpose}:{start}>{to}:{size}",
        purpose=purpose,
        vantage=Vantage(VantageKind.NODE, start),
        kind=FlowKind.PING if ping else FlowKind.TCP,
        address=pod_address(to) if pods else address(to),
        port=0 if ping else 10250,
        subject=to,
        size=size,
        samples=SAMPLES if ping else 1,
    )
    return Observation(flow, None, 0.1, sent=flow.samples)


def judged(bend: Bend = lambda o: o, *gaps: Gap, count: int = 3) -> CheckResult:
    """Have everybody ask everybody, and judge the pings."""
    sizes = {p: [0, SIZES[p]] if p in SIZES else [0] for p in (*SIZES, *CONTROLS)}
    found = [
        FlowRecord(observation=bend(seen(purpose, a, b, size)))
        for purpose, some in sizes.items()
        for a in names(count)
        for b in names(count)
        for size in some
        if a != b
    ]
    records = [GapRecord(gap=g, tables=("Mesh",)) for g in gaps]
    (result,) = diagnose(bundle(*cluster(count), *found, *records), (quality,)).checks
    return result


def lost(o: Observation, failure: Failure = Failure.TIMEOUT) -> Observation:
    """Lose all of it."""
    return msgspec.structs.replace(o, failure=failure, lost=o.sent)


def pinged(o: Observation, *purposes: Purpose) -> bool:
    """Select pings."""
    return o.flow.purpose in (purposes or SIZES)


def test_answered_pings_leave_nothing_open() -> None:
    found = judged()
    assert found.verdict is Verdict.PASS
    assert found.gaps == ()


@pytest.mark.parametrize("failure", [Failure.TIMEOUT, Failure.HOST_PROHIBITED, Failure.NO_ROUTE])
def test_where_icmp_is_filtered_nothing_is_known(failure: Failure) -> None:
    found = judged(lambda o: lost(o, failure) if pinged(o) else o)
    assert found.verdict is Verdict.INSUFFICIENT
    assert found.findings == ()
    assert [g.needs for g in found.gaps] == [
        f"which sizes pass between nodes, to {ends}, and how much is lost"
        for ends in ("the nodes' own addresses", "pods")
    ]
    pairs = "n0 and n1; n0 and n2; n1 and n2"
    said = f"no ping is answered between {pairs}, while TCP passes: ICMP is filtered"
    assert {g.reason for g in found.gaps} == {said}
    # it is shown, and makes no run incomplete
    assert not any(g.essential for g in found.gaps)


def test_a_path_that_is_broken_is_not_called_a_filter() -> None:
    found = judged(lambda o: lost(o) if "n1" in (o.flow.vantage.node, o.flow.subject) else o)
    assert found.verdict is Verdict.INSUFFICIENT
    assert {g.reason for g in found.gaps} == {"no ping is answered between n0 and n1; n1 and n2"}


def test_a_path_that_is_broken_one_way_is_not_called_a_filter() -> None:
    """Connections that begin at one of two nodes may pass, and the others not."""
    found = judged(lambda o: lost(o) if pinged(o) or o.flow.vantage.node == "n1" else o)
    said = {g.reason for g in found.gaps}
    assert said == {"no ping is answered between n0 and n1; n0 and n2; n1 and n2"}


def test_one_way_is_enough_to_leave_it_open() -> None:
    found = judged(lambda o: lost(o) if pinged(o) and o.flow.vantage.node == "n2" else o)
    assert found.verdict is Verdict.INSUFFICIENT
    assert {g.reason for g in found.gaps} == {
        "no ping is answered between n0 and n2; n1 and n2, while TCP passes: ICMP is filtered"
    }


def test_what_the_pods_pings_prove_the_nodes_own_need_not() -> None:
    """A security group that lets VXLAN and TCP through, and no ICMP, as OpenStack's default does."""
    found = judged(lambda o: lost(o) if pinged(o, Purpose.UNDERLAY_SIZE) else o)
    assert found.verdict is Verdict.PASS
    (gap,) = found.gaps
    assert "the nodes' own addresses" in gap.needs
    found = judged(lambda o: lost(o) if pinged(o, Purpose.MESH_SIZE) else o)
    assert found.verdict is Verdict.INSUFFICIENT


def test_without_any_ping_nothing_passes() -> None:
    """No ping in the image: what recorded that holds up nothing else."""
    why = Gap("ping from node n0", "there is no ping", essential=False)
    (result,) = diagnose(
        bundle(*cluster(3), GapRecord(gap=why, tables=("Mesh", "Pings"))), (quality,)
    ).checks
    assert result.verdict is Verdict.INSUFFICIENT
    assert [g.reason for g in result.gaps] == ["there is no ping", *["no ping was seen"] * 2]
    older = judged(lambda o: o, why)
    assert older.gaps == (why,)


def test_a_single_node_has_nobody_to_ping() -> None:
    found = judged(count=1)
    assert found.verdict is Verdict.SKIPPED
    assert found.detail == "there is only one Linux node"
    assert found.gaps == ()


@pytest.mark.parametrize("gone", range(SAMPLES + 1))
def test_loss_that_breaks_connections_is_told_from_a_filter(gone: int) -> None:
    """So many of those that n0 sends are lost, of the way back none; all is a filter."""

    def bend(o: Observation) -> Observation:
        if o.flow.vantage.node != "n0":
            return o
        return lost(o) if gone == SAMPLES else msgspec.structs.replace(o, lost=gone)

    loses = gone in (3, 4)
    found = [
        FlowRecord(observation=bend(seen(p, a, b)))
        for p in SIZES
        for a, b in (("n0", "n1"), ("n1", "n0"))
    ]
    mesh = Tables(bundle(*cluster(2), *found)).get(Mesh)
    assert mesh.loses("n0", "n1") is loses
    assert mesh.loses("n1", "n0") is loses
