"""The result on a terminal, as it is seen."""

# ruff: noqa: RUF001

import sys
import unicodedata

import msgspec
import pytest
from rich.cells import cell_len

from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.verdict import (
    CheckResult,
    Diagnosis,
    Gap,
    Outcome,
    Result,
    Rival,
    Stats,
    TargetResult,
    Verdict,
)
from doctor.render.terminal import render_terminal
from doctor.render.text import HIDDEN, cells, inert

STATS = Stats(seconds=4.24, api_requests=38, nodes=3, probes=120)
OPEN_PORT = (
    "openstack security group rule create --ingress --protocol udp --dst-port 53"
    " --remote-group k8s-nodes k8s-nodes"
)


def found(code: str, title: str, hop: Hop, link: Link = Link.DNS) -> Finding:
    return Finding(code=Code(code, link, ""), title=title, hop=hop, evidence=("e1",))


def target(url: str, status: int | None, stopped_at: str | None = None) -> TargetResult:
    return TargetResult(url, reachable=stopped_at is None, stopped_at=stopped_at, status=status)


CAUSE = Finding(
    code=Code("DNS_PORT_FILTERED", Link.DNS, ""),
    title=(
        "Port 53 from every node to CoreDNS on k8s-worker-1 is dropped between the nodes,"
        " while TCP 9153 of the same pod answers"
    ),
    hop=Hop(HopKind.UNDERLAY, "*>*", "udp/53"),
    evidence=("p1", "p2", "p3", "p4", "p5", "p6"),
    confidence=Confidence.LIKELY,
    remediation=(
        Remediation("Let port 53 in", (OPEN_PORT,), Risk.SAFE, "wwwm-doctor check dns"),
        Remediation(
            "Or carry pods in VXLAN",
            ("kubectl -n kube-flannel edit configmap kube-flannel-cfg",),
            Risk.DISRUPTIVE,
            "wwwm-doctor check dns",
        ),
    ),
    falsifier="a capture on k8s-worker-1 shows the query arriving",
)
UNREADY = found(
    "SERVICE_NOT_READY",
    "Service shop/api has no ready endpoint",
    Hop(HopKind.SERVICE, "shop/api"),
    Link.SERVICE,
)
NO_NAME = found(
    "EGRESS_NO_NAME",
    "Pod shop/api-7d9 cannot resolve mongodb.example.com",
    Hop(HopKind.EGRESS, "mongodb.example.com"),
    Link.EGRESS,
)


def judged(id: str, verdict: Verdict = Verdict.PASS, **more: object) -> CheckResult:
    plain = CheckResult(id, Link(id.partition(".")[0]), f"Title of {id}", verdict)
    return msgspec.structs.replace(plain, **more)


ARTICLE = Result(
    outcome=Outcome.FAIL,
    exit_code=3,
    targets=(
        target("http://shop.example.com/static/", 200),
        target("http://shop.example.com/", 503, "underlay:*>*:udp/53"),
    ),
    diagnoses=(
        Diagnosis(
            "d1",
            "dns.udp-and-tcp",
            CAUSE,
            (("service.endpoints", UNREADY), ("egress.names", NO_NAME), ("egress.tcp", NO_NAME)),
        ),
    ),
    checks=(
        judged("egress.names", Verdict.MASKED, findings=(NO_NAME,), explained_by="d1"),
        judged("egress.tcp", Verdict.MASKED, findings=(NO_NAME,), explained_by="d1"),
        judged("node.ready"),
        judged("node.pressure"),
        judged("dns.udp-and-tcp", Verdict.FAIL, findings=(CAUSE,)),
        judged("dns.config"),
        judged("service.endpoints", Verdict.MASKED, findings=(UNREADY,), explained_by="d1"),
        judged("metallb.pool", Verdict.SKIPPED, detail="MetalLB is not installed"),
        judged(
            "host-proxy.config",
            Verdict.INSUFFICIENT,
            gaps=(Gap("proxy", "no process on this machine owns port 8080", essential=False),),
        ),
    ),
    notices=("ingress-nginx is retired: no security fixes since March 2026",),
    stats=STATS,
)
HEALTHY = Result(
    outcome=Outcome.HEALTHY,
    exit_code=0,
    targets=(target("http://shop.example.com/", 200),),
    checks=(judged("node.ready"), judged("node.pressure"), judged("kube-proxy.rules")),
    notices=("ingress-nginx is retired",),
    stats=STATS,
)
FORBIDDEN = Gap("exec:kube-flannel on k8s-worker-2", "403: pods/exec is forbidden")
INCOMPLETE = Result(
    outcome=Outcome.INCOMPLETE,
    exit_code=5,
    checks=(
        judged("flannel.subnet-env", Verdict.INSUFFICIENT, gaps=(FORBIDDEN,)),
        judged("overlay.mtu", Verdict.INSUFFICIENT, gaps=(FORBIDDEN,)),
    ),
    stats=STATS,
)


