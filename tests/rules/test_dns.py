"""CoreDNS gone, filtered, refusing, or only out of reach because of something else."""

from collections.abc import Callable, Iterable

import msgspec
import pytest

from checks.dns.answers import udp_and_tcp
from checks.dns.running import running
from doctor.model.evidence import Backend, DnsFlows, DnsService, Flannel, Mesh, NodeNetworks
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Finding, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.kube import Deployment, Event, InvolvedObject, Meta, WorkloadSpec
from doctor.model.node import FilterRule
from doctor.model.verdict import Gap
from tests.rules.factories import (
    DNS_IP,
    DNS_KEY,
    MASTER,
    NAMES,
    ONE,
    PODS,
    TWO,
    dns,
    findings,
    flannel,
    network,
    networks,
    nodes,
    pod,
    rule,
    said,
    seen,
    vantage,
)

Fault = Callable[[str, str, str, str], Failure | None]
"""How a question fails: kind of vantage, its node, protocol (``tcp/9153`` is the control), target
node (empty: the Service's address)."""

WANTED = Deployment(
    metadata=Meta(name="coredns", namespace="kube-system"), spec=WorkloadSpec(replicas=2)
)
ASLEEP = msgspec.structs.replace(WANTED, spec=WorkloadSpec(replicas=0))
COREDNS = "registry.k8s.io/coredns/coredns:v1.12.1"
SERVICE = f"service:{DNS_KEY}"
ROUTED = flannel(backend="host-gw")
REFUSED, TIMEOUT = Failure.CONNECTION_REFUSED, Failure.TIMEOUT


def gone(*down: str, **backend: object) -> DnsService:
    """Make a DNS Service without a ready endpoint; its pods on these nodes crash."""
    pods = tuple(pod(f"coredns-{n}", n, ready=False, waiting="CrashLoopBackOff") for n in down)
    return dns(**{"pods": pods, "endpoints": (), **backend})


@pytest.mark.parametrize(
    ("table", "code", "words"),
    [
        (dns(ONE, TWO), "", ""),
        (dns(ONE, pods=(pod("coredns-1", ONE), pod("coredns-2", TWO, ready=False))), "", ""),
        (DnsService(), "DNS_SERVICE_MISSING", "kube-system/kube-dns does not exist"),
        (DnsService(gaps=(Gap("api:services", "403"),)), "", ""),
        (DnsService(backend=Backend("kube-system/dns", None, None)), "DNS_SERVICE_MISSING", "dns"),
        (gone(workloads=(ASLEEP,)), "DNS_SCALED_TO_ZERO", "Deployment kube-system/coredns is"),
        (gone(workloads=(WANTED,)), "DNS_NOT_READY", "no pod was created"),
        (
            gone(nearly=(pod("kube-proxy-1", ONE), pod("coredns-1", ONE, image=COREDNS))),
            "DNS_SELECTOR_MATCHES_NOTHING",
            "selects k8s-app=kube-dns, which no pod carries, although kube-system/coredns-1 runs",
        ),
        (gone(nearly=(pod("kube-proxy-1", ONE),)), "DNS_SELECTOR_MATCHES_NOTHING", "no pod"),
        (gone(ONE, workloads=(WANTED,)), "DNS_NOT_READY", "CrashLoopBackOff"),
    ],
)
def test_what_stands_behind_the_service(table: DnsService, code: str, words: str) -> None:
    found = findings(running, table)
    assert {f.code.name for f in found} == ({code} if code else set())
    assert all(words in f.title for f in found)


def test_pods_that_wait_for_their_node() -> None:
    (found,) = findings(running, gone(ONE, workloads=(WANTED,)))
    assert f"flannel:{ONE}" in map(str, found.consequence_of)
    assert f"node:{ONE}" in map(str, found.consequence_of)
    waiting = pod("coredns-1", "", ready=False)
    event = Event(
        involved_object=InvolvedObject("Pod", "coredns-1", "kube-system"),
        reason="FailedScheduling",
        message="0/3 nodes are available: 3 node(s) had untolerated taint",
    )
    (found,) = findings(running, gone(pods=(waiting,), events=(event,)))
    assert "not scheduled: 0/3 nodes are available" in found.title
    assert found.consequence_of == ()


