"""Why flannel does not run on a node: the last words and the node tell, each cause by its own code.

All lines were said by flannel 0.28 in the lab, but for the one about br_netfilter: the lab's nodes
share one kernel, which has that module, so there flannel was only kept from seeing it.
"""

import json

import msgspec
import pytest

from checks.common import shortened
from checks.flannel.daemon import on_every_node
from checks.kube_proxy.running import KUBE_PROXY_NOT_ON_NODE
from doctor.engine.attribute import Said, attribute
from doctor.model.evidence import Flannel, Logs
from doctor.model.finding import Finding
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Node, NodeSpec, Pod
from doctor.model.logs import ContainerLog, LogLine
from tests.rules.factories import MASTER, NAMES, ONE, TWO, findings, flannel, node, nodes, pod, said

HEAD = "E1124 12:18:41.223000       1 main.go:359] "
DENIED = (
    "Failed to create SubnetManager: error retrieving pod spec for 'kube-flannel/kube-flannel-ds-x':"
    ' pods "kube-flannel-ds-x" is forbidden: User "system:serviceaccount:kube-flannel:flannel"'
    ' cannot get resource "pods" in API group "" in the namespace "kube-flannel"'
)
NETCONF = (
    "Failed to create SubnetManager: error parsing subnet config: invalid character ',' looking for"
    " beginning of object key string"
)
MODULE = (
    "Failed to check br_netfilter: stat /proc/sys/net/bridge/bridge-nf-call-iptables: no such file"
    " or directory"
)
NO_API = (
    "Failed to create SubnetManager: error retrieving pod spec for 'kube-flannel/kube-flannel-ds-x':"
    ' Get "https://10.96.0.1:443/api/v1/namespaces/kube-flannel/pods/x": dial tcp 10.96.0.1:443:'
    " i/o timeout"
)
NO_CIDR = (
    'Error registering network: failed to acquire lease: node "k8s-worker-1.novalocal" pod cidr not'
    " assigned"
)
BAD = "FLANNEL_NOT_READY"


def broken(on: str = ONE) -> Pod:
    """Make a pod of flannel that crashes."""
    name = f"kube-flannel-ds-{on[:12]}"
    return pod(name, on, namespace="kube-flannel", ready=False, waiting="CrashLoopBackOff")


def words(*lines: str, on: str = ONE) -> ContainerLog:
    """Make what such a pod said last."""
    told = tuple(LogLine(HEAD + line) for line in lines)
    return ContainerLog(broken(on).key, on, "kube-flannel", told, previous=True)


def judge(
    *logs: ContainerLog,
    items: tuple[Node, ...] = (),
    pods: tuple[Pod, ...] = (),
    **changed: object,
) -> list[Finding]:
    """Judge flannel with one broken pod, or with those given."""
    what: Flannel = msgspec.structs.replace(flannel(*(pods or (broken(),))), **changed)
    return findings(on_every_node, nodes(*items), what, None, Logs(items=logs))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (DENIED, "FLANNEL_RBAC_DENIED"),
        (NETCONF, "FLANNEL_NETCONF_INVALID"),
        (MODULE, "FLANNEL_BR_NETFILTER_MISSING"),
        (NO_API, "FLANNEL_API_UNREACHABLE"),
        (NO_CIDR, "FLANNEL_PODCIDR_UNASSIGNED"),
        ("the sky fell down", BAD),
        ("", BAD),
    ],
)
def test_last_words_tell_the_cause(line: str, code: str) -> None:
    (found,) = judge(words("Starting", line, "Exiting cleanly..."))
    assert (found.code.name, str(found.hop)) == (code, f"flannel:{ONE}")
    assert found.evidence[0] == f"api:pods/{broken().key}"
    assert f"log:{broken().key}/kube-flannel" in found.evidence


def test_the_last_of_several_lines_is_quoted_without_what_changes() -> None:
    (found,) = judge(words(DENIED.replace("pods", "nodes"), DENIED))
    assert "cannot get resource “pods”" not in found.title
    assert "error retrieving pod spec" in found.title
    assert "E1124" not in found.title