def render(
    result: Result,
    width: int | None = 80,
    *,
    color: bool = False,
    ascii_only: bool = False,
    verbose: bool = False,
) -> str:
    return render_terminal(result, width=width, color=color, ascii_only=ascii_only, verbose=verbose)


def blamed(finding: Finding, **more: object) -> Result:
    plain = Result(
        outcome=Outcome.FAIL,
        exit_code=3,
        diagnoses=(Diagnosis("d1", "dns.x", finding),),
        checks=(judged("dns.x", Verdict.FAIL, findings=(finding,)),),
    )
    return msgspec.structs.replace(plain, **more)


SEEN_60 = f"""\
✔ node        pass     2 checks
✖ dns         FAIL     d1: Port 53 from every node to CoreD…
– service     masked   1 finding, explained by d1
– metallb     skipped  MetalLB is not installed
? host-proxy  unknown  proxy: no process on this machine ow…
– egress      masked   2 findings, explained by d1

targets
  ✖ http://shop.example.com/
      stopped at underlay:*>*:udp/53 (HTTP 503)
  ✔ http://shop.example.com/static/  reachable (HTTP 200)

✖ d1  Port 53 from every node to CoreDNS on k8s-worker-1 is
      dropped between the nodes, while TCP 9153 of the same
      pod answers
  where:    underlay:*>*:udp/53
  code:     DNS_PORT_FILTERED (likely)
  proof:    p1, p2, p3, p4 and 2 more
  explains: 3 other findings (1 at service, 2 at egress)
  fix:      Let port 53 in (safe)
              {OPEN_PORT}
  fix:      Or carry pods in VXLAN (disruptive)
              kubectl -n kube-flannel edit configmap kube-flannel-cfg
  verify:   wwwm-doctor check dns
  wrong if: a capture on k8s-worker-1 shows the query
            arriving

note: ingress-nginx is retired: no security fixes since
      March 2026

not looked at
  proxy: no process on this machine owns port 8080
    so no answer from host-proxy.config

1 root cause, 3 other findings explained by it
"""

SEEN_80 = f"""\
✔ node        pass     2 checks
✖ dns         FAIL     d1: Port 53 from every node to CoreDNS on k8s-worker-1 i…
– service     masked   1 finding, explained by d1
– metallb     skipped  MetalLB is not installed
? host-proxy  unknown  proxy: no process on this machine owns port 8080
– egress      masked   2 findings, explained by d1

targets
  ✖ http://shop.example.com/         stopped at underlay:*>*:udp/53 (HTTP 503)
  ✔ http://shop.example.com/static/  reachable (HTTP 200)

✖ d1  Port 53 from every node to CoreDNS on k8s-worker-1 is dropped between the
      nodes, while TCP 9153 of the same pod answers
  where:    underlay:*>*:udp/53
  code:     DNS_PORT_FILTERED (likely)
  proof:    p1, p2, p3, p4 and 2 more
  explains: 3 other findings (1 at service, 2 at egress)
  fix:      Let port 53 in (safe)
              {OPEN_PORT}
  fix:      Or carry pods in VXLAN (disruptive)
              kubectl -n kube-flannel edit configmap kube-flannel-cfg
  verify:   wwwm-doctor check dns
  wrong if: a capture on k8s-worker-1 shows the query arriving

note: ingress-nginx is retired: no security fixes since March 2026

not looked at
  proxy: no process on this machine owns port 8080
    so no answer from host-proxy.config

1 root cause, 3 other findings explained by it
"""

TITLE_120 = """\
✖ d1  Port 53 from every node to CoreDNS on k8s-worker-1 is dropped between the nodes, while TCP 9153 of the same pod
      answers
  where:    underlay:*>*:udp/53
"""

