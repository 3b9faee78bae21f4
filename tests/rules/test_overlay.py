"""Faults between pods, each simulated by which flows it silences, and their look-alikes."""

from collections.abc import Callable, Iterable

import msgspec
import pytest

from checks.overlay.reach import pod_to_pod
from doctor.model.evidence import Counters, Flannel, Mesh, NodeNetworks, Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Finding
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.kube import Node
from doctor.model.node import FilterRule, Link
from tests.rules.factories import (
    ADDRESSES,
    CIDRS,
    MASTER,
    NAMES,
    ONE,
    PODS,
    TWO,
    VXLAN,
    filter_table,
    findings,
    flannel,
    network,
    networks,
    node,
    nodes,
    rule,
    said,
    seen,
    vantage,
)

Fault = Callable[[str, str, str], bool]
SAMPLES = 5
ROUTED = flannel(backend="host-gw")
INPUT = rule("-A INPUT -p udp -m udp --dport 8472 -j DROP", protocol="udp", port=8472)
FORWARD = rule("-A FORWARD -s 10.244.0.0/16 -j DROP", narrow=True)
DOCKER = rule("-A FORWARD -i docker0 -o br-1 -j DROP", narrow=True)
ELSEWHERE = rule("-A FORWARD -d 169.254.169.254/32 -j DROP", narrow=True)
INVALID = rule("-A FORWARD -m conntrack --ctstate INVALID -j DROP", narrow=True)
POLICY = rule("-P FORWARD DROP", narrow=True)
DEVICE = Link("flannel.1", vxlan_id=1, vxlan_port=8472, mac="aa:00:00:00:00:01")


def nothing(_kind: str, _start: str, _to: str) -> bool:
    """Lose nothing."""
    return False


def between(*pairs: tuple[str, str]) -> Fault:
    """Lose all that runs between these pairs of nodes."""
    ends = [set(p) for p in pairs]
    return lambda _, a, b: {a, b} in ends


def around(name: str) -> Fault:
    """Lose all between one node and the others."""
    return lambda _, a, b: a != b and name in (a, b)


def everything(_kind: str, start: str, to: str) -> bool:
    """Lose all between nodes."""
    return start != to


def forwarding(*names: str) -> Fault:
    """Lose what these nodes should forward."""
    return lambda kind, a, b: (kind == "pod" and a in names) or (a != b and b in names)


def bridge(name: str) -> Fault:
    """Lose all to and from the pods of one node, on it too."""
    return lambda kind, a, b: b == name or (kind == "pod" and a == name)


def hung(name: str) -> Fault:
    """Lose all to the one pod of a node that is tried: it hangs."""
    return lambda kind, a, b: b == name and not (kind == "pod" and a == b)


def _flow(kind: str, start: str, to: str, failure: Failure | None) -> Observation:
    """Make a flow; a pod tries another pod than itself on its own node."""
    own = kind == "pod" and start == to
    address = PODS[to] + ("1" if own else "")
    where = vantage(kind, start)
    return seen(Purpose.MESH, where, address, 8080, failure, subject=to)


def _ping(purpose: Purpose, a: str, b: str, lost: int) -> Observation:
    """Ping another node or a pod there, and lose some of five."""
    address = (ADDRESSES if purpose is Purpose.UNDERLAY_SIZE else PODS)[b]
    made = seen(purpose, vantage("node", a), address, 0, subject=b, kind=FlowKind.PING)
    failure = Failure.TIMEOUT if lost == SAMPLES else None
    return msgspec.structs.replace(made, sent=SAMPLES, lost=lost, failure=failure)


def mesh(
    fault: Fault,
    under: Fault = nothing,
    *,
    overlay: str = VXLAN,
    names: Iterable[str] = NAMES,
    failure: Failure = Failure.TIMEOUT,
    kinds: Iterable[str] = ("pod", "node"),
) -> Mesh:
    """Make the flows of a cluster with a fault of its pods' network, and one of its nodes'."""
    ways = [(a, b) for a in names for b in names]
    pods = [_flow(k, a, b, failure if fault(k, a, b) else None) for k in kinds for a, b in ways]
    own = [
        seen(
            Purpose.UNDERLAY,
            vantage("node", a),
            ADDRESSES[b],
            10250,
            Failure.TIMEOUT if under("node", a, b) else None,
            subject=b,
        )
        for a, b in ways
        if a != b
    ]
    pings = [
        _ping(purpose, a, b, SAMPLES * silenced("node", a, b))
        for purpose, silenced in ((Purpose.UNDERLAY_SIZE, under), (Purpose.MESH_SIZE, fault))
        for a, b in ways
        if a != b and "node" in kinds
    ]
    return Mesh(observations=(*pods, *own, *pings), overlay=overlay)


