"""CoreDNS that does not reach the API server, and a replica that a fence of its node keeps queries from."""

import msgspec
import pytest

from checks.dns.answers import udp_and_tcp
from checks.dns.running import running
from doctor.model.evidence import DnsFlows, DnsService, Logs, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Finding, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.kube import Pod
from doctor.model.logs import ContainerLog, LogLine
from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable
from tests.rules.factories import (
    ADDRESSES,
    CIDRS,
    DNS_IP,
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

WAITING = '[INFO] plugin/ready: Still waiting on: "kubernetes"'
STARTING = "[INFO] plugin/kubernetes: waiting for Kubernetes API before starting server"
TIMES_OUT = (
    "[ERROR] plugin/kubernetes: Failed to watch *v1.Service: failed to list *v1.Service: Get "
    '"https://10.96.0.1:443/api/v1/services": dial tcp 10.96.0.1:443: i/o timeout'
)
OTHER = '[INFO] plugin/ready: Still waiting on: "erratic"'
NO_API = rule(
    f"-A FORWARD -s {CIDRS[ONE]} -d {ADDRESSES[MASTER]}/32 -p tcp -m tcp --dport 6443 -j DROP",
    protocol="tcp",
    port=6443,
    narrow=True,
)
INPUT = rule(f"-A INPUT -s {CIDRS[MASTER]} -p tcp -m tcp --dport 6443 -j DROP")
TIMEOUT = Failure.TIMEOUT


def coredns(on: str, *, waits: str = "") -> Pod:
    """Make a replica that runs and is not ready."""
    made = pod(f"coredns-{on}", on, ready=False, waiting=waits)
    return msgspec.structs.replace(
        made, status=msgspec.structs.replace(made.status, pod_ip=PODS[on])
    )


def behind(*pods: Pod, ready: str = "") -> DnsService:
    """Make the DNS Service before some pods; one node's replica may be ready."""
    return dns(*([ready] if ready else ()), pods=pods)


def api(
    on: str,
    *,
    service: Failure | None = TIMEOUT,
    direct: Failure | None = TIMEOUT,
    near: bool = True,
) -> ServiceIpFlows:
    """Ask for the API server everywhere; from pods of one node it fails."""
    found: list[Observation] = []
    for kind in ("pod", "node"):
        for name in NAMES:
            bad = name == on and (kind == "pod" or not near)
            where = vantage(kind, name)
            found += [
                seen(Purpose.SERVICE_IP, where, "10.96.0.1", 443, service if bad else None),
                seen(Purpose.API_DIRECT, where, ADDRESSES[MASTER], 6443, direct if bad else None),
            ]
    return ServiceIpFlows(observations=tuple(found))


def words(on: str, *lines: str) -> Logs:
    """Make what a replica said last."""
    key = f"kube-system/coredns-{on}"
    return Logs(items=(ContainerLog(key, on, "coredns", tuple(map(LogLine, lines))),))


def judged(
    table: DnsService, logs: Logs | None, flows: ServiceIpFlows | None, *rules: str
) -> list[Finding]:
    """Run the check, with a rule on a node."""
    given = {"one": network(ONE, NO_API), "master": network(MASTER, INPUT)}
    read = networks(*(given[r] for r in rules))
    return findings(running, table, nodes(), logs, flows, read, flannel())


@pytest.mark.parametrize("line", [WAITING, STARTING, TIMES_OUT])
def test_a_rule_keeps_coredns_from_the_api_server(line: str) -> None:
    (found,) = judged(behind(coredns(ONE)), words(ONE, line), api(ONE), "one")
    assert said([found]) == {("DNS_API_UNREACHABLE", "service:kube-system/kube-dns")}
    assert (found.severity, found.confidence) == (Severity.FAIL, Confidence.CERTAIN)
    assert NO_API.text in found.title
    assert f"{ADDRESSES[MASTER]}:6443" in found.title
    (mend,) = found.remediation
    assert mend.commands[0].endswith(f"iptables -D{NO_API.text.removeprefix('-A')}")
    assert found.evidence[0] == f"log:kube-system/coredns-{ONE}/coredns"
    assert f"node:{ONE}" in found.evidence
    assert len(found.flows) == 2
    below = {str(h) for h in found.consequence_of}
    assert {f"kube-proxy:{ONE}", f"forward:{ONE}", f"pod-network:{ONE}"} <= below


def test_beside_the_api_server_it_is_the_nodes_own_door() -> None:
    (found,) = judged(behind(coredns(MASTER)), words(MASTER, WAITING), api(MASTER), "master")
    assert found.code.name == "DNS_API_UNREACHABLE"
    assert INPUT.text in found.title


def test_without_a_rule_the_node_itself_is_the_control() -> None:
    (found,) = judged(behind(coredns(ONE)), None, api(ONE))
    assert (found.code.name, found.confidence) == ("DNS_API_UNREACHABLE", Confidence.CERTAIN)
    assert "while the node does" in found.title
    (found,) = judged(behind(coredns(ONE)), None, api(ONE, near=False))
    assert (found.code.name, found.confidence) == ("DNS_API_UNREACHABLE", Confidence.LIKELY)
    assert "while" not in found.title


def test_one_of_two_replicas_waits() -> None:
    table = behind(coredns(ONE), pod("coredns-2", TWO), ready=TWO)
    (found,) = judged(table, words(ONE, WAITING), api(ONE), "one")
    assert (found.code.name, found.severity) == ("DNS_API_UNREACHABLE", Severity.WARN)
    assert judged(table, words(ONE, WAITING), api("")) == []


@pytest.mark.parametrize(
    ("pods", "line", "flows", "code"),
    [
        # kube-proxy's: the API server itself answers
        ((coredns(ONE),), WAITING, api(ONE, direct=None), "DNS_NOT_READY"),
        # it has just started
        ((coredns(ONE),), WAITING, api(""), "DNS_NOT_READY"),
        ((coredns(ONE),), WAITING, None, "DNS_NOT_READY"),
        # others are cut off
        ((coredns(TWO),), WAITING, api(ONE), "DNS_NOT_READY"),
        # it waits for something else, or never ran
        ((coredns(ONE),), OTHER, api(ONE), "DNS_NOT_READY"),
        ((coredns(ONE, waits="ImagePullBackOff"),), "", api(ONE), "DNS_NOT_READY"),
        # its own words go without probes, too
        ((coredns(ONE),), TIMES_OUT, None, "DNS_API_UNREACHABLE"),
    ],
)
def test_what_is_not_cut_off(
    pods: tuple[Pod, ...], line: str, flows: ServiceIpFlows | None, code: str
) -> None:
    logs = words(pods[0].node, line) if line else Logs()
    (found,) = judged(behind(*pods), logs, flows)
    assert found.code.name == code
    assert "no pod on" not in found.title


def fence(*ports: tuple[str, int], to: str = PODS[ONE]) -> RuleTable:
    """Make a table of nft's that drops what comes to a pod from outside its node."""
    rules = tuple(
        Rule(
            Action.DROP,
            protocols=(protocol,),
            ports=((port, port),),
            destinations=(f"{to}/32",),
            inputs=("cni0",),
            inverted=("inputs",),
            text=f'iifname != "cni0" ip daddr {to} {protocol} dport {port} drop',
            handle=number,
        )
        for number, (protocol, port) in enumerate(ports, 2)
    )
    chain = Chain("forward", kind="filter", hook="forward", priority=-10, rules=rules)
    return RuleTable(Origin.NFT, "inet", "fence", (chain,))


BOTH = (("udp", 53), ("tcp", 53))


def asked(*lost: str) -> DnsFlows:
    """Ask both replicas from everywhere; one gets no answer out of its node over some protocols."""
    found: list[Observation] = []
    for kind, start in [(k, n) for k in ("pod", "node") for n in NAMES]:
        where = vantage(kind, start)
        for to in (ONE, TWO):
            for protocol, flow in (("udp", FlowKind.DNS_UDP), ("tcp", FlowKind.DNS_TCP)):
                gone = protocol in lost and to == ONE and start != ONE
                failure = TIMEOUT if gone else None
                found.append(seen(Purpose.DNS, where, PODS[to], 53, failure, kind=flow))
            found.append(seen(Purpose.DNS_CONTROL, where, PODS[to], 9153))
        found.append(seen(Purpose.DNS, where, DNS_IP, 53, kind=FlowKind.DNS_UDP))
    return DnsFlows(observations=tuple(found))


def fenced(flows: DnsFlows, *tables: RuleTable, backend: str = "vxlan") -> list[Finding]:
    """Run the check, with tables of nft's on the replica's node."""
    own = network(ONE) if backend == "vxlan" else network(ONE, device=None)
    read = networks(msgspec.structs.replace(own, tables=(*own.tables, *tables)))
    return findings(
        udp_and_tcp, dns(ONE, TWO), flows, read, nodes(), flannel(backend=backend), None
    )


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_a_fence_before_one_replica(backend: str) -> None:
    (found,) = fenced(asked("udp", "tcp"), fence(*BOTH), backend=backend)
    assert said([found]) == {("DNS_PORT_FILTERED", f"forward:{ONE}:udp+tcp/53")}
    assert found.confidence is Confidence.CERTAIN
    assert "in table inet fence by iifname" in found.title
    assert found.title.endswith("the other replicas do, so only some lookups fail")
    (mend,) = found.remediation
    assert [c.partition(" -- ")[2] for c in mend.commands] == [
        "nft delete rule inet fence forward handle 2",
        "nft delete rule inet fence forward handle 3",
    ]
    assert f"node:{ONE}" in found.evidence


@pytest.mark.parametrize(
    ("lost", "tables", "code", "hop"),
    [
        (("udp",), (fence(("udp", 53)),), "DNS_UDP_FILTERED", f"forward:{ONE}:udp/53"),
        # a rule for one of the two does not explain both, nor one that would drop what passes
        (("udp", "tcp"), (fence(("udp", 53)),), "DNS_PORT_FILTERED", ""),
        (("udp",), (fence(*BOTH),), "DNS_UDP_FILTERED", ""),
        (("udp", "tcp"), (fence(*BOTH, ("tcp", 9153)),), "DNS_PORT_FILTERED", ""),
        # nor one for another pod
        (("udp", "tcp"), (fence(*BOTH, to=PODS[TWO]),), "DNS_PORT_FILTERED", ""),
        (("udp", "tcp"), (), "DNS_PORT_FILTERED", ""),
    ],
)
def test_rules_that_fit_or_not(
    lost: tuple[str, ...], tables: tuple[RuleTable, ...], code: str, hop: str
) -> None:
    (found,) = fenced(asked(*lost), *tables)
    assert found.code.name == code
    what = "+".join(lost)
    assert str(found.hop) == (hop or f"pod:kube-system/coredns-{ONE}:{what}/53")
    assert (found.confidence is Confidence.CERTAIN) is bool(hop)


def test_between_nodes_that_route_it_may_be_a_security_group() -> None:
    (found,) = fenced(asked("udp", "tcp"), backend="host-gw")
    assert str(found.hop) == f"underlay:*>{ONE}:udp+tcp/53"


def test_a_fence_that_stops_nothing() -> None:
    assert fenced(asked(), fence(*BOTH)) == []
