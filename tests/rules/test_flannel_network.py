"""The pod network of a node: its bridge, its addresses, and what keeps pods from getting one."""

from collections.abc import Iterable

import msgspec
import pytest

from checks.flannel.addresses import pod_addresses, pod_cidrs
from checks.flannel.bridge import bridge
from checks.flannel.sandboxes import sandboxes
from doctor.model.evidence import Flannel, NodeNetworks, PodAddress, ProbePod, ProbePods, StuckPod
from doctor.model.finding import Severity
from doctor.model.kube import Node
from doctor.model.node import Link, NodeNetwork, SubnetEnv
from tests.rules.factories import (
    CIDRS,
    MASTER,
    NAMES,
    ONE,
    TWO,
    findings,
    flannel,
    network,
    networks,
    node,
    nodes,
    said,
)

GATEWAYS = {n: c.replace("0/24", "1/24") for n, c in CIDRS.items()}
HERE = tuple(
    PodAddress(f"shop/web-{n}-{i}", n, CIDRS[n].replace("0/24", str(i + 5)))
    for n in NAMES
    for i in range(2)
)
PORTS = ("veth00000001", "veth00000002")


def cluster(*addressed: PodAddress, **changed: object) -> Flannel:
    """Make flannel with two pods on each node, or those given."""
    given = {"addressed": addressed or HERE, **changed}
    made: Flannel = msgspec.structs.replace(flannel(), **given)
    return made


def inside(
    name: str, bridge: Link | None = None, ports: Iterable[Link] | None = None
) -> NodeNetwork:
    """Make what is read inside a node: its bridge, and the links of its pods."""
    own = bridge or Link("cni0", kind="bridge", addresses=(GATEWAYS[name],))
    veths = tuple(Link(p, kind="veth", master="cni0") for p in PORTS) if ports is None else ports
    made = network(name)
    return msgspec.structs.replace(made, links=(*made.links, own, *veths))


def read(*changed: NodeNetwork) -> NodeNetworks:
    """Read all nodes, some of them changed."""
    by_name = {n: inside(n) for n in NAMES} | {n.node: n for n in changed}
    return NodeNetworks(items=tuple(by_name.values()))


def device(*addresses: str, up: bool = True) -> Link:
    """Make a bridge of pods."""
    return Link("cni0", kind="bridge", addresses=addresses, up=up)


LOOSE = Link("veth00000002", kind="veth")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (read(), set()),
        (NodeNetworks(), set()),
        (networks(), set()),
        (read(inside(ONE, device(GATEWAYS[ONE], up=False))), {("CNI_BRIDGE_DOWN", ONE)}),
        (read(inside(ONE, device())), {("CNI_BRIDGE_WITHOUT_ADDRESS", ONE)}),
        (
            read(inside(ONE, device("10.244.99.1/24"))),
            {("CNI_BRIDGE_ADDRESS_CONFLICT", ONE)},
        ),
        (read(inside(ONE, device("10.244.99.1/24", GATEWAYS[ONE]))), set()),
        (
            read(inside(ONE, ports=(Link(PORTS[0], kind="veth", master="cni0"), LOOSE))),
            {("CNI_VETH_DETACHED", ONE)},
        ),
        # it is being made: every pod that has an address has its port
        (
            read(inside(ONE, ports=(*(Link(p, kind="veth", master="cni0") for p in PORTS), LOOSE))),
            set(),
        ),
        # the node's own link may be of that kind, too, as other programs' may
        (
            read(
                inside(
                    ONE,
                    ports=(
                        Link(PORTS[0], kind="veth", master="cni0"),
                        Link("eth0", kind="veth"),
                        Link("vethvpn0", kind="veth"),
                        Link("vethown", kind="veth", addresses=("198.51.100.1/24",)),
                    ),
                )
            ),
            set(),
        ),
        # what hangs on another bridge is none of ours
        (
            read(inside(ONE, ports=(Link(PORTS[0], kind="veth", master="docker0"),))),
            set(),
        ),
        (
            read(inside(ONE, device(up=False)), inside(TWO, device())),
            {("CNI_BRIDGE_DOWN", ONE), ("CNI_BRIDGE_WITHOUT_ADDRESS", TWO)},
        ),
    ],
)
def test_the_bridge(seen: NodeNetworks, expected: set[tuple[str, str]]) -> None:
    found = findings(bridge, nodes(), cluster(), seen)
    assert said(found) == {(code, f"pod-network:{n}") for code, n in expected}