def judge(
    flows: Mesh,
    read: NodeNetworks | None = None,
    items: Nodes | None = None,
    how: Flannel | None = None,
    counters: Counters | None = None,
) -> list[Finding]:
    """Run the check."""
    return findings(pod_to_pod, items or nodes(), flows, read, how or flannel(), counters)


def everywhere(*rules: FilterRule) -> NodeNetworks:
    """Read the same rules on all nodes."""
    return networks(*(network(n, *rules) for n in NAMES))


UDP, HOST, DOWN = "OVERLAY_UDP_FILTERED", "OVERLAY_HOST_FIREWALL", "UNDERLAY_UNREACHABLE"
FWD, OFF, POD = "OVERLAY_FORWARD_DROPPED", "OVERLAY_IP_FORWARD_OFF", "POD_NETWORK_BROKEN"
PAIR = (MASTER, ONE)


@pytest.mark.parametrize(
    ("flows", "read", "expected"),
    [
        (mesh(nothing), networks(), set()),
        (mesh(everything), networks(), {(UDP, "underlay:*>*:udp/8472")}),
        (mesh(everything), None, {(UDP, "underlay:*>*:udp/8472")}),
        (mesh(around(ONE)), networks(), {(UDP, f"underlay:*>{ONE}:udp/8472")}),
        (mesh(between((ONE, TWO))), networks(), {(UDP, f"underlay:{ONE}>{TWO}:udp/8472")}),
        (mesh(everything, names=PAIR), networks(), {(UDP, f"underlay:{ONE}>{MASTER}:udp/8472")}),
        (mesh(everything, everything), networks(), {(DOWN, "underlay:*>*")}),
        (mesh(around(TWO), around(TWO)), networks(), {(DOWN, f"underlay:*>{TWO}")}),
        (mesh(nothing, everything), networks(), set()),
        (
            mesh(around(ONE)),
            networks(network(ONE, INPUT)),
            {(HOST, f"underlay:*>{ONE}:udp/8472")},
        ),
        (mesh(everything), everywhere(INPUT), {(HOST, "underlay:*>*:udp/8472")}),
        (mesh(nothing), everywhere(INPUT, FORWARD), set()),
        (mesh(everything), everywhere(POLICY, INVALID, DOCKER), {(UDP, "underlay:*>*:udp/8472")}),
        (mesh(everything), networks(network(ONE, FORWARD)), {(UDP, "underlay:*>*:udp/8472")}),
        (mesh(forwarding(ONE)), networks(network(ONE, FORWARD)), {(FWD, f"forward:{ONE}")}),
        (mesh(forwarding(ONE)), None, {(FWD, f"forward:{ONE}")}),
        (mesh(forwarding(*NAMES)), everywhere(FORWARD), {(FWD, "forward:*")}),
        (
            mesh(forwarding(ONE), kinds=["pod"]),
            networks(network(ONE, forward=False)),
            {(OFF, f"forward:{ONE}")},
        ),
        (mesh(forwarding(TWO)), networks(network(TWO, forward=False)), {(OFF, f"forward:{TWO}")}),
        (mesh(bridge(TWO)), networks(), {(POD, f"pod-network:{TWO}")}),
        (mesh(lambda k, a, b: k == "pod" and a == b == TWO), networks(), set()),
        (mesh(hung(ONE)), networks(), set()),
        (mesh(lambda k, a, b: not (k == "pod" and a == b)), networks(), set()),
        (mesh(everything, failure=Failure.CONNECTION_REFUSED), networks(), set()),
        (mesh(everything, failure=Failure.UNKNOWN), networks(), set()),
        (Mesh(overlay=VXLAN), networks(), set()),
        (
            mesh(lambda _, a, b: (a, b) == (ONE, TWO)),
            networks(),
            {("OVERLAY_PATH_BROKEN", f"underlay:{ONE}>{TWO}:udp/8472")},
        ),
        (
            mesh(around(ONE)),
            networks(network(ONE, device=None)),
            {("OVERLAY_DEVICE_BROKEN", f"underlay:*>{ONE}:udp/8472")},
        ),
        (
            mesh(around(ONE)),
            networks(network(ONE, device=Link("flannel.1", up=False, vxlan_port=8472))),
            {("OVERLAY_DEVICE_BROKEN", f"underlay:*>{ONE}:udp/8472")},
        ),
        (
            mesh(around(ONE)),
            networks(network(ONE, device=Link("flannel.1", vxlan_id=1, vxlan_port=4789))),
            {("OVERLAY_PORT_MISMATCH", f"underlay:*>{ONE}:udp/8472")},
        ),
        (
            mesh(between(PAIR)),
            networks(network(ONE, routes=[CIDRS[TWO], CIDRS[ONE], "0.0.0.0/0"])),
            {("OVERLAY_ROUTE_MISSING", f"underlay:{ONE}>{MASTER}:udp/8472")},
        ),
        # who forgot a node forgot it on all others, and it is one thing
        (
            mesh(around(ONE)),
            networks(
                network(MASTER, routes=[CIDRS[MASTER], CIDRS[TWO], "0.0.0.0/0"]),
                network(TWO, routes=[CIDRS[TWO], CIDRS[MASTER], "0.0.0.0/0"]),
            ),
            {("OVERLAY_ROUTE_MISSING", f"underlay:{TWO},{MASTER}>{ONE}:udp/8472")},
        ),
    ],
)
def test_with_vxlan(flows: Mesh, read: NodeNetworks | None, expected: set[tuple[str, str]]) -> None:
    assert said(judge(flows, read)) == expected


