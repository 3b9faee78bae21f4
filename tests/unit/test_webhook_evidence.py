"""What is known of webhooks, and what is not: from the plan of their flows to the verdicts."""

from collections.abc import Iterable

import msgspec
import pytest

from checks.webhook.certificate import certificate
from checks.webhook.service import reachable
from doctor.bundle.schema import ApiRecord, Bundle, FlowRecord, Record
from doctor.collect.flow import Stage
from doctor.collect.flows import plan
from doctor.engine.run import diagnose
from doctor.evidence.tables import Tables, Wave
from doctor.model.failure import Failure
from doctor.model.flow import Flow, Observation, Purpose, VantageKind
from doctor.model.kube import (
    ClientConfig,
    EndpointPort,
    Meta,
    Node,
    ServicePort,
    Webhook,
    WebhookConfiguration,
    WebhookService,
)
from doctor.model.verdict import CheckResult, Verdict
from tests.unit.support import api, bundle, cluster, endpoints, names, node, pod, service
from tests.unit.test_parse_certificate import BEGINS, LEAF_KEY, OTHER_KEY, der, made
from tests.unit.test_parse_certificate import bundle as pem

KEY = "guard/policy"
NAME = "policy.guard.svc"
SHOWN = made("policy", LEAF_KEY, "policy", LEAF_KEY, NAME)
OTHER = made("policy", OTHER_KEY, "policy", OTHER_KEY, NAME)
PODS = tuple(pod(f"guard/policy-{n}", n, f"10.244.{n[1:]}.7") for n in ("n1", "n2"))
SERVICE = service(KEY, "10.96.1.1", ServicePort("https", 443), ServicePort("old", 444))
SLICES = (
    endpoints(KEY, EndpointPort("https", 8443), *PODS),
    endpoints(KEY, EndpointPort("old", 9443), *PODS),
)


def configuration(authorities: str = pem(SHOWN), port: int = 443) -> WebhookConfiguration:
    """Call the Service."""
    config = ClientConfig(WebhookService("policy", "guard", port), ca_bundle=authorities)
    webhook = Webhook(name="policy.example.net", client_config=config)
    return WebhookConfiguration(metadata=Meta(name=f"policy-{port}"), webhooks=(webhook,))


def managed(name: str) -> Node:
    """Make a node without the control plane's label."""
    return msgspec.structs.replace(node(name), metadata=Meta(name=name))


def records(*configurations: WebhookConfiguration, plane: bool = True) -> tuple[ApiRecord, ...]:
    """Make a cluster with webhooks; without ``plane``, its control plane is elsewhere."""
    found = cluster(3, *PODS, SERVICE, *SLICES)
    nodes = api("nodes", *(node(n) if plane else managed(n) for n in names(3)))
    return (
        *(nodes if r.resource == "nodes" else r for r in found),
        api("validatingwebhookconfigurations", *configurations),
        api("mutatingwebhookconfigurations"),
    )


def flows(
    found: Iterable[Record],
    nodes: tuple[str, ...] = names(3),
    pods: tuple[str, ...] = (),
) -> tuple[Flow, ...]:
    """Plan the flows to webhooks."""
    stage = Stage(Tables(bundle(*found)), nodes, pods, frozenset({Wave.WEBHOOK}))
    return plan(stage)


def answered(flow: Flow, *shown: str, failure: Failure | None = None, detail: str = "") -> Record:
    """Answer a flow; a handshake with a certificate."""
    tls = flow.purpose is Purpose.WEBHOOK_TLS and failure is None
    return FlowRecord(
        observation=Observation(
            flow, failure, 0.1, certificates=(shown or (der(SHOWN),)) if tls else (), detail=detail
        )
    )


def judged(*found: Record) -> tuple[CheckResult, CheckResult]:
    """Judge the certificates, then the connections."""
    made_at = BEGINS.replace(month=6).isoformat()
    asked: Bundle = msgspec.structs.replace(bundle(*found), created=made_at)
    first, second = diagnose(asked, (certificate, reachable)).checks
    return first, second


HEALTHY = records(configuration())


def test_a_certificate_that_was_seen_and_is_right_passes() -> None:
    first, second = judged(*HEALTHY, *map(answered, flows(HEALTHY)))
    assert (first.verdict, second.verdict) == (Verdict.PASS, Verdict.PASS)
    assert (first.gaps, second.gaps) == ((), ())


@pytest.mark.parametrize(
    ("shown", "failure", "detail", "words"),
    [
        ((), Failure.TLS_FAILED, "alert 70 protocol_version", "TLS 1.3 alone, which hides it"),
        ((), Failure.TLS_FAILED, "the handshake broke off", "tls failed: the handshake broke off"),
        ((), Failure.TIMEOUT, "", "it showed none to node n0: timeout"),
        (("AAAA",), None, "", "what it shows cannot be read"),
    ],
)
def test_without_a_certificate_nothing_passes(
    shown: tuple[str, ...], failure: Failure | None, detail: str, words: str
) -> None:
    """Of one endpoint it was seen, of the other it was not: the API server calls either."""
    made_of = [
        answered(f, *shown, failure=failure, detail=detail)
        if f.purpose is Purpose.WEBHOOK_TLS and f.address == "10.244.2.7"
        else answered(f)
        for f in flows(HEALTHY)
    ]
    first, second = judged(*HEALTHY, *made_of)
    assert (first.verdict, second.verdict) == (Verdict.INSUFFICIENT, Verdict.PASS)
    (gap,) = first.gaps
    assert gap.needs == f"the certificate of webhook Service {KEY} at 10.244.2.7:8443"
    assert words in gap.reason
    assert not gap.essential


