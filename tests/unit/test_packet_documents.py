"""What is asked of the packet child, and what is made of its answers."""

from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Purpose, TraceHop, Vantage, VantageKind
from doctor.probe.packet_documents import ask, read

ADDRESS = "192.0.2.7"
NOWHERE = str(IPv4Address(0))
ROUTER = "192.0.2.1"


def flow(
    kind: FlowKind,
    port: int = 0,
    *,
    address: str = ADDRESS,
    name: str = "",
    size: int = 0,
    samples: int = 1,
) -> Flow:
    """Ask something that takes packets."""
    here = Vantage(VantageKind.MACHINE)
    return Flow(
        f"{kind}>{address}:{port}/{name}/{size}",
        Purpose.TRACE,
        here,
        kind,
        address,
        port,
        name,
        size=size,
        samples=samples,
    )


ARP = flow(FlowKind.ARP, name="eth0", samples=3)
TRACE = flow(FlowKind.TRACE, 80)
DNS = flow(FlowKind.DNS_UDP, 53, name="shop.example", samples=2)


def icmp(type: int, code: int, mtu: int = 0) -> dict[str, Any]:
    """Write an ICMP error."""
    return {"type": type, "code": code, "source": ROUTER, "mtu": mtu}


def answered(asked: Flow, **answer: Any) -> Any:
    """Read one answer to one flow."""
    document = msgspec.json.encode({"answers": [{"seconds": 0.5, **answer}]})
    seen, unseen = read(ask((asked,), 5.0), document)
    assert unseen == []
    return seen[0]


def test_the_document() -> None:
    pings = [flow(FlowKind.PING, size=s) for s in (1450, 1500, 0)]
    twice = flow(FlowKind.PING, size=1500, samples=2)
    asked = ask((ARP, pings[0], TRACE, pings[1], DNS, twice, pings[2]), 7.5)
    assert msgspec.json.decode(asked.text) == {
        "seconds": 7.5,
        "requests": [
            {"kind": "arp", "address": ADDRESS, "interface": "eth0", "samples": 3},
            {"kind": "trace", "address": ADDRESS, "port": 80, "hops": 30},
            {"kind": "dns", "address": ADDRESS, "port": 53, "name": "shop.example", "samples": 2},
            {"kind": "size", "address": ADDRESS, "sizes": [84, 1450, 1500], "samples": 1},
            {"kind": "size", "address": ADDRESS, "sizes": [1500], "samples": 2},
        ],
    }
    assert asked.groups == ((ARP,), (TRACE,), (DNS,), tuple(pings), (twice,))
    assert asked.unseen == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (flow(FlowKind.TRACE, 80, address="shop.example"), "shop.example is no host's"),
        (flow(FlowKind.TRACE, 80, address=""), "nothing is no host's"),
        (flow(FlowKind.TRACE, 80, address="2001:db8::1"), "2001:db8::1 is no host's"),
        (flow(FlowKind.TRACE, 80, address="224.0.0.1"), "is no host's"),
        (flow(FlowKind.TRACE, 80, address="255.255.255.255"), "is no host's"),
        (flow(FlowKind.TRACE, 80, address=NOWHERE), "is no host's"),
        (flow(FlowKind.TRACE, 0), "0 is no port"),
        (flow(FlowKind.DNS_UDP, 65536, name="x"), "65536 is no port"),
        (flow(FlowKind.DNS_UDP, 53, name="a b"), "name"),
        (flow(FlowKind.DNS_UDP, 53), "name"),
        (flow(FlowKind.ARP), "on no segment of this machine"),
        (flow(FlowKind.ARP, name="a/b"), "on no segment"),
        (flow(FlowKind.PING, size=27), "27 bytes"),
        (flow(FlowKind.PING, size=65536), "65536 bytes"),
    ],
    ids=lambda value: value.id if isinstance(value, Flow) else None,
)
def test_what_cannot_be_asked_costs_nothing_else(wrong: Flow, words: str) -> None:
    asked = ask((wrong, TRACE), 5.0)
    assert asked.groups == ((TRACE,),)
    ((unseen, reason),) = asked.unseen
    assert unseen is wrong
    assert words in reason


@pytest.mark.parametrize("kind", [FlowKind.HTTP, FlowKind.TCP, FlowKind.RESOLVE, FlowKind.TLS])
def test_another_kind_is_refused(kind: FlowKind) -> None:
    with pytest.raises(ValueError, match=kind):
        ask((flow(kind, 80),), 5.0)