def test_a_bridge_without_pods_is_nobodys_business() -> None:
    seen = read(inside(ONE, device(up=False)))
    elsewhere = tuple(p for p in HERE if p.node != ONE)
    assert findings(bridge, nodes(), cluster(*elsewhere), seen) == []
    bare = read(inside(ONE, device()))
    assert findings(bridge, nodes(), cluster(*elsewhere), bare) == []
    # but a former address keeps the first pod from starting
    former = read(inside(ONE, device("10.244.99.1/24")))
    (found,) = findings(bridge, nodes(), cluster(*elsewhere), former)
    assert found.code.name == "CNI_BRIDGE_ADDRESS_CONFLICT"
    assert findings(bridge, nodes(), Flannel(addressed=HERE), seen) == []


def test_a_bridge_is_mended_by_what_flannel_gave_the_node() -> None:
    (bare,) = findings(bridge, nodes(), cluster(), read(inside(ONE, device())))
    assert bare.remediation[0].commands == (
        f"ssh {ONE} sudo ip address add {GATEWAYS[ONE]} dev cni0",
    )
    (other,) = findings(
        bridge,
        nodes(),
        cluster(stuck=(StuckPod("shop/x", ONE, CONFLICT, "api:events/shop/x.1"),)),
        read(inside(ONE, device("10.244.99.1/24"))),
    )
    assert "api:events/shop/x.1" in other.evidence
    assert f"ip address add {GATEWAYS[ONE]} dev cni0" in other.remediation[0].commands[0]
    assert "ip address del 10.244.99.1/24 dev cni0" in other.remediation[0].commands[0]
    unknown = msgspec.structs.replace(inside(ONE, device("10.9.9.1/24")), subnet_env=None)
    assert findings(bridge, nodes(), cluster(), read(unknown)) == []


CONFLICT = (
    'rpc error: code = Unknown desc = failed to setup network for sandbox "ab": plugin type="flannel"'
    ' failed (add): failed to delegate add: failed to set bridge addr: "cni0" already has an IP'
    " address different from 10.244.1.1/24"
)
NO_PLUGIN = (
    'failed to setup network for sandbox "ab": plugin type="flannel" failed (add): failed to find'
    ' plugin "flannel" in path [/opt/cni/bin]'
)
NO_BRIDGE = NO_PLUGIN.replace('plugin "flannel" in', 'plugin "bridge" in')
FULL = (
    'failed to setup network for sandbox "ab": plugin type="flannel" failed (add): failed to'
    " delegate add: failed to allocate for range 0: no IP addresses available in range set:"
    " 10.244.1.1-10.244.1.254"
)
UNREADY = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)
ENV = (
    'plugin type="flannel" failed (add): loadFlannelSubnetEnv failed: open /run/flannel/subnet.env:'
    " no such file or directory"
)


def stuck(message: str, on: str = ONE) -> Flannel:
    """Make flannel with a pod that waits for a network."""
    return cluster(stuck=(StuckPod("shop/web-x", on, message, "api:events/shop/web-x.1"),))


def probe(reason: str, on: str = ONE) -> ProbePods:
    """Make a probe pod that could not start."""
    return ProbePods(items=(ProbePod(on, "", reason, f"probe-pod:{on}"),))


NOT_READY = node(ONE, "False", "KubeletNotReady", UNREADY)


