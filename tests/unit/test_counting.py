"""Bursts: between whom, in which rounds, and what is read around them."""

from collections.abc import Iterable

import msgspec
import pytest

from doctor.bundle.schema import FlowRecord, GapRecord, NodeRecord
from doctor.collect.counting import count, rounds
from doctor.collect.flow import Stage
from doctor.collect.kube import ExecAnswer
from doctor.collect.shells import Shell
from doctor.evidence.tables import Tables, Wave
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import Meta, Node, NodeSpec, NodeStatus
from tests.unit.support import api, bundle, names, pod_address


def stage(count_: int, entered: Iterable[str] | None = None) -> Stage:
    """Make a stage whose nodes have pod networks."""
    nodes = [
        Node(
            metadata=Meta(name=n),
            spec=NodeSpec(pod_cidr=f"10.244.{n[1:]}.0/24"),
            status=NodeStatus(),
        )
        for n in names(count_)
    ]
    inside = names(count_) if entered is None else tuple(entered)
    tables = Tables(bundle(api("nodes", *nodes)))
    return Stage(tables, nodes=inside, pods=(), waves=frozenset({Wave.MESH}))


def met(a: str, b: str, failure: Failure | None) -> Observation:
    """Dial a pod of another node."""
    where = Vantage(VantageKind.NODE, a)
    asked = Flow(f"mesh:{a}>{b}", Purpose.MESH, where, FlowKind.TCP, pod_address(b), 80, subject=b)
    return Observation(asked, failure, 0.1)


def mesh(size: int, *broken: tuple[str, str]) -> list[Observation]:
    """Dial all ways; those given stay without an answer."""
    ends = [(a, b) for a in names(size) for b in names(size)]
    return [met(a, b, Failure.TIMEOUT if (a, b) in broken else None) for a, b in ends]


def both(a: str, b: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Both ways between two nodes."""
    return (a, b), (b, a)


def ways(planned: Iterable[tuple[Flow, ...]]) -> list[set[tuple[str, str]]]:
    """Reduce bursts to sender and receiver."""
    return [{(f.vantage.node, f.subject) for f in r} for r in planned]


def test_where_pods_answer_nothing_is_sent() -> None:
    assert list(rounds(stage(3), mesh(3))) == []
    assert list(count({}, [])) == []


def test_a_broken_pair_is_asked_both_ways_at_once() -> None:
    (first,) = rounds(stage(3), mesh(3, *both("n0", "n2")))
    assert ways([first]) == [{("n0", "n2"), ("n2", "n0")}]
    assert {f.address for f in first} == {"10.244.0.0", "10.244.2.0"}
    assert {(f.name, f.samples) for f in first} == {("0", 30)}


def test_one_answer_spares_a_pair() -> None:
    assert list(rounds(stage(3), mesh(3, ("n0", "n2")))) == []


def test_in_a_round_each_node_sends_once_and_is_sent_once() -> None:
    broken = [(a, b) for a in names(3) for b in names(3) if a != b]
    planned = list(rounds(stage(3), mesh(3, *broken)))
    found = ways(planned)
    assert sorted(w for r in found for w in r) == sorted(broken)
    for round_ in found:
        assert len({a for a, _ in round_}) == len(round_) == len({b for _, b in round_})
    assert len({f.id for r in planned for f in r}) == len(broken)


def test_many_nodes_are_not_all_asked() -> None:
    broken = [(a, b) for a in names(40) for b in names(40) if a != b]
    assert sum(map(len, rounds(stage(40), mesh(40, *broken)))) <= 12


def test_nodes_that_cannot_be_entered_are_left_out() -> None:
    assert list(rounds(stage(3, ["n0", "n1"]), mesh(3, *both("n0", "n2")))) == []


class Place(msgspec.Struct):
    """A shell that says the same whatever it is told."""

    node: str
    said: ExecAnswer
    asked: list[str] = msgspec.field(default_factory=list)

    @property
    def vantage(self) -> Vantage:
        """A node."""
        return Vantage(VantageKind.NODE, self.node)

    @property
    def via(self) -> str:
        """A pod."""
        return f"kube-flannel/{self.node}"

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Answer."""
        assert 0 < seconds <= 10
        self.asked.append(script)
        if "ping" in script:
            return self.said
        mark = script.split("echo ")[1].split('"')[1].split(" ", maxsplit=1)[0]
        return ExecAnswer(stdout=f"{mark} devices\nflannel.1: 1\n{mark}= 0\n", stderr="")


def counted(said: ExecAnswer) -> tuple[list[Place], list[object]]:
    """Send one pair's bursts."""
    places = [Place(n, said) for n in names(2)]
    shells: dict[str, Shell] = {p.node: p for p in places}
    planned = rounds(stage(2), mesh(2, *both("n0", "n1")))
    return places, list(count(shells, planned))


def test_counters_are_read_before_and_after() -> None:
    places, records = counted(ExecAnswer(stdout="answered\nanswered\ndone\n", stderr=""))
    kinds = [type(r) for r in records]
    assert kinds == [NodeRecord, NodeRecord, FlowRecord, FlowRecord, NodeRecord, NodeRecord]
    read = [
        (r.node, o.name, o.stdout) for r in records if isinstance(r, NodeRecord) for o in r.outputs
    ]
    assert read == [
        (n, f"counted {i} devices", "flannel.1: 1") for i in (0, 1) for n in ("n0", "n1")
    ]
    flows = [r.observation for r in records if isinstance(r, FlowRecord)]
    assert [(o.sent, o.lost, o.ok) for o in flows] == [(30, 28, True)] * 2
    assert "10.244.1.0" in places[0].asked[1]
    assert not any(w in places[0].asked[1] for w in ("PINGS", "ADDRESS", "MARK"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            ExecAnswer(stdout="ping is missing in the image\n", stderr=""),
            "ping is missing in the image",
        ),
        (ExecAnswer(stdout="answered\n", stderr=""), "it did not come to its end"),
        (ExecAnswer(stdout="", stderr="", reason="forbidden"), "forbidden"),
    ],
)
def test_a_burst_that_could_not_be_sent_is_a_gap(said: ExecAnswer, reason: str) -> None:
    _, records = counted(said)
    gaps = [r for r in records if isinstance(r, GapRecord)]
    assert [(g.gap.reason, g.gap.essential, g.tables) for g in gaps] == [
        (reason, False, ("Counters",))
    ] * 2
