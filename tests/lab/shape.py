"""What a lab looks like: pure data, from which everything else is derived."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Final, Literal

Backend = Literal["vxlan", "host-gw"]
ProxyMode = Literal["iptables", "nftables"]
PodSecurity = Literal["privileged", "baseline", "restricted"]

INTERNET: Final = "203.0.113.0/24"
INTERNET_GATEWAY: Final = "203.0.113.1"
RESOLVER: Final = "203.0.113.53"
DATABASES: Final = "203.0.113.10"
DATABASE_PORTS: Final = {"mongo.example.net": 27017, "redis.example.net": 6379}
GATEWAY_HOST: Final = 1
PROXY_HOST: Final = 50
DESK_HOST: Final = 60


def nth_address(network: str, number: int) -> str:
    """The address with this host number in a network."""
    return str(IPv4Network(network)[number])


def with_length(address: str, network: str) -> str:
    """An address with its network's prefix length, as `ip addr` wants it."""
    return f"{address}/{IPv4Network(network).prefixlen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """A machine of the cluster."""

    name: str
    suffix: str = ""

    @property
    def fqdn(self) -> str:
        """Its host name, and its name in the cluster."""
        return self.name + self.suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Names, addresses and modes of a lab; the first node is the control plane."""

    name: str
    nodes: tuple[NodeShape, ...] = (
        NodeShape(name="master"),
        NodeShape(name="k8s-worker-1", suffix=".novalocal"),
        NodeShape(name="k8s-worker-2", suffix=".novalocal"),
    )
    backend: Backend = "vxlan"
    vxlan_port: int = 0
    kube_proxy_mode: ProxyMode = "iptables"
    node_network: str = "192.168.100.0/24"
    first_node: int = 101
    provider_network: str = "172.20.112.0/24"
    pod_network: str = "10.244.0.0/16"
    service_network: str = "10.96.0.0/12"
    pool: str = "192.168.100.230-192.168.100.250"
    pool_name: str = "first-pool"
    cluster_domain: str = "cluster.local"
    pod_security: PodSecurity = "privileged"
    flannel_namespace: str = "kube-flannel"
    metallb_namespace: str = "metallb-system"
    ingress_namespace: str = "traefik"
    policy_namespace: str = "site-policy"
    app_namespace: str = "default"
    app: str = "wwwm-spring-be"
    deployment: str = "wwwm-spring-be-deployment"
    service: str = "wwwm-spring-be-service"
    service_port: int = 8080
    ingress: str = "wwwm-spring-be-ingress"
    ingress_class: str = "traefik"
    ingress_controller: str = "traefik"
    host: str = "wwwm-spring-be.com"
    proxy_port: int = 8080

    @property
    def gateway(self) -> str:
        """The router's address in the nodes' network."""
        return nth_address(self.node_network, GATEWAY_HOST)

    @property
    def provider_gateway(self) -> str:
        """The router's address in the proxy host's network."""
        return nth_address(self.provider_network, GATEWAY_HOST)

    @property
    def proxy_address(self) -> str:
        """The address of the host in front of the cluster."""
        return nth_address(self.provider_network, PROXY_HOST)

    @property
    def desk_address(self) -> str:
        """The address of the machine that an operator sits at."""
        return nth_address(self.provider_network, DESK_HOST)

    @property
    def first_vip(self) -> str:
        """The address MetalLB gives to the first service that asks."""
        return self.pool.split("-", maxsplit=1)[0]

    @property
    def pod_mtu(self) -> int:
        """The MTU that flannel gives to pods on links of 1500 bytes."""
        return 1450 if self.backend == "vxlan" else 1500

    @property
    def depends_on(self) -> str:
        """What the app dials when it starts."""
        return " ".join(f"{name}:{port}" for name, port in DATABASE_PORTS.items())

    def address(self, index: int) -> str:
        """The address of a node, by its place in the list."""
        return nth_address(self.node_network, self.first_node + index)


ARTICLE: Final = Shape(name="article")

HOSTGW: Final = Shape(
    name="hostgw",
    nodes=(NodeShape(name="cp-a"), NodeShape(name="wk-1"), NodeShape(name="wk-2")),
    backend="host-gw",
    node_network="10.20.0.0/24",
    first_node=11,
    provider_network="172.31.5.0/24",
    pod_network="10.200.0.0/16",
    service_network="172.24.0.0/16",
    pool="10.20.0.200-10.20.0.220",
    pool_name="office",
    cluster_domain="corp.internal",
    pod_security="restricted",
    flannel_namespace="cni",
    metallb_namespace="lb",
    ingress_namespace="edge",
    policy_namespace="guard",
    app_namespace="shop",
    app="storefront",
    deployment="storefront",
    service="storefront-http",
    service_port=80,
    ingress="storefront-web",
    ingress_class="public",
    ingress_controller="edge-router",
    host="shop.example.org",
    proxy_port=8088,
)

SHAPES: Final = {
    shape.name: shape
    for shape in (
        ARTICLE,
        HOSTGW,
        replace(ARTICLE, name="hostgw-article", backend="host-gw"),
        replace(ARTICLE, name="port4789", vxlan_port=4789),
        replace(ARTICLE, name="nftables", kube_proxy_mode="nftables"),
        replace(ARTICLE, name="single", nodes=ARTICLE.nodes[:1]),
        replace(
            ARTICLE,
            name="five",
            nodes=(
                *ARTICLE.nodes,
                NodeShape(name="k8s-worker-3", suffix=".novalocal"),
                NodeShape(name="k8s-worker-4", suffix=".novalocal"),
            ),
        ),
    )
}
