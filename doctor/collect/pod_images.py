"""Images for probe pods: such as are on the node already, and likely to have a shell."""

import re
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from doctor.evidence.finders import flannel_daemonsets
from doctor.evidence.world import World
from doctor.model.kube import Node, Pod
from doctor.model.probe_pod import Choice, NodeImages

__all__ = ["MOST", "NO_IMAGE", "candidates", "images_of"]

MOST = 3
"""How many images are tried on a node before it is given up."""

NO_IMAGE = "no image with a shell is known to be on the node (--probe-image)"

_NOT_STARTED = frozenset(
    {
        "ContainerCreating",
        "PodInitializing",
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
"""Why a container waits whose image need not be there."""


class _Rank(IntEnum):
    """How likely an image is to do, the best first."""

    FLANNEL = 0
    TOOLS = 1
    SHELL = 2
    UNKNOWN = 3
    NONE = 4


_WORDS = {
    _Rank.FLANNEL: "flannel's, with a shell and network tools",
    _Rank.TOOLS: "known to have a shell and network tools",
    _Rank.SHELL: "known to have a shell",
    _Rank.UNKNOWN: "not known to have a shell",
}

_TOOLS = (
    "netshoot", "network-multitool", "busybox", "alpine", "flannel-cni-plugin", "toolbox",
)  # fmt: skip
"""Repositories whose images have a shell and network tools."""

_SHELLS = (
    "calico/node", "cilium/cilium", "kube-router", "kindnetd", "debian", "ubuntu", "centos",
    "fedora", "rockylinux", "almalinux", "amazonlinux", "nginx", "ingress-nginx/controller",
    "nginx/nginx-ingress", "traefik", "haproxy", "httpd", "curl", "redis", "valkey", "postgres",
    "mysql", "mariadb", "mongo", "rabbitmq", "memcached", "node-exporter", "prometheus", "grafana",
    "local-path-provisioner", "frr", "python", "node", "eclipse-temurin", "openjdk", "tomcat",
)  # fmt: skip
"""Repositories whose images have a shell by default."""

_NO_SHELL = re.compile(
    r"(^|[-_/.])(pause|coredns|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy"
    r"|etcd|metallb|distroless|metrics-server|cert-manager|external-dns|kube-webhook-certgen"
    r"|kube-controllers|typha|operator-generic|kube-rbac-proxy|csi-node-driver-registrar)($|[-_/.])"
)
_TOOLS_TAG = re.compile(r"(^|[-._])(alpine|busybox)")
_SHELL_TAG = re.compile(r"(^|[-._])(debian|ubuntu|bookworm|bullseye|slim|jammy|noble)")
_FLANNEL = re.compile(r"(^|[-_/])flannel$")


class _Seen(msgspec.Struct, frozen=True):
    """An image on a node.

    Args:
        image: Its reference.
        runs: Whether a container there was started from it: then it is there for certain.
        rank: How likely it is to do.
    """

    image: str
    runs: bool
    rank: _Rank

    @property
    def choice(self) -> Choice:
        """It, as one to try."""
        where = "a container there runs it" if self.runs else "the kubelet lists it"
        return Choice(self.image, f"{_WORDS[self.rank]}; {where}")


def candidates(world: World, node: Node, given: str | None = None) -> tuple[Choice, ...]:
    """Choose the images to try on a node, in order; none where no image there will do.

    flannel's comes first, then those that are known to have a shell, then others. Of two that are
    alike, one that a container there was started from goes before one that the kubelet only lists:
    its list is cut to fifty, and what is on it may have been removed since.

    Args:
        world: The cluster.
        node: The node.
        given: The user's choice, which is the only one then.
    """
    if given:
        return (Choice(given, "given with --probe-image"),)
    flannel = frozenset(
        c.image for d in flannel_daemonsets(world) for c in d.spec.template.spec.containers
    )
    seen = [_Seen(image, runs, _rank(image, flannel)) for image, runs in _on(world, node).items()]
    usable = [s for s in seen if s.rank is not _Rank.NONE]
    return tuple(s.choice for s in sorted(usable, key=lambda s: (s.rank, not s.runs)))[:MOST]


def images_of(world: World, given: str | None = None) -> tuple[NodeImages, ...]:
    """Say for every node what a probe pod there would be started from, or why none would be."""
    return tuple(_images(world, n, given) for n in world.nodes)


def _images(world: World, node: Node, given: str | None) -> NodeImages:
    """Say it for one node."""
    if not node.linux:
        return NodeImages(node.name, reason="it does not run Linux")
    if not node.ready:
        return NodeImages(node.name, reason="it is not Ready")
    choices = candidates(world, node, given)
    return NodeImages(node.name, choices, "" if choices else NO_IMAGE)


def _on(world: World, node: Node) -> dict[str, bool]:
    """Map the images of a node to whether a container there was started from it."""
    pods = world.pods_by_node.get(node.name, ())
    found = {i: True for p in pods for i in _started(p) if i}
    running = set(found)
    for image in node.status.images or ():
        # of its names, a tag says more to a reader than a digest
        names = sorted((n for n in image.names or () if n), key=lambda n: "@" in n)
        if names and not running & set(names):
            found[names[0]] = False
    return found


def _started(pod: Pod) -> Iterator[str]:
    """List the images that containers of a pod were started from."""
    states = {s.name: s.state for s in pod.status.container_statuses or ()}
    for container in pod.spec.containers:
        state = states.get(container.name)
        if state and not (state.waiting and state.waiting.reason in _NOT_STARTED):
            yield container.image


def _rank(image: str, flannel: frozenset[str]) -> _Rank:
    """Say how likely an image is to do."""
    repository, tag = _apart(image)
    if _NO_SHELL.search(repository) or "distroless" in tag:
        return _Rank.NONE
    if image in flannel or _FLANNEL.search(repository):
        return _Rank.FLANNEL
    if _is_one_of(repository, _TOOLS) or _TOOLS_TAG.search(tag):
        return _Rank.TOOLS
    if _is_one_of(repository, _SHELLS) or _SHELL_TAG.search(tag):
        return _Rank.SHELL
    return _Rank.UNKNOWN


def _is_one_of(repository: str, names: tuple[str, ...]) -> bool:
    """Say whether a repository ends with one of some names, whatever registry it is in."""
    return any(f"/{repository}".endswith(f"/{name}") for name in names)


def _apart(image: str) -> tuple[str, str]:
    """Take an image reference apart: repository and tag, in lower case; a digest is no tag."""
    name = image.partition("@")[0].lower()
    repository, colon, tag = name.rpartition(":")
    # the colon of a registry's port is followed by a path
    return (repository, tag) if colon and "/" not in tag else (name, "")
