"""Nodes that are ready, cordoned, silent, or without a pod network."""

import msgspec
import pytest

from checks.node import ready
from doctor.model.kube import NodeInfo, NodeSpec
from tests.rules.factories import ONE, findings, node, nodes, said

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
