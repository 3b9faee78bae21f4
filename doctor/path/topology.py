"""What must be known of a cluster to predict a path through it."""

import msgspec

__all__ = ["Pod", "Route", "Service", "Topology"]


class Pod(msgspec.Struct, frozen=True):
    """A pod as a place: its name, its node, and whether it uses the node's own network."""

    key: str
    node: str
    host_network: bool = False


class Service(msgspec.Struct, frozen=True):
    """A Service as a place.

    Args:
        key: ``namespace/name``.
        endpoints: Addresses and ports of its ready endpoints, of all its ports.
        by_port: Those of one of its ports.
        near: Whether a node sends what comes from within the cluster to endpoints of its own only
            (internalTrafficPolicy Local).
        near_from_outside: Whether it does so with what comes from outside (externalTrafficPolicy
            Local).
    """

    key: str
    endpoints: tuple[tuple[str, int], ...] = ()
    by_port: dict[int, tuple[tuple[str, int], ...]] = {}
    near: bool = False
    near_from_outside: bool = False

    def towards(self, port: int) -> tuple[tuple[str, int], ...]:
        """Return the endpoints that a connection to one of its ports may meet."""
        return self.by_port.get(port, self.endpoints)


class Route(msgspec.Struct, frozen=True):
    """Where an HTTP host leads behind the ingress controllers.

    Args:
        controllers: Services in front of the controllers that serve the host.
        backends: Services that its rules name.
    """

    controllers: tuple[Service, ...] = ()
    backends: tuple[Service, ...] = ()


class Topology(msgspec.Struct, frozen=True):
    """The cluster as a map of addresses.

    Args:
        nodes: Node name by address.
        pods: Pod by address; pods on the node's own network are left out.
        services: Service by ClusterIP.
        vips: Service by load balancer address.
        announcers: Node by load balancer address, where one said it announces.
        overlay: Outer protocol between nodes, ``udp/8472``; empty where pod traffic is routed.
        hosts: Route by HTTP host, in lower case.
        resolvers: Addresses of the resolvers that the cluster's DNS asks for all other names.
        proxies: Addresses of this machine, at which a reverse proxy stands.
    """

    nodes: dict[str, str]
    pods: dict[str, Pod]
    services: dict[str, Service]
    vips: dict[str, Service]
    announcers: dict[str, str]
    overlay: str = ""
    hosts: dict[str, Route] = {}
    resolvers: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
