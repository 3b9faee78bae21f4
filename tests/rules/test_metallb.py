"""MetalLB: each fault by its code, and the look-alikes by none."""

from typing import Any

import msgspec
import pytest

from checks.metallb import advertised, assigned, installed, one_owner, vip_in_subnet
from doctor.model.evidence import (
    Backends,
    LoadBalancers,
    NodeNetworks,
    Nodes,
    VipFlows,
)
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Severity
from doctor.model.flow import FlowKind, Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import (
    AdvertisementSpec,
    BGPAdvertisement,
    Event,
    InvolvedObject,
    IPAddressPool,
    L2Advertisement,
    LabelSelector,
    Meta,
    PoolSpec,
)
from doctor.model.node import Link, NodeNetwork
from tests.rules.factories_site import (
    CP,
    MACHINE,
    REFUSED,
    TIMEOUT,
    W1,
    W2,
    Case,
    at,
    backend,
    gap,
    node,
    pod,
    seen,
    service,
    verify,
    workload,
)

KEY, VIP, FOREIGN = "ingress/traefik", "172.20.112.200", "192.168.100.230"
PENDING = service(KEY, kind="LoadBalancer")
WITH_VIP = service(KEY, kind="LoadBalancer", vips=(VIP,))
OUTSIDE = service(KEY, kind="LoadBalancer", vips=(FOREIGN,))
BY_HAND = service(KEY, kind="LoadBalancer", external=("172.20.112.101",))
OTHER = service("shop/extra", kind="LoadBalancer")
CONTROLLER = pod("controller-1", namespace="metallb-system")
SPEAKERS = tuple(pod(f"speaker-{n}", namespace="metallb-system", on=n) for n in (CP, W1, W2))
EXCLUDED = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}


def meta(name: str) -> Meta:
    """Name an object of MetalLB."""
    return Meta(name=name, namespace="metallb-system")


def pool(*addresses: str, name: str = "site", auto: bool = True) -> IPAddressPool:
    """Make a pool."""
    return IPAddressPool(metadata=meta(name), spec=PoolSpec(addresses, auto_assign=auto))


def l2(*pools: str, labels: bool = False) -> L2Advertisement:
    """Advertise pools by name, by label, or all of them."""
    selectors = (LabelSelector({"a": "b"}),) if labels else None
    return L2Advertisement(metadata=meta("site"), spec=AdvertisementSpec(pools or None, selectors))


def said(message: str, reason: str = "AllocationFailed", when: str = "2026-01-01") -> Event:
    """Make an event of the Service."""
    about = InvolvedObject("Service", "traefik", "ingress")
    return Event(
        metadata=Meta(name="e1", namespace="ingress"),
        involved_object=about,
        reason=reason,
        message=message,
        last_timestamp=when,
    )


LEADER = said(f'announcing from node "{CP}"', "nodeAssigned", "2026-01-02")
POOL = pool("172.20.112.200-172.20.112.210")
FAR = pool("192.168.100.224/28")
BGP = BGPAdvertisement(metadata=meta("site"), spec=AdvertisementSpec())


def table(**changes: Any) -> LoadBalancers:
    """Describe MetalLB in good health, but for the changes."""
    healthy = LoadBalancers(
        installed=True,
        namespace="metallb-system",
        services=(WITH_VIP,),
        pools=(POOL,),
        l2=(l2("site"),),
        controller=(CONTROLLER,),
        controllers=(workload("controller", 1, "metallb-system"),),
        speakers=SPEAKERS,
        events=(LEADER,),
        wanted=(KEY,),
    )
    return msgspec.structs.replace(healthy, **changes)


def nobody(*services: Any, **changes: Any) -> LoadBalancers:
    """Describe a cluster without MetalLB."""
    return LoadBalancers(services=services, wanted=(KEY,), **changes)


DOWN = pod("controller-1", namespace="metallb-system", ready=False, waiting="CrashLoopBackOff")
ZERO = (workload("controller", 0, "metallb-system"),)

