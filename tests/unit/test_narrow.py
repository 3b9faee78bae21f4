"""What else would explain a diagnosis's failures, what speaks against it, what nobody explains."""

from doctor.engine.narrow import weigh
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Role, Severity
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.link import Link
from doctor.model.verdict import Diagnosis
from tests.unit.test_attribute import hop

A_TO_B, B_TO_A = "underlay:a>b:udp/8472", "underlay:b>a:udp/8472"
FORWARD = "forward:a:tcp/80"


def seen(name: str, path: str, failure: Failure | None = Failure.TIMEOUT) -> Observation:
    """Observe a flow that crosses some hops."""
    hops = tuple(hop(h) for h in path.split())
    flow = Flow(name, Purpose.MESH, Vantage(VantageKind.POD, "a"), FlowKind.TCP, "192.0.2.1", 80)
    return Observation(flow, failure, 0.1, hops=hops, certain=hops)


def said(
    name: str,
    at: str,
    *flows: str,
    role: Role = Role.CAUSE,
    link: Link = Link.OVERLAY,
    confidence: Confidence = Confidence.LIKELY,
    severity: Severity = Severity.FAIL,
) -> Diagnosis:
    """Make a diagnosis."""
    finding = Finding(
        Code(name, link, "", role),
        name,
        hop(at),
        ("e",),
        severity=severity,
        confidence=confidence,
        flows=flows,
    )
    return Diagnosis(name.lower(), f"{link}.check", finding)


def symptom(name: str, at: str, *flows: str, link: Link = Link.DNS) -> Diagnosis:
    """Make a diagnosis of a bare symptom."""
    return said(name, at, *flows, role=Role.SYMPTOM, link=link)


def rivals(diagnosis: Diagnosis) -> set[str]:
    """Write down the rivals."""
    return {str(r.hop) for r in diagnosis.rivals}


def narrow(found: list[Diagnosis], flows: list[Observation]) -> tuple[Diagnosis, ...]:
    """Weigh diagnoses."""
    return weigh(found, flows)[0]


def unexplained(found: list[Diagnosis], flows: list[Observation]) -> tuple[str, ...]:
    """Say what is left."""
    return weigh(found, flows)[1]


def test_two_directions_are_rivals_until_something_read_tells() -> None:
    lost = [seen("ab", f"{A_TO_B} {B_TO_A}")]
    (inferred,) = narrow([said("LIKELY", A_TO_B, "ab")], lost)
    assert rivals(inferred) == set()  # what was found there is a prior
    (open_,) = narrow([symptom("TIMEOUT", "service:x/dns", "ab")], lost)
    assert str(open_.finding.hop) == A_TO_B
    assert rivals(open_) == {B_TO_A}
    assert "not counted at a" in open_.rivals[0].decided_by


def test_symptoms_of_one_hop_are_one_diagnosis() -> None:
    lost = [seen(n, f"{FORWARD} pod:x/{n}:tcp/80") for n in ("dns", "web")]
    works = [seen(f"to-{n}", f"pod:x/{n}:tcp/80", None) for n in ("dns", "web")]
    found = [
        symptom("DNS_TIMEOUT", "service:x/dns", "dns"),
        symptom("ENDPOINT_SILENT", "service:x/web", "web", link=Link.SERVICE),
    ]
    (one,) = narrow(found, [*lost, *works])
    assert one.id == "d1"
    assert one.finding.code.name == "DNS_TIMEOUT"
    assert str(one.finding.hop) == FORWARD
    assert one.finding.confidence is Confidence.LIKELY
    assert [f.code.name for _, f in one.explains] == ["ENDPOINT_SILENT"]


def test_symptoms_of_two_hops_stay_two() -> None:
    lost = [seen("dns", "pod:x/dns:udp/53"), seen("web", "pod:x/web:tcp/80")]
    found = [
        symptom("DNS_TIMEOUT", "service:x/dns", "dns"),
        symptom("ENDPOINT_SILENT", "service:x/web", "web", link=Link.SERVICE),
    ]
    assert [str(d.finding.hop) for d in narrow(found, lost)] == [
        "pod:x/dns:udp/53",
        "pod:x/web:tcp/80",
    ]


def test_a_flow_that_passed_speaks_against_a_cause() -> None:
    flows = [seen("lost", FORWARD), seen("passed", FORWARD, None)]
    (blamed,) = narrow([said("DROPPED", "forward:a")], flows)
    assert blamed.against == ("passed",)
    (warned,) = narrow([said("SLOW", "forward:a", severity=Severity.WARN)], flows)
    assert warned.against == ()


def test_what_is_certain_has_no_rivals() -> None:
    lost = [seen("ab", f"{A_TO_B} {B_TO_A}")]
    sure = said("READ", A_TO_B, "ab", confidence=Confidence.CERTAIN)
    assert narrow([sure], lost)[0].rivals == ()


def test_failures_that_nothing_explains_are_told() -> None:
    lost = [seen(f"l{n}", FORWARD) for n in range(3)]
    assert unexplained([], lost) == (
        f"Not explained: 3 probes stayed unanswered that all cross {FORWARD} (l0)",
    )
    assert unexplained([], lost[:1]) == ()
    assert unexplained([said("DROPPED", "forward:a")], lost) == ()
    assert unexplained([symptom("CITED", "service:x/y", "l0", "l1", "l2")], lost) == ()


def test_failures_that_contradict_the_predicted_path_are_told() -> None:
    """Each hop of the path lets others pass: what loses them is not on it."""
    passes = [seen("ok", f"{FORWARD} {A_TO_B}", None)]
    lost = [seen("l1", FORWARD), seen("l2", f"{FORWARD} {A_TO_B}")]
    (told,) = unexplained([], [*passes, *lost])
    assert told.startswith("Not explained: 2 probes stayed unanswered although every hop")
    assert unexplained([], [*passes, *lost[:1]]) == ()
    assert unexplained([], [*passes, *(seen(f"away{n}", "") for n in range(3))]) == ()
    assert unexplained([symptom("CITED", "service:x/y", "l1", "l2")], [*passes, *lost]) == ()


def test_a_hop_that_is_blamed_may_let_others_pass() -> None:
    """One that is broken one way still explains what it loses; a warning about it explains nothing."""
    flows = [seen("ok", FORWARD, None), seen("l1", FORWARD), seen("l2", FORWARD)]
    assert unexplained([said("DROPPED", "forward:a")], flows) == ()
    for other in (
        said("DROPPED", "forward:b"),
        said("SLOW", "forward:a", severity=Severity.WARN),
        symptom("TIMEOUT", "forward:a"),
    ):
        assert len(unexplained([other], flows)) == 1


def test_a_healthy_run_stays_as_it_is() -> None:
    assert narrow([], [seen("ok", FORWARD, None)]) == ()
