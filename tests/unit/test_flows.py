"""Which questions are asked, from where."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from doctor.bundle.schema import CommandOutput, NodeRecord, Record
from doctor.collect.flow import MACHINE, Stage
from doctor.collect.flows import plan
from doctor.collect.flows_egress import plan_egress
from doctor.collect.flows_site import (
    MOST_ADDRESSES,
    MOST_DERIVED,
    left_out,
    not_asked,
    plan_handshakes,
    plan_names,
    plan_targets,
    plan_traces,
    plan_upstreams,
)
from doctor.evidence.tables import Source, Tables, Wave
from doctor.model.failure import Failure
from doctor.model.flow import (
    Flow,
    FlowKind,
    Observation,
    Phases,
    Purpose,
    Vantage,
    VantageKind,
)
from doctor.model.kube import ContainerPort, EndpointPort, HttpGet, Ingress, Item, ServicePort
from doctor.model.target import parse_target
from tests.unit.support import (
    API_IP,
    DNS_IP,
    address,
    announced,
    api,
    bundle,
    cluster,
    endpoints,
    names,
    pod,
    pod_address,
    probe_pods,
    service,
)

ALL = frozenset(Wave)
VIP = "192.0.2.200"


def stage(
    count: int = 3,
    *more: Item,
    waves: Iterable[Source] = ALL,
    records: Iterable[Record] = (),
    urls: tuple[str, ...] = (),
    entered: Iterable[str] | None = None,
) -> Stage:
    """Make the stage of a cluster in which all is entered and every probe pod runs."""
    nodes = names(count)
    found = bundle(*cluster(count, *more), *probe_pods(nodes), *records, urls=urls)
    inside = nodes if entered is None else tuple(entered)
    return Stage(Tables(found), nodes=inside, pods=nodes, waves=frozenset(waves))


def of(flows: Iterable[Flow], *purposes: Purpose) -> list[Flow]:
    """Choose flows."""
    return [f for f in flows if f.purpose in purposes]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 40])
def test_the_mesh_is_a_ring(count: int) -> None:
    flows = plan(stage(count, waves=[Wave.MESH]))
    own = of(flows, Purpose.OWN_NODE)
    assert [(f.vantage.node, f.subject) for f in own] == [(n, n) for n in names(count)]
    assert len(flows) - len(own) <= 14 * count
    for node in names(count):
        pods = [f for f in of(flows, Purpose.MESH) if f.vantage.node == node]
        tried = {f.subject for f in pods if f.vantage.kind is VantageKind.POD}
        assert len(tried - {node}) == min(count - 1, 4)
        met = {f.vantage.node for f in of(flows, Purpose.UNDERLAY) if f.subject == node}
        assert len(met) == (min(count - 1, 4))
        assert node not in met


def test_the_mesh_asks_the_kubelet_of_nodes_and_the_probe_pod_of_others() -> None:
    flows = plan(stage(waves=[Wave.MESH]))
    assert {(f.address, f.port) for f in of(flows, Purpose.UNDERLAY)} == {
        (address(n), 10250) for n in names(3)
    }
    far = [f for f in of(flows, Purpose.MESH) if f.subject != f.vantage.node]
    assert {(f.address, f.port) for f in far} == {(pod_address(n, 99), 20053) for n in names(3)}


def test_no_probe_pod_dials_itself() -> None:
    flows = plan(stage())
    own = [f for f in flows if f.vantage.kind is VantageKind.POD]
    assert own
    assert [f for f in own if f.address == pod_address(f.vantage.node, 99)] == []
    near = [f for f in of(own, Purpose.MESH) if f.subject == f.vantage.node]
    assert {f.address for f in near} == {pod_address("n0"), pod_address("n1")}


def test_ids_are_unique_and_stable() -> None:
    flows = plan(stage(5))
    assert flows == plan(stage(5))
    assert [i for i, n in Counter(f.id for f in flows).items() if n > 1] == []
    assert len({(f.vantage, f.kind, f.address, f.port, f.purpose) for f in flows}) == len(flows)


def test_dns_is_asked_of_the_service_and_of_each_replica_by_both_protocols() -> None:
    flows = of(plan(stage(waves=[Wave.DNS])), Purpose.DNS)
    places = (DNS_IP, pod_address("n0"), pod_address("n1"))
    kinds = (FlowKind.DNS_UDP, FlowKind.DNS_TCP)
    for vantage in stage().vantages:
        asked = {(f.address, f.kind) for f in flows if f.vantage == vantage}
        assert asked == {(a, k) for a in places for k in kinds}
    assert {f.port for f in flows} == {53}
    assert {f.name for f in flows} == {"kubernetes.default.svc.cluster.local."}
    control = of(plan(stage(waves=[Wave.DNS])), Purpose.DNS_CONTROL)
    assert {(f.address, f.port) for f in control} == {(a, 9153) for a in places[1:]}


def test_the_api_server_is_dialled_at_its_clusterip_and_directly() -> None:
    flows = plan(stage(waves=[Wave.SERVICE_IP]))
    assert {(f.address, f.port) for f in of(flows, Purpose.SERVICE_IP)} == {(API_IP, 443)}
    assert {(f.address, f.port) for f in of(flows, Purpose.API_DIRECT)} == {(address("n0"), 6443)}
    assert len(flows) == 2 * 6


def test_waves_that_are_not_wanted_cost_nothing() -> None:
    assert plan(stage(waves=["nodes"])) == ()
    assert {f.purpose for f in plan(stage(waves=[Wave.DNS]))} == {Purpose.DNS, Purpose.DNS_CONTROL}


def ingress(rule: dict[str, Any]) -> tuple[Item, ...]:
    """Make an Ingress of one rule."""
    document = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"rules": [rule]}}
    return (msgspec.convert(document, Ingress),)


WEB = {"app": "web"}


def test_readiness_is_asked_as_the_kubelet_does() -> None:
    found = [
        pod("shop/named", "n1", "10.244.1.7", ready=False, labels=WEB,
            ports=[ContainerPort(8080, "http")], readiness=HttpGet("/ready", "http")),
        pod("shop/number", "n2", "10.244.2.7", ready=False, labels=WEB, readiness=HttpGet("", 81)),
        pod("shop/well", "n1", "10.244.1.8", labels=WEB, readiness=HttpGet("/", 82)),
        pod("shop/tls", "n1", "10.244.1.9", ready=False, labels=WEB,
            readiness=HttpGet("/", 83, "HTTPS")),
        pod("shop/lost", "n1", "10.244.1.10", ready=False, labels=WEB,
            readiness=HttpGet("/", "absent")),
    ]  # fmt: skip
    web = service("shop/web", "10.96.0.50", ServicePort("", 80), selector=WEB)
    rule = {"host": "shop.example", "http": {"paths": [{"backend": {"service": {
        "name": "web", "port": {"number": 80}}}}]}}  # fmt: skip
    rules = api("ingresses", *ingress(rule))
    flows = plan(stage(3, *found, web, waves=[Wave.BACKEND], records=[rules]))
    asked = {(f.vantage.node, f.address, f.port, f.path) for f in of(flows, Purpose.READINESS)}
    assert asked == {("n1", "10.244.1.7", 8080, "/ready"), ("n2", "10.244.2.7", 81, "/")}
    assert {f.vantage.kind for f in flows} == {VantageKind.NODE}


MTU = 1400


def uplinks(*nodes: str) -> list[NodeRecord]:
    """Make what is read of nodes on one segment."""
    text = '[{{"ifname": "cni0", "addr_info": [{{"family": "inet", "local": "192.0.2.250", '
    text += (
        '"prefixlen": 24}}]}}, {{"ifname": "eth0", "mtu": 1400, "addr_info": [{{"family": "inet", '
    )
    text += '"local": "{0}", "prefixlen": 24}}]}}]'
    return [
        NodeRecord(
            n,
            "x",
            (
                CommandOutput("address", 0, text.format(address(n))),
                CommandOutput("route", 0, "[]"),
            ),
        )
        for n in nodes
    ]


def balanced(vip: str) -> tuple[Item, ...]:
    """Make a load balanced Service that n1 announces."""
    front = service("edge/web", "10.96.0.9", ServicePort("http", 80), vips=[vip])
    return front, announced("edge/web", "n1")


MANAGED = (api("ipaddresspools"),)


def metallb() -> tuple[Item, ...]:
    """Make MetalLB's speaker."""
    return (pod("metallb-system/speaker", "n1", address("n1"), image="metallb/speaker:v0.15"),)