ASCII_60 = """\
ok      node        2 checks
FAIL    dns         d1: Port 53 from every node to CoreDN...
masked  service     1 finding, explained by d1
skipped metallb     MetalLB is not installed
unknown host-proxy  proxy: no process on this machine own...
masked  egress      2 findings, explained by d1

targets
  FAIL http://shop.example.com/
         stopped at underlay:*>*:udp/53 (HTTP 503)
  ok   http://shop.example.com/static/  reachable (HTTP 200)

FAIL d1  Port 53 from every node to CoreDNS on k8s-worker-1
         is dropped between the nodes, while TCP 9153 of the
         same pod answers
"""


def test_the_article_at_60_columns() -> None:
    assert render(ARTICLE, 60) == SEEN_60


def test_the_article_at_80_columns() -> None:
    assert render(ARTICLE, 80) == SEEN_80


def test_the_article_at_120_columns() -> None:
    assert TITLE_120 in render(ARTICLE, 120)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal_but_what_is_copied(width: int) -> None:
    wide = {x.strip() for x in render(ARTICLE, width).splitlines() if cell_len(x) > width}

    assert wide <= {OPEN_PORT, "kubectl -n kube-flannel edit configmap kube-flannel-cfg"}


def test_without_unicode_marks_are_words() -> None:
    text = render(ARTICLE, 60, ascii_only=True)

    assert text.startswith(ASCII_60)
    assert text.isascii()


def test_without_unicode_names_are_escaped() -> None:
    shop = found("X", "pod 가게", Hop(HopKind.POD, "가게/api"))
    text = render(blamed(shop, targets=(target("http://가게/", 200),)), ascii_only=True)

    assert text.isascii()
    assert r"pod \uac00\uac8c" in text
    assert r"http://\uac00\uac8c/  reachable" in text


def test_healthy_is_quiet() -> None:
    assert (
        render(HEALTHY)
        == """\
✔ node        pass  2 checks
✔ kube-proxy  pass  1 check

targets
  ✔ http://shop.example.com/  reachable (HTTP 200)

healthy: nothing found in 4.2 s (38 API requests, 120 probes, 3 nodes)
"""
    )


def test_healthy_says_all_when_asked() -> None:
    text = render(HEALTHY, verbose=True)

    assert "  ✔ http://shop.example.com/  reachable (HTTP 200)\n" in text
    assert "note: ingress-nginx is retired\n" in text


def test_healthy_says_in_full_what_it_did_without() -> None:
    arp = Gap(
        "packets", "this machine may not send raw packets: sudo wwwm-doctor run", essential=False
    )
    checks = (judged("metallb.arp", Verdict.INSUFFICIENT, gaps=(arp,)),)

    text = render(msgspec.structs.replace(HEALTHY, checks=checks), 60)

    assert text.startswith(
        "? metallb  unknown  packets: this machine may not send raw\n"
        "                    packets: sudo wwwm-doctor run\n"
    )


def test_what_is_not_needed_does_not_hide_what_is_well() -> None:
    arp = Gap("packets", "no right", essential=False)
    checks = (judged("metallb.pool"), judged("metallb.arp", Verdict.INSUFFICIENT, gaps=(arp,)))

    text = render(msgspec.structs.replace(HEALTHY, checks=checks))

    assert text.startswith("✔ metallb  pass  1 check, 1 not judged: packets: no right\n")


def test_incomplete_names_what_is_missing_and_what_it_costs() -> None:
    assert (
        render(INCOMPLETE)
        == """\
? flannel  unknown  exec:kube-flannel on k8s-worker-2: 403: pods/exec is forbid…
? overlay  unknown  exec:kube-flannel on k8s-worker-2: 403: pods/exec is forbid…

not looked at
  exec:kube-flannel on k8s-worker-2: 403: pods/exec is forbidden
    so no answer from flannel.subnet-env, overlay.mtu

incomplete: nothing found, but 1 thing could not be looked at
"""
    )


def test_needed_gaps_come_first() -> None:
    nice = Gap("packets", "no right", essential=False)
    checks = (judged("node.ready", gaps=(nice,)), *INCOMPLETE.checks)

    text = render(msgspec.structs.replace(INCOMPLETE, checks=checks))

    assert text.index("\n  exec:kube-flannel on") < text.index("\n  packets: no right")