def test_the_document_is_bounded() -> None:
    many = [flow(FlowKind.TRACE, port) for port in range(1, 300)]
    many += [flow(FlowKind.PING, size=s, samples=99) for s in range(100, 140)]
    asked = ask(many, 5.0)
    assert len(asked.groups) == 256
    assert len(asked.unseen) == 43 + 40
    assert "256" in asked.unseen[0][1]
    requests = msgspec.json.decode(ask(many[-40:], 5.0).text)["requests"]
    assert [len(r["sizes"]) for r in requests] == [16, 16, 8]
    assert {r["samples"] for r in requests} == {20}


@pytest.mark.parametrize(
    ("owners", "failure", "lost"),
    [
        ({}, Failure.ARP_UNANSWERED, 3),
        ({"02:00:00:00:00:01": 3}, None, 0),
        ({"02:00:00:00:00:01": 1}, None, 2),
        ({"02:00:00:00:00:02": 1, "02:00:00:00:00:01": 3}, None, 0),
        ({"02:00:00:00:00:02": 1, "02:00:00:00:00:01": 1}, None, 2),
        ({"02:00:00:00:00:01": 7}, None, 0),
    ],
)
def test_arp(owners: dict[str, int], failure: Failure | None, lost: int) -> None:
    seen = answered(ARP, sent=3, owners=owners)
    assert (seen.failure, seen.answers) == (failure, tuple(sorted(owners)))
    assert (seen.sent, seen.lost, seen.seconds) == (3, lost, 0.5)
    assert (len(owners) > 1) == ("asked 3 times" in seen.detail)


