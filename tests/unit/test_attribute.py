"""Which finding is a cause, and which findings it explains."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.engine.attribute import Said, attribute
from doctor.model.finding import Code, Finding, Role, Severity
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.verdict import Diagnosis

U = HopKind.UNDERLAY
VXLAN = "udp/8472"
WARN, SYMPTOM = Severity.WARN, Role.SYMPTOM
Tree = dict[str, set[str]]


def hop(text: str) -> Hop:
    """Read a hop as it is written."""
    kind, where, what = (*text.split(":", 2), "")[:3]
    return Hop(HopKind(kind), where, what)


def say(  # noqa: PLR0913 - a finding has many parts
    name: str,
    at: str,
    *,
    flows: Iterable[str] = (),
    after: Iterable[str] = (),
    link: Link = Link.OVERLAY,
    role: Role = Role.CAUSE,
    severity: Severity = Severity.FAIL,
) -> Said:
    """Make a finding, called by its code."""
    return Said(
        f"{link}.check",
        Finding(
            code=Code(name, link, "", role),
            title=name,
            hop=hop(at),
            evidence=("e",),
            severity=severity,
            flows=tuple(flows),
            consequence_of=tuple(hop(h) for h in after),
        ),
    )


def crossing(**paths: str) -> tuple[Observation, ...]:
    """Make observations of flows, with the hops that each crosses."""
    return tuple(
        Observation(
            Flow(name, Purpose.MESH, Vantage(VantageKind.MACHINE), FlowKind.TCP, "192.0.2.1"),
            None,
            0.0,
            hops=tuple(hop(h) for h in path.split()),
        )
        for name, path in paths.items()
    )


def tree(diagnoses: Iterable[Diagnosis]) -> Tree:
    """Reduce diagnoses to names: the cause, and what it explains."""
    return {d.finding.code.name: {f.code.name for _, f in d.explains} for d in diagnoses}


A_TO_B, C_TO_B = "underlay:a>b:udp/8472", "underlay:c>b:udp/8472"
PATHS = crossing(ab=f"forward:a {A_TO_B} pod:x/b", cb=f"forward:c {C_TO_B} pod:x/b", none="")
BROKEN = say("BROKEN", A_TO_B, flows=["ab"])
DNS_AB = say("DNS_AB", "service:x/dns", flows=["ab"], link=Link.DNS, role=SYMPTOM)
DNS_CB = say("DNS_CB", "service:x/dns", flows=["cb"], link=Link.DNS, role=SYMPTOM)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param((), {}, id="nothing"),
        pytest.param((BROKEN, DNS_AB), {"BROKEN": {"DNS_AB"}}, id="a cause folds by hops"),
        pytest.param((DNS_AB, BROKEN), {"BROKEN": {"DNS_AB"}}, id="whoever speaks first"),
        pytest.param(
            (BROKEN, DNS_CB), {"BROKEN": set(), "DNS_CB": set()}, id="and only within its scope"
        ),
        pytest.param(
            (
                BROKEN,
                say("DNS", "service:x/dns", flows=["ab", "cb"], link=Link.DNS, role=SYMPTOM),
            ),
            {"BROKEN": set(), "DNS": set()},
            id="every flow must be explained",
        ),
        pytest.param(
            (say("ALL", "underlay:*>*:udp/8472"), DNS_AB, DNS_CB),
            {"ALL": {"DNS_AB", "DNS_CB"}},
            id="a class explains its members",
        ),
        pytest.param(
            (
                BROKEN,
                say("TOO", C_TO_B),
                say("DNS", "service:x/dns", flows=["ab", "cb"], link=Link.DNS, role=SYMPTOM),
            ),
            {"BROKEN": {"DNS"}, "TOO": set()},
            id="two causes together explain one symptom",
        ),
        pytest.param(
            (BROKEN, say("OTHER", "kube-proxy:c", link=Link.KUBE_PROXY), DNS_AB),
            {"BROKEN": {"DNS_AB"}, "OTHER": set()},
            id="two causes give two",
        ),
        pytest.param((DNS_AB,), {"DNS_AB": set()}, id="a symptom alone becomes a diagnosis"),
        pytest.param(
            (DNS_AB, say("URL", "host-proxy:h", after=["service:x/dns"], role=SYMPTOM)),
            {"DNS_AB": set(), "URL": set()},
            id="a symptom explains nothing",
        ),
        pytest.param(
            (BROKEN, say("LATE", "service:x/y", after=["underlay:*>b:udp/8472"])),
            {"BROKEN": {"LATE"}},
            id="a consequence of a class",
        ),
        pytest.param(
            (say("ALL", "underlay:*>*:udp/8472"), say("LATE", "service:x/y", after=[A_TO_B])),
            {"ALL": {"LATE"}},
            id="a consequence of a member",
        ),
        pytest.param(
            (BROKEN, say("LATE", "service:x/y", after=[C_TO_B], flows=["cb"])),
            {"BROKEN": set(), "LATE": set()},
            id="a consequence of something else",
        ),
        pytest.param(
            (
                BROKEN,
                say("BLIND", "service:x/y", flows=["none"]),
                say("LOST", "service:x/z", flows=["absent"]),
            ),
            {"BROKEN": set(), "BLIND": set(), "LOST": set()},
            id="a flow without a path is explained by nothing",
        ),
        pytest.param(
            (say("FIRST", "node:a", link=Link.NODE), say("SECOND", "node:a", link=Link.FLANNEL)),
            {"FIRST": set(), "SECOND": set()},
            id="two causes at one hop are two",
        ),
        pytest.param(
            (say("SAME", "node:a", link=Link.NODE), say("SAME", "node:a", link=Link.NODE)),
            {"SAME": {"SAME"}},
            id="the same cause, seen by two checks, is one",
        ),
        pytest.param(
            (
                say("FIRST", "node:a", link=Link.NODE),
                say("SECOND", "node:a", after=["node:a"], link=Link.FLANNEL),
            ),
            {"FIRST": {"SECOND"}},
            id="a cause that follows from whatever else is found at its hop",
        ),
        pytest.param(
            (
                say("LATER", "node:a", link=Link.FLANNEL),
                say("FIRST", "node:a", link=Link.NODE, role=SYMPTOM),
            ),
            {"LATER": {"FIRST"}},
            id="a symptom at the hop of a cause",
        ),
        pytest.param(
            (
                say("ROOT", "node:a", link=Link.NODE),
                say("MIDDLE", "flannel:a", after=["node:a"], link=Link.FLANNEL),
                say("LEAF", "service:x/y", after=["flannel:a"], link=Link.SERVICE),
            ),
            {"ROOT": {"MIDDLE", "LEAF"}},
            id="what is explained still explains, through its cause",
        ),
    ],
)
def test_folding(said: tuple[Said, ...], expected: Tree) -> None:
    diagnoses, folded = attribute(said, PATHS)
    assert tree(diagnoses) == expected
    assert [d.id for d in diagnoses] == [f"d{n}" for n in range(1, len(expected) + 1)]
    assert len(folded) == len(said)
    assert set(folded.values()) == set(range(len(expected)))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_circle_is_cut_once(size: int) -> None:
    said = [
        say(f"C{n}", f"service:x/{n}", after=[f"service:x/{(n + 1) % size}"]) for n in range(size)
    ]
    diagnoses, _ = attribute(said, ())
    assert len(diagnoses) == 1
    assert len(diagnoses[0].explains) == size - 1


def test_failures_come_before_warnings_and_causes_before_bare_symptoms() -> None:
    said = (
        say("WARNS", "node:a", severity=WARN, link=Link.NODE),
        say("BARE", "service:x/s", role=SYMPTOM, link=Link.DNS),
        say("SMALL", "service:x/t", link=Link.WEBHOOK),
        say("LARGE", "service:x/u", link=Link.SERVICE),
        say("LEAF", "service:x/v", after=["service:x/u"], link=Link.INGRESS),
        say("MILD", "service:x/w", after=["node:a"], severity=WARN, link=Link.EGRESS),
    )
    diagnoses, _ = attribute(said, ())
    assert [d.finding.code.name for d in diagnoses] == ["LARGE", "SMALL", "BARE", "WARNS"]


def test_a_warning_explains_no_failure() -> None:
    said = (
        say("WARNS", "kube-proxy:a", severity=WARN, link=Link.KUBE_PROXY),
        say("FAILS", "service:x/y", after=["kube-proxy:a"], link=Link.DNS, role=SYMPTOM),
        say("SAME", "kube-proxy:a", link=Link.EGRESS),
        say("MILD", "service:x/z", after=["kube-proxy:a"], severity=WARN, link=Link.EGRESS),
    )
    diagnoses, _ = attribute(said[:2], ())
    assert tree(diagnoses) == {"FAILS": set(), "WARNS": set()}
    diagnoses, _ = attribute(said, ())
    assert tree(diagnoses) == {"SAME": {"FAILS"}, "WARNS": {"MILD"}}


PLACES = tuple(f"service:x/{n}" for n in range(8))


@st.composite
def evidence(draw: st.DrawFn) -> tuple[list[Said], tuple[Observation, ...]]:
    """Draw findings on places of their own, of which each may follow from earlier ones."""
    paths = {
        f"f{n}": " ".join(draw(st.lists(st.sampled_from(PLACES[:n] or PLACES[:1]), max_size=3)))
        for n in range(len(PLACES))
    }
    said = [
        say(
            f"C{n}",
            place,
            link=draw(st.sampled_from([Link.OVERLAY, Link.DNS])),
            role=draw(st.sampled_from(Role)),
            severity=draw(st.sampled_from(Severity)),
            flows=draw(st.lists(st.sampled_from([f"f{i}" for i in range(n + 1)]), max_size=2)),
            after=draw(st.lists(st.sampled_from(PLACES[:n]), max_size=2)) if n else (),
        )
        for n, place in enumerate(PLACES[: draw(st.integers(1, len(PLACES)))])
    ]
    return said, crossing(**paths)


@given(evidence(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_said_changes_no_diagnosis(
    given_: tuple[list[Said], tuple[Observation, ...]], random: Random
) -> None:
    said, observations = given_
    first, _ = attribute(said, observations)
    assert attribute(said, observations)[0] == first
    mixed = random.sample(said, len(said))
    again, _ = attribute(mixed, random.sample(observations, len(observations)))
    assert {d.finding for d in again} == {d.finding for d in first}
    told = {f.code.name for d in first for f in (d.finding, *(f for _, f in d.explains))}
    assert told == {s.finding.code.name for s in said}
    severities = [d.finding.severity for d in first]
    assert severities == sorted(severities, key=lambda s: s is WARN)
