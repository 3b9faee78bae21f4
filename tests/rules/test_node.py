"""Nodes that are ready, cordoned, silent, or without a pod network."""

import msgspec
import pytest

from checks.node import network_available, ready
from doctor.model.evidence import Nodes
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Condition, NodeInfo, NodeSpec
from tests.rules.factories import MASTER, ONE, findings, node, nodes, said

PLANE = "node-role.kubernetes.io/control-plane"
SILENT = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
NO_CNI = (
    "False",
    "KubeletNotReady",
    "network not ready: reason:NetworkPluginNotReady message:cni plugin not initialized",
)


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (SILENT, "", "Kubelet stopped posting node status (NodeStatusUnknown)"),
        (NO_CNI, f"flannel:{ONE}", "cni plugin not initialized"),
    ],
)
def test_a_node_that_is_not_ready(status: tuple[str, ...], cause: str, words: str) -> None:
    (found,) = findings(ready, nodes(node(ONE, *status)))
    assert said([found]) == {("NODE_NOT_READY", f"node:{ONE}")}
    assert [str(h) for h in found.consequence_of] == ([cause] if cause else [])
    assert words in found.title


def test_reports_that_may_be_lost_on_their_way() -> None:
    """Only what is lost for all explains a silent kubelet: not what is lost of pods alone."""
    plane = node(MASTER)
    labelled = msgspec.structs.replace(plane.metadata, labels={PLANE: ""})
    items = nodes(node(ONE, *SILENT), msgspec.structs.replace(plane, metadata=labelled))
    (found,) = findings(ready, items)
    assert [str(h) for h in found.consequence_of] == [f"underlay:{MASTER}>{ONE}:tcp/6443"]
    down, tunnel = (Hop(HopKind.UNDERLAY, f"*>{ONE}", what) for what in ("", "udp/8472"))
    assert down.covers(found.consequence_of[0])
    assert not tunnel.covers(found.consequence_of[0])
    told = nodes(node(ONE, "False", "KubeletNotReady", "PLEG is not healthy"), *items.items[:1])
    (own,) = findings(ready, told)
    assert own.consequence_of == ()


def test_decoys() -> None:
    cordoned = msgspec.structs.replace(node(ONE), spec=NodeSpec(unschedulable=True))
    windows = node(ONE, *SILENT)
    status = msgspec.structs.replace(windows.status, node_info=NodeInfo("windows"))
    unreported = msgspec.structs.replace(windows.status, conditions=None)
    for item in (
        node(ONE),
        cordoned,
        msgspec.structs.replace(windows, status=status),
        msgspec.structs.replace(windows, status=unreported),
    ):
        assert findings(ready, nodes(item)) == []


def unavailable(status: str, os: str = "") -> Nodes:
    """Make nodes of which one says something about its network."""
    one = node(ONE)
    told = Condition("NetworkUnavailable", status, "NoRouteCreated", "RouteController is slow.")
    conditions = (*(one.status.conditions or ()), told)
    info = NodeInfo(os)
    new = msgspec.structs.replace(one.status, conditions=conditions, node_info=info)
    return nodes(msgspec.structs.replace(one, status=new))


def test_a_node_whose_network_is_not_available() -> None:
    (found,) = findings(network_available, unavailable("True"))
    assert said([found]) == {("NODE_NETWORK_UNAVAILABLE", f"node:{ONE}")}
    assert "RouteController is slow)" in found.title
    assert [str(h) for h in found.consequence_of] == [f"flannel:{ONE}"]
    assert found.remediation[0].commands[0].endswith(f"--field-selector spec.nodeName={ONE}")


def test_networks_that_are_available() -> None:
    for table in (nodes(), unavailable("False"), unavailable("True", "windows")):
        assert findings(network_available, table) == []
    silent = nodes(node(ONE, *SILENT))
    assert findings(network_available, silent) == []
