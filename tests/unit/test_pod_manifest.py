"""What a probe pod is asked for as, and which changes of admission are not put up with."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.pod_manifest import (
    HOST_PATHS,
    Wanted,
    altered,
    namespace_body,
    pod_body,
    pod_name,
    tolerations,
)
from doctor.collect.pod_owner import Run, begin
from doctor.evidence.world import World
from doctor.model.kube import (
    Container,
    DaemonSet,
    DaemonSpec,
    Meta,
    Owner,
    Pod,
    PodSpec,
    PodTemplate,
    TemplateSpec,
    Toleration,
)
from tests.unit.support import api, bundle

RUN = begin(60)
POD = Wanted("n0", "busybox:1", (Toleration("a", "Exists", effect="NoExecute"),))
HOST = Wanted("n0", "flannel:1", host=True)


def body(wanted: Wanted) -> dict[str, Any]:
    """Write a pod, as JSON that can be bent."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(pod_body(RUN, wanted)))
    return found


def test_a_probe_pod_is_what_the_restricted_profile_admits() -> None:
    """The controls of the Pod Security Standard "Restricted", one by one."""
    spec = body(POD)["spec"]
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["volumes"] == []
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("wanted", [POD, HOST])
def test_a_probe_pod_pulls_nothing_and_ends_by_itself(wanted: Wanted) -> None:
    found = body(wanted)
    spec = found["spec"]
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "Never"
    assert container["image"] == wanted.image
    assert spec["nodeName"] == "n0"
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == RUN.seconds >= 60
    assert spec["automountServiceAccountToken"] is False
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "wwwm-doctor",
        "wwwm-doctor/run": RUN.id,
    }


def test_a_host_network_pod_may_do_what_flannels_may_and_sees_what_it_sees() -> None:
    spec = body(HOST)["spec"]
    (container,) = spec["containers"]
    assert spec["hostNetwork"] is True
    assert "hostPID" not in spec
    assert container["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["NET_ADMIN", "NET_RAW"],
    }
    assert spec["securityContext"]["runAsUser"] == 0
    assert {m["mountPath"] for m in container["volumeMounts"]} == set(HOST_PATHS.values())
    assert all(m["readOnly"] for m in container["volumeMounts"])
    assert "nc" not in container["command"][-1], "it would listen on the node's own addresses"
    # any other type has something made on the node where nothing is
    assert {v["hostPath"]["type"] for v in spec["volumes"]} == {"Directory"}


def test_what_a_node_has_nothing_for_is_left_out() -> None:
    without = msgspec.structs.replace(HOST, without=frozenset({"run-flannel"}))
    spec = body(without)["spec"]
    names = {v["name"] for v in spec["volumes"]}
    assert names == {m["name"] for m in spec["containers"][0]["volumeMounts"]}
    assert names == HOST_PATHS.keys() - {"run-flannel"}


