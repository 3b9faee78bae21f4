"""Kubernetes objects, reduced to the fields that are used.

What is not declared here is dropped when a LIST is decoded, so it is never kept, judged or saved:
environment values, Secrets' data and tokens have no field.
"""

import msgspec

from doctor.model.address import is_address, is_ipv4, network_of

__all__ = [
    "OTHER_NETWORK",
    "PUBLIC_IP",
    "APIService",
    "APIServiceStatus",
    "BGPAdvertisement",
    "Condition",
    "ConfigMap",
    "Container",
    "ContainerPort",
    "ContainerStatus",
    "DaemonSet",
    "Deployment",
    "EndpointSlice",
    "EnvName",
    "Event",
    "IPAddressPool",
    "Ingress",
    "IngressClass",
    "Item",
    "KubeObject",
    "L2Advertisement",
    "LabelSelector",
    "Meta",
    "NetworkPolicy",
    "Node",
    "Pod",
    "Service",
    "ServiceL2Status",
    "ServicePort",
    "WebhookConfiguration",
]

Labels = dict[str, str]
OTHER_NETWORK = "v1.multus-cni.io/default-network"
"""The annotation by which a pod asks Multus for another network than the cluster's."""

PUBLIC_IP = "flannel.alpha.coreos.com/public-ip"
"""The annotation by which flannel tells other nodes where to send what is for a node's pods."""


class KubeObject(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of all: unknown fields are dropped, absent ones take their defaults."""


class Owner(KubeObject, frozen=True):
    """An owner reference."""

    kind: str = ""
    name: str = ""


class Meta(KubeObject, frozen=True):
    """Object metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: Labels | None = None
    annotations: Labels | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: tuple[Owner, ...] | None = None


class Item(KubeObject, frozen=True):
    """An object of any kind."""

    metadata: Meta = Meta()

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The object's namespace; empty for cluster-scoped kinds."""
        return self.metadata.namespace

    @property
    def key(self) -> str:
        """``namespace/name``, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def labels(self) -> Labels:
        """The labels, never None."""
        return self.metadata.labels or {}

    @property
    def annotations(self) -> Labels:
        """The annotations, never None."""
        return self.metadata.annotations or {}


class Condition(KubeObject, frozen=True):
    """One condition of a node, pod or workload."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Address(KubeObject, frozen=True):
    """One address of a node."""

    type: str = ""
    address: str = ""


class Taint(KubeObject, frozen=True):
    """One taint."""

    key: str = ""
    effect: str = ""
    value: str = ""


class NodeSpec(KubeObject, frozen=True):
    """Node spec."""

    pod_cidr: str = msgspec.field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] | None = msgspec.field(name="podCIDRs", default=None)
    taints: tuple[Taint, ...] | None = None
    unschedulable: bool = False


class NodeImage(KubeObject, frozen=True):
    """An image that the kubelet reports."""

    names: tuple[str, ...] | None = None


class NodeInfo(KubeObject, frozen=True):
    """System information of a node."""

    operating_system: str = ""
    kubelet_version: str = ""


