"""The way out: each fault by its code, and the look-alikes by none."""

import msgspec
import pytest

from checks.egress import reachable
from doctor.model.evidence import Backend, Backends, EgressFlows, Flannel, Nodes, TargetFlows
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Severity
from doctor.model.flow import FlowKind, Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Address, DaemonSet, Meta, Node, NodeStatus, Pod
from tests.rules.factories_site import REFUSED, TIMEOUT, W1, W2, Case, at, pod, seen, verify

MONGO, REDIS = "mongo.example.net:27017", "redis.example.net:6379"
ADDRESS = {MONGO: "203.0.113.10", REDIS: "203.0.113.11"}
POD, NODE = VantageKind.POD, VantageKind.NODE
ADDRESSES = (Address(type="InternalIP", address="192.0.2.7"),)


def dial(
    kind: VantageKind,
    failure: Failure | None = None,
    *,
    to: str = MONGO,
    on: str = W1,
    address: str = "",
) -> Observation:
    """Connect to a database."""
    port = int(to.rpartition(":")[2])
    place = address or ADDRESS[to]
    return seen(Purpose.EGRESS, at(kind, on), place, port, failure, subject=to)


def look(failure: Failure | None, *, to: str = MONGO, on: str = W1) -> Observation:
    """Ask the cluster's DNS for a database."""
    name = to.partition(":")[0]
    kind = FlowKind.DNS_UDP
    where = at(POD, on)
    return seen(
        Purpose.EGRESS_NAME, where, "10.96.0.10", 53, failure, kind=kind, name=name, subject=to
    )


def out(*found: Observation) -> tuple[EgressFlows, None]:
    """Judge by these."""
    return EgressFlows(observations=found, wanted_by=((MONGO, (pod(),)), (REDIS, ()))), None


def both(failure: Failure | None, to: str = MONGO, on: str = W1) -> tuple[Observation, ...]:
    """Connect from a pod and from its node."""
    return dial(POD, failure, to=to, on=on), dial(NODE, failure, to=to, on=on)


FILTERED, REFUSES = ["EGRESS_TCP_FILTERED"], ["EGRESS_TCP_REFUSED"]
INSIDE, SOME = ["EGRESS_POD_ONLY"], ["EGRESS_FROM_SOME_NODES"]
UNNAMED, SERVFAIL = ["EGRESS_NAME_UNRESOLVED"], ["EGRESS_NAME_SERVFAIL"]
SILENT = ["EGRESS_NAME_TIMEOUT"]
NXDOMAIN, LAME = Failure.DNS_NXDOMAIN, Failure.DNS_SERVFAIL
PLACE = "egress:mongo.example.net:tcp/27017"
FROM_POD = dial(POD).flow.id

WAYS = [
    Case("healthy", out(look(None), *both(None))),
    Case("our own failure", out(dial(POD, Failure.UNKNOWN), dial(NODE, Failure.UNKNOWN))),
    Case("filtered", out(*both(TIMEOUT), *both(None, REDIS)), FILTERED, ["TCP 27017 to mongo.example.net (203.0.113.10) gives no answer to nodes and pods", f"while {REDIS} answers", "needed by shop/web-1"], PLACE),
    Case("filtered with an answer of no route", out(*both(Failure.NO_ROUTE)), FILTERED, ["filtered on the way out, or no route leads there"]),
    Case("filtered with an answer that says so", out(*both(Failure.HOST_PROHIBITED), *both(None, REDIS)), FILTERED, [f": filtered on the way out, while {REDIS} answers"]),
    Case("no network", out(*both(Failure.NETWORK_UNREACHABLE)), FILTERED, ["or no route leads there"]),
    Case("a lookup that a filter rejects", out(look(Failure.HOST_PROHIBITED)), SILENT, flows=[look(None).flow.id]),
    Case("a lookup that finds no port", out(look(Failure.PORT_UNREACHABLE)), SILENT, flows=[look(None).flow.id]),
    Case("filtered, seen from pods alone", out(dial(POD, TIMEOUT)), FILTERED, flows=[FROM_POD]),
    Case("no way out at all", out(*both(TIMEOUT), *both(TIMEOUT, REDIS)), FILTERED, ["TCP 27017", "TCP 6379"], "egress:*"),
    Case("two filtered, one not", out(*both(TIMEOUT), *both(TIMEOUT, REDIS), dial(POD, to="192.0.2.7:443", address="192.0.2.7")), FILTERED * 2, hop=PLACE),
    Case("refused", out(*both(REFUSED)), REFUSES, ["nothing listens there"], PLACE),
    Case("refused here and lost there", out(dial(POD, TIMEOUT), dial(NODE, REFUSED)), FILTERED),
    Case("pods alone", out(dial(POD, TIMEOUT), dial(NODE)), INSIDE, ["answers the nodes", f"pods on {W1}"], PLACE, flows=[FROM_POD]),
    Case("pods alone, to both", out(dial(POD, TIMEOUT), dial(NODE), dial(POD, TIMEOUT, to=REDIS), dial(NODE, to=REDIS)), INSIDE, hop="egress:*", flows=[FROM_POD, dial(POD, to=REDIS).flow.id]),
    Case("pods of one node alone", out(dial(POD, TIMEOUT), dial(NODE), *both(None, on=W2)), INSIDE, [f"pods on {W1}"], flows=[FROM_POD]),
    Case("from one node", out(*both(TIMEOUT), *both(None, on=W2)), SOME, [f"no answer to {W1}", f"answers {W2}"], PLACE),
    Case("from one node, where no pod was asked", out(dial(NODE, TIMEOUT), dial(NODE, on=W2)), SOME),
    Case("the node alone fails", out(dial(POD), dial(NODE, TIMEOUT))),
    Case("one of two addresses", out(dial(POD), dial(POD, TIMEOUT, address="203.0.113.12"))),
    Case("no such name", out(look(NXDOMAIN), look(NXDOMAIN, on=W2)), UNNAMED, ["mongo.example.net does not exist"], PLACE),
    Case("a name without an address", out(look(Failure.DNS_NO_ANSWER)), UNNAMED),
    Case("a name that one replica does not know", out(look(NXDOMAIN), look(None, on=W2))),
    Case("the upstream resolver fails", out(look(LAME), look(None, to=REDIS)), SERVFAIL, ["SERVFAIL"], PLACE),
    Case("the upstream resolver fails for all", out(look(LAME), look(LAME, to=REDIS)), SERVFAIL, hop="egress:*"),
    Case("two names mistyped", out(look(NXDOMAIN), look(NXDOMAIN, to=REDIS)), UNNAMED * 2),
    Case("no answer to a lookup", out(look(TIMEOUT)), SILENT, ["gives no answer"], PLACE, flows=[look(None).flow.id]),
    Case("a lookup refused", out(look(REFUSED)), SILENT, flows=[look(None).flow.id]),
    Case("a lookup that failed of itself", out(look(Failure.UNKNOWN))),
]  # fmt: skip