def fine(_kind: str, _start: str, _protocol: str, _to: str) -> Failure | None:
    """Lose nothing."""
    return None


def port(*protocols: str, to: str = "", start: str = "", how: Failure = TIMEOUT) -> Fault:
    """Lose some protocols towards one node's endpoint or from one node, else everywhere."""
    return lambda _, a, p, b: (
        how if p in protocols and to in ("", b) and start in ("", a) and b else None
    )


def across(*protocols: str, node: str = "") -> Fault:
    """Lose some protocols between nodes: between one and the others, or all."""
    return lambda _, a, p, b: (
        TIMEOUT if p in protocols and b and a != b and (not node or node in (a, b)) else None
    )


def only(*protocols: str) -> Fault:
    """Lose some protocols to the Service's address, from the first worker."""
    return lambda _, a, p, _to: TIMEOUT if a == ONE and p in protocols else None


BOTH = ("udp/53", "tcp/53")
ALL = (*BOTH, "tcp/9153")


def ask(
    fault: Fault,
    on: Iterable[str] = (MASTER,),
    *,
    control: bool = True,
    service: Fault | None = None,
    kinds: Iterable[str] = ("pod", "node"),
) -> DnsFlows:
    """Ask from everywhere; the Service's address fails where one of its endpoints does."""
    found: list[Observation] = []
    for kind, start in [(k, n) for k in kinds for n in NAMES]:
        where = vantage(kind, start)
        for protocol, flow in (("udp/53", FlowKind.DNS_UDP), ("tcp/53", FlowKind.DNS_TCP)):
            failures = {n: fault(kind, start, protocol, n) for n in on}
            whole = next((f for f in failures.values() if f), None)
            own = service(kind, start, protocol, "") if service else whole
            found.append(seen(Purpose.DNS, where, DNS_IP, 53, own, subject=DNS_KEY, kind=flow))
            found += [
                seen(Purpose.DNS, where, PODS[n], 53, f, subject=DNS_KEY, kind=flow)
                for n, f in failures.items()
            ]
        found += [
            seen(Purpose.DNS_CONTROL, where, PODS[n], 9153, fault(kind, start, "tcp/9153", n))
            for n in on
            if control
        ]
    return DnsFlows(observations=tuple(found))


def judge(
    flows: DnsFlows,
    *on: str,
    read: NodeNetworks | None = None,
    how: Flannel | None = None,
    mesh: Mesh | None = None,
) -> list[Finding]:
    """Run the check."""
    table = dns(*(on or (MASTER,)))
    return findings(udp_and_tcp, table, flows, read, nodes(), how or flannel(), mesh)


DROP_UDP = rule("-A FORWARD -p udp -m udp --dport 53 -j DROP", protocol="udp", port=53)
DROP_TCP = rule("-A FORWARD -p tcp -m tcp --dport 53 -j DROP", protocol="tcp", port=53)
CATCH_ALL = rule("-A FORWARD -j REJECT --reject-with icmp-host-prohibited", "REJECT")
DROP_ALL = rule("-A FORWARD -j DROP")
REJECT = rule("-A FORWARD -p udp --dport 53 -j REJECT", "REJECT", "udp", 53)
OUTPUT = rule("-A OUTPUT -p udp --dport 53 -j DROP", protocol="udp", port=53)
UDP, TCP, PORT = "DNS_UDP_FILTERED", "DNS_TCP_FILTERED", "DNS_PORT_FILTERED"
POD = f"pod:kube-system/coredns-{MASTER}"


