"""What the engine makes of checks: verdicts, the outcome, the exit code."""

from collections.abc import Iterator

import msgspec
import pytest

from doctor.bundle.schema import Bundle, FlowRecord, Record
from doctor.contract import Check, check
from doctor.engine.run import EXIT_CODES, diagnose
from doctor.evidence.tables import TABLES, Table, Tables
from doctor.model.evidence import Evidence, KubeProxy, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Code, Finding, Role, Severity
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.verdict import CheckResult, Gap, Outcome, TargetResult, Verdict
from doctor.render.summary import headline
from tests.unit.support import api, bundle, cluster, node, service

BAD = Code("BAD", Link.NODE, "Bad.")
ECHO = Code("ECHO", Link.NODE, "An echo.", Role.SYMPTOM)
HOP = Hop(HopKind.NODE, "n0")
WEB = Hop(HopKind.SERVICE, "shop/web")
FAIL, WARN = Severity.FAIL, Severity.WARN
HEALTHY = bundle(*cluster())
REFUSED = bundle(api("nodes", status=403, reason="forbidden"))
UNREAD = bundle(
    *(api(kind) for kind in ("nodes", "pods")),
    api("daemonsets", status=403, reason="forbidden"),
)


def bad(severity: Severity = FAIL, code: Code = BAD, hop: Hop = HOP) -> Finding:
    """Make a finding."""
    after = (HOP,) if code is ECHO else ()
    return Finding(code, "Something is broken", hop, ("e",), severity, consequence_of=after)


def judging(
    *found: Finding, name: str = "one", essential: bool = True, link: Link = Link.NODE
) -> Check:
    """Make a check of nodes that says these."""

    @check(id=f"{link}.{name}", title="Nodes are fine", codes=(BAD, ECHO), essential=essential)
    def judge(nodes: Nodes) -> Iterator[Finding]:
        assert isinstance(nodes, Nodes)
        yield from found

    return judge


@check(id="node.crash", title="Nodes do not crash this", codes=(BAD,))
def crashing(nodes: Nodes) -> Iterator[Finding]:
    """Say something, then fall over."""
    yield bad()
    raise ValueError(f"{len(nodes.items)} nodes are too many")


@check(id="node.optional", title="kube-proxy may be there", codes=(BAD,))
def optional(proxy: KubeProxy | None) -> Iterator[Finding]:
    """Need nothing that must be there."""
    assert proxy is not None
    yield from ()


@check(id="node.skipped", title="kube-proxy is there", codes=(BAD,))
def skipped(proxy: KubeProxy) -> Iterator[Finding]:
    """Judge what is not there."""
    yield bad(code=BAD, hop=Hop(HopKind.KUBE_PROXY, proxy.mode))


QUIET, FAILS, WARNS = judging(), judging(bad()), judging(bad(WARN))


@pytest.mark.parametrize(
    ("of", "checks", "verdicts", "outcome"),
    [
        (HEALTHY, [QUIET], "pass", Outcome.HEALTHY),
        (HEALTHY, [], "", Outcome.HEALTHY),
        (HEALTHY, [FAILS], "fail", Outcome.FAIL),
        (HEALTHY, [WARNS], "warn", Outcome.WARN),
        (HEALTHY, [judging(bad(WARN), bad(hop=WEB))], "fail", Outcome.FAIL),
        (HEALTHY, [skipped], "skipped", Outcome.HEALTHY),
        (HEALTHY, [crashing], "crashed", Outcome.ERROR),
        (HEALTHY, [crashing, FAILS, WARNS], "crashed fail masked", Outcome.ERROR),
        (REFUSED, [QUIET], "insufficient", Outcome.INCOMPLETE),
        (REFUSED, [judging(essential=False)], "insufficient", Outcome.HEALTHY),
        (REFUSED, [FAILS], "fail", Outcome.FAIL),
        (REFUSED, [QUIET, FAILS], "insufficient fail", Outcome.FAIL),
        (REFUSED, [QUIET, judging(bad(WARN))], "insufficient warn", Outcome.INCOMPLETE),
        (REFUSED, [QUIET, crashing], "insufficient crashed", Outcome.ERROR),
        (UNREAD, [optional], "pass", Outcome.HEALTHY),
        (UNREAD, [skipped], "fail", Outcome.FAIL),
    ],
)
def test_verdicts_and_outcomes(
    of: Bundle, checks: list[Check], verdicts: str, outcome: Outcome
) -> None:
    result = diagnose(of, checks)
    assert [r.verdict.value for r in result.checks] == verdicts.split()
    assert result.outcome is outcome


def results(of_checks: list[Check]) -> dict[str, CheckResult]:
    """Judge a healthy cluster."""
    return {r.id: r for r in diagnose(HEALTHY, of_checks).checks}