def test_a_crash_is_named_by_its_last_line() -> None:
    crashed = judged("dns.config", Verdict.CRASHED, detail="Traceback\n  x\nValueError: bad\n")
    result = Result(outcome=Outcome.ERROR, exit_code=1, checks=(crashed,))

    assert (
        render(result)
        == """\
✖ dns  crashed  dns.config: ValueError: bad

not looked at
  dns.config: crashed: ValueError: bad

error: 1 check crashed
"""
    )


def test_a_run_that_could_not_start() -> None:
    result = Result(outcome=Outcome.ERROR, exit_code=2, message="no cluster answers")

    assert render(result) == "error: no cluster answers\n"


def test_an_interrupted_run_shows_what_it_found_unattributed() -> None:
    checks = (judged("egress.names", Verdict.FAIL, findings=(NO_NAME, UNREADY)),)
    result = Result(outcome=Outcome.INTERRUPTED, exit_code=130, checks=checks, stats=STATS)

    assert (
        render(result, 60)
        == """\
✖ egress  FAIL  Pod shop/api-7d9 cannot resolve
                mongodb.example.com (and 1 more)

interrupted after 4.2 s: nothing found so far
"""
    )


def test_several_causes_and_a_warning() -> None:
    old = msgspec.structs.replace(UNREADY, severity=Severity.WARN)
    result = msgspec.structs.replace(
        ARTICLE,
        diagnoses=(
            *ARTICLE.diagnoses,
            Diagnosis("d2", "dns.udp-and-tcp", NO_NAME),
            Diagnosis("d3", "node.ready", old),
        ),
    )
    text = render(result)

    assert "✖ dns         FAIL     2 causes: d1, d2\n" in text
    assert "\n! d3  Service shop/api has no ready endpoint\n" in text
    assert text.endswith("\n2 root causes and 1 warning, 3 other findings explained by them\n")


def test_what_else_it_may_be_and_what_speaks_against_it() -> None:
    told = Rival(Hop(HopKind.POD_NETWORK, "node-7"), "no pod on node-7 answers")
    doubted = Diagnosis("d1", "dns.udp-and-tcp", NO_NAME, (), (told,), ("mesh:a", "mesh:b"))
    text = render(Result(Outcome.FAIL, 3, diagnoses=(doubted,)), 100)
    assert "against:  mesh:a, mesh:b" in text
    assert "or else:  pod-network:node-7, if no pod on node-7 answers" in text


def test_a_fault_does_not_hide_that_the_answer_is_incomplete() -> None:
    checks = (*ARTICLE.checks, *INCOMPLETE.checks)

    text = render(msgspec.structs.replace(ARTICLE, checks=checks))

    assert text.endswith("explained by it; 1 thing could not be looked at\n")


def test_verbose_unfolds() -> None:
    text = render(ARTICLE, verbose=True)

    assert "proof:    p1, p2, p3, p4, p5, p6\n" in text
    assert (
        """\
  explains: 3 other findings (1 at service, 2 at egress)
            service.endpoints  SERVICE_NOT_READY  Service shop/api has no
              ready endpoint
            egress.names  EGRESS_NO_NAME  Pod shop/api-7d9 cannot resolve
              mongodb.example.com
"""
        in text
    )
    assert text.endswith("by it; 4.2 s (38 API requests, 120 probes, 3 nodes)\n")


def test_many_targets_are_counted() -> None:
    targets = tuple(TargetResult(f"http://{n}.example/", n > 11) for n in range(14))
    result = msgspec.structs.replace(ARTICLE, targets=targets)

    assert "    and 4 more, 2 of them not reachable\n" in render(result)
    assert "http://13.example/" in render(result, verbose=True)
    assert "  ✖ http://9.example/  stopped at a place not known\n" in render(result)


def test_many_gaps_are_counted() -> None:
    gaps = tuple(Gap(f"exec:{n}", "403") for n in range(12))
    result = msgspec.structs.replace(
        INCOMPLETE, checks=(judged("node.ready", Verdict.INSUFFICIENT, gaps=gaps),)
    )

    assert "  and 2 more\n" in render(result)
    assert "exec:11: 403" in render(result, verbose=True)