def test_arp_is_asked_where_the_address_is_on_link_but_not_by_its_announcer() -> None:
    read = uplinks("n0", "n1")
    flows = plan(stage(4, *metallb(), *balanced(VIP), waves=[Wave.VIP], records=[*read, *MANAGED]))
    asked = of(flows, Purpose.VIP_ARP)
    assert {(f.vantage.node, f.name, f.address) for f in asked} == {("n0", "eth0", VIP)}
    (control,) = of(flows, Purpose.ARP_CONTROL)
    assert (control.vantage.node, control.address) == ("n0", address("n1"))
    (machine,) = of(flows, Purpose.VIP)
    assert (machine.vantage.kind, machine.address, machine.port) == (VantageKind.MACHINE, VIP, 80)


def test_no_arp_for_an_address_of_another_network() -> None:
    far = balanced("198.51.100.9")
    read = uplinks("n0", "n1")
    flows = plan(stage(3, *metallb(), *far, waves=[Wave.VIP], records=[*read, *MANAGED]))
    assert {f.purpose for f in flows} == {Purpose.VIP}


def test_this_machine_asks_by_arp_where_it_is_on_the_segment() -> None:
    found = stage(3, *metallb(), *balanced(VIP), waves=[Wave.VIP], records=[*MANAGED])
    assert not of(plan(found), Purpose.VIP_ARP)
    beside = {VIP: "eth1", address("n1"): "eth1", address("n2"): "eth0"}
    flows = plan(msgspec.structs.replace(found, segments=beside))
    (asked,) = of(flows, Purpose.VIP_ARP)
    (control,) = of(flows, Purpose.ARP_CONTROL)
    assert (asked.vantage, asked.address, asked.name) == (MACHINE, VIP, "eth1")
    assert (control.vantage, control.address, control.name) == (MACHINE, address("n1"), "eth1")


