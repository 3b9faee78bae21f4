"""kube-proxy missing, failing, or without its rules, and what only looks like it."""

import json

import msgspec
import pytest

from checks.kube_proxy.answers import service_ip
from checks.kube_proxy.running import on_every_node
from doctor.model.evidence import KubeProxy, NodeNetworks, Nodes, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Severity
from doctor.model.flow import Purpose, VantageKind
from doctor.model.kube import Pod
from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable
from doctor.model.node import Link
from doctor.model.verdict import Gap
from tests.rules.factories import (
    ADDRESSES,
    MASTER,
    NAMES,
    ONE,
    TWO,
    daemonset,
    findings,
    labelled,
    network,
    networks,
    node,
    nodes,
    pod,
    said,
    seen,
    vantage,
)

SILENT = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
GONE, BAD = "KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_NOT_READY"
RULES, DEAD = "KUBE_PROXY_RULES_MISSING", "SERVICE_IP_DEAD"
FAIL, WARN = Severity.FAIL, Severity.WARN


def proxy(*pods: Pod, without: tuple[str, ...] = (), mode: str = "") -> KubeProxy:
    """Make kube-proxy: ready on every node, but for the pods given and the nodes left out."""
    instead = {p.node for p in pods} | set(without)
    own = tuple(pod(f"kube-proxy-{n}", n) for n in NAMES if n not in instead)
    owner = daemonset("kube-system", "kube-proxy", len(own) + len(pods))
    return KubeProxy(daemonset=owner, pods=own + pods, mode=mode)


def broken(on: str) -> Pod:
    """Make a kube-proxy pod that crashes."""
    return pod(f"kube-proxy-{on}", on, ready=False, waiting="CrashLoopBackOff")


def flows(
    *dead: str, direct: tuple[str, ...] = (), how: Failure = Failure.TIMEOUT
) -> ServiceIpFlows:
    """Ask from everywhere; the ClusterIP fails on some nodes, the API server itself on others."""
    found = []
    for kind, name in [(k, n) for k in ("pod", "node") for n in NAMES]:
        where, off = vantage(kind, name), name in direct
        answers = (how if name in dead else None, Failure.TIMEOUT if off else None)
        found.append(seen(Purpose.SERVICE_IP, where, "10.96.0.1", 443, answers[0]))
        found.append(seen(Purpose.API_DIRECT, where, ADDRESSES[MASTER], 6443, answers[1]))
    return ServiceIpFlows(observations=tuple(found))


def alone(*dead: str) -> ServiceIpFlows:
    """Ask for the ClusterIP only: there is no control."""
    return ServiceIpFlows(observations=flows(*dead).of(Purpose.SERVICE_IP))


def hooked(*without: str, nft: bool = False) -> NodeNetworks:
    """Read the chains that lead to kube-proxy's on a node, some of them flushed."""
    names = ("nat-prerouting", "nat-output") if nft else ("PREROUTING", "OUTPUT")
    target = "services" if nft else "KUBE-SERVICES"
    jump = Rule(Action.JUMP, target=target)
    chains = tuple(Chain(n, () if n in without else (jump,)) for n in names)
    kind, table = (Origin.NFT, "kube-proxy") if nft else (Origin.IPTABLES_NFT, "nat")
    read = RuleTable(kind, "ip", table, chains)
    return networks(msgspec.structs.replace(network(ONE), tables=(read,)))


