"""Rules that are not kept up, and what only looks like it: in the middle of a move, or refusing."""

import msgspec
import pytest

from checks.kube_proxy.rules import endpoints
from doctor.model.evidence import Backend, NodeNetworks
from doctor.model.finding import Severity
from doctor.model.netfilter import Action, Origin, ServiceEntry
from doctor.model.node import NodeNetwork
from doctor.model.node_state import ProxyHealth
from doctor.model.proxying import ProxiedServices
from doctor.model.verdict import Gap
from tests.rules.factories import DNS_IP, NAMES, ONE, PODS, TWO, findings, networks, nodes, said
from tests.rules.proxied import (
    BEHIND,
    FRESH,
    HEALTHY,
    HUNG,
    RIGHT,
    addressed,
    all_ruled,
    entry,
    proxied,
    ruled,
    service_port,
)

STALE = "KUBE_PROXY_RULES_STALE"
GONE = entry("10.244.9.9:53", f"{PODS[TWO]}:53")
HALF = entry(f"{PODS[TWO]}:53")
NOWHERE = entry(refusal=Action.REJECT)
ON_ONE = {(STALE, f"kube-proxy:{ONE}")}


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (all_ruled(), set()),
        (all_ruled(ruled(ONE, GONE, health=HUNG)), ON_ONE),
        (all_ruled(ruled(ONE, GONE, health=BEHIND)), ON_ONE),
        (all_ruled(ruled(ONE, GONE)), ON_ONE),
        (all_ruled(ruled(ONE, NOWHERE)), ON_ONE),
        # there is no entry for it among others
        (all_ruled(ruled(ONE, entry("10.1.2.3:80", address="10.96.7.7", port=80))), ON_ONE),
        # no entry at all: the rules are missing, or they are not understood
        (all_ruled(ruled(ONE)), set()),
        (all_ruled(*(ruled(n, GONE, health=HUNG) for n in NAMES)), {(STALE, "kube-proxy:*")}),
        # in the middle of a move: kube-proxy has just written them
        (all_ruled(ruled(ONE, GONE, health=FRESH)), set()),
        # nothing is known of when they were written
        (all_ruled(ruled(ONE, GONE, health=None)), set()),
        (all_ruled(ruled(ONE, GONE, health=ProxyHealth("iptables", 200))), set()),
        # hangs, and nothing has moved since
        (all_ruled(ruled(ONE, RIGHT, health=HUNG)), set()),
        # of several ready endpoints some may be left out, as those of another zone
        (all_ruled(ruled(ONE, HALF)), set()),
        (NodeNetworks(), set()),
        (networks(), set()),
    ],
)
def test_what_the_rules_lead_to(read: NodeNetworks, expected: set[tuple[str, str]]) -> None:
    found = findings(endpoints, proxied(), read, None, nodes())
    assert said(found) == expected
    assert {f.severity for f in found} <= {Severity.FAIL}


@pytest.mark.parametrize(
    ("item", "read"),
    [
        # no endpoint is ready anywhere: refusing is right
        (service_port(on=(), unready=(ONE,)), ruled(ONE, NOWHERE)),
        # one that ends still serves, as it is listed
        (service_port(on=(TWO,), unready=(ONE,)), ruled(ONE, RIGHT)),
        # traffic is kept on its node on purpose
        (service_port(on=(TWO,), internal="Local"), ruled(ONE, entry(refusal=Action.DROP))),
    ],
)
def test_rules_that_are_right(item: Backend, read: NodeNetwork) -> None:
    alone = NodeNetworks(items=(read,))
    assert findings(endpoints, proxied(item), alone, None, nodes()) == []


@pytest.mark.parametrize(
    ("first", "others", "wrong"),
    [
        ("fd00:96::a", ("fd00:96::a", DNS_IP), RIGHT),
        ("fd00:96::a", ("fd00:96::a",), entry("10.1.2.3:80", address="10.96.7.7", port=80)),
        ("fd00:96::a", None, entry("10.1.2.3:80", address="10.96.7.7", port=80)),
    ],
)
def test_ipv6_addresses_are_not_sought_in_rules_for_ipv4(
    first: str, others: tuple[str, ...] | None, wrong: ServiceEntry
) -> None:
    item = addressed(service_port(), first, others)
    assert findings(endpoints, proxied(item), all_ruled(ruled(ONE, wrong)), None, nodes()) == []


def test_a_service_whose_ipv4_address_is_its_second() -> None:
    item = addressed(service_port(), "fd00:96::a", ("fd00:96::a", DNS_IP))
    read = all_ruled(ruled(ONE, GONE))
    assert said(findings(endpoints, proxied(item), read, None, nodes())) == ON_ONE


def test_what_is_said() -> None:
    (found,) = findings(endpoints, proxied(), all_ruled(ruled(ONE, GONE)), None, nodes())
    assert "kube-system/kube-dns:53 leads to 10.244.9.9:53" in found.title
    assert f"while {PODS[ONE]}:53 is ready" in found.title
    assert found.evidence == (f"node:{ONE}", "api:services/kube-system/kube-dns")


def test_nodes_for_different_reasons() -> None:
    read = all_ruled(ruled(ONE, GONE, health=HUNG), ruled(TWO, GONE))
    found = findings(endpoints, proxied(), read, None, nodes())
    assert said(found) == {(STALE, f"kube-proxy:{ONE}"), (STALE, f"kube-proxy:{TWO}")}
    reasons = [f.title.partition("; ")[2] for f in found]
    assert len(set(reasons)) == 2


def test_rules_of_two_kinds_are_another_fault() -> None:
    both = ((Origin.IPTABLES_NFT, (RIGHT,)), (Origin.IPTABLES_LEGACY, (GONE,)))
    read = all_ruled(ruled(ONE, GONE, services_twice=both))
    assert findings(endpoints, proxied(), read, None, nodes()) == []


def test_endpoints_that_could_not_be_listed_prove_nothing() -> None:
    blind = msgspec.structs.replace(
        proxied(), gaps=(Gap(needs="api:endpointslices", reason="forbidden", essential=True),)
    )
    assert isinstance(blind, ProxiedServices)
    assert findings(endpoints, blind, all_ruled(ruled(ONE, GONE)), None, nodes()) == []


def test_ages() -> None:
    assert HEALTHY.age == 600
    assert HUNG.age is None