INSTALLED = [
    Case("healthy", (table(),)),
    Case("pending is not judged here", (table(services=(PENDING,), pools=()),)),
    Case(
        "nobody assigns",
        (nobody(PENDING, OTHER),),
        ["LB_CONTROLLER_MISSING"],
        [KEY, "<pending>"],
        f"lb-assign:{KEY}",
    ),
    Case("somebody else assigns", (nobody(PENDING, service("shop/old", vips=("192.0.2.9",))),)),
    Case("reached by external IPs", (nobody(BY_HAND),)),
    Case("nobody wants one", (nobody(OTHER, service(KEY)),)),
    Case("services not all listed", (nobody(PENDING, gaps=gap("services")),)),
    Case("nobody seen, as pods were not listed", (nobody(PENDING, gaps=gap("pods")),)),
    Case("nor workloads", (nobody(PENDING, gaps=gap("deployments")),)),
    Case(
        "controller down and pending",
        (table(services=(PENDING,), controller=(DOWN,)),),
        ["METALLB_CONTROLLER_DOWN"],
        ["controller-1 CrashLoopBackOff", f"{KEY} stays <pending>"],
        "lb-assign:*",
        folds=[f"flannel:{W1}", f"node:{W1}"],
    ),
    Case(
        "controller down and nothing pending",
        (table(controller=(), controllers=ZERO),),
        ["METALLB_CONTROLLER_DOWN"],
        ["metallb-system/controller is scaled to zero"],
        folds=["service:metallb-system/metallb-webhook-service"],
    ),
    Case("pods not listed", (table(controller=(), gaps=gap("pods")),)),
    Case("workloads not listed", (table(controller=(), gaps=gap("deployments")),)),
    Case("nothing of it known", (table(controller=(), controllers=(), speakers=()),)),
]


@pytest.mark.parametrize("case", INSTALLED, ids=str)
def test_installed(case: Case) -> None:
    verify(installed, case)


@pytest.mark.parametrize(
    ("services", "severity", "folded"),
    [((PENDING,), Severity.FAIL, 0), ((WITH_VIP,), Severity.WARN, 2)],
)
def test_a_controller_that_is_down_fails_what_is_pending(
    services: Any, severity: Severity, folded: int
) -> None:
    finding = next(installed.judge(table(services=services, controller=(), controllers=ZERO)))
    assert finding.severity is severity
    assert sum(h.kind is HopKind.SERVICE for h in finding.consequence_of) == folded
    assert finding.remediation[0].commands[0].endswith("scale deployment controller --replicas=1")


FULL = said('Failed to allocate IP for "ingress/traefik": no available IPs')
TAKEN = service("shop/old", kind="LoadBalancer", vips=(VIP,))
SMALL = pool(f"{VIP}/32")

ASSIGNED = [
    Case("healthy", (table(),)),
    Case("not installed", (nobody(PENDING),)),
    Case(
        "no pool",
        (table(services=(PENDING, OTHER), pools=()),),
        ["METALLB_NO_POOL"],
        [f"Service {KEY} has EXTERNAL-IP <pending>: MetalLB has no IPAddressPool"],
        f"lb-assign:{KEY}",
    ),
    Case("no pool and nothing pending", (table(pools=()),)),
    Case("pools not listed", (table(services=(PENDING,), pools=(), gaps=gap("ipaddresspools")),)),
    Case(
        "exhausted",
        (table(services=(PENDING, TAKEN), pools=(SMALL,), events=(FULL,)),),
        ["METALLB_POOL_EXHAUSTED"],
        ["all 1 addresses", "site"],
    ),
    Case(
        "the same event with addresses free",
        (table(services=(PENDING, TAKEN), events=(FULL,)),),
        ["METALLB_NOT_ASSIGNED"],
        ["no available IPs"],
    ),
    Case(
        "not to be assigned from by itself",
        (table(services=(PENDING,), pools=(pool(f"{VIP}/32", auto=False),), events=(FULL,)),),
        ["METALLB_NOT_ASSIGNED"],
    ),
    Case(
        "another service's event",
        (table(services=(PENDING,), events=(LEADER,)),),
        ["METALLB_NOT_ASSIGNED"],
        ["no event says why"],
    ),
    Case("controller down", (table(services=(PENDING,), controller=(DOWN,)),)),
]


@pytest.mark.parametrize("case", ASSIGNED, ids=str)
def test_assigned(case: Case) -> None:
    verify(assigned, case)


NODES = Nodes(
    items=(node(CP, "172.20.112.11"), node(W1, "172.20.112.12"), node(W2, "172.20.112.13"))
)
NODES_EXCLUDED = Nodes(items=tuple(node(n.name, n.address, **EXCLUDED) for n in NODES.items))
DEAF = tuple(pod("s", namespace="metallb-system", on=n, ready=False) for n in (CP, W1))
TOLD = tuple(pod("s", on=n, args=("--ignore-exclude-lb",)) for n in (CP, W1, W2))

