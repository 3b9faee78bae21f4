"""Service addresses that work from some places only: by policy, by bridge, by hairpin."""

import msgspec
import pytest

from checks.kube_proxy.bridge import bridge
from checks.kube_proxy.policy import internal_traffic
from doctor.model.evidence import Backend, DnsFlows, NodeNetworks
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Severity
from doctor.model.flow import FlowKind, Purpose
from doctor.model.netfilter import Action
from doctor.model.node import Link
from doctor.model.node_state import Cni, CniConf, Sysctl
from doctor.model.verdict import Gap
from tests.rules.factories import (
    DNS_IP,
    DNS_KEY,
    MASTER,
    NAMES,
    ONE,
    TWO,
    findings,
    networks,
    node,
    nodes,
    said,
    seen,
    vantage,
)
from tests.rules.proxied import API_KEY, HOOK_KEY, all_ruled, entry, proxied, ruled, service_port

LOCAL, BYPASSED = "SERVICE_INTERNAL_TRAFFIC_LOCAL", "KUBE_PROXY_BRIDGE_BYPASSED"
HAIRPIN = "KUBE_PROXY_HAIRPIN_OFF"
DROPS = entry(refusal=Action.DROP)
SETTING = "net.bridge.bridge-nf-call-iptables"
PORT = Link("veth1", kind="veth", master="cni0", hairpin=True)
STIFF = msgspec.structs.replace(PORT, hairpin=False)
PLANE = msgspec.structs.replace(
    node(MASTER),
    metadata=msgspec.structs.replace(
        node(MASTER).metadata, labels={"node-role.kubernetes.io/control-plane": ""}
    ),
)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (service_port(internal="Local"), {(LOCAL, f"service:{DNS_KEY}")}),
        (service_port(internal="Local", on=NAMES), set()),
        (service_port(), set()),
        (service_port(internal="Cluster"), set()),
        # nobody is ready anywhere: that is another fault
        (service_port(internal="Local", on=()), set()),
        (service_port(API_KEY, "10.96.0.1", 443, internal="Local"), {(LOCAL, f"service:{API_KEY}")}),
        # only the API server calls a webhook
        (service_port(HOOK_KEY, "10.96.3.4", 443, internal="Local"), {(LOCAL, f"service:{HOOK_KEY}")}),
        (service_port(HOOK_KEY, "10.96.3.4", 443, internal="Local", on=(MASTER,)), set()),
        # an ingress controller dials endpoints, not the Service
        (service_port("shop/web", "10.96.3.5", 80, internal="Local"), set()),
    ],
)  # fmt: skip
def test_traffic_that_is_kept_on_its_node(item: Backend, expected: set[tuple[str, str]]) -> None:
    found = findings(internal_traffic, proxied(item), nodes(PLANE), None, None)
    assert said(found) == expected
    assert {f.confidence for f in found} <= {Confidence.LIKELY}


def test_a_rule_that_drops_makes_it_certain() -> None:
    item = service_port(internal="Local")
    read = all_ruled(ruled(MASTER, DROPS))
    (found,) = findings(internal_traffic, proxied(item, item), nodes(PLANE), None, read)
    assert found.confidence is Confidence.CERTAIN
    assert f"{MASTER} has none" in found.title
    assert f"node:{MASTER}" in found.evidence
    assert "internalTrafficPolicy" in found.remediation[0].commands[0]


def test_endpoints_that_could_not_be_listed_prove_nothing() -> None:
    item = proxied(service_port(internal="Local"))
    gap = Gap(needs="api:endpointslices", reason="forbidden", essential=True)
    blind = msgspec.structs.replace(item, gaps=(gap,))
    assert findings(internal_traffic, blind, nodes(PLANE), None, None) == []


def bridged(value: int | None = 1, *ports: Link, cni: Cni = Cni()) -> NodeNetworks:  # noqa: B008 - frozen
    """Make the first worker's bridge with its setting; the other nodes are healthy."""
    links = ports or (PORT,)
    healthy = [ruled(n, links=(PORT,), sysctls=(Sysctl(SETTING, 1),)) for n in NAMES]
    return networks(*healthy, ruled(ONE, links=links, sysctls=(Sysctl(SETTING, value),), cni=cni))


def queries(*dead: str) -> DnsFlows:
    """Ask the DNS Service from a pod on each node; from some there is no answer."""
    asked = (
        seen(
            Purpose.DNS,
            vantage("pod", n),
            DNS_IP,
            53,
            Failure.TIMEOUT if n in dead else None,
            kind=FlowKind.DNS_UDP,
        )
        for n in NAMES
    )
    return DnsFlows(observations=tuple(asked))


CONF = Cni(confs=(CniConf("10-flannel.conflist", hairpin=False),))


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (bridged(), set()),
        (bridged(0), {(BYPASSED, f"kube-proxy:{ONE}")}),
        # the module is not loaded
        (bridged(None), {(BYPASSED, f"kube-proxy:{ONE}")}),
        (bridged(1, STIFF), {(HAIRPIN, f"pod-network:{ONE}:hairpin")}),
        # no bridge there: the setting is about nothing
        (bridged(0, Link("eth0", kind="veth")), set()),
        # meant so: such a bridge is promiscuous in place of it
        (bridged(1, STIFF, cni=CONF), set()),
        (bridged(1, Link("docker1", kind="veth", master="docker0", hairpin=False)), set()),
        (networks(), set()),
    ],
)
def test_the_bridge(read: NodeNetworks, expected: set[tuple[str, str]]) -> None:
    found = findings(bridge, read, nodes(), proxied())
    assert said(found) == expected


def test_a_hairpin_is_a_warning_where_a_pod_may_need_it() -> None:
    (found,) = findings(bridge, bridged(1, STIFF), nodes(), proxied())
    assert found.severity is Severity.WARN
    nobody = proxied(service_port(on=(TWO,)))
    assert findings(bridge, bridged(1, STIFF), nodes(), nobody) == []