def test_a_namespace_says_whose_it_is_and_what_is_enforced_in_it() -> None:
    meta: Any = namespace_body(RUN, "x", "restricted")["metadata"]
    assert meta["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert meta["labels"]["wwwm-doctor/run"] == RUN.id
    assert meta["annotations"] == RUN.annotations


@given(st.text(min_size=1), st.integers(1, 5), st.booleans())
def test_a_pods_name_is_one_that_the_api_server_takes(node: str, number: int, host: bool) -> None:  # noqa: FBT001
    name = pod_name(RUN, Wanted(node, "i", attempt=number, host=host))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 63


def test_no_two_pods_have_the_same_name() -> None:
    def other() -> Run:
        return begin(60)

    wanted = [
        Wanted(node, "i", attempt=number, host=host)
        for node in ("n" * 60 + "-a", "n" * 60 + "-b", "n.a", "n-a")
        for number in (1, 2)
        for host in (True, False)
    ]
    names = {pod_name(run, w) for run in (RUN, other(), other()) for w in wanted}
    assert len(names) == 3 * len(wanted)


ANY = (Toleration(operator="Exists"),)
TEMPLATE = (Toleration("CriticalAddonsOnly", "Exists"),)


def kube_proxy(*pods: Pod, own: tuple[Toleration, ...] | None = TEMPLATE) -> World:
    """Make a cluster with kube-proxy."""
    template = TemplateSpec((Container(image="registry.k8s.io/kube-proxy:v1"),), own)
    item = DaemonSet(
        metadata=Meta(name="kube-proxy", namespace="kube-system"),
        spec=DaemonSpec(PodTemplate(spec=template)),
    )
    return World(bundle(api("daemonsets", item), api("pods", *pods)))


def proxy_pod(node: str, *own: Toleration, owner: str = "kube-proxy") -> Pod:
    """Make a pod of kube-proxy."""
    return Pod(
        metadata=Meta(
            name=f"p-{node}", namespace="kube-system", owner_references=(Owner("DaemonSet", owner),)
        ),
        spec=PodSpec(node_name=node, tolerations=own),
    )


def test_what_kube_proxy_tolerates_on_a_node_is_mirrored() -> None:
    more = Toleration("node.kubernetes.io/unreachable", "Exists", effect="NoExecute")
    other = Toleration("x", "Exists")
    world = kube_proxy(
        proxy_pod("n0", other, owner="flannel"), proxy_pod("n1", other), proxy_pod("n0", more)
    )
    assert tolerations(world, "n0") == (more,)
    assert tolerations(world, "n2") == TEMPLATE, "where it has no pod, what it would tolerate"
    assert tolerations(kube_proxy(own=None), "n0") == ()
    assert tolerations(World(bundle()), "n0") == ANY, "where there is no kube-proxy"


def bent(wanted: Wanted, change: str, value: object) -> bytes:
    """Write the answer of an admission that changes one thing: a path, numbers are positions."""
    document: Any = body(wanted)["spec"]
    *path, last = change.split(".")
    place = document
    for step in path:
        place = place[int(step)] if step.isdecimal() else place[step]
    if last == "+":
        place.append(value)
    else:
        place[last] = value
    return msgspec.json.encode({"spec": document})


@pytest.mark.parametrize("wanted", [POD, HOST])
def test_what_admission_leaves_alone_is_put_up_with(wanted: Wanted) -> None:
    assert altered(wanted, msgspec.json.encode(body(wanted))) == ""
    for change, value in (
        ("priority", 0),
        ("tolerations.+", {"key": "x", "operator": "Exists"}),
        ("containers.0.resources", {"requests": {"cpu": "10m"}}),
        ("containers.0.env", [{"name": "A", "value": "b"}]),
        ("schedulerName", "default-scheduler"),
    ):
        assert altered(wanted, bent(wanted, change, value)) == "", change


SIDECAR = {"name": "istio-proxy", "image": "istio/proxyv2:1"}


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("containers.0.imagePullPolicy", "Always", "sets imagePullPolicy to Always"),
        ("containers.0.imagePullPolicy", "IfNotPresent", "sets imagePullPolicy to IfNotPresent"),
        ("containers.0.image", "mirror.example/busybox:1", "replaces the image by mirror.example"),
        ("containers.+", SIDECAR, "adds the container istio-proxy"),
        ("initContainers", [SIDECAR], "adds the container istio-proxy"),
        ("containers", [SIDECAR], "adds the container istio-proxy"),
        ("nodeName", "", "moves it to the node (none)"),
        ("nodeName", "n1", "moves it to the node n1"),
        ("hostPID", True, "gives it other namespaces of the node"),
        ("hostIPC", True, "gives it other namespaces of the node"),
        ("containers.0.securityContext.privileged", True, "changes its security context"),
        ("containers.0.securityContext.allowPrivilegeEscalation", True, "security context"),
        ("containers.0.securityContext.capabilities.drop", ["MKNOD"], "security context"),
        ("containers.0.securityContext.capabilities.add", ["SYS_ADMIN"], "security context"),
        ("containers.0.securityContext", None, "changes its security context"),
    ],
)
@pytest.mark.parametrize("wanted", [POD, HOST])
def test_what_would_pull_or_may_do_more_is_not(
    wanted: Wanted, change: str, value: object, said: str
) -> None:
    assert said in altered(wanted, bent(wanted, change, value))


def test_a_pod_of_another_kind_than_was_asked_for_is_not() -> None:
    assert "namespaces of the node" in altered(POD, bent(POD, "hostNetwork", True))  # noqa: FBT003
    assert "namespaces of the node" in altered(HOST, bent(HOST, "hostNetwork", False))  # noqa: FBT003
    root = "containers.0.securityContext.runAsUser"
    assert "security context" in altered(POD, bent(POD, root, 0))
    assert "security context" in altered(HOST, bent(HOST, root, 1000))
    assert altered(POD, bent(POD, root, 1000)) == "", "another user that is not root will do"
    careful = "securityContext.runAsNonRoot"
    assert "security context" in altered(POD, bent(POD, careful, False))  # noqa: FBT003


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"null", b'{"spec": 5}'])
def test_an_answer_that_is_no_pod_is_not_either(answer: bytes) -> None:
    assert altered(POD, answer) == "the API server answered with something that is no pod"