ADVERTISED = [
    Case("healthy", (table(), NODES)),
    Case("all pools", (table(l2=(l2(),)), NODES)),
    Case("by label", (table(l2=(l2(labels=True),)), NODES)),
    Case("by BGP", (table(l2=(), bgp=(BGP,)), NODES)),
    Case("somebody else's address", (table(services=(OUTSIDE,), l2=()), NODES)),
    Case("not wanted", (table(wanted=(), l2=()), NODES)),
    Case("advertisements not listed", (table(l2=(), gaps=gap("l2advertisements")), NODES)),
    Case("BGP not listed", (table(l2=(), gaps=gap("bgpadvertisements.metallb.io")), NODES)),
    Case(
        "none",
        (table(l2=()), NODES),
        ["METALLB_NOT_ADVERTISED"],
        [f"VIP {VIP} of {KEY} (pool site)", "no L2Advertisement"],
        f"lb-announce:{VIP}",
    ),
    Case(
        "for another pool",
        (table(l2=(l2("other"),)), NODES),
        ["METALLB_NOT_ADVERTISED"],
        ["only site exists"],
    ),
    Case(
        "no speaker ready",
        (table(speakers=DEAF), NODES),
        ["METALLB_SPEAKER_DOWN"],
        [VIP, "metallb-system"],
        "lb-announce:*",
        folds=[f"node:{CP}"],
    ),
    Case("pods not listed", (table(speakers=(), gaps=gap("pods")), NODES)),
    Case(
        "all nodes excluded",
        (table(), NODES_EXCLUDED),
        ["METALLB_NODES_EXCLUDED"],
        [VIP, CP, W1, W2],
        f"lb-announce:{VIP}",
    ),
    Case("one node left", (table(), Nodes(items=(*NODES_EXCLUDED.items[:2], NODES.items[2])))),
    Case("told to ignore it", (table(speakers=TOLD), NODES_EXCLUDED)),
    Case("nodes unknown", (table(), None)),
]


@pytest.mark.parametrize("case", ADVERTISED, ids=str)
def test_advertised(case: Case) -> None:
    verify(advertised, case)


def network(name: str, address: str = "", *, inner: str = "192.168.100.1/24") -> NodeNetwork:
    """Read a node's interfaces, among them such as are no network of the nodes."""
    octet = address.partition("/")[0].rpartition(".")[2]
    eth0 = Link("eth0", mac=f"FA:16:3E:00:00:{octet}", addresses=(address,) if address else ())
    others = (Link("lo", addresses=(inner,)), Link("docker0", addresses=(inner,)))
    return NodeNetwork(name, f"exec:{name}", links=(eth0, *others))


NETWORKS = NodeNetworks(items=tuple(network(n.name, f"{n.address}/24") for n in NODES.items))
NO_FLOWS = VipFlows()


def answered(failure: Failure | None, *hops: Hop) -> VipFlows:
    """Connect to the foreign address from this machine."""
    found = seen(Purpose.VIP, MACHINE, FOREIGN, 80, failure, subject=KEY, hops=hops)
    return VipFlows(observations=(found,))


FAR_TABLE = table(services=(OUTSIDE,), pools=(FAR,))
ARP = Hop(HopKind.ARP, FOREIGN)
MISSES = ["METALLB_VIP_OUTSIDE_SUBNET"]

SUBNET = [
    Case("inside", (table(), NETWORKS, NODES, NO_FLOWS)),
    Case("nothing read", (FAR_TABLE, NodeNetworks(), NODES, NO_FLOWS)),
    Case("nothing but inner ones", (FAR_TABLE, NodeNetworks(items=(network(CP),)), NODES, None)),
    Case(
        "outside",
        (FAR_TABLE, NETWORKS, NODES, NO_FLOWS),
        MISSES,
        [FOREIGN, KEY, "172.20.112.0/24"],
        f"lb-arp:{FOREIGN}",
    ),
    Case(
        "on a second interface",
        (
            FAR_TABLE,
            NodeNetworks(items=(*NETWORKS.items, network("x", "192.168.100.5/24"))),
            NODES,
            None,
        ),
    ),
    Case("by BGP, too", (msgspec.structs.replace(FAR_TABLE, bgp=(BGP,)), NETWORKS, NODES, None)),
    Case("not advertised", (msgspec.structs.replace(FAR_TABLE, l2=()), NETWORKS, NODES, None)),
    Case("reached", (FAR_TABLE, NETWORKS, NODES, answered(None, ARP))),
    Case("reached and refused", (FAR_TABLE, NETWORKS, NODES, answered(REFUSED))),
    Case(
        "reached by kube-proxy alone",
        (FAR_TABLE, NETWORKS, NODES, answered(None, Hop(HopKind.KUBE_PROXY, CP))),
        MISSES,
    ),
    Case(
        "BGP not listed",
        (
            msgspec.structs.replace(FAR_TABLE, gaps=gap("bgpadvertisements")),
            NETWORKS,
            NODES,
            None,
        ),
    ),
    Case("not reached", (FAR_TABLE, NETWORKS, NODES, answered(TIMEOUT, ARP)), MISSES),
]


@pytest.mark.parametrize("case", SUBNET, ids=str)
def test_vip_in_subnet(case: Case) -> None:
    verify(vip_in_subnet, case)