def test_without_a_log_what_the_node_lacks_still_tells() -> None:
    bare = (node(ONE, cidr=""),)
    (found,) = judge(items=bare)
    assert found.code.name == "FLANNEL_PODCIDR_UNASSIGNED"
    off = ("--allocate-node-cidrs=false", "--cluster-cidr=10.244.0.0/16")
    (told,) = judge(items=bare, assigner=off)
    assert "told to assign none" in told.title
    on = ("--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16")
    (waits,) = judge(items=bare, assigner=on)
    assert "told to assign none" not in waits.title


@pytest.mark.parametrize(
    ("assigner", "code"),
    [
        # the others have 10.244.0.0/24 and 10.244.2.0/24
        (("--cluster-cidr=10.244.0.0/22", "--node-cidr-mask-size=23"), "EXHAUSTED"),
        (("--cluster-cidr=10.244.0.0/24",), "EXHAUSTED"),
        (("--cluster-cidr=10.244.0.0/23",), "UNASSIGNED"),
        (("--cluster-cidr=10.244.0.0/16", "--allocate-node-cidrs=true"), "UNASSIGNED"),
        (("--cluster-cidr=10.244.0.0/24", "--allocate-node-cidrs=false"), "UNASSIGNED"),
        (("--cluster-cidr=10.244.0.0/24", "--node-cidr-mask-size=8"), "UNASSIGNED"),
        (("--cluster-cidr=no network",), "UNASSIGNED"),
        ((), "UNASSIGNED"),
    ],
)
def test_a_range_that_is_used_up_is_told_from_none_that_is_assigned(
    assigner: tuple[str, ...], code: str
) -> None:
    (found,) = judge(words(NO_CIDR), items=(node(ONE, cidr=""),), assigner=assigner)
    assert found.code.name == f"FLANNEL_PODCIDR_{code}"
    if code == "EXHAUSTED":
        assert assigner[0].partition("=")[2] in found.title


def test_a_configmap_that_cannot_be_read_tells_without_a_log() -> None:
    (found,) = judge(problem="JSON is malformed: trailing comma")
    assert found.code.name == "FLANNEL_NETCONF_INVALID"
    assert "trailing comma" in found.title
    assert "api:configmaps/kube-flannel/kube-flannel-cfg" in found.evidence
    # what flannel says itself goes before it
    (other,) = judge(words(DENIED), problem="JSON is malformed")
    assert other.code.name == "FLANNEL_RBAC_DENIED"
    # as long as flannel runs with the former one, it is no finding yet
    what = msgspec.structs.replace(flannel(), problem="JSON is malformed")
    assert findings(on_every_node, nodes(), what, None, Logs()) == []


def test_pods_whose_logs_were_not_read_share_the_cause() -> None:
    found = judge(words(DENIED), pods=(broken(ONE), broken(TWO)))
    assert said(found) == {
        ("FLANNEL_RBAC_DENIED", f"flannel:{ONE}"),
        ("FLANNEL_RBAC_DENIED", f"flannel:{TWO}"),
    }
    assert sum(not f.consequence_of for f in found) == 1


def test_two_causes_on_two_nodes_stay_two() -> None:
    found = judge(words(MODULE), words(NO_API, on=TWO), pods=(broken(ONE), broken(TWO)))
    assert said(found) == {
        ("FLANNEL_BR_NETFILTER_MISSING", f"flannel:{ONE}"),
        ("FLANNEL_API_UNREACHABLE", f"flannel:{TWO}"),
    }


def test_an_api_server_out_of_reach_may_be_kube_proxys_fault() -> None:
    (found,) = judge(words(NO_API))
    assert Hop(HopKind.KUBE_PROXY, ONE) in found.consequence_of
    (other,) = judge(words(DENIED))
    assert Hop(HopKind.KUBE_PROXY, ONE) not in other.consequence_of


