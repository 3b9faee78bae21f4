"""Admission webhooks: each fault by its code, and the look-alikes by none."""

import pytest

from checks.webhook.service import endpoints, reachable
from doctor.model.evidence import Backend, Backends, WebhookBackend, WebhookFlows, Webhooks
from doctor.model.failure import Failure
from doctor.model.finding import Severity
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from tests.rules.factories_site import (
    CP,
    REFUSED,
    TIMEOUT,
    W1,
    W2,
    Case,
    at,
    backend,
    gap,
    pod,
    seen,
    service,
    verify,
    with_cidrs,
    workload,
)

KEY = "policy/site-policy"
SVC = service(KEY)
UP = pod("policy-1", namespace="policy")
SECOND = pod("policy-2", namespace="policy", on=W2, address="10.244.2.10")
STUCK = pod(
    "policy-1", namespace="policy", ready=False, phase="Pending", waiting="ContainerCreating"
)
AT_ZERO = backend(of=SVC, workloads=(workload("site-policy", 0, "policy"),))


def called(
    item: Backend, policy: str = "Fail", name: str = "ingress.site-policy.example.net"
) -> WebhookBackend:
    """Call a Service for a webhook."""
    kind = "ValidatingWebhookConfiguration"
    return WebhookBackend("site-policy", kind, name, policy, ("CREATE ingresses",), item)


def only(*items: WebhookBackend, lacks: str = "") -> tuple[Webhooks, None]:
    """Judge webhooks alone."""
    return Webhooks(items=items, gaps=gap(lacks) if lacks else ()), None


NO_SERVICE = Backend(key=KEY, service=None, port=None, asked_port="443")
NO_PORT = Backend(key=KEY, service=SVC, port=None, asked_port="443")
SHARED = Backends(
    items=(
        backend(STUCK, of=service("policy/front"), ready=False),
        backend(UP, of=service("policy/fine")),
        backend(pod("other", ready=False), of=service("policy/other"), ready=False),
    )
)
TITLE = ["policy/site-policy", "ValidatingWebhookConfiguration site-policy", "CREATE ingresses"]

OBJECTS = [
    Case("healthy", only(called(backend(UP, of=SVC)))),
    Case("services not listed", only(called(NO_SERVICE), lacks="services")),
    Case("slices not listed", only(called(AT_ZERO), lacks="endpointslices")),
    Case("pods not listed", only(called(AT_ZERO), lacks="pods")),
    Case("external name", only(called(backend(of=service(KEY, kind="ExternalName"))))),
    Case("no service", only(called(NO_SERVICE)), ["WEBHOOK_SERVICE_MISSING"], TITLE),
    Case(
        "no port",
        only(called(NO_PORT), called(backend(UP, of=SVC))),
        ["WEBHOOK_PORT_MISSING"],
        [*TITLE, "port 443", "has 80"],
    ),
    Case(
        "at zero, called twice",
        only(called(AT_ZERO), called(AT_ZERO)),
        ["WEBHOOK_NO_ENDPOINTS"],
        [*TITLE, "policy/site-policy is scaled to zero", "CREATE ingresses fails"],
        f"service:{KEY}",
    ),
    Case(
        "waiting for a network",
        only(called(backend(STUCK, of=SVC, ready=False))),
        ["WEBHOOK_NO_ENDPOINTS"],
        ["policy-1 are ContainerCreating"],
        folds=[f"flannel:{W1}", f"node:{W1}"],
    ),
    Case(
        "pods shared with a Service on the way",
        (only(called(backend(STUCK, of=SVC, ready=False)))[0], SHARED),
        ["WEBHOOK_NO_ENDPOINTS"],
        folds=["service:policy/front"],
    ),
    Case(
        "selects nothing",
        only(called(backend(of=SVC))),
        ["WEBHOOK_NO_ENDPOINTS"],
        ["app=web matches no pod"],
    ),
    Case(
        "the controller of MetalLB",
        only(called(AT_ZERO, name="pools.metallb.io")),
        ["WEBHOOK_NO_ENDPOINTS"],
        folds=[f"lb-assign:{KEY}"],
    ),
]


@pytest.mark.parametrize("case", OBJECTS, ids=str)
def test_objects(case: Case) -> None:
    verify(endpoints, case)


def test_what_explains_is_narrow() -> None:
    webhooks = only(called(backend(STUCK, of=SVC, ready=False)))[0]
    hops = {str(h) for h in next(endpoints.judge(webhooks, SHARED)).consequence_of}
    assert hops == {
        f"flannel:{W1}",
        f"node:{W1}",
        f"pod-network:{W1}",
        "service:policy/front",
    }


@pytest.mark.parametrize(
    ("policies", "severity"), [(("Ignore",), Severity.WARN), (("Ignore", "Fail"), Severity.FAIL)]
)
def test_a_webhook_that_may_be_passed_over_only_warns(
    policies: tuple[str, ...], severity: Severity
) -> None:
    found = [*endpoints.judge(*only(*(called(AT_ZERO, p) for p in policies)))]
    assert [f.severity for f in found] == [severity]


