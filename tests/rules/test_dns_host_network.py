"""Pods on their nodes' own network that look Services up at the nodes' resolvers."""

import msgspec
import pytest

from checks.dns.host_network import host_network
from doctor.bundle.schema import SCHEMA, ApiRecord, Bundle, Question
from doctor.evidence.host_pods import host_pods
from doctor.evidence.world import World
from doctor.model.evidence import HostPod, HostPods, NodeResolver, Resolvers
from doctor.model.finding import Confidence, Finding, Risk, Severity
from doctor.model.kube import Pod
from doctor.model.resolver import ResolvConf
from tests.rules.factories import DNS_IP, ONE, TWO, findings, pod, said

NAME = "policy.site-policy.svc:443"
PODS = (ResolvConf((DNS_IP,)),)


def item(name: str = "web-1", on: str = ONE, workload: str = "deployment/web") -> HostPod:
    """Make a failing pod on its node's own network."""
    return HostPod(pod(name, on, namespace="shop", ready=False), (NAME,), workload)


def resolvers(*own: str, on: str = ONE) -> Resolvers:
    """Make what was read of one node's resolv.conf."""
    items = (NodeResolver(on, PODS[0], ResolvConf(own) if own else None, f"resolv.conf:{on}"),)
    return Resolvers(items=items)


def judge(*items: HostPod, read: Resolvers | None = None, server: str = DNS_IP) -> list[Finding]:
    """Run the check."""
    return findings(host_network, HostPods(items=items, server=server), read)


def test_it_asks_the_nodes_resolver() -> None:
    (found,) = judge(item(), read=resolvers("192.0.2.53"))
    assert said([found]) == {("DNS_HOST_NETWORK_POLICY", "pod:shop/web-1")}
    assert (found.severity, found.confidence) == (Severity.FAIL, Confidence.LIKELY)
    assert NAME in found.title
    (mend,) = found.remediation
    patch = '{"spec":{"template":{"spec":{"dnsPolicy":"ClusterFirstWithHostNet"}}}}'
    assert mend.commands == (f"kubectl -n shop patch deployment/web --type=merge -p '{patch}'",)
    assert f"node:{ONE}" in found.evidence


def test_pods_of_one_workload_are_one_finding() -> None:
    (found,) = judge(item(), item("web-2", TWO), read=resolvers("192.0.2.53"))
    assert str(found.hop) == "pod:shop/web-1,shop/web-2"
    # of the other node nothing was read
    assert found.confidence is Confidence.POSSIBLE
    assert f"node:{ONE}" not in found.evidence
    assert len(judge(item(), item("db-1", TWO, "statefulset/db"))) == 2


def test_a_pod_that_nothing_made_is_made_anew() -> None:
    (found,) = judge(item(workload=""))
    (mend,) = found.remediation
    assert mend.risk is Risk.DISRUPTIVE
    assert "get pod/web-1 -o yaml" in mend.commands[0]


def test_a_node_that_asks_the_clusters_dns() -> None:
    assert judge(item(), read=resolvers(DNS_IP, "192.0.2.53")) == []
    assert judge(item(), server="") == []
    assert judge() == []


@pytest.mark.parametrize(
    ("site", "severity"),
    [
        (("shop/web-1",), Severity.FAIL),
        (("shop/other",), Severity.WARN),
        ((), Severity.FAIL),
    ],
)
def test_pods_that_no_url_crosses(site: tuple[str, ...], severity: Severity) -> None:
    table = HostPods(items=(item(),), server=DNS_IP, site=site)
    (found,) = findings(host_network, table, resolvers("192.0.2.53"))
    assert found.severity is severity


def made(**changed: object) -> dict[str, object]:
    """Make a pod as the API server tells of it."""
    spec = {"nodeName": ONE, "hostNetwork": True, "dnsPolicy": "ClusterFirst"} | changed
    target = spec.pop("target", NAME)
    ready = spec.pop("ready", "False")
    dependencies = [{"name": "DEPENDS_ON", "targets": [target]}]
    return {
        "metadata": {
            "name": "web-5d-1",
            "namespace": "shop",
            "labels": {"app": "web"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d"}],
        },
        "spec": {**spec, "containers": [{"name": "main", "dependencies": dependencies}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }


def table(thing: dict[str, object]) -> HostPods:
    """Build the table of a cluster with one pod and two Services."""
    services = [
        {"metadata": {"name": "policy", "namespace": "site-policy"}},
        {"metadata": {"name": "db", "namespace": "shop"}},
        {
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"k8s-app": "kube-dns"},
            },
            "spec": {"clusterIP": DNS_IP, "selector": {"k8s-app": "kube-dns"}},
        },
    ]
    records = tuple(
        ApiRecord(kind, msgspec.Raw(msgspec.json.encode(items)))
        for kind, items in (("pods", [thing]), ("services", services))
    )
    bundle = Bundle(schema=SCHEMA, tool="", created="", question=Question(), records=records)
    return host_pods(World(bundle), "cluster.local")


@pytest.mark.parametrize(
    "target",
    [
        NAME,
        "policy.site-policy:443",
        "policy.site-policy.svc.cluster.local:443",
        "Policy.Site-Policy.svc.cluster.local.:443",
        "db:5432",
    ],
)
def test_names_of_services(target: str) -> None:
    found = table(made(target=target))
    assert [i.names for i in found.items] == [(target,)]
    assert found.items[0].workload == "deployment/web"
    assert isinstance(found.items[0].pod, Pod)
    assert found.server == DNS_IP


@pytest.mark.parametrize(
    "changed",
    [
        {"hostNetwork": False},
        {"dnsPolicy": "ClusterFirstWithHostNet"},
        {"dnsPolicy": "Default"},
        {"dnsPolicy": "None"},
        {"ready": "True"},
        {"target": "10.96.0.7:443"},
        {"target": "db.example.net:5432"},
        {"target": "policy:443"},
        {"target": "policy.site-policy.pod:443"},
    ],
)
def test_pods_that_are_not_judged(changed: dict[str, object]) -> None:
    assert table(made(**changed)).items == ()
