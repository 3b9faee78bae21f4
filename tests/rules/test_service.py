"""Services on the way: each fault by its code, and the look-alikes by none."""

import msgspec
import pytest

from checks.service.endpoints import endpoints
from checks.service.objects import backends
from doctor.model.evidence import Backend, BackendFlows, Backends, EgressFlows
from doctor.model.failure import Failure
from doctor.model.finding import Confidence
from doctor.model.flow import FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import ContainerPort, ServicePort
from tests.rules.factories_site import (
    CP,
    REFUSED,
    TIMEOUT,
    W1,
    W2,
    Case,
    at,
    backend,
    endpoint,
    gap,
    pod,
    seen,
    service,
    verify,
    with_cidrs,
    workload,
)

UNREADY = pod(ready=False, needs=("mongo.example.net:27017", "redis:6379", "es.data.svc:9200"))
CRASHED = pod(ready=False, waiting="CrashLoopBackOff", needs=("mongo.example.net:27017",))
PENDING = pod(ready=False, phase="Pending", waiting="ContainerCreating")
ON_W1 = at(VantageKind.NODE, W1)


def only(*items: Backend, lacks: str = "") -> tuple[Backends, None, None]:
    """Judge objects alone."""
    return Backends(items=items, gaps=gap(lacks) if lacks else ()), None, None


def asked(status: int = 0, failure: Failure | None = None) -> BackendFlows:
    """Repeat the kubelet's readiness request of the pod."""
    request = seen(
        Purpose.READINESS,
        ON_W1,
        "10.244.1.10",
        8080,
        failure,
        kind=FlowKind.HTTP,
        path="/actuator/health",
        subject="shop/web-1",
        status=status,
    )
    return BackendFlows(observations=(request,))


def absent(*, of: str = "shop/web") -> Backend:
    """Refer to a Service that is not there."""
    return Backend(key=of, service=None, port=None, referrers=("Ingress shop/web",))


def portless(asked_port: str, *ports: ServicePort) -> Backend:
    """Refer to a port that the Service does not have."""
    svc = service(ports=ports)
    return Backend("shop/web", svc, None, asked_port, referrers=("Ingress shop/web",))


def way_out(failure: Failure | None, on: str = W1) -> EgressFlows:
    """Connect to the database from a pod."""
    subject = "mongo.example.net:27017"
    vantage = at(VantageKind.POD, on)
    found = seen(Purpose.EGRESS, vantage, "203.0.113.10", 27017, failure, subject=subject)
    return EgressFlows(observations=(found,))


READY = "readiness@node:k8s-worker-1.novalocal>10.244.1.10:8080"
OUT = "egress@pod:k8s-worker-1.novalocal>203.0.113.10:27017"
TYPO = service(selector={"app": "web-app"})
NAMED = service(ports=(ServicePort(port=80, target_port="http"),))
EXTERNAL = service(kind="ExternalName", selector={})
BY_HAND = msgspec.structs.replace(backend(of=service(selector={})), endpoints=(endpoint(pod()),))

