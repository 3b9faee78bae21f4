"""What a probe pod is asked for as, and what admission has made of it."""

import hashlib

import msgspec

from doctor.collect.pod_owner import Run
from doctor.evidence.finders import kube_proxy_daemonset
from doctor.evidence.world import World
from doctor.model.kube import KubeObject, Toleration
from doctor.model.probe_pod import PREFIX

__all__ = [
    "CONTAINER",
    "HOST_PATHS",
    "PORT",
    "Wanted",
    "altered",
    "namespace_body",
    "pod_body",
    "pod_name",
    "tolerations",
]

PORT = 20053
"""Where a probe pod answers TCP: any free port above 1023 does, as the pod has its own address."""

CONTAINER = "probe"

HOST_PATHS = {
    "run-flannel": "/run/flannel",
    "etc-cni": "/etc/cni/net.d",
    "opt-cni": "/opt/cni/bin",
}
"""What of a node a host-network pod sees, by the name of the volume."""

_NEVER = "Never"
_LISTENS = f"nc -ll -p {PORT} -e true & "
# ends at SIGTERM by itself: PID 1 has no default action for it
_WAITS = "trap 'exit 0' TERM; {}while :; do wait; sleep 1; done"
_HOST_CAPABILITIES = ("NET_ADMIN", "NET_RAW")


class Wanted(msgspec.Struct, frozen=True):
    """One attempt at a probe pod.

    Args:
        node: The node it is for.
        image: What it is started from.
        tolerations: What it tolerates.
        attempt: 1 for the first on this node.
        host: Whether it uses the node's own network.
        without: Names of the volumes that the node has nothing for.
    """

    node: str
    image: str
    tolerations: tuple[Toleration, ...] = ()
    attempt: int = 1
    host: bool = False
    without: frozenset[str] = frozenset()


def pod_name(run: Run, wanted: Wanted) -> str:
    """Name a probe pod: no two runs, nodes or attempts have the same."""
    # a node's name may be longer than a pod's may be
    node = hashlib.sha256(wanted.node.encode()).hexdigest()[:8]
    kind = "-host" if wanted.host else ""
    again = f"-{wanted.attempt}" if wanted.attempt > 1 else ""
    return f"{PREFIX}{run.id}-{node}{kind}{again}"


def tolerations(world: World, node: str) -> tuple[Toleration, ...]:
    """Mirror what kube-proxy tolerates on a node, so that a probe runs where service traffic does.

    Its pod there tolerates more than its DaemonSet says: what the controller adds to every pod of
    a DaemonSet. Where there is no kube-proxy, everything is tolerated.
    """
    daemonset = kube_proxy_daemonset(world)
    if daemonset is None:
        return (Toleration(operator="Exists"),)
    own = (
        p.spec.tolerations
        for p in world.pods_by_node.get(node, ())
        if p.namespace == daemonset.namespace
        and any(o.name == daemonset.name for o in p.metadata.owner_references or ())
    )
    return next(own, None) or daemonset.spec.template.spec.tolerations or ()


def namespace_body(run: Run, name: str, level: str) -> dict[str, object]:
    """Write a namespace of a run's own.

    Args:
        run: The run.
        name: The namespace's name.
        level: The Pod Security level that is enforced in it.
    """
    labels = {**run.labels, "pod-security.kubernetes.io/enforce": level}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": run.annotations},
    }


def pod_body(run: Run, wanted: Wanted) -> dict[str, object]:
    """Write a probe pod: one that Pod Security's restricted profile admits, or a node's own."""
    mounts = {n: p for n, p in HOST_PATHS.items() if wanted.host and n not in wanted.without}
    spec: dict[str, object] = {
        "nodeName": wanted.node,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": run.seconds,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [msgspec.to_builtins(t) for t in wanted.tolerations],
        "securityContext": _pod_security(host=wanted.host),
        "containers": [
            {
                "name": CONTAINER,
                "image": wanted.image,
                "imagePullPolicy": _NEVER,
                "command": ["sh", "-c", _WAITS.format("" if wanted.host else _LISTENS)],
                "securityContext": _container_security(host=wanted.host),
                "volumeMounts": [
                    {"name": n, "mountPath": p, "readOnly": True} for n, p in mounts.items()
                ],
            }
        ],
        # without the type, the runtime would make a directory on the node where there is none
        "volumes": [
            {"name": n, "hostPath": {"path": p, "type": "Directory"}} for n, p in mounts.items()
        ],
    }
    if wanted.host:
        spec["hostNetwork"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(run, wanted),
            "labels": run.labels,
            "annotations": run.annotations,
        },
        "spec": spec,
    }