@pytest.mark.parametrize(
    ("what", "probes", "changed", "code"),
    [
        (cluster(), None, (), ""),
        (stuck(NO_PLUGIN), None, (), "CNI_PLUGIN_MISSING"),
        (cluster(), probe(NO_PLUGIN), (), "CNI_PLUGIN_MISSING"),
        (cluster(), probe(NO_PLUGIN.replace('"', '\\"')), (), "CNI_PLUGIN_MISSING"),
        (stuck(FULL), None, (), "CNI_ADDRESSES_EXHAUSTED"),
        (cluster(), None, (NOT_READY,), "CNI_CONFIG_MISSING"),
        (cluster(), probe(UNREADY), (), "CNI_CONFIG_MISSING"),
        # look-alikes, which other checks name
        (stuck(ENV), probe(ENV), (), ""),
        (stuck(CONFLICT), None, (), ""),
        (cluster(), probe("ErrImageNeverPull"), (), ""),
        (cluster(), None, (node(ONE, "False", "KubeletNotReady", "PLEG is not healthy"),), ""),
        # where flannel does not run, that is why there is no configuration
        (flannel(without=[ONE]), None, (NOT_READY,), ""),
    ],
)
def test_what_keeps_pods_from_a_network(
    what: Flannel, probes: ProbePods | None, changed: tuple[Node, ...], code: str
) -> None:
    found = findings(sandboxes, nodes(*changed), what, probes)
    assert said(found) == ({(code, f"flannel:{ONE}")} if code else set())


def test_a_plugin_is_put_back_by_who_brings_it() -> None:
    (own,) = findings(sandboxes, nodes(), stuck(NO_PLUGIN), None)
    assert any("delete pod kube-flannel-ds" in c for c in own.remediation[0].commands)
    (other,) = findings(sandboxes, nodes(), stuck(NO_BRIDGE), None)
    assert not any("delete pod" in c for c in other.remediation[0].commands)
    assert "bridge" in other.title


def test_leaked_leases_are_told_from_a_full_node() -> None:
    (leaked,) = findings(sandboxes, nodes(), stuck(FULL), None)
    assert "only 2 pods" in leaked.title
    freeing = leaked.remediation[0].commands[1]
    assert "10\\.244\\.1\\.5" in freeing
    many = tuple(PodAddress(f"shop/p{i}", ONE, f"10.244.1.{i}") for i in range(2, 254))
    full = msgspec.structs.replace(stuck(FULL), addressed=many)
    (really,) = findings(sandboxes, nodes(), full, None)
    assert "252 pods there hold them" in really.title
    assert not any("rm" in c for c in really.remediation[0].commands)


STRAY = PodAddress("shop/web-x", ONE, "10.99.0.5")


@pytest.mark.parametrize(
    ("what", "seen", "changed", "expected"),
    [
        (cluster(), networks(), (), set()),
        (cluster(*HERE, STRAY), None, (), {ONE}),
        (cluster(*HERE, STRAY), networks(), (), {ONE}),
        # an address of what flannel gives there is flannel's matter
        (
            cluster(*HERE, STRAY),
            networks(network(ONE, env=SubnetEnv("10.99.0.0/16", "10.99.0.1/24"))),
            (),
            set(),
        ),
        (cluster(*HERE, PodAddress("shop/v6", ONE, "fd00::5")), None, (), set()),
        (cluster(*HERE, PodAddress("shop/odd", ONE, "no address")), None, (), set()),
        (cluster(*HERE, STRAY), None, (node(ONE, cidr=""),), set()),
        (Flannel(addressed=(STRAY,)), None, (), set()),
    ],
)
def test_pods_outside_of_their_podcidr(
    what: Flannel, seen: NodeNetworks | None, changed: tuple[Node, ...], expected: set[str]
) -> None:
    found = findings(pod_addresses, nodes(*changed), what, seen)
    assert said(found) == {("CNI_POD_OUTSIDE_PODCIDR", f"pod-network:{n}") for n in expected}