@pytest.mark.parametrize(
    ("where", "what", "seen_flows", "expected"),
    [
        (nodes(), proxy(), flows(), set()),
        (nodes(), proxy(without=(ONE,)), flows(ONE), {(GONE, f"kube-proxy:{ONE}", FAIL)}),
        (nodes(), proxy(without=(ONE,)), flows(), {(GONE, f"kube-proxy:{ONE}", WARN)}),
        (nodes(), proxy(without=(ONE,)), None, {(GONE, f"kube-proxy:{ONE}", FAIL)}),
        (nodes(), proxy(without=NAMES), flows(*NAMES), {(GONE, "kube-proxy:*", FAIL)}),
        (
            nodes(),
            proxy(without=(ONE, TWO)),
            flows(ONE, TWO),
            {(GONE, f"kube-proxy:{ONE}", FAIL), (GONE, f"kube-proxy:{TWO}", FAIL)},
        ),
        (nodes(), proxy(broken(ONE)), flows(ONE), {(BAD, f"kube-proxy:{ONE}", FAIL)}),
        (nodes(), proxy(broken(ONE)), flows(), {(BAD, f"kube-proxy:{ONE}", WARN)}),
        (
            nodes(),
            proxy(pod("evicted", ONE, phase="Failed")),
            flows(ONE),
            {(GONE, f"kube-proxy:{ONE}", FAIL)},
        ),
        (nodes(), proxy(pod("leaving", ONE, deleted=True)), flows(ONE), set()),
        (nodes(names=[ONE]), proxy(without=(ONE,)), None, {(GONE, f"kube-proxy:{ONE}", FAIL)}),
        (nodes(), KubeProxy(absent="replaced"), flows(), set()),
        (
            nodes(),
            msgspec.structs.replace(proxy(), pods=(), gaps=(Gap("api:pods", "403"),)),
            flows(),
            set(),
        ),
    ],
)
def test_kube_proxy_on_every_node(
    where: Nodes,
    what: KubeProxy,
    seen_flows: ServiceIpFlows | None,
    expected: set[tuple[str, str, Severity]],
) -> None:
    found = findings(on_every_node, where, what, seen_flows)
    assert {(f.code.name, str(f.hop), f.severity) for f in found} == expected


@pytest.mark.parametrize(
    ("what", "asked", "words"),
    [
        (proxy(without=(ONE,)), flows(ONE), f"not run on {ONE}: its DaemonSet kube-system/"),
        (proxy(without=(ONE,)), flows(ONE), "wants 2 pods for 3 Linux nodes; Service addresses do"),
        (proxy(without=(ONE,)), flows(), "Services still answer there by the rules it left"),
        (proxy(without=(ONE,)), None, "Services are not kept up there"),
        (proxy(broken(ONE)), None, f"not ready on {ONE}: CrashLoopBackOff"),
        (proxy(pod("kp", ONE, ready=False)), None, "Running and not ready"),
    ],
)
def test_titles(what: KubeProxy, asked: ServiceIpFlows | None, words: str) -> None:
    (found,) = findings(on_every_node, nodes(), what, asked)
    assert words in found.title


def test_which_kube_proxy_explains_which() -> None:
    found = findings(on_every_node, nodes(), proxy(without=(ONE, TWO)), None)
    assert [[str(h) for h in f.consequence_of] for f in found] == [[], [f"kube-proxy:{ONE}"]]
    (down,) = findings(on_every_node, nodes(node(ONE, *SILENT)), proxy(broken(ONE)), None)
    assert [str(h) for h in down.consequence_of] == [f"node:{ONE}"]
    assert "CrashLoopBackOff" in down.title


@pytest.mark.parametrize(
    ("dummy", "code", "words"),
    [
        (Link("kube-ipvs0", addresses=("10.96.0.1/32", "10.96.0.10/32")), DEAD, "has the address"),
        (Link("kube-ipvs0", addresses=("10.96.0.10/32",)), RULES, "does not have the address"),
        (Link("eth1"), RULES, "there is no kube-ipvs0"),
    ],
)
def test_ipvs(dummy: Link, code: str, words: str) -> None:
    """Not seen in a lab: its kernel has no IPVS."""
    read = networks(network(ONE, device=dummy, chains=()))
    (found,) = findings(service_ip, flows(ONE), nodes(), proxy(mode="ipvs"), read)
    assert said([found]) == {(code, f"kube-proxy:{ONE}")}
    assert words in found.title
    assert findings(service_ip, flows(), nodes(), proxy(mode="ipvs"), read) == []