@pytest.mark.parametrize(
    ("checks", "fail_on_warn", "exit_code"),
    [
        ([QUIET], False, 0),
        ([WARNS], False, 0),
        ([WARNS], True, 4),
        ([FAILS], False, 3),
        ([FAILS], True, 3),
        ([crashing, FAILS], True, 1),
    ],
)
def test_exit_codes(checks: list[Check], fail_on_warn: bool, exit_code: int) -> None:  # noqa: FBT001
    assert diagnose(HEALTHY, checks, fail_on_warn=fail_on_warn).exit_code == exit_code


def test_incompleteness_is_told_before_warnings_and_after_failures() -> None:
    assert diagnose(REFUSED, [QUIET, WARNS], fail_on_warn=True).exit_code == 5
    assert diagnose(REFUSED, [QUIET, FAILS]).exit_code == 3
    assert set(EXIT_CODES) == set(Outcome)


def test_a_crash_says_what_happened_and_keeps_nothing_half_said() -> None:
    found = results([crashing, FAILS])
    assert found["node.crash"].detail == "ValueError: 3 nodes are too many"
    assert found["node.crash"].findings == ()
    assert found["node.one"].verdict is Verdict.FAIL


def test_a_table_that_cannot_be_built_costs_the_checks_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_tables: Tables) -> Nodes:
        raise KeyError("gone")

    kind: type[Evidence] = Nodes
    monkeypatch.setitem(TABLES, kind, Table(broken, ()))
    found = results([QUIET, optional])
    assert found["node.one"].detail == "KeyError: 'gone'"
    assert found["node.optional"].verdict is Verdict.PASS


def test_an_echo_is_masked_by_its_cause() -> None:
    echo = judging(bad(code=ECHO, hop=WEB), name="two")
    result = diagnose(HEALTHY, [echo, FAILS])
    by_id = {r.id: r for r in result.checks}
    assert (by_id["node.two"].verdict, by_id["node.two"].explained_by) == (Verdict.MASKED, "d1")
    assert by_id["node.one"].verdict is Verdict.FAIL
    assert [d.finding.code for d in result.diagnoses] == [BAD]
    alone = diagnose(HEALTHY, [echo]).checks[0]
    assert (alone.verdict, alone.explained_by) == (Verdict.FAIL, None)


def test_a_check_with_a_finding_of_its_own_is_not_masked() -> None:
    own = bad(code=BAD, hop=Hop(HopKind.EGRESS, "x"))
    mixed = judging(bad(code=ECHO, hop=WEB), own, name="two")
    assert diagnose(HEALTHY, [FAILS, mixed]).checks[1].verdict is Verdict.FAIL


def open_for(*flows: str) -> Nodes:
    """Evidence that lacks the answers to flows."""
    gaps = tuple(Gap(f"an answer to {f}", "there is none", flows=(f,)) for f in flows)
    return Nodes(gaps=gaps)


def crossing(flow: str, hop: Hop, failure: Failure | None = Failure.TIMEOUT) -> Observation:
    """A flow that stays without an answer, or has one."""
    asked = Flow(flow, Purpose.MESH_SIZE, Vantage(VantageKind.NODE, "n0"), FlowKind.PING, "", 0)
    return Observation(flow=asked, failure=failure, seconds=4.0, hops=(hop,))


@pytest.mark.parametrize(
    ("hops", "answered", "severity", "verdict"),
    [
        ((HOP,), WEB, FAIL, Verdict.MASKED),
        ((HOP, HOP), WEB, FAIL, Verdict.MASKED),
        ((HOP, WEB), WEB, FAIL, Verdict.INSUFFICIENT),
        ((WEB,), WEB, FAIL, Verdict.INSUFFICIENT),
        ((HOP,), WEB, WARN, Verdict.INSUFFICIENT),
        ((HOP,), HOP, FAIL, Verdict.INSUFFICIENT),
    ],
)
def test_what_a_cause_keeps_silent_is_masked(
    monkeypatch: pytest.MonkeyPatch,
    hops: tuple[Hop, ...],
    answered: Hop,
    severity: Severity,
    verdict: Verdict,
) -> None:
    """The answers that are missing would have crossed what is broken: nothing else is open."""
    flows = [f"f{n}" for n, _ in enumerate(hops)]
    kind: type[Evidence] = Nodes
    monkeypatch.setitem(TABLES, kind, Table(lambda _: open_for(*flows), ()))
    seen = (*map(crossing, flows, hops), crossing("other", answered, None))
    monkeypatch.setattr(Tables, "observations", lambda _: seen)
    result = diagnose(HEALTHY, [judging(bad(severity)), judging(name="two")])
    two = result.checks[1]
    assert two.verdict is verdict
    assert two.explained_by == ("d1" if verdict is Verdict.MASKED else None)


