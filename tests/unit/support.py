"""A small cluster as a bundle holds it: what the tests of the core bend."""

from collections.abc import Iterable, Sequence

import msgspec

from doctor.bundle.schema import SCHEMA, ApiRecord, Bundle, ProbePodRecord, Question, Record
from doctor.model.kube import (
    Address,
    Condition,
    Container,
    ContainerPort,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    EnvName,
    Event,
    HttpGet,
    InvolvedObject,
    Item,
    KubeletProbe,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Meta,
    Node,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    TargetRef,
)

DNS_IP, API_IP = "10.96.0.10", "10.96.0.1"


def names(count: int) -> tuple[str, ...]:
    """Name some nodes."""
    return tuple(f"n{i}" for i in range(count))


def address(node: str) -> str:
    """Return a node's address."""
    return f"192.0.2.{10 + int(node[1:])}"


def pod_address(node: str, last: int = 2) -> str:
    """Return the address of a pod on a node."""
    return f"10.244.{node[1:]}.{last}"


def api(resource: str, *items: Item, status: int = 200, reason: str = "") -> ApiRecord:
    """Make the record of one LIST."""
    return ApiRecord(resource, msgspec.Raw(msgspec.json.encode(items)), status, reason)


def bundle(*records: Record, urls: tuple[str, ...] = (), checks: tuple[str, ...] = ()) -> Bundle:
    """Make a bundle."""
    return Bundle(
        schema=SCHEMA,
        tool="test",
        created="2026-01-01T00:00:00+00:00",
        question=Question(urls=urls, checks=checks),
        records=records,
    )


def node(name: str) -> Node:
    """Make a ready node; the first is the control plane's."""
    labels = {"node-role.kubernetes.io/control-plane": ""} if name == "n0" else {}
    status = NodeStatus((Address("InternalIP", address(name)),), (Condition("Ready", "True"),))
    return Node(metadata=Meta(name=name, labels=labels), status=status)


def pod(  # noqa: PLR0913 - a pod has many parts
    key: str,
    on: str,
    ip: str,
    *,
    ready: bool = True,
    labels: dict[str, str] | None = None,
    ports: Sequence[ContainerPort] = (),
    needs: tuple[str, ...] = (),
    readiness: HttpGet | None = None,
    image: str = "",
) -> Pod:
    """Make a running pod of one container."""
    namespace, _, name = key.partition("/")
    container = Container(
        name="main",
        image=image,
        ports=tuple(ports),
        dependencies=(EnvName("URL", needs),) if needs else None,
        readiness_probe=KubeletProbe(readiness) if readiness else None,
    )
    return Pod(
        metadata=Meta(name=name, namespace=namespace, labels=labels or {}),
        spec=PodSpec(node_name=on, containers=(container,)),
        status=PodStatus(
            phase="Running",
            pod_ip=ip,
            conditions=(Condition("Ready", "True" if ready else "False"),),
        ),
    )


def service(
    key: str,
    ip: str,
    *ports: ServicePort,
    selector: dict[str, str] | None = None,
    vips: Iterable[str] = (),
    labels: dict[str, str] | None = None,
) -> Service:
    """Make a Service; one with addresses is of type LoadBalancer."""
    namespace, _, name = key.partition("/")
    balanced = LoadBalancerStatus(tuple(LoadBalancerIngress(ip=v) for v in vips))
    return Service(
        metadata=Meta(name=name, namespace=namespace, labels=labels or {}),
        spec=ServiceSpec(
            type="LoadBalancer" if vips else "ClusterIP",
            cluster_ip=ip,
            ports=ports,
            selector=selector,
        ),
        status=ServiceStatus(balanced),
    )


def endpoints(key: str, port: EndpointPort, *pods: Pod) -> EndpointSlice:
    """Make the EndpointSlice of a Service's port."""
    namespace, _, name = key.partition("/")
    return EndpointSlice(
        metadata=Meta(
            name=f"{name}-1", namespace=namespace, labels={"kubernetes.io/service-name": name}
        ),
        ports=(port,),
        endpoints=tuple(
            Endpoint(
                addresses=(p.status.pod_ip,),
                conditions=EndpointConditions(ready=p.ready),
                node_name=p.node,
                target_ref=TargetRef("Pod", p.name, p.namespace),
            )
            for p in pods
        ),
    )


def announced(service_key: str, on: str) -> Event:
    """Make the event with which MetalLB's speaker says that it announces."""
    namespace, _, name = service_key.partition("/")
    return Event(
        metadata=Meta(name="e", namespace=namespace),
        involved_object=InvolvedObject("Service", name, namespace),
        reason="nodeAssigned",
        message=f'announcing from node "{on}" with protocol "layer2"',
    )


def probe_pods(nodes: Iterable[str]) -> tuple[ProbePodRecord, ...]:
    """Make the records of probe pods that run."""
    return tuple(ProbePodRecord(n, pod_address(n, 99), 20053, "image") for n in nodes)


def cluster(count: int = 3, *more: Item) -> tuple[ApiRecord, ...]:
    """Make a cluster: DNS on the first two nodes, the API server, and what else is given."""
    nodes = tuple(node(n) for n in names(count))
    labels = {"k8s-app": "kube-dns"}
    declared = (ContainerPort(53, "dns", "UDP"), ContainerPort(9153, "metrics"))
    replicas = tuple(
        pod(f"kube-system/coredns-{n}", n, pod_address(n), labels=labels, ports=declared)
        for n in names(count)[:2]
    )
    dns = service(
        "kube-system/kube-dns",
        DNS_IP,
        ServicePort("dns", 53, "UDP"),
        ServicePort("dns-tcp", 53),
        selector=labels,
        labels=labels,
    )
    server = service("default/kubernetes", API_IP, ServicePort("https", 443))
    api_pod = pod("kube-system/kube-apiserver", "n0", address("n0"))
    slices = (
        endpoints("kube-system/kube-dns", EndpointPort("dns", 53, "UDP"), *replicas),
        endpoints("kube-system/kube-dns", EndpointPort("dns-tcp", 53), *replicas),
        endpoints("default/kubernetes", EndpointPort("https", 6443), api_pod),
    )
    return (
        api("nodes", *nodes),
        api("pods", *replicas, *(m for m in more if isinstance(m, Pod))),
        api("services", dns, server, *(m for m in more if isinstance(m, Service))),
        api("endpointslices", *slices, *(m for m in more if isinstance(m, EndpointSlice))),
        api("events:services", *(m for m in more if isinstance(m, Event))),
    )