@pytest.mark.parametrize(
    ("flows", "read", "expected"),
    [
        (mesh(nothing, overlay=""), networks(), set()),
        (mesh(everything, overlay=""), networks(), {("OVERLAY_ROUTED_FILTERED", "underlay:*>*")}),
        (
            mesh(around(ONE), overlay=""),
            networks(network(ONE, INPUT)),
            {("OVERLAY_ROUTED_FILTERED", f"underlay:*>{ONE}")},
        ),
        (
            mesh(around(ONE), overlay=""),
            networks(network(ONE, routes=["0.0.0.0/0"])),
            {("OVERLAY_ROUTE_MISSING", f"underlay:{ONE}>*")},
        ),
    ],
)
def test_with_routes(flows: Mesh, read: NodeNetworks, expected: set[tuple[str, str]]) -> None:
    assert said(judge(flows, read, how=ROUTED)) == expected


def test_a_filter_on_port_53_alone_is_not_the_overlays() -> None:
    ask = [
        msgspec.structs.replace(o, flow=msgspec.structs.replace(o.flow, port=53))
        for o in mesh(everything).observations
        if o.flow.purpose is Purpose.MESH
    ]
    assert judge(Mesh(observations=tuple(ask)), how=ROUTED) == []


def test_another_network_is_not_named_as_flannels() -> None:
    found = judge(mesh(everything, overlay=""), how=Flannel(absent="another CNI"))
    assert said(found) == {("OVERLAY_PATH_BROKEN", "underlay:*>*")}


def test_one_node_has_nothing_to_reach() -> None:
    assert judge(mesh(bridge(ONE), names=[ONE]), items=nodes(names=[ONE])) == []


def test_two_nodes_are_all_nodes() -> None:
    (found,) = judge(mesh(everything, names=PAIR), networks(), nodes(names=PAIR))
    assert said([found]) == {(UDP, "underlay:*>*:udp/8472")}
    assert found.title == f"UDP 8472 is dropped between the nodes {ONE} and {MASTER}"
    assert found.confidence is Confidence.CERTAIN


def test_what_is_said_of_a_security_group() -> None:
    (found,) = judge(mesh(everything), networks())
    assert found.title == f"UDP 8472 is dropped between the nodes {ONE}, {TWO} and {MASTER}"
    assert found.remediation[0].commands[-1] == (
        "openstack security group rule create --protocol udp --dst-port 8472 --remote-group "
        '"$SECURITY_GROUP" "$SECURITY_GROUP"'
    )
    assert len(found.flows) == 12
    assert not found.consequence_of