@pytest.mark.parametrize(
    ("flows", "on", "rules", "expected"),
    [
        (ask(fine), [MASTER], {}, set()),
        (ask(fine), [MASTER], {MASTER: (DROP_UDP,)}, set()),
        (DnsFlows(), [MASTER], {}, set()),
        (ask(port("udp/53")), [MASTER], {}, {(UDP, f"{POD}:udp/53")}),
        (ask(port("tcp/53")), [MASTER], {}, {(TCP, f"{POD}:tcp/53")}),
        (ask(port(*BOTH)), [MASTER], {}, {(PORT, f"{POD}:udp+tcp/53")}),
        (ask(port(*BOTH)), [MASTER], {MASTER: (CATCH_ALL,)}, {(PORT, f"{POD}:udp+tcp/53")}),
        (ask(across("udp/53")), [MASTER], {MASTER: (DROP_ALL,)}, {(UDP, f"{POD}:udp/53")}),
        (ask(across("udp/53")), [MASTER], {MASTER: (REJECT,)}, {(UDP, f"{POD}:udp/53")}),
        (ask(across(*BOTH)), [MASTER], {}, {(PORT, f"{POD}:udp+tcp/53")}),
        (
            ask(across("udp/53")),
            [MASTER],
            {MASTER: (DROP_UDP,)},
            {(UDP, f"forward:{MASTER}:udp/53")},
        ),
        (
            ask(across(*BOTH)),
            [MASTER],
            {MASTER: (DROP_UDP, DROP_TCP)},
            {(PORT, f"forward:{MASTER}:udp+tcp/53")},
        ),
        (ask(across(*BOTH)), [MASTER], {MASTER: (DROP_UDP,)}, {(PORT, f"{POD}:udp+tcp/53")}),
        (
            ask(port("udp/53", start=ONE), kinds=["pod"]),
            [MASTER],
            {ONE: (DROP_UDP,)},
            {(UDP, f"forward:{ONE}:udp/53")},
        ),
        (
            ask(port("udp/53", start=ONE), kinds=["pod"]),
            [MASTER],
            {},
            {(UDP, f"forward:{ONE}:udp/53")},
        ),
        (
            ask(port("udp/53", start=ONE), kinds=["node"]),
            [MASTER],
            {ONE: (OUTPUT,)},
            {(UDP, f"node:{ONE}:udp/53")},
        ),
        (
            ask(port("udp/53"), kinds=["pod"]),
            [MASTER],
            dict.fromkeys(NAMES, (DROP_UDP,)),
            {(UDP, "forward:*:udp/53")},
        ),
        (
            ask(port("udp/53", how=REFUSED), kinds=["pod"]),
            [MASTER],
            {MASTER: (REJECT,)},
            {(UDP, f"forward:{MASTER}:udp/53")},
        ),
        (
            ask(port("udp/53", how=Failure.PORT_UNREACHABLE), kinds=["pod"]),
            [MASTER],
            {MASTER: (REJECT,)},
            {(UDP, f"forward:{MASTER}:udp/53")},
        ),
        (
            ask(port("udp/53", how=Failure.HOST_PROHIBITED), kinds=["pod"]),
            [MASTER],
            {MASTER: (REJECT,)},
            {(UDP, f"forward:{MASTER}:udp/53")},
        ),
        (ask(port("udp/53", how=Failure.HOST_PROHIBITED)), [MASTER], {}, {(UDP, f"{POD}:udp/53")}),
        (
            ask(port("udp/53", how=Failure.PORT_UNREACHABLE)),
            [MASTER],
            {},
            {("DNS_ENDPOINT_REFUSES", f"{POD}:udp/53")},
        ),
        (
            ask(port("udp/53", to=ONE), on=[MASTER, ONE]),
            [MASTER, ONE],
            {},
            {(UDP, f"pod:kube-system/coredns-{ONE}:udp/53")},
        ),
        (ask(port("udp/53"), on=[ONE, TWO]), [ONE, TWO], {}, {(UDP, "pod:*:udp/53")}),
        (ask(port(*ALL)), [MASTER], {}, {("DNS_TIMEOUT", SERVICE)}),
        (ask(across(*ALL)), [MASTER], {}, {("DNS_TIMEOUT", SERVICE)}),
        (ask(port(*BOTH), control=False), [MASTER], {}, {("DNS_TIMEOUT", SERVICE)}),
        (ask(port("udp/53"), control=False), [MASTER], {}, {(UDP, f"{POD}:udp/53")}),
        (
            ask(port(*BOTH, how=REFUSED)),
            [MASTER],
            {},
            {("DNS_ENDPOINT_REFUSES", f"{POD}:udp+tcp/53")},
        ),
        (
            ask(port(*BOTH, how=Failure.DNS_NXDOMAIN)),
            [MASTER],
            {},
            {("DNS_WRONG_ANSWER", f"{POD}:udp/53")},
        ),
        (
            ask(fine, service=lambda _k, a, _p, _b: TIMEOUT if a == ONE else None),
            [MASTER],
            {},
            {("DNS_SERVICE_IP_DEAD", f"kube-proxy:{ONE}")},
        ),
        (ask(port(*BOTH, how=Failure.UNKNOWN)), [MASTER], {}, set()),
    ],
)
def test_with_vxlan(
    flows: DnsFlows,
    on: list[str],
    rules: dict[str, tuple[FilterRule, ...]],
    expected: set[tuple[str, str]],
) -> None:
    read = networks(*(network(n, *r) for n, r in rules.items()))
    found = judge(flows, *on, read=read)
    assert said(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("fault", "on", "expected"),
    [
        (across(*BOTH), [MASTER], (PORT, "underlay:*>*:udp+tcp/53")),
        (across("udp/53"), [MASTER], (UDP, "underlay:*>*:udp/53")),
        (across(*BOTH), [ONE, TWO], (PORT, "underlay:*>*:udp+tcp/53")),
        (
            lambda k, a, p, b: across(*BOTH)(k, a, p, b) if b == TWO else None,
            [ONE, TWO],
            (PORT, f"underlay:*>{TWO}:udp+tcp/53"),
        ),
        (
            lambda k, a, p, b: across(*BOTH)(k, a, p, b) if a == TWO else None,
            [MASTER],
            (PORT, f"underlay:{TWO}>*:udp+tcp/53"),
        ),
        (port(*BOTH), [MASTER], (PORT, f"{POD}:udp+tcp/53")),
        (across(*ALL), [MASTER], ("DNS_TIMEOUT", SERVICE)),
    ],
)
def test_with_routes(fault: Fault, on: list[str], expected: tuple[str, str]) -> None:
    found = judge(ask(fault, on=on), *on, how=ROUTED)
    assert said(found) == {expected}
    certain = found[0].hop.kind == "underlay"
    assert (found[0].confidence is Confidence.CERTAIN) is certain


