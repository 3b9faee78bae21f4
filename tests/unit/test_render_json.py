"""The JSON result, field by field: others rely on it."""

import json

from doctor import __version__
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
from doctor.render.json_ import render_json

CAUSE = Finding(
    code=Code("OVERLAY_UDP_FILTERED", Link.OVERLAY, "The tunnel's port is dropped."),
    title="UDP 8472 from master to k8s-worker-1 is dropped between the nodes",
    hop=Hop(HopKind.UNDERLAY, "master>k8s-worker-1", "udp/8472"),
    evidence=("e1", "e2"),
    confidence=Confidence.LIKELY,
    flows=("f1",),
    remediation=(
        Remediation("Open the port", ("first", "second"), Risk.SAFE, "wwwm-doctor check overlay"),
    ),
    falsifier="the packets arrive",
)
ECHO = Finding(
    code=Code("DNS_TIMEOUT", Link.DNS, "No answer."),
    title="DNS from master times out",
    hop=Hop(HopKind.SERVICE, "kube-system/kube-dns"),
    evidence=("e3",),
    severity=Severity.WARN,
)
RESULT = Result(
    outcome=Outcome.FAIL,
    exit_code=3,
    targets=(
        TargetResult(
            url="http://a.example/",
            reachable=False,
            stopped_at="underlay:master>k8s-worker-1:udp/8472",
            status=404,
        ),
        TargetResult("http://b.example/", reachable=True),
    ),
    diagnoses=(
        Diagnosis(
            "d1",
            "overlay.pod-to-pod",
            CAUSE,
            (("dns.udp-and-tcp", ECHO),),
            (Rival(Hop(HopKind.NODE, "master"), "others reach it"),),
            ("f2",),
        ),
    ),
    checks=(
        CheckResult(
            id="dns.udp-and-tcp",
            link=Link.DNS,
            title="CoreDNS answers",
            verdict=Verdict.MASKED,
            findings=(ECHO,),
            gaps=(Gap("api:pods", "403", essential=False),),
            explained_by="d1",
        ),
        CheckResult("host-proxy.name", Link.HOST_PROXY, "Title", Verdict.CRASHED, detail="boom"),
    ),
    notices=("not judged: proxy",),
    stats=Stats(seconds=4.20049, api_requests=38, nodes=3, probes=120),
)
EXPECTED = {
    "schema": 1,
    "tool": {"name": "wwwm-doctor", "version": __version__, "ruleset": 1},
    "verdict": "fail",
    "exit_code": 3,
    "message": "",
    "targets": [
        {
            "url": "http://a.example/",
            "reachable": False,
            "stopped_at": "underlay:master>k8s-worker-1:udp/8472",
            "status": 404,
        },
        {"url": "http://b.example/", "reachable": True, "stopped_at": None, "status": None},
    ],
    "diagnoses": [
        {
            "id": "d1",
            "code": "OVERLAY_UDP_FILTERED",
            "link": "overlay",
            "title": "UDP 8472 from master to k8s-worker-1 is dropped between the nodes",
            "hop": "underlay:master>k8s-worker-1:udp/8472",
            "severity": "fail",
            "confidence": "likely",
            "check": "overlay.pod-to-pod",
            "evidence": ["e1", "e2"],
            "against": ["f2"],
            "rivals": [{"hop": "node:master", "decided_by": "others reach it"}],
            "explains": [
                {
                    "check": "dns.udp-and-tcp",
                    "code": "DNS_TIMEOUT",
                    "text": "DNS from master times out",
                }
            ],
            "remediation": [
                {
                    "title": "Open the port",
                    "commands": ["first", "second"],
                    "risk": "safe",
                    "verify": "wwwm-doctor check overlay",
                }
            ],
            "falsifier": "the packets arrive",
        }
    ],
    "checks": [
        {
            "id": "dns.udp-and-tcp",
            "link": "dns",
            "title": "CoreDNS answers",
            "verdict": "masked",
            "explained_by": "d1",
            "findings": [
                {
                    "code": "DNS_TIMEOUT",
                    "title": "DNS from master times out",
                    "hop": "service:kube-system/kube-dns",
                    "severity": "warn",
                    "evidence": ["e3"],
                }
            ],
            "gaps": [{"needs": "api:pods", "reason": "403", "essential": False}],
            "detail": "",
        },
        {
            "id": "host-proxy.name",
            "link": "host-proxy",
            "title": "Title",
            "verdict": "crashed",
            "explained_by": None,
            "findings": [],
            "gaps": [],
            "detail": "boom",
        },
    ],
    "notices": ["not judged: proxy"],
    "stats": {"seconds": 4.2, "api_requests": 38, "nodes": 3, "probes": 120},
}


def test_every_field_of_the_contract() -> None:
    assert json.loads(render_json(RESULT)) == EXPECTED


def test_fields_stand_in_the_order_of_the_contract_with_two_spaces() -> None:
    assert render_json(RESULT) == json.dumps(EXPECTED, indent=2) + "\n"


def test_a_run_that_could_not_start_gives_a_document_too() -> None:
    text = render_json(Result(outcome=Outcome.ERROR, exit_code=2, message="no cluster answers"))

    assert json.loads(text) == {
        "schema": 1,
        "tool": EXPECTED["tool"],
        "verdict": "error",
        "exit_code": 2,
        "message": "no cluster answers",
        "targets": [],
        "diagnoses": [],
        "checks": [],
        "notices": [],
        "stats": {"seconds": 0.0, "api_requests": 0, "nodes": 0, "probes": 0},
    }


def test_other_scripts_stay_readable() -> None:
    assert '"사이트가 응답하지 않음"' in render_json(_saying("사이트가 응답하지 않음"))


def test_text_from_the_cluster_is_inert_and_whole() -> None:
    hostile = "a\x1b[31mb\x9bc\x7fd\u202ee\u200bf\ng\U000e0041h"
    text = render_json(_saying(hostile))

    assert json.loads(text)["notices"] == [hostile]
    assert text.replace("\n", "").isprintable()
    assert r"a\u001b[31mb\u009bc\u007fd\u202ee\u200bf\ng\udb40\udc41h" in text


def test_bytes_that_are_no_text_do_not_stop_the_document() -> None:
    result = Result(
        outcome=Outcome.ERROR, exit_code=2, message="no file \udcff", notices=("한\udcff",)
    )

    document = json.loads(render_json(result))

    assert document["message"] == r"no file \udcff"
    assert document["notices"] == [r"한\udcff"]
    assert document["exit_code"] == 2


def _saying(notice: str) -> Result:
    return Result(outcome=Outcome.HEALTHY, exit_code=0, notices=(notice,))
