"""What kube-proxy is told, and how many there are."""

import msgspec
import pytest

from checks.kube_proxy.config import api_server, cluster_cidr, one_instance
from doctor.model.evidence import Flannel, KubeProxy, ServiceIpFlows
from doctor.model.failure import Failure
from doctor.model.finding import Severity
from doctor.model.flow import Purpose
from doctor.model.kube import Owner, Pod
from tests.rules.factories import (
    ADDRESSES,
    MASTER,
    NAMES,
    ONE,
    daemonset,
    findings,
    flannel,
    nodes,
    pod,
    said,
    seen,
    vantage,
)

CIDR, API = "KUBE_PROXY_CLUSTER_CIDR_WRONG", "KUBE_PROXY_API_UNREACHABLE"
TWICE = "KUBE_PROXY_DUPLICATE"
SERVER = "https://172.20.112.99:6443"
KEY = "kube-system/kube-proxy"


def told(
    cidr: str | None = "10.244.0.0/16",
    detect: str = "",
    *,
    server: str = "",
    more: Pod | None = None,
) -> KubeProxy:
    """Make kube-proxy as it is configured, ready on every node."""
    pods = tuple(pod(f"kube-proxy-{n}", n, image="registry/kube-proxy:v1") for n in NAMES)
    return KubeProxy(
        daemonset=daemonset("kube-system", "kube-proxy"),
        pods=pods,
        mode="iptables",
        config=KEY,
        cluster_cidr=cidr,
        detect_local=detect,
        server=server,
        instances=(*pods, more) if more else pods,
    )


@pytest.mark.parametrize(
    ("what", "fabric", "expected"),
    [
        (told(), flannel(), set()),
        (told("10.99.0.0/16"), flannel(), {(CIDR, "kube-proxy:*:cluster-cidr")}),
        (told(""), flannel(), {(CIDR, "kube-proxy:*:cluster-cidr")}),
        (told("not a network"), flannel(), {(CIDR, "kube-proxy:*:cluster-cidr")}),
        (told("fd00::/56,10.244.0.0/16"), flannel(), set()),
        (told("10.0.0.0/8"), flannel(), set()),
        # told another way, or not known
        (told("", "NodeCIDR"), flannel(), set()),
        (told(None), flannel(), set()),
        (told(""), flannel(network=""), set()),
        (told(""), None, set()),
        (told(""), Flannel(absent="flannel is not installed in this cluster"), set()),
    ],
)
def test_the_pods_network(
    what: KubeProxy, fabric: Flannel | None, expected: set[tuple[str, str]]
) -> None:
    found = findings(cluster_cidr, what, fabric)
    assert said(found) == expected
    assert {f.severity for f in found} <= {Severity.WARN}


@pytest.mark.parametrize(
    ("what", "fabric", "expected"),
    [
        # the network that flannel was given is the wrong one
        (told(), flannel(network="10.99.0.0/16"), set()),
        (told("10.99.0.0/16"), flannel(), {(CIDR, "kube-proxy:*:cluster-cidr")}),
        (told(""), flannel(), {(CIDR, "kube-proxy:*:cluster-cidr")}),
    ],
)
def test_the_nodes_know_the_pods_network_too(
    what: KubeProxy, fabric: Flannel, expected: set[tuple[str, str]]
) -> None:
    assert said(findings(cluster_cidr, what, fabric, nodes())) == expected


def asked(
    *answering: str, direct: Failure | None = None, how: Failure = Failure.NO_ROUTE
) -> ServiceIpFlows:
    """Ask for the API server where kube-proxy looks for it, and directly, from every node."""
    found = []
    for name in NAMES:
        where, answer = vantage("node", name), None if name in answering else how
        found.append(seen(Purpose.PROXY_API, where, "172.20.112.99", 6443, answer))
        found.append(seen(Purpose.API_DIRECT, where, ADDRESSES[MASTER], 6443, direct))
    return ServiceIpFlows(observations=tuple(found))


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        (ServiceIpFlows(), set()),
        (asked(), {(API, "kube-proxy:*")}),
        (asked(how=Failure.CONNECTION_REFUSED), {(API, "kube-proxy:*")}),
        # a load balancer in front of several
        (asked(*NAMES), set()),
        # a filter or a route on some nodes
        (asked(ONE), set()),
        # nothing answers: the network is broken
        (asked(direct=Failure.TIMEOUT), set()),
        (asked(how=Failure.UNKNOWN), set()),
    ],
)
def test_where_the_api_server_is(flows: ServiceIpFlows, expected: set[tuple[str, str]]) -> None:
    found = findings(api_server, told(server=SERVER), flows, nodes())
    assert said(found) == expected
    assert all(f"https://{ADDRESSES[MASTER]}:6443" in f.remediation[0].commands[0] for f in found)


def test_a_kube_proxy_that_is_not_ready_is_said() -> None:
    what = told(server=SERVER)
    off = msgspec.structs.replace(what, pods=what.pods[1:])
    titles = [findings(api_server, k, asked(), nodes())[0].title for k in (what, off)]
    assert ["not ready" in t for t in titles] == [False, True]


STRAY = pod("old", ONE, image="registry/kube-proxy:v0")
MADE = msgspec.structs.replace(
    STRAY,
    metadata=msgspec.structs.replace(
        STRAY.metadata, owner_references=(Owner(kind="DaemonSet", name="proxy-old"),)
    ),
)


@pytest.mark.parametrize(
    ("more", "command"),
    [
        (None, ""),
        (STRAY, "kubectl -n kube-system delete pod old"),
        (MADE, "kubectl -n kube-system delete daemonset proxy-old"),
        # during a rollout
        (pod("new", ONE, ready=False), ""),
        (pod("going", ONE, deleted=True), ""),
    ],
)
def test_instances(more: Pod | None, command: str) -> None:
    found = findings(one_instance, told(more=more))
    assert said(found) == ({(TWICE, f"kube-proxy:{ONE}:instances")} if command else set())
    assert [f.remediation[0].commands for f in found] == ([(command,)] if command else [])
