"""Which hops a flow crosses, the reply's included."""

import pytest

from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.path.predict import predict
from doctor.path.topology import Pod, Route, Service, Topology

MACHINE = Vantage(VantageKind.MACHINE)
ON_A, IN_A = Vantage(VantageKind.NODE, "a"), Vantage(VantageKind.POD, "a")
WEB = Service("shop/web", (("10.0.1.5", 8080), ("10.0.2.5", 8080)))
FRONT = Service("edge/traefik", (("10.0.2.9", 80),))
HOST_SERVICE = Service("default/kubernetes", (("192.0.2.1", 6443),))
VIP = "192.0.2.200"
MAP = Topology(
    nodes={"192.0.2.1": "a", "192.0.2.2": "b"},
    pods={
        "10.0.1.5": Pod("shop/web-1", "a"),
        "10.0.2.5": Pod("shop/web-2", "b"),
        "10.0.2.9": Pod("edge/traefik-1", "b"),
    },
    services={"10.96.0.1": HOST_SERVICE, "10.96.0.5": WEB, "10.96.0.9": FRONT},
    vips={VIP: FRONT},
    announcers={VIP: "b"},
    overlay="udp/8472",
    hosts={"shop.example": Route((FRONT,), (WEB,))},
    proxies=("198.51.100.7",),
)
ROUTED = Topology(**{f: getattr(MAP, f) for f in MAP.__struct_fields__} | {"overlay": ""})
VXLAN = ("underlay:a>b:udp/8472", "underlay:b>a:udp/8472")


def hops(  # noqa: PLR0913 - a flow has many parts
    purpose: Purpose,
    start: Vantage,
    address: str,
    port: int = 0,
    kind: FlowKind = FlowKind.TCP,
    *,
    name: str = "",
    subject: str = "",
    on: Topology = MAP,
) -> tuple[str, ...]:
    """Predict a flow's path, written down."""
    flow = Flow("f", purpose, start, kind, address, port, name, subject=subject)
    return tuple(str(h) for h in predict(flow, on).hops)