def test_gaps_are_listed_once_with_their_reason() -> None:
    (result,) = diagnose(REFUSED, [QUIET]).checks
    assert [(g.needs, g.reason, g.essential) for g in result.gaps] == [
        ("api:nodes", "forbidden", True)
    ]


VIP, URL = "192.0.2.200", "http://shop.example/"
EDGE = Hop(HopKind.SERVICE, "edge/web")


@pytest.mark.parametrize(
    ("status", "found", "expected"),
    [
        (200, (), TargetResult(URL, reachable=True, status=200)),
        (302, (), TargetResult(URL, reachable=True, status=302)),
        (404, (), TargetResult(URL, reachable=False, status=404)),
        (
            502,
            (bad(), bad(hop=EDGE)),
            TargetResult(URL, reachable=False, stopped_at=str(EDGE), status=502),
        ),
        (502, (bad(),), TargetResult(URL, reachable=False, stopped_at="node:n0", status=502)),
    ],
)
def test_targets(status: int, found: tuple[Finding, ...], expected: TargetResult) -> None:
    result = diagnose(visited(status), [judging(*found, link=Link.HOST_PROXY)])
    assert result.targets == (expected,)
    assert (result.stats.nodes, result.stats.probes) == (3, 1)


def visited(status: int, *, asked: bool = True) -> Bundle:
    """Ask for a URL as a visitor does, be it given or derived."""
    flow = Flow(
        "t", Purpose.TARGET, Vantage(VantageKind.MACHINE), FlowKind.HTTP, VIP, 80, "shop.example",
        subject=URL,
    )  # fmt: skip
    front = service("edge/web", "10.96.0.9", vips=[VIP])
    seen = FlowRecord(Observation(flow, None, 0.1, status=status))
    records: tuple[Record, ...] = (*cluster(3, front), seen)
    return bundle(*records, urls=(URL,) if asked else ())


NOT_SERVED = f"nothing found in the links looked at, but {URL} is not served"


@pytest.mark.parametrize(
    ("link", "shown", "exit_code", "said"),
    [
        (Link.NODE, False, 0, "healthy: nothing found in"),
        (Link.EGRESS, False, 0, "healthy: nothing found in"),
        (Link.INGRESS, True, 0, NOT_SERVED),
        (Link.SERVICE, True, 0, NOT_SERVED),
        (Link.METALLB, True, 0, NOT_SERVED),
        (Link.HOST_PROXY, True, 5, f"incomplete: nothing found, but {URL} is not served"),
    ],
)
def test_a_url_that_is_down_for_no_reason_that_was_found(
    link: Link,
    shown: bool,  # noqa: FBT001
    exit_code: int,
    said: str,
) -> None:
    result = diagnose(visited(502), [judging(link=link)])
    assert [t.lost for t in result.targets] == ([True] if shown else [])
    assert result.exit_code == exit_code
    assert headline(result).startswith(said)


def test_a_url_that_is_down_is_told_before_warnings_and_after_failures() -> None:
    warned = diagnose(visited(502), [judging(bad(WARN), link=Link.HOST_PROXY)])
    assert warned.exit_code == 5
    assert headline(warned) == f"incomplete: 1 warning, but {URL} is not served"
    assert diagnose(visited(502), [judging(bad(), link=Link.HOST_PROXY)]).exit_code == 3


def test_a_url_that_nobody_asked_for_need_not_be_served() -> None:
    result = diagnose(visited(404, asked=False), [judging(link=Link.HOST_PROXY)])
    (target,) = result.targets
    assert (target.reachable, target.judged, target.lost) == (False, False, False)
    assert result.exit_code == 0


def test_nothing_is_said_of_a_url_that_was_not_tried() -> None:
    """MetalLB's checks ask for no URL, though one was given so that what is in question is known."""
    other = msgspec.structs.replace(visited(502).question, urls=("http://other.example/",))
    given = msgspec.structs.replace(visited(502), question=other)
    assert diagnose(given, [judging(link=Link.METALLB)]).targets == ()
    (target,) = diagnose(given, [judging(link=Link.HOST_PROXY)]).targets
    assert (target.reachable, target.judged) == (False, False)


def test_a_node_of_another_system_is_counted_not_judged() -> None:
    other = node("n1")
    info = msgspec.structs.replace(other.status.node_info, operating_system="windows")
    status = msgspec.structs.replace(other.status, node_info=info)
    windows = msgspec.structs.replace(other, status=status)
    result = diagnose(bundle(api("nodes", node("n0"), windows)), [QUIET])
    assert result.notices == ("1 nodes do not run Linux and were not probed",)
