"""Which image a probe pod is started from: such as is there, and likely to have a shell."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.pod_images import MOST, NO_IMAGE, candidates, images_of
from doctor.evidence.world import World
from doctor.model.kube import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    DaemonSet,
    DaemonSpec,
    Meta,
    Node,
    NodeImage,
    NodeInfo,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplate,
    TemplateSpec,
    Waiting,
)
from tests.unit.support import api, bundle

FLANNEL = "ghcr.io/flannel-io/flannel:v0.28.10"
SHELL_LESS = (
    "registry.k8s.io/pause:3.10",
    "registry.k8s.io/coredns/coredns:v1.11.3",
    "registry.k8s.io/kube-apiserver:v1.34.0",
    "registry.k8s.io/kube-controller-manager:v1.34.0",
    "registry.k8s.io/kube-scheduler:v1.34.0",
    "registry.k8s.io/kube-proxy:v1.34.0",
    "registry.k8s.io/etcd:3.6.4-0",
    "quay.io/metallb/controller:v0.14.9",
    "quay.io/metallb/speaker:v0.14.9",
    "gcr.io/distroless/static:nonroot",
    "example.org:5000/app:1.2-distroless",
    "rancher/mirrored-coredns-coredns:1.11",
    "rancher/mirrored-pause:3.6",
    "registry.k8s.io/metrics-server/metrics-server:v0.7",
)


def node(*listed: tuple[str, ...], name: str = "n0", ready: str = "True") -> Node:
    """Make a node whose kubelet lists images, each by all its names."""
    status = NodeStatus(
        conditions=(Condition("Ready", ready),), images=tuple(NodeImage(names) for names in listed)
    )
    return Node(metadata=Meta(name=name), status=status)


def pod(image: str, on: str = "n0", waits: str = "") -> Pod:
    """Make a pod of one container on a node."""
    state = ContainerState(waiting=Waiting(waits)) if waits else ContainerState()
    return Pod(
        metadata=Meta(name=image, namespace="apps"),
        spec=PodSpec(node_name=on, containers=(Container(name="c", image=image),)),
        status=PodStatus(phase="Running", container_statuses=(ContainerStatus("c", state=state),)),
    )


def chosen(on: Node, *pods: Pod, sets: tuple[DaemonSet, ...] = ()) -> list[str]:
    """Choose images on a node."""
    world = World(bundle(api("nodes", on), api("pods", *pods), api("daemonsets", *sets)))
    return [c.image for c in candidates(world, on)]


@pytest.mark.parametrize("image", SHELL_LESS)
def test_what_has_no_shell_is_never_tried(image: str) -> None:
    assert chosen(node((image,)), pod(image)) == []


@pytest.mark.parametrize(
    "image",
    [
        FLANNEL,
        "docker.io/flannel/flannel:v0.25.1",
        "quay.io/coreos/flannel:v0.14.0",
        "rancher/mirrored-flannelcni-flannel:v0.20",
        "registry.example:5000/flannel@sha256:" + "0" * 64,
    ],
)
def test_flannels_goes_first(image: str) -> None:
    pods = (pod("docker.io/library/busybox:1.36"), pod("apps/web:1"), pod(image))
    assert chosen(node(("docker.io/library/alpine:3",)), *pods)[0] == image


def test_flannel_under_another_name_is_known_by_its_daemonset() -> None:
    image = "registry.example/overlay:7"
    template = TemplateSpec((Container(name="f", image=image, command=("/opt/bin/flanneld",)),))
    owned = DaemonSet(metadata=Meta(name="f"), spec=DaemonSpec(PodTemplate(spec=template)))
    assert chosen(node(), pod("busybox:1"), pod(image), sets=(owned,))[0] == image


def test_the_order_is_by_how_likely_a_shell_is_then_by_what_is_there_for_certain() -> None:
    pods = (pod("apps/web:1"), pod("nginx:1.27"), pod("apps/cache:2-alpine"))
    listed = node(("docker.io/library/busybox:1.36",), ("apps/old:1",), ("debian:12",))
    assert chosen(listed, *pods) == [
        "apps/cache:2-alpine",
        "docker.io/library/busybox:1.36",
        "nginx:1.27",
    ]
    assert chosen(node(("apps/old:1",)), pod("apps/web:1")) == ["apps/web:1", "apps/old:1"]


def test_an_image_on_another_node_is_not_here() -> None:
    assert chosen(node(), pod(FLANNEL, on="n1")) == []


@pytest.mark.parametrize("waits", ["ImagePullBackOff", "ErrImageNeverPull", "ContainerCreating"])
def test_a_pod_that_was_never_started_proves_no_image(waits: str) -> None:
    assert chosen(node(), pod(FLANNEL, waits=waits)) == []
    assert chosen(node(), pod(FLANNEL, waits="CrashLoopBackOff")) == [FLANNEL]


def test_an_image_with_several_names_is_tried_once_by_its_tag() -> None:
    names = (f"{FLANNEL.partition(':')[0]}@sha256:{'0' * 64}", FLANNEL)
    assert chosen(node(names)) == [FLANNEL]
    assert chosen(node(names), pod(FLANNEL)) == [FLANNEL]
    assert chosen(node(names[:1])) == [names[0]]
    older = FLANNEL.replace("v0.28.10", "latest")
    assert chosen(node((older, *names)), pod(FLANNEL)) == [FLANNEL]


def test_what_the_user_chose_is_the_only_one() -> None:
    world = World(bundle(api("nodes", node()), api("pods", pod(FLANNEL))))
    (only,) = candidates(world, node(), "registry.example/tools:1")
    assert only.image == "registry.example/tools:1"
    assert "--probe-image" in only.reason


def test_each_node_has_images_or_a_reason() -> None:
    other = msgspec.structs.replace(
        node(name="n3"), status=NodeStatus(node_info=NodeInfo(operating_system="windows"))
    )
    nodes = (node((FLANNEL,)), node(name="n1"), node((FLANNEL,), name="n2", ready="Unknown"), other)
    found = images_of(World(bundle(api("nodes", *nodes))))
    assert [(i.node, bool(i.choices), i.reason) for i in found] == [
        ("n0", True, ""),
        ("n1", False, NO_IMAGE),
        ("n2", False, "it is not Ready"),
        ("n3", False, "it does not run Linux"),
    ]


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
IMAGE = st.sampled_from([*SHELL_LESS, FLANNEL, "busybox", "nginx:1", "a/b:c"]) | TEXT


@given(st.lists(IMAGE), st.lists(st.lists(IMAGE, max_size=3)))
def test_only_what_is_there_is_tried_and_not_often(
    runs: list[str], listed: list[list[str]]
) -> None:
    images = chosen(node(*(tuple(names) for names in listed)), *(pod(i) for i in runs))
    assert len(images) == len(set(images)) <= MOST
    assert set(images) <= {*runs, *(i for names in listed for i in names)}
    assert not set(images) & set(SHELL_LESS)
