"""Flannel missing, failing, misled, or merely remembered by an old event."""

import msgspec
import pytest

from checks.flannel.daemon import on_every_node
from checks.flannel.subnet import subnet_env
from doctor.model.evidence import Flannel, Logs, NodeNetworks, Nodes, ProbePod, ProbePods
from doctor.model.kube import Event, Meta, Pod
from doctor.model.node import SubnetEnv
from doctor.model.verdict import Gap
from tests.rules.factories import (
    MASTER,
    NAMES,
    ONE,
    TWO,
    daemonset,
    findings,
    flannel,
    labelled,
    network,
    networks,
    node,
    nodes,
    pod,
    said,
)

OLD = Event(
    metadata=Meta(name="controller.1", namespace="metallb-system"),
    reason="FailedCreatePodSandBox",
    message='plugin type="flannel" failed (add): loadFlannelSubnetEnv failed: '
    "open /run/flannel/subnet.env: no such file or directory",
)
STUCK = ProbePods(items=(ProbePod(ONE, "", OLD.message, f"probe-pod:{ONE}"),))
SILENT = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
EDGE = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}
GONE, BAD = "FLANNEL_NOT_ON_NODE", "FLANNEL_NOT_READY"


def broken(on: str, *, deleted: bool = False) -> Pod:
    """Make a flannel pod that crashes."""
    return pod(
        f"fl-{on}",
        on,
        namespace="kube-flannel",
        ready=False,
        waiting="CrashLoopBackOff",
        deleted=deleted,
    )


@pytest.mark.parametrize(
    ("where", "what", "expected"),
    [
        (nodes(), flannel(), {}),
        (nodes(), msgspec.structs.replace(flannel(), events=(OLD,)), {}),
        (nodes(), flannel(without=[ONE]), {(GONE, f"flannel:{ONE}"): ()}),
        (nodes(), flannel(without=NAMES), {(GONE, "flannel:*"): ()}),
        (
            nodes(),
            flannel(without=[ONE, TWO]),
            {(GONE, f"flannel:{ONE}"): (), (GONE, f"flannel:{TWO}"): (f"flannel:{ONE}",)},
        ),
        (nodes(), flannel(broken(ONE)), {(BAD, f"flannel:{ONE}"): ()}),
        (nodes(), flannel(*map(broken, NAMES)), {(BAD, "flannel:*"): ()}),
        (nodes(), flannel(broken(ONE, deleted=True)), {}),
        (nodes(), flannel(broken(ONE), pod("new", ONE)), {}),
        (nodes(), flannel(pod("evicted", ONE, phase="Failed")), {(GONE, f"flannel:{ONE}"): ()}),
        (
            nodes(node(ONE, *SILENT)),
            flannel(broken(ONE)),
            {(BAD, f"flannel:{ONE}"): (f"node:{ONE}",)},
        ),
        (nodes(), msgspec.structs.replace(flannel(), pods=(), gaps=(Gap("api:pods", "403"),)), {}),
        (nodes(), Flannel(absent="another CNI"), {}),
    ],
)
def test_flannel_on_every_node(
    where: Nodes, what: Flannel, expected: dict[tuple[str, str], tuple[str, ...]]
) -> None:
    found = findings(on_every_node, where, what, None, Logs())
    assert {
        (f.code.name, str(f.hop)): tuple(str(h) for h in f.consequence_of) for f in found
    } == expected


@pytest.mark.parametrize(
    ("labels", "probes", "expected"),
    [
        ({"type": "virtual-kubelet"}, None, set()),
        (EDGE, None, set()),
        ({"node-role.kubernetes.io/edge": ""}, None, {(GONE, f"flannel:{ONE}")}),
        # whatever it says, its pods wait for flannel
        (EDGE, STUCK, {(GONE, f"flannel:{ONE}")}),
    ],
)
def test_nodes_that_run_no_flannel_on_purpose(
    labels: dict[str, str], probes: ProbePods | None, expected: set[tuple[str, str]]
) -> None:
    what = flannel(without=[ONE])
    found = findings(on_every_node, nodes(labelled(ONE, labels)), what, probes, Logs())
    assert said(found) == expected
    drawn = " ".join(c for f in found for m in f.remediation for c in m.commands)
    assert "virtual-kubelet" not in drawn