def test_what_is_said_of_a_security_group() -> None:
    flows = ask(across(*BOTH), kinds=["pod"])
    (found,) = judge(flows, how=ROUTED)
    assert found.title == (
        f"UDP and TCP port 53 are dropped between the nodes: pods on {ONE} and {TWO} get "
        f"no answer from CoreDNS on {MASTER}, though TCP 9153 of the same pods answers"
    )
    network = ROUTED.network
    assert found.remediation[0].commands[1:] == tuple(
        f"openstack security group rule create --protocol {p} --dst-port 53 {remote} "
        '"$SECURITY_GROUP"'
        for p in ("udp", "tcp")
        for remote in (f"--remote-ip {network}", '--remote-group "$SECURITY_GROUP"')
    )
    failed = {o.flow.id for o in flows.of(Purpose.DNS) if not o.ok}
    assert set(found.flows) == failed, "the Service's address fails for the same reason"


def test_the_rule_that_drops_is_named_with_its_removal() -> None:
    read = networks(network(MASTER, DROP_UDP))
    (found,) = judge(ask(across("udp/53")), read=read)
    assert f"on node {MASTER} by its FORWARD rule {DROP_UDP.text}" in found.title
    enter = "kubectl -n kube-flannel exec kube-flannel-ds-master --"
    delete = f"{enter} iptables -D FORWARD -p udp -m udp --dport 53 -j DROP"
    assert found.remediation[0].commands == (delete,)
    assert f"node:{MASTER}" in found.evidence
    assert found.confidence is Confidence.CERTAIN