def test_a_node_that_was_not_read_may_have_the_network() -> None:
    some = NodeNetworks(items=NETWORKS.items[:2])
    found = [next(vip_in_subnet.judge(FAR_TABLE, n, NODES, None)) for n in (NETWORKS, some)]
    assert [f.confidence for f in found] == [Confidence.CERTAIN, Confidence.LIKELY]


def arp(on: str, *macs: str) -> Observation:
    """Ask for the VIP."""
    failure = None if macs else Failure.ARP_UNANSWERED
    where = at(VantageKind.NODE, on)
    return seen(Purpose.VIP_ARP, where, VIP, failure=failure, kind=FlowKind.ARP, answers=macs)


def control(on: str, *, ok: bool = True) -> Observation:
    """Ask for another node's address."""
    failure = None if ok else Failure.ARP_UNANSWERED
    where, macs = at(VantageKind.NODE, on), ("fa:16:3e:00:00:99",) if ok else ()
    return seen(
        Purpose.ARP_CONTROL,
        where,
        "172.20.112.11",
        failure=failure,
        kind=FlowKind.ARP,
        answers=macs,
    )


def heard(*found: Observation, **changes: Any) -> tuple[Any, ...]:
    """Judge by ARP."""
    behind = Backends(items=(backend(pod(), of=service(KEY)),))
    return table(**changes), VipFlows(observations=found), NETWORKS, NODES, behind


MAC, MAC2 = "fa:16:3e:00:00:11", "FA:16:3E:00:00:12"
SILENCE = (arp(W1), arp(W2), control(W1), control(W2))
WITHDRAWN = Backends(items=(backend(pod(), of=service(KEY), ready=False),))
FILTERED = ["METALLB_VIP_FILTERED"]

OWNER = [
    Case("healthy", heard(arp(W1, MAC), arp(W2, MAC), control(W1), control(W2))),
    Case(
        "filtered",
        heard(*SILENCE),
        FILTERED,
        [VIP, f"announced by {CP}", f"no ARP from {W1} and {W2}", "port security"],
        f"lb-arp:{VIP}",
        folds=[f"node:{CP}", f"lb-announce:{VIP}"],
    ),
    Case("announcer unknown", heard(*SILENCE, events=()), FILTERED, ["or no speaker announces it"]),
    Case("one hears it", heard(arp(W1), arp(W2, MAC), control(W1), control(W2))),
    Case("control unanswered", heard(arp(W1), control(W1, ok=False))),
    Case("control missing", heard(arp(W1), control(W2))),
    Case("only the announcer was asked", heard(arp(CP), control(CP))),
    Case("no speaker ready", heard(*SILENCE, speakers=DEAF)),
    Case("not advertised", heard(*SILENCE, l2=())),
    Case("withdrawn", (*heard(*SILENCE)[:4], WITHDRAWN)),
    Case(
        "outside the subnet",
        (*heard(*SILENCE)[:2], NodeNetworks(items=(network(CP, "10.9.0.1/24"),)), NODES, None),
    ),
    Case("little else known", (*heard(*SILENCE)[:2], None, None, None), FILTERED),
    Case(
        "two owners",
        heard(arp(W1, MAC, MAC2), control(W1)),
        ["METALLB_VIP_TWO_OWNERS"],
        [VIP, "2 owners", f"{MAC} ({CP})", f"{MAC2.lower()} ({W1})"],
        f"lb-arp:{VIP}",
    ),
    Case("two owners, one each", heard(arp(W1, MAC), arp(W2, MAC2)), ["METALLB_VIP_TWO_OWNERS"]),
]


@pytest.mark.parametrize("case", OWNER, ids=str)
def test_one_owner(case: Case) -> None:
    verify(one_owner, case)


def test_speakers_that_do_not_hear_each_other_announce_both() -> None:
    found = next(one_owner.judge(*heard(arp(W1, MAC, MAC2), control(W1))))
    apart = [f"underlay:{a}>{b}:tcp/7946" for a, b in ((W1, CP), (CP, W1))]
    assert sorted(str(h) for h in found.consequence_of) == sorted(apart)


def test_the_address_is_allowed_on_the_port_of_each_node() -> None:
    commands = next(one_owner.judge(*heard(*SILENCE))).remediation[0].commands
    assert commands[0] == (
        f"openstack port set --allowed-address ip-address={VIP} "
        '"$(openstack port list --fixed-ip ip-address=172.20.112.11 -f value -c ID)"'
    )
    assert len(commands) == len(NODES.items)


@pytest.mark.parametrize(
    ("events", "confidence"), [((LEADER,), Confidence.CERTAIN), ((), Confidence.LIKELY)]
)
def test_without_an_announcer_the_filter_is_but_likely(events: Any, confidence: Confidence) -> None:
    assert next(one_owner.judge(*heard(*SILENCE, events=events))).confidence is confidence