@pytest.mark.parametrize(
    ("asked", "what", "read", "expected"),
    [
        (flows(), proxy(), networks(), set()),
        (flows(), proxy(), networks(network(ONE, chains=())), set()),
        (flows(ONE, direct=(ONE,)), proxy(), networks(), set()),
        (flows(ONE, how=Failure.UNKNOWN), proxy(), networks(), set()),
        (alone(ONE), proxy(), networks(), set()),
        (
            flows(ONE),
            proxy(),
            NodeNetworks(items=(msgspec.structs.replace(network(ONE), tools=False),)),
            {(RULES, f"kube-proxy:{ONE}")},
        ),
        (flows(ONE), proxy(broken(ONE)), networks(), {(DEAD, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(), networks(network(ONE, chains=())), {(RULES, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(), None, {(RULES, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(mode="nftables"), networks(), {(RULES, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(), hooked(), {(DEAD, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(), hooked("OUTPUT"), {(RULES, f"kube-proxy:{ONE}")}),
        (
            flows(ONE),
            proxy(mode="nftables"),
            hooked(nft=True),
            {(DEAD, f"kube-proxy:{ONE}")},
        ),
        (
            flows(ONE),
            proxy(mode="nftables"),
            hooked("nat-output", nft=True),
            {(RULES, f"kube-proxy:{ONE}")},
        ),
        (flows(ONE), proxy(), networks(), {(DEAD, f"kube-proxy:{ONE}")}),
        (flows(ONE), proxy(without=(ONE,)), networks(), {(DEAD, f"kube-proxy:{ONE}")}),
        (
            flows(ONE, how=Failure.CONNECTION_REFUSED),
            None,
            None,
            {(DEAD, f"kube-proxy:{ONE}")},
        ),
        (flows(*NAMES), None, None, {(DEAD, "kube-proxy:*")}),
    ],
)
def test_service_addresses(
    asked: ServiceIpFlows,
    what: KubeProxy | None,
    read: NodeNetworks | None,
    expected: set[tuple[str, str]],
) -> None:
    assert said(findings(service_ip, asked, nodes(), what, read)) == expected


def test_a_dead_service_address_folds_under_a_missing_kube_proxy() -> None:
    what = proxy(without=(ONE,))
    (cause,) = findings(on_every_node, nodes(), what, flows(ONE))
    (found,) = findings(service_ip, flows(ONE), nodes(), what, None)
    assert any(cause.hop.covers(h) for h in found.consequence_of)
    assert "10.96.0.1" in found.title
    assert not any(MASTER in e for e in found.evidence if "service-ip" in e)
    assert f"spec.nodeName={ONE}" in found.remediation[0].commands[0]
    assert any("api-direct" in e for e in found.evidence)


def test_one_connection_without_an_answer_may_be_chance() -> None:
    once = tuple(
        o for o in flows(ONE).observations if o.ok or o.flow.vantage.kind is VantageKind.POD
    )
    (found,) = findings(service_ip, ServiceIpFlows(observations=once), nodes(), proxy(), networks())
    assert (found.severity, found.confidence) == (Severity.WARN, Confidence.POSSIBLE)
    (found,) = findings(service_ip, flows(ONE), nodes(), proxy(), networks())
    assert found.severity is Severity.FAIL


VIRTUAL = {"type": "virtual-kubelet"}
EDGE = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (VIRTUAL, set()),
        (EDGE, set()),
        # a role that ordinary nodes are given, too
        ({"node-role.kubernetes.io/edge": ""}, {(GONE, f"kube-proxy:{ONE}")}),
        ({"node-role.kubernetes.io/agent": ""}, {(GONE, f"kube-proxy:{ONE}")}),
        ({"type": "worker"}, {(GONE, f"kube-proxy:{ONE}")}),
    ],
)
def test_nodes_that_run_none_on_purpose(
    labels: dict[str, str], expected: set[tuple[str, str]]
) -> None:
    table = nodes(labelled(ONE, labels))
    assert said(findings(on_every_node, table, proxy(without=(ONE,)), None)) == expected


def test_the_remedy_draws_no_virtual_node_in() -> None:
    table = nodes(labelled(ONE, VIRTUAL))
    (found,) = findings(on_every_node, table, proxy(without=(ONE, TWO)), None)
    assert found.hop.where == TWO
    (patch,) = (c for c in found.remediation[0].commands if " patch " in c)
    affinity, *_ = json.loads(patch.split("'")[1])
    required = affinity["value"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    assert {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]} in (
        term["matchExpressions"]
    )