def test_what_is_said_of_a_missing_flannel() -> None:
    (found,) = findings(on_every_node, nodes(), flannel(without=[ONE]), STUCK, Logs())
    assert f"{ONE}: its DaemonSet kube-flannel/kube-flannel-ds wants 2 pods" in found.title
    assert "subnet.env" in found.title
    assert f"probe-pod:{ONE}" in found.evidence
    assert "api:daemonsets/kube-flannel/kube-flannel-ds" in found.evidence
    assert any(c.startswith("kubectl -n kube-flannel patch") for c in found.remediation[0].commands)
    pull = ProbePods(items=(ProbePod(ONE, "", "ErrImageNeverPull", f"probe-pod:{ONE}"),))
    (other,) = findings(on_every_node, nodes(), flannel(without=[ONE]), pull, Logs())
    assert "subnet.env" not in other.title
    assert f"probe-pod:{ONE}" not in other.evidence


def test_one_daemonset_of_several_is_not_sent_everywhere() -> None:
    sets = tuple(daemonset("kube-system", f"kube-flannel-ds-{a}", 1) for a in ("amd64", "arm64"))
    what = msgspec.structs.replace(flannel(without=[ONE]), daemonsets=sets)
    (found,) = findings(on_every_node, nodes(), what, None, Logs())
    assert not any("patch" in c for r in found.remediation for c in r.commands)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (broken(ONE), f"not ready on {ONE}: CrashLoopBackOff (kube-flannel/fl-"),
        (pod("fl", ONE, ready=False), "Running and not ready"),
        (pod("fl", ONE, ready=False, waiting="Error", exit_code=2), "Error (exit code 2)"),
    ],
)
def test_why_flannel_is_not_ready(what: Pod, expected: str) -> None:
    (found,) = findings(on_every_node, nodes(), flannel(what), None, Logs())
    assert expected in found.title


@pytest.mark.parametrize(
    ("what", "read", "expected"),
    [
        (flannel(), networks(), set()),
        (flannel(), None, set()),
        (flannel(), NodeNetworks(), set()),
        (
            flannel(),
            networks(network(ONE, env=False)),
            {("FLANNEL_SUBNET_ENV_MISSING", f"flannel:{ONE}")},
        ),
        (flannel(broken(ONE)), networks(network(ONE, env=False)), set()),
        (
            flannel(),
            networks(network(TWO, env=SubnetEnv("10.244.0.0/16", "10.244.9.1/24"))),
            {("FLANNEL_SUBNET_MISMATCH", f"flannel:{TWO}")},
        ),
        (flannel(network="10.245.0.0/16"), None, {("FLANNEL_SUBNET_MISMATCH", "flannel:*")}),
        (
            flannel(network="10.245.0.0/16"),
            networks(network(TWO, env=SubnetEnv("10.245.0.0/16", "10.245.9.1/24"))),
            {("FLANNEL_SUBNET_MISMATCH", "flannel:*")},
        ),
        (flannel(), networks(network(TWO, env=SubnetEnv("", ""))), set()),
        (flannel(network=""), None, set()),
        (flannel(network="not a network"), None, set()),
    ],
)
def test_subnets(what: Flannel, read: NodeNetworks | None, expected: set[tuple[str, str]]) -> None:
    assert said(findings(subnet_env, nodes(), what, read)) == expected


def test_a_wrong_network_is_mended_by_the_one_that_pods_come_from() -> None:
    (found,) = findings(subnet_env, nodes(), flannel(network="10.245.0.0/16"), None)
    assert "sed 's#10.245.0.0/16#10.244.0.0/16#'" in found.remediation[0].commands[0]
    crash = findings(
        on_every_node, nodes(), flannel(broken(MASTER), network="10.245.0.0/16"), None, Logs()
    )
    assert found.hop.covers(crash[0].consequence_of[0])


def test_a_subnet_at_odds_with_a_podcidr_that_is_anothers_is_no_cause() -> None:
    read = networks(network(TWO))
    (own,) = findings(subnet_env, nodes(node(TWO, cidr="10.244.9.0/24")), flannel(), read)
    (twice,) = findings(subnet_env, nodes(node(TWO, cidr="10.244.1.0/24")), flannel(), read)
    assert own.consequence_of == ()
    assert [str(h) for h in twice.consequence_of] == [f"pod-network:{TWO}"]
