"""What the checks from webhook to egress judge, made small: a cluster of three nodes and a shop."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from doctor.contract import Check
from doctor.model.evidence import Backend, EndpointAddress, Evidence, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Finding
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import Hop
from doctor.model.kube import (
    Address,
    Condition,
    Container,
    ContainerPort,
    ContainerState,
    ContainerStatus,
    Deployment,
    EnvName,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Meta,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    Terminated,
    Waiting,
    WorkloadSpec,
)
from doctor.model.verdict import Gap

CP, W1, W2 = "master", "k8s-worker-1.novalocal", "k8s-worker-2.novalocal"
TIMEOUT, REFUSED = Failure.TIMEOUT, Failure.CONNECTION_REFUSED
MACHINE = Vantage(VantageKind.MACHINE)


@dataclass(frozen=True)
class Case:
    """Evidence, and the codes that a check makes of it: these and no others.

    Attributes:
        name: What has happened.
        tables: The evidence, in the order of the check's signature.
        codes: What is expected.
        says: Words that the first finding's title holds.
        hop: The first finding's hop, as it is written.
        folds: Hops that explain the first finding.
        flows: The first finding's flows.
    """

    name: str
    tables: tuple[Evidence | None, ...]
    codes: Sequence[str] = ()
    says: Sequence[str] = ()
    hop: str = ""
    folds: Sequence[str] = field(default=())
    flows: Sequence[str] = field(default=())

    def __str__(self) -> str:
        """Name the case in the output of a test run."""
        return self.name.replace(" ", "-")


def verify(check: Check, case: Case) -> tuple[Finding, ...]:
    """Judge a case, and compare all that it expects; return the findings."""
    found = tuple(check.judge(*case.tables))
    assert [f.code.name for f in found] == list(case.codes)
    for finding in found:
        assert finding.code in check.codes
        assert all(finding.evidence)
        assert finding.evidence
        assert finding.falsifier
        assert not finding.title.endswith(".")
        assert all(
            r.commands and r.verify == f"wwwm-doctor check {check.link}"
            for r in finding.remediation
        )
        assert finding.remediation
    if found:
        first = found[0]
        assert [word for word in case.says if word not in first.title] == []
        assert case.hop in ("", str(first.hop))
        assert set(case.folds) <= {str(h) for h in first.consequence_of}
        assert set(case.flows) == set(first.flows)
    return found


def gap(plural: str) -> tuple[Gap, ...]:
    """Say that a kind could not be listed."""
    return (Gap(needs=f"api:{plural}", reason="403 Forbidden"),)


def node(name: str, address: str, **labels: str) -> Node:
    """Make a node."""
    status = NodeStatus(
        addresses=(Address("InternalIP", address),), conditions=(Condition("Ready", "True"),)
    )
    return Node(metadata=Meta(name=name, labels=labels), status=status)


def at(kind: VantageKind, name: str) -> Vantage:
    """Look from a node, or from a pod on it."""
    return Vantage(kind, name)


def seen(  # noqa: PLR0913 - an observation has that many sides
    purpose: Purpose,
    vantage: Vantage,
    address: str,
    port: int = 0,
    failure: Failure | None = None,
    *,
    kind: FlowKind = FlowKind.TCP,
    name: str = "",
    path: str = "/",
    subject: str = "",
    status: int = 0,
    answers: tuple[str, ...] = (),
    hops: tuple[Hop, ...] = (),
) -> Observation:
    """Make an observation, with an id that tells what it is."""
    flow = Flow(
        id=f"{purpose.value}@{vantage.kind.value}:{vantage.node}>{address}:{port}{name}",
        purpose=purpose,
        vantage=vantage,
        kind=kind,
        address=address,
        port=port,
        name=name,
        path=path,
        subject=subject,
    )
    return Observation(flow, failure, 0.1, answers=answers, status=status, hops=hops)


def pod(  # noqa: PLR0913 - a pod has that many sides
    name: str = "web-1",
    *,
    namespace: str = "shop",
    on: str = W1,
    ready: bool = True,
    phase: str = "Running",
    waiting: str = "",
    exit_code: int = 0,
    labels: dict[str, str] | None = None,
    needs: tuple[str, ...] = (),
    ports: tuple[ContainerPort, ...] = (ContainerPort(8080),),
    address: str = "10.244.1.10",
    args: tuple[str, ...] = (),
    leaving: bool = False,
) -> Pod:
    """Make a pod of one container."""
    state = ContainerState(
        waiting=Waiting(waiting) if waiting else None,
        terminated=Terminated("Error", exit_code) if exit_code else None,
    )
    container = Container(
        name="main", args=args, ports=ports, dependencies=(EnvName("URL", needs),) if needs else ()
    )
    return Pod(
        metadata=Meta(
            name=name,
            namespace=namespace,
            labels=labels or {"app": "web"},
            deletion_timestamp="2026-01-01T00:00:00Z" if leaving else None,
        ),
        spec=PodSpec(node_name=on, containers=(container,)),
        status=PodStatus(
            phase=phase,
            pod_ip=address,
            conditions=(Condition("Ready", "True" if ready else "False"),),
            container_statuses=(ContainerStatus("main", ready=ready, state=state),),
        ),
    )


def workload(name: str, replicas: int, namespace: str = "shop") -> Deployment:
    """Make a Deployment."""
    meta = Meta(name=name, namespace=namespace)
    return Deployment(metadata=meta, spec=WorkloadSpec(replicas=replicas))


def service(
    key: str = "shop/web",
    *,
    kind: str = "ClusterIP",
    selector: dict[str, str] | None = None,
    ports: tuple[ServicePort, ...] = (ServicePort(port=80, target_port=8080),),
    vips: tuple[str, ...] = (),
    external: tuple[str, ...] | None = None,
) -> Service:
    """Make a Service."""
    namespace, _, name = key.partition("/")
    spec = ServiceSpec(
        type=kind,
        cluster_ip="10.96.0.50",
        selector={"app": "web"} if selector is None else selector,
        ports=ports,
        external_ips=external,
    )
    balanced = LoadBalancerStatus(tuple(LoadBalancerIngress(ip=v) for v in vips))
    return Service(
        metadata=Meta(name=name, namespace=namespace),
        spec=spec,
        status=ServiceStatus(balanced),
    )


def endpoint(of: Pod, *, port: int = 8080, ready: bool = True) -> EndpointAddress:
    """Make the endpoint of a pod."""
    return EndpointAddress(of.status.pod_ip, port, ready, of.node, of.key)


def backend(
    *pods: Pod,
    of: Service | None = None,
    ready: bool = True,
    nearly: tuple[Pod, ...] = (),
    workloads: tuple[Deployment, ...] = (),
    key: str = "shop/web",
) -> Backend:
    """Make a Service with its pods, each of which is an endpoint: a ready one, or none of them."""
    svc = of or service(key)
    return Backend(
        key=svc.key,
        service=svc,
        port=svc.spec.ports[0] if svc.spec.ports else None,
        asked_port="80",
        endpoints=tuple(endpoint(p, ready=ready) for p in pods),
        pods=pods,
        workloads=workloads,
        nearly=nearly,
        referrers=("Ingress shop/web",),
    )


def with_cidrs(first: str, second: str) -> Nodes:
    """Make two workers with these podCIDRs."""
    cidrs = {W1: first, W2: second}
    return Nodes(
        items=tuple(Node(metadata=Meta(n), spec=NodeSpec(pod_cidr=c)) for n, c in cidrs.items())
    )