@pytest.mark.parametrize(
    ("strays", "since", "severity"),
    [
        # all that was made after it is outside, too
        (1, "2026-01-03", Severity.FAIL),
        (2, "2026-01-03", Severity.FAIL),
        # flannel gives later ones their addresses, as it should
        (1, "2026-01-01", Severity.WARN),
        # but not where most are outside: pods that are older than a restart got theirs anew
        (3, "2026-01-01", Severity.FAIL),
    ],
)
def test_another_configuration_is_in_force_where_what_is_new_is_outside(
    strays: int, since: str, severity: Severity
) -> None:
    older = tuple(msgspec.structs.replace(p, since="2026-01-02") for p in HERE)
    out = [msgspec.structs.replace(STRAY, pod=f"shop/x{i}", since=since) for i in range(strays)]
    (found,) = findings(pod_addresses, nodes(), cluster(*older, *out), None)
    assert found.severity is severity
    aside = any("set-aside" in c for c in found.remediation[0].commands)
    assert aside == ("in force" in found.title) == (severity is Severity.FAIL)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ((), set()),
        ((node(TWO, cidr=CIDRS[ONE]),), {f"{ONE},{TWO}"}),
        ((node(TWO, cidr="10.244.0.0/23"),), {f"{MASTER},{TWO}", f"{ONE},{TWO}"}),
        ((node(TWO, cidr=""),), set()),
        ((node(TWO, cidr="fd00::/64"), node(ONE, cidr="fd00::/64")), set()),
    ],
)
def test_podcidrs_that_overlap(changed: tuple[Node, ...], expected: set[str]) -> None:
    """Look-alikes: pods outside of theirs, which are none of this check's."""
    found = findings(pod_cidrs, nodes(*changed), cluster(*HERE, STRAY))
    assert said(found) == {("FLANNEL_PODCIDR_OVERLAP", f"pod-network:{w}") for w in expected}


def test_the_node_that_came_later_is_registered_anew() -> None:
    def born(name: str, at: str, cidr: str) -> Node:
        made = node(name, cidr=cidr)
        meta = msgspec.structs.replace(made.metadata, creation_timestamp=at)
        return msgspec.structs.replace(made, metadata=meta)

    older = born(TWO, "2026-01-01T00:00:00Z", CIDRS[ONE])
    later = born(ONE, "2026-02-01T00:00:00Z", CIDRS[ONE])
    (found,) = findings(pod_cidrs, nodes(older, later), cluster())
    commands = found.remediation[0].commands
    assert f"kubectl delete node {ONE}" in commands
    # the controller manager would give it the other's once more: the first that is free is taken
    (made,) = (c for c in commands if "kubectl create" in c)
    assert f'"name":"{ONE}"' in made
    assert f'"podCIDR":"{CIDRS[TWO]}"' in made


def test_without_a_free_podcidr_the_controller_manager_is_asked() -> None:
    crowded = cluster(network="10.244.0.0/23")
    crowd = node(TWO, cidr="10.244.1.0/24"), node(ONE, cidr="10.244.1.0/24")
    (found,) = findings(pod_cidrs, nodes(*crowd), crowded)
    assert not any("kubectl create" in c for c in found.remediation[0].commands)


@pytest.mark.parametrize("hairpin", [True, False])
def test_a_link_is_attached_as_the_others_are(*, hairpin: bool) -> None:
    other = Link(PORTS[0], kind="veth", master="cni0", hairpin=hairpin)
    (found,) = findings(bridge, nodes(), cluster(), read(inside(ONE, ports=(other, LOOSE))))
    (command,) = found.remediation[0].commands
    assert command.startswith(f'ssh {ONE} "sudo ip link set {LOOSE.name} master cni0')
    assert (f"{LOOSE.name} type bridge_slave hairpin on" in command) is hairpin