OBJECTS = [
    Case("healthy", only(backend(pod()))),
    Case(
        "one of two ready",
        only(msgspec.structs.replace(backend(pod()), pods=(pod(), CRASHED))),
    ),
    Case("endpoints by hand", only(BY_HAND)),
    Case("services not listed", only(absent(), lacks="services")),
    Case("slices not listed", only(backend(), lacks="endpointslices")),
    Case("pods not listed", only(backend(), lacks="pods")),
    Case("external name", only(backend(of=EXTERNAL))),
    Case("external name without port", only(backend(of=service(kind="ExternalName", ports=())))),
    Case(
        "missing",
        only(absent(), absent()),
        ["SERVICE_MISSING"],
        ["shop/web", "Ingress shop/web"],
        "service:shop/web",
    ),
    Case(
        "port missing",
        only(portless("8081", ServicePort("http", 80))),
        ["SERVICE_PORT_MISSING"],
        ["no port 8081", "80 (http)"],
    ),
    Case(
        "at zero",
        only(backend(workloads=(workload("web", 0),))),
        ["SERVICE_SCALED_TO_ZERO"],
        ["shop/web is scaled to zero"],
    ),
    Case(
        "selector with a typing error",
        only(backend(of=TYPO, nearly=(pod(),))),
        ["SERVICE_SELECTOR_MATCHES_NOTHING"],
        ["app=web-app matches no pod", "have app=web"],
        "service:shop/web",
    ),
    Case(
        "no selector", only(backend(of=service(selector={}))), ["SERVICE_SELECTOR_MATCHES_NOTHING"]
    ),
    Case("no pods and workloads not listed", only(backend(), lacks="deployments")),
    Case(
        "workload without a pod",
        only(backend(workloads=(workload("web", 2),))),
        ["SERVICE_PODS_NOT_STARTED"],
        ["shop/web has not one pod"],
    ),
    Case(
        "pods leaving", only(backend(pod(leaving=True), ready=False)), ["SERVICE_PODS_NOT_STARTED"]
    ),
    Case("ready pod not yet an endpoint", only(backend(pod(), ready=False))),
    Case(
        "target port of no name",
        only(backend(pod(ports=(ContainerPort(8080, "web"),)), of=NAMED, ready=False)),
        ["SERVICE_TARGET_PORT_UNKNOWN"],
        ["targetPort http", "name web"],
    ),
    Case(
        "waiting for a network",
        only(backend(PENDING, ready=False)),
        ["SERVICE_PODS_NOT_STARTED"],
        ["web-1", "ContainerCreating"],
        folds=[f"flannel:{W1}", f"node:{W1}"],
    ),
    Case(
        "crashing",
        only(backend(CRASHED, PENDING, ready=False)),
        ["SERVICE_PODS_CRASHING"],
        ["mongo.example.net:27017"],
        folds=["egress:mongo.example.net:tcp/27017", f"node:{W1}"],
    ),
    Case(
        "crashing as the way out is lost",
        (Backends(items=(backend(CRASHED, ready=False),)), None, way_out(TIMEOUT)),
        ["SERVICE_PODS_CRASHING"],
        flows=[OUT],
    ),
    Case(
        "crashing while the way out works, or fails elsewhere",
        (Backends(items=(backend(CRASHED, ready=False),)), None, way_out(TIMEOUT, W2)),
        ["SERVICE_PODS_CRASHING"],
    ),
    Case(
        "not ready",
        only(backend(UNREADY, ready=False)),
        ["SERVICE_PODS_NOT_READY"],
        ["run and are not ready", "readiness probe fails"],
        "service:shop/web",
        folds=[
            "egress:redis:tcp/6379",
            "service:shop/redis",
            "service:data/es",
            f"node:{W1}",
        ],
    ),
]


@pytest.mark.parametrize("case", OBJECTS, ids=str)
def test_objects(case: Case) -> None:
    verify(backends, case)


ANSWERS = [
    (asked(503), "answers 503 to its readiness request GET /actuator/health", "certain", []),
    (asked(failure=REFUSED), "nothing listens on its port 8080", "certain", []),
    (asked(failure=TIMEOUT), "gets no answer", "likely", [READY]),
    (asked(200), "by now", "likely", []),
]


@pytest.mark.parametrize(("flows", "says", "confidence", "failed"), ANSWERS)
def test_not_ready_says_what_the_pod_answers(
    flows: BackendFlows, says: str, confidence: str, failed: list[str]
) -> None:
    tables = (Backends(items=(backend(UNREADY, ready=False),)), flows, None)
    case = Case("", tables, ["SERVICE_PODS_NOT_READY"], [says], flows=failed)
    assert verify(backends, case)[0].confidence is Confidence(confidence)