def test_where_kube_proxy_is_missing_flannel_only_echoes_it() -> None:
    (echo,) = judge(words(NO_API))
    cause = msgspec.structs.replace(
        echo, code=KUBE_PROXY_NOT_ON_NODE, hop=Hop(HopKind.KUBE_PROXY, ONE), consequence_of=()
    )
    told = [Said("flannel.on-every-node", echo), Said("kube-proxy.on-every-node", cause)]
    (diagnosis,) = attribute(told, ())[0]
    assert diagnosis.finding is cause
    elsewhere = msgspec.structs.replace(cause, hop=Hop(HopKind.KUBE_PROXY, TWO))
    told = [Said("flannel.on-every-node", echo), Said("kube-proxy.on-every-node", elsewhere)]
    assert len(attribute(told, ())[0]) == 2


def commands(found: Finding) -> str:
    """Join the commands of a finding."""
    return "\n".join(c for r in found.remediation for c in r.commands)


def test_what_mends_it_is_about_this_cluster() -> None:
    account = msgspec.structs.replace(broken(), spec=msgspec.structs.replace(broken().spec))
    (denied,) = judge(words(DENIED), pods=(account,))
    assert "--serviceaccount=kube-flannel:flannel" in commands(denied)
    assert json.loads(commands(denied).split("echo '")[1].split("'")[0])["kind"] == "ClusterRole"
    (netconf,) = judge(words(NETCONF), problem="JSON is malformed")
    patch = commands(netconf).split("-p '")[1].split("'")[0]
    conf = json.loads(json.loads(patch)["data"]["net-conf.json"])
    assert conf == {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "Port": 8472}}
    (module,) = judge(words(MODULE))
    assert f"ssh {ONE} sudo modprobe br_netfilter" in commands(module)
    for found in (denied, netconf, module):
        assert commands(found).endswith(f"kubectl -n kube-flannel delete pod {broken().name}")


def test_a_podcidr_that_is_given_overlaps_no_other() -> None:
    (found,) = judge(items=(node(ONE, cidr=""),))
    assert '"podCIDR":"10.244.1.0/24"' in commands(found)
    master = msgspec.structs.replace(
        node(MASTER),
        metadata=msgspec.structs.replace(
            node(MASTER).metadata, labels={"node-role.kubernetes.io/control-plane": ""}
        ),
    )
    off = ("--allocate-node-cidrs=false", "--cluster-cidr=10.244.0.0/16")
    (told,) = judge(items=(node(ONE, cidr=""), master), assigner=off)
    assert f"ssh {MASTER} sudo sed -i 's/--allocate-node-cidrs=false/" in commands(told)
    narrow = ("--cluster-cidr=10.244.0.0/24",)
    (wide,) = judge(items=(node(ONE, cidr=""), master), assigner=narrow)
    assert "s#--cluster-cidr=10.244.0.0/24#--cluster-cidr=10.244.0.0/16#" in commands(wide)


def test_what_is_used_up_is_seen_where_ipv6_comes_first() -> None:
    def dual(name: str) -> Node:
        v4 = node(name).spec.pod_cidr
        spec = NodeSpec(pod_cidr="fd00:244::/64", pod_cidrs=("fd00:244::/64", v4))
        return msgspec.structs.replace(node(name), spec=spec)

    full = ("--cluster-cidr=10.244.0.0/24",)
    for others in ((node(MASTER), node(TWO)), (dual(MASTER), dual(TWO))):
        (found,) = judge(items=(node(ONE, cidr=""), *others), assigner=full)
        assert found.code.name == "FLANNEL_PODCIDR_EXHAUSTED"


def test_all_nodes_at_once_are_one() -> None:
    found = judge(*(words(DENIED, on=n) for n in NAMES), pods=tuple(map(broken, NAMES)))
    assert said(found) == {("FLANNEL_RBAC_DENIED", "flannel:*")}


@pytest.mark.parametrize(
    ("text", "most", "said"),
    [
        ("as it is.", 20, "as it is"),
        ("cut after a word, not within one", 14, "cut after a …"),
        ("nothingtocutat", 5, "nothi …"),
    ],
)
def test_a_quote_is_cut_after_a_word(text: str, most: int, said: str) -> None:
    assert shortened(text, most) == said