def _pod_security(*, host: bool) -> dict[str, object]:
    """Write a pod's security context."""
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    if host:
        return {"runAsUser": 0, "runAsGroup": 0, **seccomp}
    return {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, **seccomp}


def _container_security(*, host: bool) -> dict[str, object]:
    """Write a container's security context."""
    added = {"add": list(_HOST_CAPABILITIES)} if host else {}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **added},
    }


class _Capabilities(KubeObject, frozen=True):
    """Capabilities of a container."""

    add: tuple[str, ...] | None = None
    drop: tuple[str, ...] | None = None


class _Security(KubeObject, frozen=True):
    """A security context, of a pod or of a container."""

    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    allow_privilege_escalation: bool | None = None
    privileged: bool | None = None
    capabilities: _Capabilities | None = None


class _Container(KubeObject, frozen=True):
    """A container, as it was admitted."""

    name: str = ""
    image: str = ""
    image_pull_policy: str = ""
    security_context: _Security | None = None


class _Spec(KubeObject, frozen=True):
    """A pod's spec, as it was admitted."""

    node_name: str = ""
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    init_containers: tuple[_Container, ...] | None = None
    containers: tuple[_Container, ...] = ()
    security_context: _Security | None = None


class _Admitted(KubeObject, frozen=True):
    """A pod, as it was admitted."""

    spec: _Spec = _Spec()


def altered(wanted: Wanted, answer: bytes) -> str:
    """Say what admission has changed that matters; empty where nothing.

    Args:
        wanted: What was asked for.
        answer: The pod that the API server answered with.
    """
    try:
        spec = msgspec.json.decode(answer, type=_Admitted).spec
    except msgspec.DecodeError:
        return "the API server answered with something that is no pod"
    own = next((c for c in spec.containers if c.name == CONTAINER), _Container())
    more = [c.name for c in (*(spec.init_containers or ()), *spec.containers) if c is not own]
    rules = (
        (more, f"adds the container {', '.join(more)[:100]}, whose image would be pulled"),
        (
            own.image_pull_policy != _NEVER,
            f"sets imagePullPolicy to {own.image_pull_policy or 'nothing'}, as AlwaysPullImages does",
        ),
        (own.image != wanted.image, f"replaces the image by {own.image or 'none'}"),
        (spec.node_name != wanted.node, f"moves it to the node {spec.node_name or '(none)'}"),
        (
            spec.host_network != wanted.host or spec.host_pid or spec.host_ipc,
            "gives it other namespaces of the node",
        ),
        (not _kept(wanted, spec, own), "changes its security context"),
    )
    return next((f"admission {text}" for broken, text in rules if broken), "")


def _kept(wanted: Wanted, spec: _Spec, own: _Container) -> bool:
    """Say whether a pod may do what it needs, and no more."""
    pod, container = spec.security_context or _Security(), own.security_context or _Security()
    user = pod.run_as_user if container.run_as_user is None else container.run_as_user
    careful = (
        pod.run_as_non_root if container.run_as_non_root is None else container.run_as_non_root
    )
    may = container.capabilities or _Capabilities()
    return (
        not container.privileged
        and container.allow_privilege_escalation is False
        and "ALL" in (may.drop or ())
        and set(may.add or ()) == (set(_HOST_CAPABILITIES) if wanted.host else set())
        and (user == 0 if wanted.host else bool(careful) and user != 0)
    )