class NodeStatus(KubeObject, frozen=True):
    """Node status."""

    addresses: tuple[Address, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    images: tuple[NodeImage, ...] | None = None
    node_info: NodeInfo = NodeInfo()


class Node(Item, frozen=True):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def address(self) -> str:
        """The first InternalIP of IPv4, else the first at all; empty where there is none."""
        found = [a.address for a in self.status.addresses or () if a.type == "InternalIP"]
        return next(filter(is_ipv4, found), next(iter(found), ""))

    @property
    def addresses(self) -> tuple[str, ...]:
        """All at which it is known, inside and outside, and to flannel; what is no address is none."""
        listed = (a.address for a in self.status.addresses or ())
        told = self.annotations.get(PUBLIC_IP, "")
        return tuple(dict.fromkeys(filter(is_address, (*listed, told))))

    @property
    def pod_cidr(self) -> str:
        """Its network of IPv4 for pods, whichever family comes first; empty where it has none."""
        return next(filter(network_of, (self.spec.pod_cidr, *(self.spec.pod_cidrs or ()))), "")

    @property
    def ready(self) -> bool:
        """Whether the kubelet says Ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())

    @property
    def linux(self) -> bool:
        """Whether the node runs Linux: others are counted and not probed."""
        return self.status.node_info.operating_system in ("", "linux")

    @property
    def control_plane(self) -> bool:
        """Whether kubeadm's label marks it as a control-plane node."""
        return "node-role.kubernetes.io/control-plane" in self.labels

    @property
    def apart(self) -> bool:
        """Whether it says that it is virtual, or KubeEdge's: no daemon of the network runs there.

        The role ``edge`` alone is often given to ordinary nodes.
        """
        roles = ("node-role.kubernetes.io/edge", "node-role.kubernetes.io/agent")
        virtual = self.labels.get("type") == "virtual-kubelet"
        return virtual or all(r in self.labels for r in roles)


class ContainerPort(KubeObject, frozen=True):
    """A declared port."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class EnvName(KubeObject, frozen=True):
    """A dependency found in an environment value: only the parsed host:port pairs are kept."""

    name: str = ""
    targets: tuple[str, ...] = ()


class HttpGet(KubeObject, frozen=True):
    """A kubelet HTTP probe."""

    path: str = "/"
    port: int | str = 0
    scheme: str = "HTTP"


class KubeletProbe(KubeObject, frozen=True):
    """A kubelet probe; None where it is of another kind than HTTP."""

    http_get: HttpGet | None = None


class Container(KubeObject, frozen=True):
    """A container of a pod."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    ports: tuple[ContainerPort, ...] | None = None
    readiness_probe: KubeletProbe | None = None
    dependencies: tuple[EnvName, ...] | None = None


class Waiting(KubeObject, frozen=True):
    """Why a container waits."""

    reason: str = ""
    message: str = ""


class Terminated(KubeObject, frozen=True):
    """How a container ended; its message is kept of system pods only."""

    reason: str = ""
    exit_code: int = 0
    message: str = ""


class ContainerState(KubeObject, frozen=True):
    """The state of a container."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(KubeObject, frozen=True):
    """Status of a container."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Toleration(KubeObject, frozen=True):
    """A toleration, as far as it is copied to probe pods."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class PodSpec(KubeObject, frozen=True):
    """Pod spec."""

    node_name: str = ""
    host_network: bool = False
    service_account_name: str = ""
    dns_policy: str = ""
    containers: tuple[Container, ...] = ()
    tolerations: tuple[Toleration, ...] | None = None


class PodStatus(KubeObject, frozen=True):
    """Pod status."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None


class Pod(Item, frozen=True):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def node(self) -> str:
        """The node it is bound to."""
        return self.spec.node_name

    @property
    def ready(self) -> bool:
        """Whether the pod's Ready condition is True and it is not being deleted."""
        return not self.metadata.deletion_timestamp and any(
            c.type == "Ready" and c.status == "True" for c in self.status.conditions or ()
        )

    @property
    def waiting(self) -> str:
        """The first reason why a container waits, such as CrashLoopBackOff; else empty."""
        states = (s.state.waiting for s in self.status.container_statuses or ())
        return next((w.reason for w in states if w and w.reason), "")

    @property
    def crashing(self) -> bool:
        """Whether a container that is not ready has ended with an error and was restarted."""
        return any(
            not s.ready
            and (
                (s.state.waiting is not None and s.state.waiting.reason == "CrashLoopBackOff")
                or (s.state.terminated is not None and s.state.terminated.exit_code != 0)
                or (
                    s.last_state.terminated is not None
                    and s.last_state.terminated.exit_code not in (0, 137, 143)
                )
            )
            for s in self.status.container_statuses or ()
        )


class ServicePort(KubeObject, frozen=True):
    """A port of a Service."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(KubeObject, frozen=True):
    """Service spec."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = msgspec.field(name="clusterIPs", default=None)
    selector: Labels | None = None
    ports: tuple[ServicePort, ...] | None = None
    external_ips: tuple[str, ...] | None = msgspec.field(name="externalIPs", default=None)
    load_balancer_class: str = ""
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    external_name: str = ""

    @property
    def ipv4(self) -> str:
        """Its own IPv4 address, which need not be the first; empty where it has none."""
        own = (self.cluster_ip, *(self.cluster_ips or ()))
        return next((a for a in own if a not in {"", "None"} and ":" not in a), "")


class LoadBalancerIngress(KubeObject, frozen=True):
    """An address that a load balancer assigned."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(KubeObject, frozen=True):
    """Addresses assigned."""

    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(KubeObject, frozen=True):
    """Service status."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Item, frozen=True):
    """A Service."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def vips(self) -> tuple[str, ...]:
        """Addresses that a load balancer assigned."""
        return tuple(i.ip for i in self.status.load_balancer.ingress or () if i.ip)


class TargetRef(KubeObject, frozen=True):
    """What an endpoint stands for."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class EndpointConditions(KubeObject, frozen=True):
    """Whether an endpoint is ready; None counts as ready."""

    ready: bool | None = None


class Endpoint(KubeObject, frozen=True):
    """One endpoint."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    node_name: str = ""
    target_ref: TargetRef | None = None

    @property
    def ready(self) -> bool:
        """Whether traffic is sent to it."""
        return self.conditions.ready is not False


class EndpointPort(KubeObject, frozen=True):
    """A port of a slice."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"


class EndpointSlice(Item, frozen=True):
    """An EndpointSlice."""

    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None

    @property
    def service(self) -> str:
        """``namespace/name`` of the Service it belongs to."""
        return f"{self.namespace}/{self.labels.get('kubernetes.io/service-name', '')}"


class LabelSelector(KubeObject, frozen=True):
    """A selector; of its expressions only the presence is known."""

    match_labels: Labels | None = None
    match_expressions: tuple[dict[str, str | tuple[str, ...]], ...] | None = None


class PolicyPort(KubeObject, frozen=True):
    """Ports that a NetworkPolicy's rule lets pass; without a port, all of the protocol."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class IpBlock(KubeObject, frozen=True):
    """Addresses that a NetworkPolicy's rule lets pass."""

    cidr: str = ""


class PolicyPeer(KubeObject, frozen=True):
    """Who a NetworkPolicy's rule lets pass."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IpBlock | None = None


class PolicyRule(KubeObject, frozen=True):
    """What a NetworkPolicy lets pass; without ports or peers, all of them."""

    ports: tuple[PolicyPort, ...] | None = None
    sources: tuple[PolicyPeer, ...] | None = msgspec.field(name="from", default=None)
    to: tuple[PolicyPeer, ...] | None = None


class PolicySpec(KubeObject, frozen=True):
    """NetworkPolicy spec."""

    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] | None = None
    ingress: tuple[PolicyRule, ...] | None = None
    egress: tuple[PolicyRule, ...] | None = None


class NetworkPolicy(Item, frozen=True):
    """A NetworkPolicy."""

    spec: PolicySpec = PolicySpec()

    @property
    def limits(self) -> frozenset[str]:
        """Which directions it limits: ``Ingress``, ``Egress``; Ingress where that is left open."""
        if self.spec.policy_types is not None:
            return frozenset(self.spec.policy_types)
        return frozenset({"Ingress"} | ({"Egress"} if self.spec.egress else set()))


class TemplateSpec(KubeObject, frozen=True):
    """Pod spec of a workload's template."""

    containers: tuple[Container, ...] = ()
    tolerations: tuple[Toleration, ...] | None = None
    node_selector: Labels | None = None


class PodTemplate(KubeObject, frozen=True):
    """A workload's template."""

    metadata: Meta = Meta()
    spec: TemplateSpec = TemplateSpec()


class WorkloadSpec(KubeObject, frozen=True):
    """Spec of a Deployment or StatefulSet."""

    replicas: int | None = None
    template: PodTemplate = PodTemplate()


class WorkloadStatus(KubeObject, frozen=True):
    """Status of a Deployment or StatefulSet."""

    ready_replicas: int = 0


class Deployment(Item, frozen=True):
    """A Deployment (a StatefulSet has the same fields)."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class DaemonSpec(KubeObject, frozen=True):
    """DaemonSet spec."""

    template: PodTemplate = PodTemplate()


class DaemonStatus(KubeObject, frozen=True):
    """DaemonSet status."""

    desired_number_scheduled: int = 0
    number_ready: int = 0


class DaemonSet(Item, frozen=True):
    """A DaemonSet."""

    spec: DaemonSpec = DaemonSpec()
    status: DaemonStatus = DaemonStatus()


class ConfigMap(Item, frozen=True):
    """A ConfigMap of which named keys are read (flannel's, kube-proxy's, CoreDNS's)."""

    data: Labels | None = None


class InvolvedObject(KubeObject, frozen=True):
    """What an event is about."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Event(Item, frozen=True):
    """An event."""

    involved_object: InvolvedObject = InvolvedObject()
    reason: str = ""
    message: str = ""
    type: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None


class BackendPort(KubeObject, frozen=True):
    """A backend's port, by number or by name."""

    number: int = 0
    name: str = ""


class BackendService(KubeObject, frozen=True):
    """An Ingress backend."""

    name: str = ""
    port: BackendPort = BackendPort()


class Backend(KubeObject, frozen=True):
    """A backend; None for a resource backend."""

    service: BackendService | None = None


class IngressPath(KubeObject, frozen=True):
    """A path of a rule."""

    path: str = "/"
    path_type: str = ""
    backend: Backend = Backend()


class IngressHttp(KubeObject, frozen=True):
    """Paths of a rule."""

    paths: tuple[IngressPath, ...] = ()


class IngressRule(KubeObject, frozen=True):
    """A rule; an empty host matches any."""

    host: str = ""
    http: IngressHttp | None = None


class IngressTLS(KubeObject, frozen=True):
    """A TLS entry."""

    hosts: tuple[str, ...] | None = None
    secret_name: str = ""


class IngressSpec(KubeObject, frozen=True):
    """Ingress spec."""

    ingress_class_name: str | None = None
    rules: tuple[IngressRule, ...] | None = None
    tls: tuple[IngressTLS, ...] | None = None
    default_backend: Backend | None = None


class Ingress(Item, frozen=True):
    """An Ingress."""

    spec: IngressSpec = IngressSpec()


class IngressClassSpec(KubeObject, frozen=True):
    """IngressClass spec."""

    controller: str = ""


class IngressClass(Item, frozen=True):
    """An IngressClass."""

    spec: IngressClassSpec = IngressClassSpec()


class WebhookService(KubeObject, frozen=True):
    """The Service that a webhook is called at."""

    name: str = ""
    namespace: str = ""
    port: int = 443
    path: str = ""


class ClientConfig(KubeObject, frozen=True):
    """Where a webhook is called: a Service, or a URL; and which authorities are trusted there."""

    service: WebhookService | None = None
    url: str = ""
    ca_bundle: str = msgspec.field(name="caBundle", default="")


class WebhookRule(KubeObject, frozen=True):
    """What a webhook intercepts."""

    operations: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None


class Webhook(KubeObject, frozen=True):
    """One webhook of a configuration."""

    name: str = ""
    client_config: ClientConfig = ClientConfig()
    failure_policy: str = "Fail"
    timeout_seconds: int = 10
    rules: tuple[WebhookRule, ...] | None = None


class WebhookConfiguration(Item, frozen=True):
    """A Validating- or MutatingWebhookConfiguration."""

    webhooks: tuple[Webhook, ...] | None = None


class PoolSpec(KubeObject, frozen=True):
    """IPAddressPool spec."""

    addresses: tuple[str, ...] = ()
    auto_assign: bool = True


class IPAddressPool(Item, frozen=True):
    """A MetalLB IPAddressPool."""

    spec: PoolSpec = PoolSpec()


class AdvertisementSpec(KubeObject, frozen=True):
    """Spec of an L2- or BGPAdvertisement."""

    ip_address_pools: tuple[str, ...] | None = msgspec.field(name="ipAddressPools", default=None)
    ip_address_pool_selectors: tuple[LabelSelector, ...] | None = msgspec.field(
        name="ipAddressPoolSelectors", default=None
    )
    node_selectors: tuple[LabelSelector, ...] | None = None
    interfaces: tuple[str, ...] | None = None


class L2Advertisement(Item, frozen=True):
    """A MetalLB L2Advertisement."""

    spec: AdvertisementSpec = AdvertisementSpec()


class BGPAdvertisement(Item, frozen=True):
    """A MetalLB BGPAdvertisement."""

    spec: AdvertisementSpec = AdvertisementSpec()


class L2Status(KubeObject, frozen=True):
    """Which node announces a Service."""

    node: str = ""
    service_name: str = ""
    service_namespace: str = ""


class ServiceL2Status(Item, frozen=True):
    """A MetalLB ServiceL2Status."""

    status: L2Status = L2Status()


class ServiceReference(KubeObject, frozen=True):
    """The Service that serves an API."""

    name: str = ""
    namespace: str = ""


class APIServiceSpec(KubeObject, frozen=True):
    """APIService spec; without a Service the API server itself serves it."""

    service: ServiceReference | None = None


class APIServiceStatus(KubeObject, frozen=True):
    """APIService status."""

    conditions: tuple[Condition, ...] | None = None


class APIService(Item, frozen=True):
    """A group and version of the API, and who serves it."""

    spec: APIServiceSpec = APIServiceSpec()
    status: APIServiceStatus = APIServiceStatus()

    @property
    def unavailable(self) -> str:
        """Why what serves it does not answer; empty where it does, or the API server serves it."""
        found = next((c for c in self.status.conditions or () if c.type == "Available"), None)
        if self.spec.service is None or (found and found.status == "True"):
            return ""
        return found.message or found.reason or "not available" if found else "not available yet"
