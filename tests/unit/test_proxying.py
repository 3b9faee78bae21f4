"""kube-proxy in one DaemonSet, or in one for each architecture."""

import pytest

from doctor.evidence.proxying import kube_proxy
from doctor.evidence.world import World
from doctor.model.kube import DaemonSet, DaemonSpec, Meta, Pod, PodSpec, PodTemplate
from tests.unit.support import api, bundle

APP = {"k8s-app": "kube-proxy"}


def of_arch(name: str, **labels: str) -> DaemonSet:
    """Make a DaemonSet whose pods carry labels."""
    template = PodTemplate(metadata=Meta(labels={**APP, **labels}))
    meta = Meta(name=name, namespace="kube-system")
    return DaemonSet(metadata=meta, spec=DaemonSpec(template=template))


def on(node: str, **labels: str) -> Pod:
    """Make a pod of kube-proxy."""
    meta = Meta(name=f"kube-proxy-{node}", namespace="kube-system", labels={**APP, **labels})
    return Pod(metadata=meta, spec=PodSpec(node_name=node))


@pytest.mark.parametrize(
    "sets",
    [
        (of_arch("kube-proxy"),),
        (of_arch("kube-proxy", arch="amd64"), of_arch("kube-proxy-arm64", arch="arm64")),
        # the labels of one are among the other's
        (of_arch("kube-proxy"), of_arch("kube-proxy-arm64", arch="arm64")),
    ],
)
def test_pods_of_each_architecture_are_counted_once(sets: tuple[DaemonSet, ...]) -> None:
    pods = (on("a", arch="amd64"), on("b", arch="arm64"))
    found = kube_proxy(World(bundle(api("daemonsets", *sets), api("pods", *pods))))
    assert sorted(p.node for p in found.pods) == ["a", "b"]
    assert found.daemonset == sets[0]
    assert found.more == sets[1:]
