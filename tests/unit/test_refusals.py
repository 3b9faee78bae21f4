"""Refusals that a filter gave in the name of a port that is open."""

import msgspec
import pytest

from doctor.evidence.refusals import told_from_filters
from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.path.topology import Pod, Service, Topology
from tests.rules.factories import ADDRESSES, MASTER, NAMES, ONE, PODS, TWO, seen, vantage

PLACES = Topology(
    nodes={ADDRESSES[n]: n for n in NAMES},
    pods={PODS[n]: Pod(key=f"a/{n}", node=n) for n in NAMES} | {"10.244.1.9": Pod("a/hook", ONE)},
    services={
        "10.96.0.5": Service("a/one", ((PODS[ONE], 8080),)),
        "10.96.0.6": Service("a/both", ((PODS[ONE], 8080), (PODS[TWO], 8080))),
    },
    vips={},
    announcers={},
)
REFUSED = Failure.CONNECTION_REFUSED
HOOK = "10.244.1.9"


def dial(
    start: str,
    address: str,
    failure: Failure | None = None,
    *,
    port: int = 8080,
    kind: str = "pod",
    flow: FlowKind = FlowKind.TCP,
) -> Observation:
    """Dial."""
    where = vantage(kind, start)
    return seen(Purpose.MESH, where, address, port, failure, kind=flow)


OWN = dial(ONE, PODS[ONE], kind="node")
FROM_MASTER = dial(MASTER, PODS[ONE], REFUSED)


def failures(*flows: Observation) -> list[Failure | None]:
    """Say what became of each."""
    return [o.failure for o in told_from_filters(flows, PLACES)]


def test_a_port_that_answers_elsewhere_is_open() -> None:
    assert failures(OWN, FROM_MASTER) == [None, Failure.HOST_PROHIBITED]
    (_, told) = told_from_filters([OWN, FROM_MASTER], PLACES)
    assert told.detail.endswith("by a port that answers elsewhere")


def test_what_else_is_refused_on_that_way_is_the_filters_too() -> None:
    """A webhook's port is dialled from one place only: there is no other vantage to tell."""
    hook = dial(MASTER, HOOK, REFUSED, port=8443)
    service = dial(MASTER, "10.96.0.5", REFUSED, port=443)
    told = Failure.HOST_PROHIBITED
    assert failures(OWN, FROM_MASTER, hook, service) == [None, told, told, told]


@pytest.mark.parametrize(
    "other",
    [
        dial(TWO, HOOK, REFUSED, port=8443),
        dial(MASTER, HOOK, REFUSED, port=8443, kind="node"),
        dial(MASTER, PODS[TWO], REFUSED),
        dial(MASTER, "10.96.0.6", REFUSED, port=80),
        dial(MASTER, ADDRESSES[ONE], REFUSED, port=10250),
        dial(MASTER, HOOK, Failure.TIMEOUT, port=8443),
    ],
    ids=lambda o: o.flow.id,
)
def test_elsewhere_a_refusal_stays_what_it_is(other: Observation) -> None:
    assert failures(OWN, FROM_MASTER, other)[2] is other.failure


def test_where_another_port_of_that_node_answers_only_the_open_one_is_filtered() -> None:
    hook = dial(MASTER, HOOK, REFUSED, port=8443)
    fine = dial(MASTER, HOOK, port=9000)
    assert failures(OWN, FROM_MASTER, hook, fine)[1:3] == [Failure.HOST_PROHIBITED, REFUSED]


def test_a_port_that_answers_nobody_is_closed() -> None:
    flows = [dial(n, PODS[ONE], REFUSED) for n in NAMES]
    assert failures(*flows) == [REFUSED] * 3


def test_over_udp_and_tcp_ports_are_not_the_same() -> None:
    """The port is open for queries over TCP: of the other protocol that says nothing."""
    tcp = dial(ONE, PODS[ONE], kind="node", port=53, flow=FlowKind.DNS_TCP)
    udp = dial(MASTER, PODS[ONE], Failure.PORT_UNREACHABLE, port=53, flow=FlowKind.DNS_UDP)
    assert failures(tcp, udp)[1] is Failure.PORT_UNREACHABLE
    open_ = msgspec.structs.replace(udp, flow=dial(TWO, PODS[ONE], port=53, flow=FlowKind.DNS_UDP).flow,
                                    failure=None)  # fmt: skip
    assert failures(open_, udp)[1] is Failure.HOST_PROHIBITED