def test_no_arp_from_this_machine_without_a_control() -> None:
    found = stage(3, *metallb(), *balanced(VIP), waves=[Wave.VIP], records=[*MANAGED])
    alone = msgspec.structs.replace(found, segments={VIP: "eth1", address("n1"): "eth0"})
    assert not of(plan(alone), Purpose.VIP_ARP)


def test_pings_are_small_and_of_full_size_to_the_next_two() -> None:
    read = uplinks("n0", "n1", "n2", "n3")
    flows = plan(stage(4, waves=[Wave.MESH], records=[*read, *probe_pods(names(4))]))
    pings = [f for f in of(flows, Purpose.UNDERLAY_SIZE) if f.vantage.node == "n3"]
    assert {(f.subject, f.size) for f in pings} == {(n, s) for n in ("n0", "n1") for s in (0, MTU)}
    assert all(f.kind is FlowKind.PING and f.samples > 1 for f in pings)
    # flannel's file was not read: what size a pod's packets may have is not known
    assert not of(flows, Purpose.MESH_SIZE)


HOSTS = (
    "db.example:27017",
    "203.0.113.9:5432",
    "redis:6379",
    "redis.shop:6379",
    "redis.shop.svc:6379",
    "redis.shop.svc.cluster.local:6379",
    "redis-0.redis.shop.svc.cluster.local:6379",
    "10.96.0.60:6379",
    "localhost:80",
    "redis.example:6379",
    "redis.other:6379",
    "redis.shop.example:6379",
)
OUTSIDE = {"db.example:27017", "203.0.113.9:5432", *HOSTS[-3:]}