def test_what_was_not_asked_is_said() -> None:
    first, _ = judged(*HEALTHY)
    assert first.verdict is Verdict.INSUFFICIENT
    assert [g.reason for g in first.gaps] == ["no handshake was seen"]
    absent = records(configuration(port=445))
    first, _ = judged(*absent)
    assert [g.reason for g in first.gaps] == ["it has no port 445"]
    none = [r for r in HEALTHY if r.resource not in ("services", "endpointslices")]
    first, _ = judged(*none, api("services"), api("endpointslices"))
    assert [g.reason for g in first.gaps] == ["there is no such Service"]
    first, _ = judged(
        *(r for r in HEALTHY if r.resource != "endpointslices"), api("endpointslices")
    )
    assert [g.reason for g in first.gaps] == ["it has no ready endpoint"]


@pytest.mark.parametrize(("authorities", "words"), [("", "is empty"), ("AAAA", "cannot be read")])
def test_a_certificate_that_could_not_be_judged_does_not_pass(authorities: str, words: str) -> None:
    found = records(configuration(authorities))
    first, _ = judged(*found, *map(answered, flows(found)))
    assert first.verdict is Verdict.INSUFFICIENT
    assert {g.reason for g in first.gaps} == {
        f"the caBundle of ValidatingWebhookConfiguration policy-443 {words}"
    }


def test_without_webhooks_there_is_nothing_to_judge() -> None:
    first, second = judged(*records())
    assert (first.verdict, second.verdict) == (Verdict.SKIPPED, Verdict.SKIPPED)
    unread = api("mutatingwebhookconfigurations", status=403, reason="forbidden")
    first, _ = judged(*records()[:-1], unread)
    assert first.verdict is Verdict.INSUFFICIENT


def test_two_ports_of_a_service_are_two_servers() -> None:
    found = records(configuration(), configuration(pem(OTHER), 444))
    asked = {(f.address, f.port) for f in flows(found) if f.purpose is Purpose.WEBHOOK_TLS}
    assert asked == {(p.status.pod_ip, port) for p in PODS for port in (8443, 9443)}
    seen = [answered(f, der(OTHER if f.port == 9443 else SHOWN)) for f in flows(found)]
    first, _ = judged(*found, *seen)
    assert (first.verdict, first.gaps) == (Verdict.PASS, ())


MANAGED = records(configuration(), plane=False)


@pytest.mark.parametrize(
    ("nodes", "pods", "places"),
    [
        (names(3), names(3), {(VantageKind.NODE, "n1"), (VantageKind.NODE, "n2")}),
        (("n1",), ("n1", "n2"), {(VantageKind.NODE, "n1"), (VantageKind.POD, "n2")}),
        (("n0",), (), {(VantageKind.NODE, "n0")}),
        ((), ("n0",), {(VantageKind.POD, "n0")}),
        ((), (), set()),
    ],
)
@pytest.mark.parametrize("found", [MANAGED, HEALTHY], ids=["none visible", "not entered"])
def test_certificates_are_shown_to_others_where_no_control_plane_node_can_be_entered(
    found: tuple[ApiRecord, ...],
    nodes: tuple[str, ...],
    pods: tuple[str, ...],
    places: set[tuple[VantageKind, str]],
) -> None:
    if found is HEALTHY and "n0" in nodes:
        places = {(VantageKind.NODE, "n0")}
    planned = flows(found, nodes, pods)
    shown = [f for f in planned if f.purpose is Purpose.WEBHOOK_TLS]
    assert {(f.vantage.kind, f.vantage.node) for f in shown} == places
    assert len(shown) == (2 if places else 0)
    if found is MANAGED:
        assert shown == list(planned)


def test_what_others_see_is_not_said_of_the_api_server() -> None:
    first, second = judged(*MANAGED, *map(answered, flows(MANAGED)))
    assert (first.verdict, second.verdict) == (Verdict.PASS, Verdict.INSUFFICIENT)
    (gap,) = second.gaps
    assert "no node of the control plane is visible" in gap.reason
    wrong = [answered(f, der(OTHER)) for f in flows(MANAGED)]
    first, second = judged(*MANAGED, *wrong)
    assert [f.code.name for f in first.findings] == ["WEBHOOK_CERTIFICATE_UNTRUSTED"]
    silent = [answered(f, failure=Failure.TIMEOUT) for f in flows(MANAGED)]
    first, second = judged(*MANAGED, *silent)
    assert (first.verdict, second.verdict) == (Verdict.INSUFFICIENT, Verdict.INSUFFICIENT)
    unread = api("nodes", status=403, reason="forbidden")
    blind = [unread if r.resource == "nodes" else r for r in MANAGED]
    _, second = judged(*blind)
    assert not any("control plane" in g.reason for g in second.gaps)