def test_hostile_text_is_only_text() -> None:
    title = "a\x1b[31mb [red]c[/red] d\u202ee\nf :smile: \u200bg"
    nasty = msgspec.structs.replace(
        CAUSE,
        title=title,
        hop=Hop(HopKind.POD, title),
        evidence=(title,),
        remediation=(Remediation(title, (title,), Risk.SAFE, title),),
        falsifier=title,
    )
    result = blamed(
        nasty,
        targets=(target(title, None, title),),
        notices=(title,),
        diagnoses=(Diagnosis("d1", "dns.x", nasty, ((title, nasty),)),),
        checks=(
            judged("dns.x", Verdict.FAIL, findings=(nasty,), gaps=(Gap(title, title),)),
            judged("node.x", Verdict.CRASHED, detail=title),
        ),
    )
    text = render(result, 120, verbose=True)

    assert text.replace("\n", "").isprintable()
    assert r"✖ d1  a\x1b[31mb [red]c[/red] d\u202ee\x0af :smile: \u200bg" in text
    assert "\n" + " " * 14 + r"a\x1b[31mb [red]c[/red] d\u202ee\x0af :smile: \u200bg" + "\n" in text
    assert "\x1b[31mb" not in render(result, 120, color=True, verbose=True)


def test_wide_characters_are_counted_twice() -> None:
    shop = found("X", "가게의 서비스가 응답하지 않습니다 " * 4, Hop(HopKind.SERVICE, "가게/api"))
    text = render(blamed(shop, targets=(target("http://가게.example/", 200),)), 60)

    assert max(cell_len(line) for line in text.splitlines()) <= 60
    assert (
        """\
✖ d1  가게의 서비스가 응답하지 않습니다 가게의 서비스가
      응답하지 않습니다 가게의 서비스가 응답하지 않습니다
      가게의 서비스가 응답하지 않습니다
  where:    service:가게/api
"""
        in text
    )


def test_colour_stays_where_it_belongs() -> None:
    text = render(ARTICLE, color=True)

    assert "\x1b[32m✔ \x1b[0mnode        \x1b[32mpass     \x1b[0m" in text
    assert "\x1b[1;31m✖ \x1b[0mdns         \x1b[1;31mFAIL     \x1b[0md1: Port 53" in text
    assert "\x1b[2m  where:    \x1b[0m\x1b[36munderlay:*>*:udp/53\x1b[0m\n" in text
    assert "\x1b[0mOr carry pods in VXLAN\x1b[1;33m (disruptive)\x1b[0m\n" in text


def test_colour_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    colored = render(ARTICLE, color=True)
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b[" in colored
    assert render(ARTICLE) == SEEN_80


def test_without_a_terminal_lines_have_a_width_of_their_own() -> None:
    assert render(ARTICLE, None) == render(ARTICLE, 100)


def test_a_narrow_terminal_does_not_break_it() -> None:
    assert render(ARTICLE, 1) == render(ARTICLE, 40)


def test_hidden_is_all_that_moves_reorders_or_hides() -> None:
    moving = {"Cc", "Cs", "Zl", "Zp"}
    ordering = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"}
    kept = [
        hex(n)
        for n in range(sys.maxunicode + 1)
        if (unicodedata.category(c := chr(n)) in moving or unicodedata.bidirectional(c) in ordering)
        and not HIDDEN.match(c)
    ]

    assert kept == []
    assert not HIDDEN.search("plain, 한글, ümläut, ✔")


def test_inert_writes_numbers() -> None:
    assert inert("a\tb\x85c\u202ed\U000e0041e") == r"a\x09b\x85c\u202ed\U000e0041e"
    assert inert("é한✔", ascii_only=True) == r"\xe9\ud55c\u2714"


def test_columns_are_counted_as_the_terminal_does() -> None:
    for text in ("abc", "한글 abc", "ümläut", "u\u0308", "✔ …"):
        assert cells(text) == cell_len(text)


def test_a_url_that_nobody_asked_for_is_not_judged() -> None:
    unasked = TargetResult("http://a.example/", reachable=False, status=404, judged=False)
    result = Result(outcome=Outcome.HEALTHY, exit_code=0, targets=(unasked,))
    text = render_terminal(result, width=80, color=False, ascii_only=True, verbose=False)
    assert "skipped http://a.example/  not judged (HTTP 404)" in text
    assert "healthy: nothing found" in text