@pytest.mark.parametrize("case", WAYS, ids=str)
def test_reachable(case: Case) -> None:
    verify(reachable, case)


@pytest.mark.parametrize(
    ("found", "confidence"),
    [
        ((*both(TIMEOUT), *both(None, REDIS)), Confidence.LIKELY),
        ((*both(TIMEOUT), *both(REFUSED, REDIS)), Confidence.LIKELY),
        ((*both(Failure.HOST_PROHIBITED), *both(None, REDIS)), Confidence.CERTAIN),
        ((*both(Failure.NO_ROUTE), *both(None, REDIS)), Confidence.LIKELY),
        (both(TIMEOUT), Confidence.LIKELY),
        ((dial(POD, TIMEOUT), *both(None, REDIS)), Confidence.LIKELY),
        (both(REFUSED), Confidence.CERTAIN),
        ((dial(POD, REFUSED),), Confidence.LIKELY),
    ],
)
def test_certainty_takes_a_control(found: tuple[Observation, ...], confidence: Confidence) -> None:
    assert next(reachable.judge(*out(*found))).confidence is confidence


def test_the_port_is_allowed_and_flannel_is_started_again() -> None:
    filtered = next(reachable.judge(*out(*both(TIMEOUT))))
    assert filtered.remediation[0].commands == ("nc -zvw 3 203.0.113.10 27017",)
    nodes = Nodes(items=(Node(metadata=Meta(W1), status=NodeStatus(addresses=ADDRESSES)),))
    filtered = next(reachable.judge(*out(*both(TIMEOUT)), None, None, nodes))
    look_up, allow, _ = filtered.remediation[0].commands
    assert look_up.startswith("SECURITY_GROUP=")
    assert "ip-address=192.0.2.7 " in look_up
    assert allow == (
        "openstack security group rule create --egress --protocol tcp --dst-port 27017 "
        '--remote-ip 203.0.113.10/32 "$SECURITY_GROUP"'
    )
    flannel = Flannel(daemonsets=(DaemonSet(metadata=Meta("kube-flannel-ds", "kube-flannel")),))
    inside = next(reachable.judge(out(dial(POD, TIMEOUT), dial(NODE))[0], flannel))
    restart = "kubectl -n kube-flannel rollout restart daemonset kube-flannel-ds"
    assert restart in inside.remediation[0].commands


@pytest.mark.parametrize(
    ("urls", "behind", "severity"),
    [
        ((), (), Severity.FAIL),
        (("http://shop.example.org/",), (pod(),), Severity.FAIL),
        (("http://shop.example.org/",), (pod("other"),), Severity.WARN),
    ],
)
def test_a_pod_that_no_url_crosses_warns(
    urls: tuple[str, ...], behind: tuple[Pod, ...], severity: Severity
) -> None:
    site = Backends(items=(Backend(key="shop/web", service=None, port=None, pods=behind),))
    targets = TargetFlows(urls=urls, derived=not urls)
    found = next(reachable.judge(out(*both(TIMEOUT))[0], None, site, targets))
    assert found.severity is severity


def test_what_lies_behind_coredns_makes_it_fail() -> None:
    """Its own way to the resolver, and no other: what the pod sends it is answered."""
    out_of_node = Hop(HopKind.FORWARD, W1, "udp/53"), Hop(HopKind.MASQUERADE, W1, "dns")
    resolver = Hop(HopKind.EGRESS, "203.0.113.53", "udp/53")
    way = (Hop(HopKind.FORWARD, W2, "tcp/53"), Hop(HopKind.KUBE_PROXY, W2), *out_of_node, resolver)
    failed = msgspec.structs.replace(look(LAME), hops=way)
    found = next(reachable.judge(*out(failed)))
    assert found.consequence_of == (*out_of_node, resolver)
    missing = msgspec.structs.replace(look(NXDOMAIN), hops=way)
    assert next(reachable.judge(*out(missing))).consequence_of == ()
