"""Resolvers outside that do not answer CoreDNS, answer some, or answer with an error."""

from collections.abc import Callable

import msgspec
import pytest

from checks.dns.resolver import search
from checks.dns.upstream import upstreams
from doctor.model.evidence import NodeResolver, Resolvers, Upstream, Upstreams
from doctor.model.failure import Failure
from doctor.model.finding import Finding, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.resolver import ResolvConf
from tests.rules.factories import DNS_IP, DNS_KEY, ONE, TWO, dns, findings, said, seen, vantage

FIRST, SECOND, STUB = "203.0.113.53", "203.0.113.54", "192.0.2.1"
ERROR = Failure.DNS_SERVFAIL
Outcome = Callable[[str, str], Failure | None]
"""What comes of asking: the kind of vantage, and who is asked."""


def ask(outcome: Outcome, *items: Upstream) -> Upstreams:
    """Ask each resolver from nodes and pods where CoreDNS runs."""
    found: list[Observation] = []
    for upstream in items:
        for kind in ("node", "pod"):
            for node in upstream.nodes:
                where = vantage(kind, node)
                failure = outcome(kind, upstream.address)
                how = FlowKind.TCP if upstream.scheme == "tls" else FlowKind.DNS_UDP
                found.append(
                    seen(
                        Purpose.RESOLVER, where, upstream.address, upstream.port, failure, kind=how
                    )
                )
    return Upstreams(items=items, observations=tuple(found), key=DNS_KEY, service=DNS_IP)


def upstream(
    address: str, zone: str = ".", source: str = "resolv.conf", **more: object
) -> Upstream:
    """Make a resolver that both replicas ask."""
    made = Upstream(zone, address, source=source, nodes=(ONE, TWO))
    return msgspec.structs.replace(made, **more)


def silent(*addresses: str, kind: str = "") -> Outcome:
    """Lose what some are asked, from everywhere or from one kind of vantage."""
    return lambda k, a: Failure.TIMEOUT if a in addresses and kind in ("", k) else ERROR


def judge(table: Upstreams) -> list[Finding]:
    """Run the check."""
    return findings(upstreams, table, dns(ONE, TWO))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (ask(silent(), upstream(FIRST)), set()),
        (ask(lambda _k, _a: None, upstream(FIRST), upstream(SECOND)), set()),
        (ask(lambda _k, _a: Failure.DNS_REFUSED, upstream(FIRST)), set()),
        (ask(lambda _k, _a: Failure.UNKNOWN, upstream(FIRST)), set()),
        (Upstreams(items=(upstream(FIRST),), key=DNS_KEY, service=DNS_IP), set()),
        (
            ask(silent(FIRST), upstream(FIRST)),
            {("DNS_UPSTREAM_DEAD", f"egress:{FIRST}:udp/53")},
        ),
        (
            ask(lambda _k, _a: Failure.PORT_UNREACHABLE, upstream(FIRST)),
            {("DNS_UPSTREAM_DEAD", f"egress:{FIRST}:udp/53")},
        ),
        (
            ask(silent(FIRST, SECOND), upstream(FIRST), upstream(SECOND)),
            {("DNS_UPSTREAM_DEAD", f"egress:{FIRST},{SECOND}:udp/53")},
        ),
        (
            ask(silent(SECOND), upstream(FIRST), upstream(SECOND)),
            {("DNS_UPSTREAM_PARTLY_DEAD", f"egress:{SECOND}:udp/53")},
        ),
        (
            ask(silent(FIRST, kind="pod"), upstream(FIRST)),
            {("DNS_UPSTREAM_POD_ONLY", f"egress:{FIRST}:udp/53")},
        ),
        # nodes alone lose it: nothing is known of what CoreDNS, a pod, gets
        (ask(silent(FIRST, kind="node"), upstream(FIRST)), set()),
        (
            ask(silent(STUB), upstream(FIRST), upstream(STUB, "corp.test", "Corefile")),
            {("DNS_STUB_DEAD", f"egress:{STUB}:udp/53")},
        ),
        (
            ask(
                lambda _k, _a: Failure.CONNECTION_REFUSED,
                upstream(FIRST, source="Corefile", scheme="tls", port=853),
            ),
            {("DNS_UPSTREAM_DEAD", f"egress:{FIRST}:tcp/853")},
        ),
    ],
)
def test_who_answers(table: Upstreams, expected: set[tuple[str, str]]) -> None:
    assert said(judge(table)) == expected


