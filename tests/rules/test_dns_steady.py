"""Queries of which some are lost, and what only looks like it."""

from collections.abc import Callable

import msgspec

from checks.dns.steady import steady
from doctor.model.evidence import DnsFlows
from doctor.model.failure import Failure
from doctor.model.finding import Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from tests.rules.factories import (
    DNS_IP,
    DNS_KEY,
    MASTER,
    NAMES,
    ONE,
    PODS,
    dns,
    findings,
    said,
    seen,
    vantage,
)

SAMPLES = 3
REPLICAS = dns(MASTER, ONE)


def flows(lost: Callable[[str, str], int]) -> DnsFlows:
    """Ask every replica from every pod, and lose as many as is said for vantage and address."""

    def ask(start: str, address: str) -> Observation:
        made = seen(
            Purpose.DNS,
            vantage("pod", start),
            address,
            53,
            subject=DNS_KEY,
            kind=FlowKind.DNS_UDP,
        )
        gone = lost(start, address)
        failure = Failure.TIMEOUT if gone == SAMPLES else None
        return msgspec.structs.replace(made, sent=SAMPLES, lost=gone, failure=failure)

    addresses = (DNS_IP, PODS[MASTER], PODS[ONE])
    return DnsFlows(observations=tuple(ask(n, a) for n in NAMES for a in addresses))


def test_all_are_answered() -> None:
    assert findings(steady, REPLICAS, flows(lambda _n, _a: 0)) == []


def test_some_are_lost_on_the_way_to_one_replica() -> None:
    (found,) = findings(steady, REPLICAS, flows(lambda _, a: int(a == PODS[ONE])))
    assert said([found]) == {("DNS_LOSSY", f"service:{DNS_KEY}")}
    assert found.severity is Severity.WARN
    assert found.title.startswith("3 of 18 queries")
    assert PODS[ONE] in found.title
    assert PODS[MASTER] not in found.title
    assert len(found.flows) == len(NAMES)


def test_one_lost_query_is_nothing() -> None:
    one = flows(lambda n, a: int((n, a) == (MASTER, PODS[ONE])))
    assert findings(steady, REPLICAS, one) == []


def test_a_replica_that_never_answers_is_not_unsteady() -> None:
    assert findings(steady, REPLICAS, flows(lambda _, a: SAMPLES * (a == PODS[ONE]))) == []


def test_the_services_address_is_counted_by_its_replicas() -> None:
    """Which replica a lost query was for is not known."""
    assert findings(steady, REPLICAS, flows(lambda _, a: 2 * (a == DNS_IP))) == []