def egress_stage(needs: tuple[str, ...] = HOSTS, wave: Wave = Wave.EGRESS) -> Stage:
    """Make a stage with a pod on n3 that depends on these."""
    app = pod("shop/app", "n3", "10.244.3.7", ready=False, needs=needs)
    redis = service("shop/redis", "10.96.0.60", ServicePort("", 6379))
    return stage(4, app, redis, waves=[wave])


def test_names_that_are_services_are_no_way_out() -> None:
    found = egress_stage()
    named = plan(found)
    assert {f.subject for f in named} == {s for s in OUTSIDE if not s.startswith("203")}
    assert {(f.kind, f.address, f.port) for f in named} == {(FlowKind.DNS_UDP, DNS_IP, 53)}
    assert {f.name for f in named if f.subject == "db.example:27017"} == {"db.example."}
    seen = [Observation(f, None, 0.1, answers=("203.0.113.1",)) for f in named]
    flows = plan_egress(found, seen)
    assert {f.subject for f in flows} == OUTSIDE
    dialled = {(f.address, f.port) for f in flows if f.subject == "db.example:27017"}
    assert dialled == {("203.0.113.1", 27017)}


def test_the_way_out_is_tried_from_the_dependants_node_and_from_others() -> None:
    flows = plan_egress(egress_stage(("203.0.113.9:5432",)), ())
    kinds = (VantageKind.POD, VantageKind.NODE)
    assert {(f.vantage.node, f.vantage.kind) for f in flows} == {
        (n, k) for n in ("n3", "n0", "n1") for k in kinds
    }
    unasked = egress_stage(("203.0.113.9:5432",), Wave.DNS)
    assert plan_egress(unasked, ()) == ()


def test_names_without_an_answer_are_not_dialled() -> None:
    found = egress_stage(("db.example:27017",))
    assert plan_egress(found, [Observation(f, None, 0.1) for f in plan(found)]) == ()


def test_many_dependencies_are_bounded() -> None:
    found = egress_stage(tuple(f"db-{n}.example:5432" for n in range(99)))
    assert len({f.subject for f in plan(found)}) == 12


URL = "http://Shop.Example:8080/a?b=1"


def test_targets_are_asked_at_the_address_that_the_name_has() -> None:
    tables = stage(urls=(URL, "http://other.example/")).tables
    (flow,) = plan_targets(tables, {"shop.example": ("198.51.100.7",)})
    assert (flow.address, flow.port, flow.path) == ("198.51.100.7", 8080, "/a?b=1")
    assert (flow.name, flow.subject) == ("shop.example:8080", URL)
    (past,) = plan_upstreams(tables, (flow,), (("192.0.2.5", 81),), MACHINE)
    assert (past.purpose, past.address, past.port) == (Purpose.UPSTREAM, "192.0.2.5", 81)
    assert past.name == flow.name


def resolved(*answers: str) -> Observation:
    """Resolve the URL's name."""
    asked = Flow("r", Purpose.TARGET, MACHINE, FlowKind.RESOLVE, "", 0, "shop.example", "", URL)
    return Observation(flow=asked, failure=None, seconds=0.1, answers=answers)


def test_each_address_of_a_name_is_asked_up_to_a_bound() -> None:
    tables = stage(urls=(URL,)).tables
    answers = tuple(f"198.51.100.{n}" for n in (9, 7, 8, 6, 5, 4))
    asked = plan_targets(tables, {"shop.example": answers})
    assert [f.address for f in asked] == list(answers[:MOST_ADDRESSES])
    assert len({f.id for f in asked}) == MOST_ADDRESSES
    (left,) = not_asked([resolved(*answers)])
    assert left.gap.needs == f"requests for {URL} at 198.51.100.5, 198.51.100.4"
    assert (left.gap.essential, left.tables) == (False, ("TargetFlows",))
    assert list(not_asked([resolved(*answers[:MOST_ADDRESSES])])) == []