def test_scaling_up_is_offered_and_deleting_is_not() -> None:
    finding = next(endpoints.judge(*only(called(AT_ZERO))))
    commands = [c for r in finding.remediation for c in r.commands]
    assert commands == ["kubectl -n policy scale deployment site-policy --replicas=1"]


def dialled(address: str, failure: Failure | None = None, on: str = CP) -> Observation:
    """Call from a control-plane node."""
    port = 80 if address == SVC.spec.cluster_ip else 8080
    vantage = at(VantageKind.NODE, on)
    return seen(Purpose.WEBHOOK, vantage, address, port, failure, subject=KEY)


def probed(*found: Observation, item: Backend | None = None) -> tuple[Webhooks, WebhookFlows]:
    """Judge a webhook by connections."""
    webhook = called(item or backend(UP, SECOND, of=SVC))
    return Webhooks(items=(webhook, webhook)), WebhookFlows(observations=found)


VIRTUAL, ONE, TWO = SVC.spec.cluster_ip, UP.status.pod_ip, SECOND.status.pod_ip
REACHED = [dialled(ONE), dialled(TWO)]

CONNECTIONS = [
    Case("healthy", probed(dialled(VIRTUAL), *REACHED)),
    Case("not asked", probed()),
    Case("no endpoints", probed(dialled(VIRTUAL, REFUSED), item=AT_ZERO)),
    Case("no service", probed(dialled(VIRTUAL, REFUSED), item=NO_SERVICE)),
    Case(
        "refused",
        probed(dialled(VIRTUAL, REFUSED), dialled(ONE, REFUSED), dialled(TWO)),
        ["WEBHOOK_REFUSED"],
        ["Nothing listens on port 8080 of policy/policy-1", KEY],
        "pod:policy/policy-1:tcp/8080",
    ),
    Case(
        "refused to one node only",
        probed(dialled(ONE, REFUSED), dialled(ONE, on=W1), dialled(TWO)),
    ),
    Case(
        "silent",
        probed(dialled(VIRTUAL, TIMEOUT), dialled(ONE, TIMEOUT), dialled(TWO)),
        ["WEBHOOK_TIMEOUT"],
        ["policy/policy-1", "node master"],
        "webhook:site-policy",
        flows=[o.flow.id for o in (dialled(ONE), dialled(VIRTUAL))],
    ),
    Case(
        "rejected by a filter",
        probed(dialled(ONE, Failure.HOST_PROHIBITED), dialled(TWO)),
        ["WEBHOOK_TIMEOUT"],
        ["gives no answer to node master (a filter rejects it): CREATE"],
        flows=[dialled(ONE).flow.id],
    ),
    Case(
        "no route, or a filter",
        probed(dialled(ONE, Failure.NO_ROUTE), dialled(TWO, Failure.NETWORK_UNREACHABLE)),
        ["WEBHOOK_TIMEOUT"],
        ["(network unreachable, or a filter that rejects; no route to host, or a filter that"],
        flows=[o.flow.id for o in REACHED],
    ),
    Case(
        "only the ClusterIP is rejected",
        probed(dialled(VIRTUAL, Failure.HOST_PROHIBITED), *REACHED),
        ["WEBHOOK_SERVICE_IP_DEAD"],
        flows=[dialled(VIRTUAL).flow.id],
    ),
    Case(
        "only the ClusterIP is dead",
        probed(dialled(VIRTUAL, TIMEOUT), *REACHED),
        ["WEBHOOK_SERVICE_IP_DEAD"],
        [VIRTUAL, "node master"],
        folds=["kube-proxy:master"],
        flows=[dialled(VIRTUAL).flow.id],
    ),
    Case("our own failure", probed(dialled(VIRTUAL, Failure.UNKNOWN), *REACHED)),
    Case("ClusterIP dead without control", probed(dialled(VIRTUAL, TIMEOUT))),
    Case(
        "ClusterIP dead with a control from elsewhere",
        probed(dialled(VIRTUAL, TIMEOUT), dialled(ONE, on=W1)),
    ),
]


@pytest.mark.parametrize("case", CONNECTIONS, ids=str)
def test_connections(case: Case) -> None:
    verify(reachable, case)


def test_who_refuses_may_be_another_pod_with_the_same_address() -> None:
    """Nodes with one podCIDR between them lead to the wrong pod, which has other ports."""
    about = probed(dialled(ONE, REFUSED), dialled(TWO))
    (found,) = reachable.judge(*about, with_cidrs("10.244.1.0/24", "10.244.1.0/24"))
    assert found.consequence_of == (Hop(HopKind.POD_NETWORK, UP.node),)
    (found,) = reachable.judge(*about, with_cidrs("10.244.1.0/24", "10.244.2.0/24"))
    assert found.consequence_of == ()