def test_a_dead_service_address_is_kube_proxys() -> None:
    flows = ask(fine, service=lambda _k, a, _p, _b: TIMEOUT if a == ONE else None)
    (found,) = judge(flows)
    assert [str(h) for h in found.consequence_of] == [f"kube-proxy:{ONE}"]
    assert found.flows


def test_without_a_service_nothing_is_judged() -> None:
    assert findings(udp_and_tcp, DnsService(), ask(port(*BOTH)), None, None, None, None) == []
    table = dns(MASTER, endpoints=())
    assert findings(udp_and_tcp, table, ask(fine), None, None, None, None) == []


LOST = Failure.TIMEOUT


def pinged(lost: int, *between: str) -> Mesh:
    """Ping between nodes, and lose some of five everywhere or between two."""

    def ping(a: str, b: str) -> Observation:
        made = seen(
            Purpose.MESH_SIZE, vantage("node", a), PODS[b], 0, subject=b, kind=FlowKind.PING
        )
        gone = lost if set(between or NAMES) >= {a, b} else 0
        failure = Failure.TIMEOUT if gone == 5 else None
        return msgspec.structs.replace(made, sent=5, lost=gone, failure=failure)

    return Mesh(observations=tuple(ping(a, b) for a in NAMES for b in NAMES if a != b))


def test_what_a_lossy_network_loses_is_no_filter() -> None:
    """Each query over UDP was lost by chance, and TCP asked again until it was answered."""
    flows = ask(lambda _, start, what, to: LOST if start != to and "udp" in what else None)
    assert said(judge(flows, mesh=pinged(0))) != set()
    assert judge(flows, mesh=pinged(2)) == []
    # one lost ping of five is a moment's, and excuses nothing
    assert said(judge(flows, mesh=pinged(1))) == said(judge(flows))
    # no ping at all is answered: a filter on pings says nothing of the path
    assert said(judge(flows, mesh=pinged(5))) == said(judge(flows))


def test_loss_between_two_nodes_excuses_nothing_between_others() -> None:
    flows = ask(lambda _, start, what, _to: LOST if start == TWO and "udp" in what else None)
    assert judge(flows, mesh=pinged(2, MASTER, TWO)) == []
    assert judge(flows, mesh=pinged(2, MASTER, ONE)) != []


@pytest.mark.parametrize(
    ("flows", "severity"),
    [
        # one connection of a pod's, while all else answers
        (ask(port("tcp/53", start=ONE), kinds=["pod"]), Severity.WARN),
        (ask(fine, service=only("tcp/53"), kinds=["pod"]), Severity.WARN),
        # lost from two places, or by both protocols
        (ask(port("tcp/53", start=ONE)), Severity.FAIL),
        (ask(fine, service=only("tcp/53")), Severity.FAIL),
        (ask(fine, service=only(*BOTH), kinds=["pod"]), Severity.FAIL),
    ],
)
def test_one_connection_without_an_answer_may_be_chance(
    flows: DnsFlows, severity: Severity
) -> None:
    (found,) = judge(flows)
    assert found.severity is severity
    assert (found.confidence is Confidence.POSSIBLE) == (severity is Severity.WARN)


def test_several_samples_that_are_all_lost_are_no_chance() -> None:
    (lost,) = (
        msgspec.structs.replace(o, flow=msgspec.structs.replace(o.flow, samples=3))
        for o in ask(fine, service=only("udp/53"), kinds=["pod"]).observations
        if not o.ok
    )
    rest = [o for o in ask(fine, kinds=["pod"]).observations if o.flow.id != lost.flow.id]
    (found,) = judge(DnsFlows(observations=(lost, *rest)))
    assert found.severity is Severity.FAIL


def test_what_a_rule_drops_is_no_chance() -> None:
    flows = ask(port("tcp/53", start=ONE), kinds=["pod"])
    (found,) = judge(flows, read=networks(network(ONE, DROP_TCP)))
    assert found.severity is Severity.FAIL