def test_a_name_with_ipv6_alone_is_not_measured_and_that_is_said() -> None:
    (left,) = not_asked([resolved("2001:db8::1")])
    assert left.gap.needs == f"requests for {URL} at 2001:db8::1"
    assert left.gap.reason == "the name has IPv6 addresses only; IPv6 is not measured"
    assert left.gap.essential
    (left,) = not_asked([resolved(*(f"2001:db8::{n}" for n in range(1, 7)))])
    assert left.gap.needs.endswith("2001:db8::4 and 2 more")


def front() -> tuple[Item, ...]:
    """Make Traefik on n1, behind a load balanced Service."""
    labels = {"app": "traefik"}
    inner = pod("edge/traefik-1", "n1", "10.244.1.30", image="docker.io/traefik:v3", labels=labels)
    outer = service("edge/web", "10.96.0.9", ServicePort("http", 80), selector=labels, vips=[VIP])
    return inner, outer, endpoints("edge/web", EndpointPort("http", 8000), inner)


def test_without_a_url_the_ingress_hosts_are_targets() -> None:
    rules = api("ingresses", *ingress({"host": "Shop.example"}), *ingress({"host": "*.example"}))
    found = stage(4, *front(), waves=[Wave.INGRESS], records=[rules])
    (flow,) = plan_targets(found.tables, {})
    assert (flow.address, flow.port, flow.name) == (VIP, 80, "shop.example")
    asked = plan(found)
    assert {(f.address, f.port, f.name) for f in asked} == {("10.244.1.30", 8000, "shop.example")}
    assert [f.vantage.node for f in asked] == ["n1", "n0", "n2"]
    assert plan_upstreams(found.tables, (flow,), (("192.0.2.5", 81),), MACHINE) == ()


def rules(name: str, *hosts: str) -> Ingress:
    """Make an Ingress of some hosts."""
    spec = {"rules": [{"host": h} for h in hosts]}
    return msgspec.convert({"metadata": {"namespace": "a", "name": name}, "spec": spec}, Ingress)


def crowded(urls: tuple[str, ...] = (), step: int = 1) -> Stage:
    """Make an ingress controller with two hundred hosts, half of them of one Ingress."""
    many = rules("a", *(f"h{n}.example" for n in range(100)))
    ones = [rules(f"i{n:03}", f"one{n}.example", "*.one.example") for n in range(100)]
    return stage(2, *front(), records=[api("ingresses", *[many, *ones][::step])], urls=urls)


def test_of_many_hosts_some_are_asked_and_the_rest_is_said() -> None:
    """The first host of each Ingress comes before the second of any."""
    many = crowded()
    hosts = ["h0.example", *(f"one{n}.example" for n in range(MOST_DERIVED - 1))]
    assert [f.name for f in plan_targets(many.tables, {})] == hosts
    assert {f.subject for f in of(plan(many), Purpose.INGRESS)} == set(hosts)
    gaps = {g.gap.needs: (g.tables, g.gap.essential) for g in left_out(many.tables, ALL)}
    assert gaps == {
        "target probes of the other 184 of 200 Ingress hosts": (("TargetFlows",), False),
        "ingress probes of the other 184 of 200 Ingress hosts": (("IngressFlows",), False),
    }
    assert [g.tables for g in left_out(many.tables, [Wave.TARGET])] == [("TargetFlows",)]


def test_which_hosts_are_asked_does_not_hang_on_the_order_of_the_list() -> None:
    one, other = (crowded(step=s) for s in (1, -1))
    assert plan_targets(one.tables, {}) == plan_targets(other.tables, {})