def test_what_drops_dns_between_all_nodes_explains_that_nobody_outside_answers() -> None:
    """The same rule of a security group meets both."""
    (found,) = judge(ask(silent(FIRST), upstream(FIRST)))
    filtered = Hop(HopKind.UNDERLAY, "*>*", "udp+tcp/53")
    assert any(filtered.covers(h) for h in found.consequence_of)
    one_node = Hop(HopKind.UNDERLAY, "*>worker-1", "udp+tcp/53")
    assert not any(one_node.covers(h) for h in found.consequence_of)


def test_a_spare_resolver_that_is_dead_is_a_warning_and_can_be_left_out() -> None:
    (found,) = judge(ask(silent(SECOND), upstream(FIRST), upstream(SECOND)))
    assert found.severity is Severity.WARN
    change = found.remediation[0].commands[0]
    assert f"s|\\(forward [^ ]*\\) /etc/resolv.conf|\\1 {FIRST}|" in change
    listed = (upstream(FIRST, source="Corefile"), upstream(SECOND, source="Corefile"))
    (found,) = judge(ask(silent(SECOND), *listed))
    assert "s| 203[.]0[.]113[.]54\\b||" in found.remediation[0].commands[0]


def test_tcp_that_is_lost_as_well_is_the_same_fault() -> None:
    table = ask(silent(FIRST), upstream(FIRST))
    lost = tuple(
        seen(Purpose.RESOLVER, vantage(k, n), FIRST, 53, Failure.TIMEOUT, kind=FlowKind.DNS_TCP)
        for k in ("node", "pod")
        for n in (ONE, TWO)
    )
    table = msgspec.structs.replace(table, observations=(*table.observations, *lost))
    (found,) = judge(table)
    assert str(found.hop) == f"egress:{FIRST}:udp+tcp/53"
    assert {o.flow.id for o in lost} <= set(found.flows)


def test_what_a_failed_lookup_crosses_is_said() -> None:
    (found,) = judge(ask(silent(FIRST, kind="pod"), upstream(FIRST)))
    assert {str(h) for h in found.consequence_of} >= {f"forward:{ONE}", f"forward:{TWO}"}
    assert len(found.flows) == 2


@pytest.mark.parametrize(
    ("failure", "found"),
    [
        (Failure.DNS_SERVFAIL, True),
        (Failure.TIMEOUT, True),
        (Failure.DNS_NXDOMAIN, False),
        (Failure.DNS_NO_ANSWER, False),
        (Failure.DNS_REFUSED, False),
        (None, False),
    ],
)
def test_an_answer_that_came_through_coredns_has_somebody_behind_it(
    failure: Failure | None,
    found: bool,  # noqa: FBT001 - a table
) -> None:
    table = ask(silent(FIRST), upstream(FIRST))
    through = seen(
        Purpose.FORWARDED, vantage("node", ONE), "10.244.1.7", 53, failure, kind=FlowKind.DNS_UDP
    )
    table = msgspec.structs.replace(table, observations=(*table.observations, through))
    assert bool(judge(table)) is found


def below(domain: str, failure: Failure | None, *answers: str) -> Upstreams:
    """Ask for a made-up name below a domain."""
    made = seen(
        Purpose.SEARCH,
        vantage("pod", ONE),
        DNS_IP,
        53,
        failure,
        subject=domain,
        kind=FlowKind.DNS_UDP,
    )
    return Upstreams(
        key=DNS_KEY,
        service=DNS_IP,
        observations=(msgspec.structs.replace(made, answers=answers),),
    )


SEARCHING = Resolvers(items=(NodeResolver(ONE, ResolvConf((DNS_IP,), ("lab.test",))),))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (below("lab.test", None, "198.51.100.7"), {("DNS_SEARCH_WILDCARD", "dns-name:lab.test")}),
        (below("lab.test", Failure.DNS_NXDOMAIN), set()),
        (below("lab.test", Failure.DNS_SERVFAIL), set()),
        (below("lab.test", Failure.TIMEOUT), set()),
    ],
)
def test_a_domain_that_answers_for_everything(
    table: Upstreams, expected: set[tuple[str, str]]
) -> None:
    found = findings(search, table, SEARCHING, dns(ONE))
    assert said(found) == expected
    assert all("198.51.100.7" in f.title and ONE in f.title for f in found)