FIXES = [
    (backend(of=TYPO, nearly=(pod(),)), """'{"spec": {"selector": {"app": "web"}}}'"""),
    (
        backend(of=TYPO, nearly=(pod(), pod(labels={"app": "mail"}))),
        """'{"spec": {"selector": {"app": "web"}}}'""",
    ),
    (
        backend(of=TYPO, nearly=(pod(labels={"app": "web-a"}), pod(labels={"app": "web-b"}))),
        "--show-labels",
    ),
    (
        portless("8081", ServicePort("http", 80, target_port=8080)),
        '"port": 8081, "targetPort": 8080',
    ),
    (portless("8081", ServicePort("", 80)), '"/spec/ports/0/name", "value": "port-80"'),
    (portless("web", ServicePort("", 80)), '"/spec/ports/0/name", "value": "web"'),
    (portless("8081"), "get service web"),
    (backend(workloads=(workload("web", 0),)), "scale deployment web --replicas=1"),
]


@pytest.mark.parametrize(("item", "command"), FIXES)
def test_the_remediation_is_a_command_for_this_cluster(item: Backend, command: str) -> None:
    finding = next(backends.judge(*only(item)))
    assert command in finding.remediation[0].commands[0]


def dialled(failure: Failure | None, address: str = "10.244.1.10", on: str = W1) -> Observation:
    """Connect to an endpoint."""
    vantage: Vantage = at(VantageKind.NODE, on)
    return seen(Purpose.BACKEND, vantage, address, 8080, failure, subject="shop/web")


OTHER = pod("web-2", on=W2, address="10.244.2.10")
DECLARED = pod(ports=(ContainerPort(9090),))


def probed(item: Backend, *found: Observation) -> tuple[Backends, BackendFlows]:
    """Judge an item by connections."""
    return Backends(items=(item, item)), BackendFlows(observations=found)


CONNECTIONS = [
    Case("healthy", probed(backend(pod()), dialled(None))),
    Case("not asked", probed(backend(pod()))),
    Case("no ready endpoint", probed(backend(pod(), ready=False), dialled(REFUSED))),
    Case(
        "refused by one node only", probed(backend(pod()), dialled(REFUSED), dialled(None, on=CP))
    ),
    Case(
        "refused",
        probed(backend(DECLARED), dialled(REFUSED), dialled(REFUSED, on=CP)),
        ["SERVICE_TARGET_REFUSES"],
        ["port 8080 of shop/web-1", "declare 9090"],
        "service:shop/web",
    ),
    Case(
        "refused by one of two",
        probed(backend(pod(), OTHER), dialled(REFUSED), dialled(None, "10.244.2.10")),
        ["SERVICE_TARGET_REFUSES"],
        hop="pod:shop/web-1:tcp/8080",
    ),
    Case(
        "silent",
        probed(backend(pod()), dialled(None), dialled(TIMEOUT, on=CP)),
        ["SERVICE_ENDPOINT_SILENT"],
        ["shop/web-1", "node master"],
        "pod:shop/web-1:tcp/8080",
        flows=["backend@node:master>10.244.1.10:8080"],
    ),
    Case(
        "rejected by a filter",
        probed(backend(pod()), dialled(None), dialled(Failure.HOST_PROHIBITED, on=CP)),
        ["SERVICE_ENDPOINT_SILENT"],
        ["give no answer on TCP 8080 to node master (a filter rejects it)"],
        flows=["backend@node:master>10.244.1.10:8080"],
    ),
]


@pytest.mark.parametrize("case", CONNECTIONS, ids=str)
def test_connections(case: Case) -> None:
    verify(endpoints, case)


def test_a_wrong_target_port_is_set_to_the_declared_one() -> None:
    finding = next(endpoints.judge(*probed(backend(DECLARED), dialled(REFUSED))))
    assert '"/spec/ports/0/targetPort","value":9090' in finding.remediation[0].commands[0]


def test_who_refuses_may_be_another_pod_with_the_same_address() -> None:
    """Nodes with one podCIDR between them lead to the wrong pod, which has other ports."""
    about = probed(backend(pod()), dialled(REFUSED))
    (found,) = endpoints.judge(*about, with_cidrs("10.244.1.0/24", "10.244.1.0/24"))
    assert found.consequence_of == (Hop(HopKind.POD_NETWORK, pod().node),)
    (found,) = endpoints.judge(*about, with_cidrs("10.244.1.0/24", "10.244.2.0/24"))
    assert found.consequence_of == ()