def test_of_many_load_balancers_some_are_asked_and_the_rest_is_said() -> None:
    port = ServicePort("tcp", 90)
    made = [
        service(f"z/s{n:03}", f"10.97.0.{n}", port, vips=[f"198.51.100.{n}"]) for n in range(90)
    ]
    one, other = (stage(2, *metallb(), *items, records=MANAGED) for items in (made, made[::-1]))
    asked = of(plan(one), Purpose.VIP)
    assert [f.subject for f in asked] == [f"z/s{n:03}" for n in range(MOST_DERIVED)]
    assert of(plan(other), Purpose.VIP) == asked
    (gap,) = left_out(one.tables, ALL)
    assert gap.gap.needs == "vip probes of the other 74 of 90 Services of type LoadBalancer"
    assert gap.tables == ("VipFlows",)


def test_where_all_is_asked_nothing_is_left_out() -> None:
    few = stage(2, *front(), records=[api("ingresses", *ingress({"host": "shop.example"}))])
    assert list(left_out(few.tables, ALL)) == []
    assert list(left_out(crowded(("http://h1.example/",)).tables, ALL)) == []


def test_each_resolver_is_asked_for_a_name_and_nobody_for_an_address() -> None:
    targets = tuple(parse_target(u) for u in (URL, "http://192.0.2.7/"))
    flows = plan_names(targets, ("192.0.2.53", "192.0.2.54"))
    assert {(f.kind, f.address) for f in flows} == {
        (k, a) for k in (FlowKind.DNS_UDP, FlowKind.DNS_TCP) for a in ("192.0.2.53", "192.0.2.54")
    }
    assert {(f.name, f.subject, f.vantage) for f in flows} == {("shop.example.", URL, MACHINE)}


def test_https_is_shaken_hands_with() -> None:
    secure = "https://shop.example:8443/"
    tables = stage(urls=(URL, secure)).tables
    requests = plan_targets(tables, {"shop.example": ("198.51.100.7",)})
    (shake,) = plan_handshakes(requests)
    assert (shake.kind, shake.address, shake.port) == (FlowKind.TLS, "198.51.100.7", 8443)
    assert (shake.name, shake.subject) == ("shop.example", secure)


def failed(failure: Failure | None, *, connected: bool = False, on: str = "") -> Observation:
    """Make what came of a visitor's request."""
    tables = stage(urls=(URL,)).tables
    (flow,) = plan_targets(tables, {"shop.example": ("198.51.100.7",)})
    if on:
        flow = msgspec.structs.replace(flow, vantage=Vantage(VantageKind.NODE, on))
    return Observation(flow, failure, 1.0, phases=Phases(0.01) if connected else None)


def test_the_way_is_traced_where_nothing_answers() -> None:
    lost = [failed(f) for f in (Failure.TIMEOUT, Failure.NO_ROUTE, Failure.HOST_PROHIBITED)]
    (trace,) = plan_traces(lost)
    assert (trace.kind, trace.purpose) == (FlowKind.TRACE, Purpose.TRACE)
    assert (trace.address, trace.port, trace.subject) == ("198.51.100.7", 8080, URL)


def test_a_resolver_that_does_not_answer_is_not_traced() -> None:
    asked = plan_names(tuple(parse_target(u) for u in (URL,)), ("192.0.2.53",))
    assert plan_traces(Observation(f, Failure.TIMEOUT, 4.0) for f in asked) == ()


def test_sizes_are_tried_where_a_connection_stood_and_no_answer_came() -> None:
    flows = plan_traces([failed(Failure.TIMEOUT, connected=True)])
    assert [(f.kind, f.size) for f in flows] == [(FlowKind.PING, 0), (FlowKind.PING, 1500)]


def test_no_way_is_traced_where_there_was_an_answer_or_somebody_else_asked() -> None:
    answered = [failed(None), failed(Failure.CONNECTION_REFUSED), failed(Failure.HTTP_MALFORMED)]
    assert plan_traces([*answered, failed(Failure.TIMEOUT, on="n1")]) == ()