def test_without_the_underlays_control_the_cause_is_left_open() -> None:
    flows = mesh(everything)
    alone = Mesh(observations=flows.of(Purpose.MESH), overlay=VXLAN)
    (found,) = judge(alone, networks())
    assert said([found]) == {("OVERLAY_PATH_BROKEN", "underlay:*>*:udp/8472")}
    assert found.confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (FORWARD, (FORWARD.text, "iptables -D FORWARD -s 10.244.0.0/16 -j DROP")),
        (POLICY, (POLICY.text, "iptables -P FORWARD ACCEPT")),
        (DOCKER, ("from the node itself to pods passes", "iptables -v -n -L FORWARD")),
        (ELSEWHERE, ("from the node itself to pods passes", "iptables -v -n -L FORWARD")),
        (INVALID, ("from the node itself to pods passes", "iptables -v -n -L FORWARD")),
    ],
)
def test_the_rule_that_drops_is_named(drop: FilterRule, expected: tuple[str, str]) -> None:
    read = network(ONE, drop, accepts=drop is not POLICY)
    (found,) = judge(mesh(forwarding(ONE)), networks(read))
    words, command = expected
    assert words in found.title
    assert found.remediation[0].commands[0].endswith(command)
    assert found.remediation[0].commands[0].startswith("kubectl -n kube-flannel exec ")


@pytest.mark.parametrize(
    "failure", [Failure.NO_ROUTE, Failure.HOST_PROHIBITED, Failure.NETWORK_UNREACHABLE]
)
def test_a_rejecting_rule_is_told_by_its_answer(failure: Failure) -> None:
    """Prohibited is "no route to host" to who sees no ICMP, or an unreachable network."""
    reject = rule("-A FORWARD -i flannel.1 -j REJECT --reject-with icmp-host-prohibited", "REJECT")
    read = networks(network(ONE, reject))
    (found,) = judge(mesh(forwarding(ONE), failure=failure), read)
    assert reject.text in found.title
    (other,) = judge(mesh(forwarding(ONE)), read)
    assert reject.text not in other.title


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ([node(ONE, public_ip="10.0.2.15")], "OVERLAY_PUBLIC_IP_STALE"),
        (
            [node(ONE, public_ip="10.0.2.15", public_ip_overwrite="10.0.2.15")],
            "OVERLAY_PUBLIC_IP_WRONG",
        ),
        ([node(ONE, public_ip=ADDRESSES[ONE])], UDP),
        (
            [node(ONE, backend_data='{"VNI":1,"VtepMAC":"aa:00:00:00:00:99"}')],
            "OVERLAY_VTEP_MAC_CHANGED",
        ),
        ([node(ONE, backend_data='{"VNI":1,"VtepMAC":"AA:00:00:00:00:01"}')], UDP),
    ],
)
def test_what_flannel_published(changed: list[Node], code: str) -> None:
    items = nodes(*changed)
    found = judge(mesh(around(ONE)), networks(network(ONE, device=DEVICE)), items)
    assert said(found) == {(code, f"underlay:*>{ONE}:udp/8472")}
    assert judge(mesh(nothing), networks(network(ONE, device=DEVICE)), items) == []


def test_what_is_at_odds_for_a_node_with_anothers_podcidr_is_no_cause() -> None:
    for cidr, expected in (
        (CIDRS[TWO], {f"flannel:{ONE}", f"pod-network:{ONE}"}),
        (CIDRS[ONE], {f"flannel:{ONE}"}),
    ):
        items = nodes(node(ONE, public_ip="10.0.2.15", cidr=cidr))
        (found,) = judge(mesh(around(ONE)), networks(network(ONE, device=DEVICE)), items)
        own = {str(h) for h in found.consequence_of if str(h).endswith(ONE)}
        assert own == expected


def test_an_address_of_its_own_is_right_on_an_unread_node() -> None:
    found = judge(mesh(around(ONE)), None, nodes(node(ONE, public_ip=ADDRESSES[ONE])))
    assert said(found) == {(UDP, f"underlay:*>{ONE}:udp/8472")}


def test_a_second_uplink_is_no_wrong_address() -> None:
    second = Link("eth1", addresses=("10.9.9.9/24",))
    read = network(ONE, device=DEVICE)
    read = msgspec.structs.replace(read, links=(*read.links, second))
    found = judge(mesh(around(ONE)), networks(read), nodes(node(ONE, public_ip="10.9.9.9")))
    assert said(found) == {(UDP, f"underlay:*>{ONE}:udp/8472")}


