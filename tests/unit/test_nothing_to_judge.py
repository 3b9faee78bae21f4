"""What there is no object of to judge is SKIPPED with its reason, and not called well."""

import pytest

from checks import CHAIN
from doctor.bundle.schema import ApiRecord, Bundle, GapRecord
from doctor.collect.resources import RESOURCES
from doctor.engine.run import diagnose
from doctor.model.kube import Item
from doctor.model.link import Link
from doctor.model.verdict import CheckResult, Gap, Verdict
from tests.unit.support import api, bundle, node

NO_NODE = "the cluster has no Linux node"
NO_URL = "no URL was given, and none follows from an Ingress and a load balancer's address"
URL = "http://shop.example/"


def empty(
    *more: GapRecord, refused: tuple[str, ...] = (), urls: tuple[str, ...] = (), **lists: Item
) -> Bundle:
    """Make what a cluster answers in which there is nothing but what is named."""
    given: list[ApiRecord] = [
        api(name, status=403, reason="may not")
        if name in refused
        else api(name, *(i for k, i in lists.items() if k.startswith(name)))
        for name in RESOURCES
    ]
    return bundle(*given, *more, urls=urls)


def judged(given: Bundle) -> dict[str, CheckResult]:
    """Judge by all checks."""
    return {c.id: c for c in diagnose(given, CHAIN).checks}


def test_in_an_empty_cluster_nothing_passes() -> None:
    found = judged(empty())
    assert {i for i, c in found.items() if c.verdict is not Verdict.SKIPPED} == {"dns.running"}
    assert [i for i, c in found.items() if c.verdict is Verdict.SKIPPED and not c.detail] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("node.ready", NO_NODE),
        ("overlay.pod-to-pod", NO_NODE),
        ("overlay.quality", NO_NODE),
        ("kube-proxy.service-ip", NO_NODE),
        ("egress.reachable", NO_NODE),
        ("dns.udp-and-tcp", "there is no DNS Service to ask"),
        ("webhook.reachable", "no webhook is called at a Service"),
        ("service.endpoints", "no Ingress and no ingress controller refers to a Service"),
        ("ingress.answers", "there is no Ingress, and no URL was given"),
        ("host-proxy.url", NO_URL),
    ],
)
def test_the_reason_is_said(name: str, reason: str) -> None:
    assert judged(empty())[name].detail == reason


def test_between_one_node_and_itself_nothing_crosses() -> None:
    found = judged(empty(nodes=node("n0")))
    assert found["node.ready"].verdict is Verdict.PASS
    for name in ("overlay.pod-to-pod", "overlay.quality"):
        assert (found[name].verdict, found[name].detail) == (
            Verdict.SKIPPED,
            "there is only one Linux node",
        )
    two = judged(empty(nodes=node("n0"), nodes_too=node("n1")))
    assert two["overlay.pod-to-pod"].verdict is not Verdict.SKIPPED


@pytest.mark.parametrize(
    ("refused", "open_"),
    [
        ("nodes", ("node.ready", "overlay.pod-to-pod", "overlay.quality", "kube-proxy.service-ip")),
        ("services", ("service.backends", "host-proxy.url")),
        ("pods", ("service.backends", "host-proxy.url", "host-proxy.certificate")),
        ("ingresses", ("service.backends", "ingress.class", "ingress.answers", "host-proxy.url")),
        ("deployments", ("service.backends", "host-proxy.url")),
        ("validatingwebhookconfigurations", ("webhook.endpoints", "webhook.reachable")),
    ],
)
def test_what_may_not_be_listed_is_not_absent(refused: str, open_: tuple[str, ...]) -> None:
    found = judged(empty(refused=(refused,)))
    assert {i for i in open_ if found[i].verdict is not Verdict.INSUFFICIENT} == set()


def test_what_was_not_asked_for_is_not_absent() -> None:
    assert {c.verdict for c in judged(bundle()).values()} >= {Verdict.PASS}


def test_a_url_that_is_given_is_something_to_judge() -> None:
    found = judged(empty(urls=(URL,)))
    assert found["host-proxy.url"].verdict is not Verdict.SKIPPED
    assert found["ingress.host"].verdict is not Verdict.SKIPPED


def test_a_url_that_could_not_be_asked_for_is_a_gap() -> None:
    gap = GapRecord(Gap("requests", "the deadline has passed"), ("TargetFlows",))
    assert judged(empty(gap))["host-proxy.url"].verdict is Verdict.INSUFFICIENT


def test_that_no_url_was_tried_is_told() -> None:
    said = diagnose(empty(), CHAIN).notices
    assert said == (f"No URL was tried: {NO_URL}; --url names one",)
    refused = diagnose(empty(refused=("ingresses",)), CHAIN).notices
    assert refused == ("No URL was tried; --url names one",)
    some = [c for c in CHAIN if c.link is Link.NODE]
    assert diagnose(empty(), some).notices == ()