FAR = ("forward:b:tcp/8080", "pod-network:b", "pod:shop/web-2:tcp/8080")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            hops(Purpose.MESH, IN_A, "10.0.1.5", 8080),
            ("pod-network:a", "forward:a:tcp/8080", "pod:shop/web-1:tcp/8080"),
            id="pod to pod on its node",
        ),
        pytest.param(
            hops(Purpose.MESH, IN_A, "10.0.2.5", 8080),
            ("pod-network:a", "forward:a:tcp/8080", *VXLAN, *FAR),
            id="pod to pod by vxlan",
        ),
        pytest.param(
            hops(Purpose.MESH, IN_A, "10.0.2.5", 8080, on=ROUTED),
            (
                "pod-network:a",
                "forward:a:tcp/8080",
                "underlay:a>b:tcp/8080",
                "underlay:b>a:tcp/8080",
                *FAR,
            ),
            id="pod to pod by routes",
        ),
        pytest.param(hops(Purpose.MESH, ON_A, "10.0.2.5", 8080), (*VXLAN, *FAR), id="node to pod"),
        pytest.param(
            hops(Purpose.UNDERLAY, ON_A, "192.0.2.2", 10250),
            ("underlay:a>b:tcp/10250", "underlay:b>a:tcp/10250"),
            id="node to node",
        ),
        pytest.param(hops(Purpose.UNDERLAY, ON_A, "192.0.2.1", 10250), (), id="node to itself"),
        pytest.param(
            hops(Purpose.DNS, IN_A, "10.0.2.5", 53, FlowKind.DNS_UDP, on=ROUTED)[1:3],
            ("forward:a:udp/53", "underlay:a>b:udp/53"),
            id="DNS over UDP keeps its protocol where pods are routed",
        ),
        pytest.param(
            hops(Purpose.BACKEND, ON_A, "10.96.0.5", 80),
            (
                "kube-proxy:a",
                "service:shop/web",
                "pod-network:a",
                "pod:shop/web-1:tcp/8080",
                *VXLAN,
                *FAR,
            ),
            id="ClusterIP: all endpoints, at their own port",
        ),
        pytest.param(
            hops(Purpose.SERVICE_IP, Vantage(VantageKind.NODE, "b"), "10.96.0.1", 443),
            (
                "kube-proxy:b",
                "service:default/kubernetes",
                "underlay:b>a:tcp/6443",
                "underlay:a>b:tcp/6443",
            ),
            id="ClusterIP of something on a node's own network",
        ),
        pytest.param(
            hops(Purpose.VIP, MACHINE, VIP, 80),
            (
                "lb-assign:edge/traefik",
                f"lb-announce:{VIP}",
                f"lb-arp:{VIP}",
                "kube-proxy:b",
                "service:edge/traefik",
                "forward:b:tcp/80",
                "pod-network:b",
                "pod:edge/traefik-1:tcp/80",
            ),
            id="VIP from this machine",
        ),
        pytest.param(
            hops(Purpose.VIP, ON_A, VIP, 80)[:2],
            ("kube-proxy:a", "service:edge/traefik"),
            id="VIP from a node asks nobody who owns it",
        ),
        pytest.param(
            hops(Purpose.VIP_ARP, ON_A, VIP, kind=FlowKind.ARP), (f"lb-arp:{VIP}",), id="ARP"
        ),
        pytest.param(
            hops(Purpose.TARGET, MACHINE, "", kind=FlowKind.RESOLVE, name="shop.example"),
            ("dns-name:shop.example",),
            id="a name",
        ),
        pytest.param(
            hops(Purpose.EGRESS, IN_A, "203.0.113.9", 27017, subject="db.example:27017"),
            (
                "pod-network:a",
                "forward:a:tcp/27017",
                "masquerade:a",
                "egress:db.example:tcp/27017",
            ),
            id="egress from a pod",
        ),
        pytest.param(
            hops(Purpose.EGRESS, ON_A, "203.0.113.9", 27017, subject="db.example:27017"),
            ("egress:db.example:tcp/27017",),
            id="egress from a node",
        ),
        pytest.param(
            hops(Purpose.EGRESS_NAME, IN_A, "10.96.0.5", 53, FlowKind.DNS_UDP, subject="x:1")[:3],
            ("pod-network:a", "kube-proxy:a", "service:shop/web"),
            id="an outside name is asked of the cluster's DNS",
        ),
        pytest.param(
            hops(Purpose.OWN_NODE, IN_A, "192.0.2.1", 10250),
            ("pod-network:a", "host-input:a:tcp/10250"),
            id="a pod to its own node",
        ),
        pytest.param(hops(Purpose.MESH, ON_A, "203.0.113.1", 80), (), id="an unknown address"),
    ],
)
def test_the_hops_of_a_flow(path: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert path == expected


BEHIND = ("ingress-rule:shop.example", "service:shop/web")


def test_a_target_through_a_proxy_and_the_load_balancer() -> None:
    host = "Shop.Example:8080"
    path = hops(Purpose.TARGET, MACHINE, "198.51.100.7", 8080, FlowKind.HTTP, name=host)
    assert path[:2] == ("dns-name:shop.example", "host-proxy:198.51.100.7:tcp/8080")
    order = (f"lb-arp:{VIP}", "kube-proxy:b", "service:edge/traefik", *BEHIND, VXLAN[1])
    assert [path.index(h) for h in order] == sorted(path.index(h) for h in order)


def test_a_target_at_the_load_balancers_address_meets_no_proxy() -> None:
    path = hops(Purpose.TARGET, MACHINE, VIP, 80, FlowKind.HTTP, name="shop.example")
    assert not [h for h in path if h.startswith("host-proxy")]
    assert set(BEHIND) < set(path)


def test_a_target_whose_controller_has_no_address_stops_at_assignment() -> None:
    bare = Topology(MAP.nodes, MAP.pods, MAP.services, {}, {}, MAP.overlay, MAP.hosts, MAP.proxies)
    path = hops(
        Purpose.TARGET, MACHINE, "198.51.100.7", 80, FlowKind.HTTP, name="shop.example", on=bare
    )
    assert {"lb-assign:edge/traefik", *BEHIND} < set(path)


def test_a_request_to_a_controllers_pod_crosses_what_stands_behind_it() -> None:
    path = hops(Purpose.INGRESS, ON_A, "10.0.2.9", 80, FlowKind.HTTP, name="shop.example")
    assert path[-1] == "pod:shop/web-2:tcp/8080"
    assert set(BEHIND) < set(path)
    unknown = hops(Purpose.INGRESS, ON_A, "10.0.2.9", 80, FlowKind.HTTP, name="other.example")
    assert unknown[-1] == "ingress-rule:other.example"


@pytest.mark.parametrize("start", [MACHINE, ON_A, IN_A])
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("to", ["192.0.2.2", "10.0.2.5", "10.96.0.9", VIP, "203.0.113.1"])
def test_each_hop_stands_once(purpose: Purpose, start: Vantage, to: str) -> None:
    path = hops(purpose, start, to, 80, FlowKind.HTTP, name="shop.example", subject="x:80")
    assert len(path) == len(set(path))


def test_what_every_endpoint_shares_is_certain() -> None:
    flow = Flow("f", Purpose.BACKEND, IN_A, FlowKind.TCP, "10.96.0.5", 80)
    certain = [str(h) for h in predict(flow, MAP).certain]
    assert certain == [
        "pod-network:a",
        "kube-proxy:a",
        "service:shop/web",
        "forward:a:tcp/8080",
    ]


def test_a_name_outside_may_be_handed_on_by_any_replica() -> None:
    """An answer that CoreDNS has kept takes no way out: none of these hops is certain."""
    flow = Flow("f", Purpose.EGRESS_NAME, IN_A, FlowKind.DNS_UDP, "10.96.0.5", 53, subject="x:1")
    path = predict(flow, MAP)
    out = {
        f"{kind}:{n}:{what}"
        for n in "ab"
        for kind, what in (("masquerade", "dns"), ("forward", "udp/53"))
    }
    assert out <= {str(h) for h in path.hops}
    assert out.isdisjoint(str(h) for h in path.certain)


def test_a_node_port_is_translated_by_the_node_that_is_asked() -> None:
    path = hops(Purpose.NODE_PORT, ON_A, "192.0.2.2", 30080, subject="shop/web")
    assert path[:4] == (
        "underlay:a>b:tcp/30080",
        "underlay:b>a:tcp/30080",
        "kube-proxy:b",
        "service:shop/web",
    )
    assert len(pods(path)) == len(WEB.endpoints)
    own = hops(Purpose.NODE_PORT, ON_A, "192.0.2.1", 30080, subject="shop/gone")
    assert own == ("kube-proxy:a",)


def on(service: Service) -> Topology:
    """Put a Service in the place of the one at 10.96.0.5, and behind the VIP."""
    fields = {f: getattr(MAP, f) for f in MAP.__struct_fields__}
    return Topology(**fields | {"services": {"10.96.0.5": service}, "vips": {VIP: service}})


def pods(path: tuple[str, ...]) -> set[str]:
    """Select the pods of a path."""
    return {h.split(":", 1)[1] for h in path if h.startswith("pod:")}


def test_a_port_of_a_service_leads_to_its_own_endpoints() -> None:
    ends = (("10.0.1.5", 53), ("10.0.1.5", 9153))
    two = Service("x/dns", ends, by_port={53: ends[:1], 9153: ends[1:]})
    assert pods(hops(Purpose.BACKEND, ON_A, "10.96.0.5", 53, on=on(two))) == {"shop/web-1:tcp/53"}
    assert len(pods(hops(Purpose.BACKEND, ON_A, "10.96.0.5", 80, on=on(two)))) == len(ends)


def test_a_traffic_policy_keeps_to_the_node() -> None:
    """A node sends to endpoints of its own; what arrives from outside meets the announcer's."""
    inside = Service("shop/web", WEB.endpoints, near=True)
    outside = Service("shop/web", WEB.endpoints, near_from_outside=True)
    assert pods(hops(Purpose.BACKEND, ON_A, "10.96.0.5", 80, on=on(inside))) == {
        "shop/web-1:tcp/8080"
    }
    assert pods(hops(Purpose.VIP, MACHINE, VIP, 80, on=on(outside))) == {"shop/web-2:tcp/8080"}
    assert len(pods(hops(Purpose.VIP, ON_A, VIP, 80, on=on(outside)))) == len(WEB.endpoints)