def hop(ttl: int, answer: str = "", error: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write one hop."""
    source = error["source"] if error else ADDRESS if answer else ""
    return {"ttl": ttl, "answer": answer, "source": source, "icmp": error}


FIRST = hop(1, "icmp", icmp(11, 0))


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        (hop(2, "syn-ack"), None),
        (hop(2, "rst"), Failure.CONNECTION_REFUSED),
        *(
            (hop(2, "icmp", icmp(kind, code)), failure)
            for kind, code, failure in (
                (3, 0, Failure.NETWORK_UNREACHABLE),
                (3, 6, Failure.NETWORK_UNREACHABLE),
                (3, 7, Failure.NO_ROUTE),
                (3, 12, Failure.NO_ROUTE),
                (3, 1, Failure.NO_ROUTE),
                (3, 3, Failure.PORT_UNREACHABLE),
                (3, 4, Failure.TOO_BIG),
                (3, 9, Failure.HOST_PROHIBITED),
                (3, 10, Failure.HOST_PROHIBITED),
                (3, 13, Failure.HOST_PROHIBITED),
                (3, 2, Failure.TIMEOUT),
                (11, 0, Failure.TIMEOUT),
                (12, 0, Failure.TIMEOUT),
            )
        ),
    ],
    ids=str,
)
def test_how_a_trace_ends(last: dict[str, Any], failure: Failure | None) -> None:
    seen = answered(TRACE, hops=[FIRST, last])
    error = Icmp(last["icmp"]["type"], last["icmp"]["code"], ROUTER) if last["icmp"] else None
    assert (seen.failure, seen.icmp) == (failure, error)
    assert seen.trace == (
        TraceHop(1, "icmp", ROUTER, Icmp(11, 0, ROUTER)),
        TraceHop(2, last["answer"], last["source"], error),
    )
    assert seen.lost == (failure in {Failure.TIMEOUT, Failure.NO_ROUTE})


def test_a_trace_keeps_gaps_and_the_first_silence() -> None:
    answers = [hop(1), FIRST | {"ttl": 2}, *(hop(n) for n in range(3, 31))]
    seen = answered(TRACE, hops=answers)
    assert [(h.ttl, h.answer) for h in seen.trace] == [(1, ""), (2, "icmp"), (3, "")]
    assert (seen.failure, seen.lost) == (Failure.TIMEOUT, 1)
    silent = answered(TRACE, hops=[hop(n) for n in range(1, 31)])
    assert [h.ttl for h in silent.trace] == [1]
    assert (silent.failure, silent.icmp) == (Failure.TIMEOUT, None)


def size(number: int, **more: Any) -> dict[str, Any]:
    """Write what came of one size."""
    found = {"size": number, "sent": 2, "replies": 0, "seconds": 0.0, "errno": 0, "icmp": None}
    return found | more


def test_sizes() -> None:
    pings = tuple(flow(FlowKind.PING, size=s, samples=2) for s in (9000, 1500, 1400, 1300, 0))
    answer = {
        "seconds": 3.6,
        "sizes": [
            size(9000, errno=90),
            size(1500, icmp=icmp(3, 4, 1400)),
            size(1400, replies=1, seconds=0.01),
            size(1300),
            size(84, replies=2, seconds=0.002),
        ],
    }
    seen, unseen = read(ask(pings, 5.0), msgspec.json.encode({"answers": [answer]}))
    assert unseen == []
    assert [(o.flow.size, o.failure, o.sent, o.lost) for o in seen] == [
        (9000, Failure.TOO_BIG, 1, 1),
        (1500, Failure.TOO_BIG, 2, 2),
        (1400, None, 2, 1),
        (1300, Failure.TIMEOUT, 2, 2),
        (0, None, 2, 0),
    ]
    assert [o.icmp for o in seen] == [None, Icmp(3, 4, ROUTER), None, None, None]
    assert seen[1].detail == "the next hop takes 1400 bytes"
    assert [o.seconds for o in seen[1:]] == [3.6, 0.01, 3.6, 0.002]


def reply(
    source: str = ADDRESS, rcode: int = 0, *addresses: str, sample: int = 0
) -> dict[str, Any]:
    """Write one DNS answer."""
    found = {"sample": sample, "source": source, "port": 53, "rcode": rcode}
    return {**found, "addresses": addresses}


@pytest.mark.parametrize(
    ("replies", "error", "failure", "lost"),
    [
        ([reply(ADDRESS, 0, "192.0.2.9"), reply(sample=1)], None, None, 0),
        ([reply(ADDRESS, 3)], None, Failure.DNS_NXDOMAIN, 1),
        ([reply(ADDRESS, 3)] * 2, None, Failure.DNS_NXDOMAIN, 1),
        ([reply(ADDRESS, 2), reply(ADDRESS, 2, sample=1)], None, Failure.DNS_SERVFAIL, 0),
        ([reply(ADDRESS, 5)], None, Failure.DNS_REFUSED, 1),
        ([reply()], None, Failure.DNS_NO_ANSWER, 1),
        ([], None, Failure.TIMEOUT, 2),
        ([], icmp(3, 3), Failure.PORT_UNREACHABLE, 2),
        ([], icmp(3, 10), Failure.HOST_PROHIBITED, 2),
        ([reply("192.0.2.66", 0, "192.0.2.9")] * 2, None, Failure.TIMEOUT, 2),
    ],
    ids=str,
)
def test_dns(
    replies: list[dict[str, Any]], error: dict[str, Any] | None, failure: Failure | None, lost: int
) -> None:
    seen = answered(DNS, sent=2, replies=replies, icmp=error)
    assert (seen.failure, seen.sent, seen.lost) == (failure, 2, lost)
    assert seen.answers == (("192.0.2.9",) if failure is None else ())
    assert (seen.icmp is None) == (error is None)
    assert (seen.detail == "192.0.2.66:53 answered in its stead") == (
        "192.0.2.66" in [r["source"] for r in replies]
    )


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (1, Failure.PERMISSION_DENIED),
        (101, Failure.NETWORK_UNREACHABLE),
        (113, Failure.NO_ROUTE),
        (5, Failure.UNKNOWN),
    ],
)
def test_what_the_system_did_not_send(number: int, failure: Failure) -> None:
    seen = answered(TRACE, errno=number)
    assert (seen.failure, seen.trace) == (failure, ())
    assert seen.detail


def test_what_was_not_seen() -> None:
    answers = [{"seconds": 0.1, "unseen": "No such device"}, {"seconds": 0.1, "hops": []}]
    seen, unseen = read(ask((ARP, TRACE), 5.0), msgspec.json.encode({"answers": answers}))
    assert [o.flow for o in seen] == [TRACE]
    assert unseen == [(ARP, "No such device")]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"{}",
        b'{"answers": 3}',
        b'{"answers": []}',
        b'{"answers": [{"seconds": 1}, {"seconds": 1}]}',
        b'{"answers": [{"seconds": "x"}]}',
        b'{"answers": [{"seconds": 1, "hops": [{}]}]}',
        b'{"answers": [{"seconds": 1}]} and more',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda text: text[:40].decode("latin-1") or "nothing",
)
def test_what_is_no_document(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(ask((TRACE,), 5.0), text)


def test_a_size_that_is_not_spoken_of() -> None:
    text = msgspec.json.encode({"answers": [{"seconds": 1, "sizes": [size(1500)]}]})
    with pytest.raises(ValueError, match="1400"):
        read(ask((flow(FlowKind.PING, size=1400),), 5.0), text)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["answers", "seconds", "hops", "sizes", "icmp", "unseen", "owners"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | TREES.map(msgspec.json.encode))
def test_any_text_is_a_document_or_is_refused(text: bytes) -> None:
    asked = ask((ARP, TRACE, DNS, flow(FlowKind.PING)), 5.0)
    try:
        seen, unseen = read(asked, text)
    except ValueError:
        return
    assert len(seen) + len(unseen) == 4