def test_an_unread_node_may_be_without_flannel() -> None:
    read = NodeNetworks(items=(network(MASTER), network(TWO)))
    (found,) = judge(mesh(around(ONE)), read)
    assert [str(h) for h in found.consequence_of] == [f"flannel:{ONE}"]
    assert found.confidence is Confidence.LIKELY
    (down,) = judge(mesh(around(ONE), around(ONE)), read)
    assert [str(h) for h in down.consequence_of] == [f"node:{ONE}"]


def test_two_faults_are_two_findings() -> None:
    def both(kind: str, start: str, to: str) -> bool:
        return between(PAIR)(kind, start, to) or forwarding(TWO)(kind, start, to)

    found = judge(mesh(both), networks(network(TWO, forward=False)))
    assert said(found) == {
        (OFF, f"forward:{TWO}"),
        (UDP, f"underlay:{ONE}>{MASTER}:udp/8472"),
    }


def pinged(flows: Mesh, lost: int) -> Mesh:
    """Have as many of the pings to pods of other nodes lost, whatever the fault."""
    others = [o for o in flows.observations if o.flow.purpose is not Purpose.MESH_SIZE]
    pings = [_ping(Purpose.MESH_SIZE, a, b, lost) for a in NAMES for b in NAMES if a != b]
    return msgspec.structs.replace(flows, observations=(*others, *pings))


@pytest.mark.parametrize("lost", [0, 1, 5])
def test_a_ping_that_is_answered_exonerates_no_connection(lost: int) -> None:
    """A firewall may let ICMP pass and nothing else."""
    assert said(judge(pinged(mesh(forwarding(ONE)), lost), networks(network(ONE, FORWARD)))) == {
        (FWD, f"forward:{ONE}")
    }
    assert said(judge(pinged(mesh(everything), lost), networks())) != set()


def test_a_limit_on_pings_excuses_no_connection_that_is_lost() -> None:
    """Nodes answer few pings, and connections to them at once: what pods lose, a filter takes."""

    def limited(o: Observation) -> Observation:
        hit = o.flow.purpose is Purpose.UNDERLAY_SIZE
        return msgspec.structs.replace(o, lost=3) if hit else o

    flows = mesh(everything)
    few = msgspec.structs.replace(flows, observations=tuple(map(limited, flows.observations)))
    assert said(judge(few, networks())) == said(judge(flows, networks())) != set()
    slow = tuple(
        msgspec.structs.replace(o, seconds=1.1) if o.flow.purpose is Purpose.UNDERLAY else o
        for o in few.observations
    )
    assert judge(msgspec.structs.replace(few, observations=slow), networks()) == []


def test_connections_that_a_lossy_network_loses_are_no_filters_work() -> None:
    assert judge(pinged(mesh(around(ONE)), 2), networks()) == []


ACCEPT_FIRST = "-A INPUT -p udp -m udp --dport 8472 -j ACCEPT"
PERHAPS_FIRST = "-A INPUT -m set --match-set nodes src -j ACCEPT"


@pytest.mark.parametrize("line", [ACCEPT_FIRST, PERHAPS_FIRST])
def test_a_drop_behind_what_lets_it_pass_or_may_is_not_blamed(line: str) -> None:
    """Rules are tried in their order; one that is not understood may have let the port pass."""
    read = msgspec.structs.replace(network(ONE), tables=filter_table(line, INPUT.text))
    assert said(judge(mesh(around(ONE)), networks(read))) == {(UDP, f"underlay:*>{ONE}:udp/8472")}


def test_a_policy_that_drops_behind_flannels_accept_is_not_blamed() -> None:
    """Container engines set it, and flannel accepts its own before that."""
    found = judge(mesh(forwarding(ONE)), networks(network(ONE, POLICY)))
    assert "-P FORWARD" not in found[0].title


@pytest.mark.parametrize("other", ["10.99.0.0/16", "172.20.112.99/32"])
def test_a_drop_of_what_others_send_is_not_blamed(other: str) -> None:
    line = f"-A INPUT -s {other} -p udp --dport 8472 -j DROP"
    read = msgspec.structs.replace(network(ONE), tables=filter_table(line))
    assert said(judge(mesh(around(ONE)), networks(read))) == {(UDP, f"underlay:*>{ONE}:udp/8472")}
