"""Recognising parts of a cluster wherever they live: nothing is hard-wired to a namespace."""

import re

import msgspec

from doctor.evidence.world import World, matches
from doctor.model.evidence import IngressController, PolicyEngine
from doctor.model.kube import Container, DaemonSet, Deployment, IngressClass, Pod, Service
from doctor.parse.flannel_conf import NetConf, net_conf_problem, parse_net_conf

__all__ = [
    "CONFIGMAPS",
    "config_keys",
    "coredns_service",
    "flannel_conf",
    "flannel_conf_problem",
    "flannel_config_keys",
    "flannel_daemonsets",
    "ingress_controllers",
    "kube_proxy_daemonset",
    "kube_proxy_daemonsets",
    "metallb_controllers",
    "pods_of_image",
    "policy_engine",
    "speakers",
]

CONFIGMAPS = {
    "configmaps:flannel": "kube-flannel-cfg",
    "configmaps:kube-proxy": "kube-proxy",
    "configmaps:coredns": "coredns",
}
"""The sources that are single ConfigMaps, and the names that their manifests give them."""

_DNS_PORT = 53


def config_keys(world: World, source: str) -> tuple[str, ...]:
    """Name the ConfigMaps that a source means in this cluster: each stands beside its program."""
    match source:
        case "configmaps:flannel":
            return flannel_config_keys(world)
        case "configmaps:kube-proxy":
            daemonset = kube_proxy_daemonset(world)
            return (f"{daemonset.namespace}/{CONFIGMAPS[source]}",) if daemonset else ()
        case "configmaps:coredns":
            service = coredns_service(world)
            return (f"{service.namespace}/{CONFIGMAPS[source]}",) if service else ()
        case _:
            return ()


def _repository(image: str) -> str:
    """Cut tag and digest off an image reference."""
    return re.sub(r"(:[\w.-]+)?(@sha256:\w+)?$", "", image)


def pods_of_image(world: World, name: str) -> tuple[Pod, ...]:
    """Return pods with a container whose image's repository ends with ``name``."""
    return tuple(
        p for p in world.pods if any(_repository(c.image).endswith(name) for c in p.spec.containers)
    )


def flannel_daemonsets(world: World) -> tuple[DaemonSet, ...]:
    """Find flannel's DaemonSets: those that run flanneld."""
    return tuple(
        d
        for d in world.daemonsets
        if any(
            _repository(c.image).endswith("/flannel") or "flanneld" in " ".join(c.command or ())
            for c in d.spec.template.spec.containers
        )
    )


def flannel_config_keys(world: World) -> tuple[str, ...]:
    """Name the ConfigMaps that may hold flannel's net-conf.json: the manifest's name, its place."""
    name = CONFIGMAPS["configmaps:flannel"]
    return tuple(sorted({f"{d.namespace}/{name}" for d in flannel_daemonsets(world)}))


def flannel_conf(world: World) -> tuple[str, NetConf | None]:
    """Return flannel's configuration, and the ConfigMap it stands in."""
    for key in flannel_config_keys(world):
        found = world.configmap(key)
        text = (found.data or {}).get("net-conf.json") if found else None
        if text is not None:
            return key, parse_net_conf(text)
    return "", _annotated_conf(world)


def flannel_conf_problem(world: World) -> str:
    """Say why flannel cannot read its net-conf.json; empty where it can, or where none was seen."""
    for key in flannel_config_keys(world):
        found = world.configmap(key)
        text = (found.data or {}).get("net-conf.json") if found else None
        if text is not None:
            return net_conf_problem(text)
        if found is not None:
            return "it has no key net-conf.json"
    return ""


def _annotated_conf(world: World) -> NetConf | None:
    """Learn the backend from the nodes' annotations, where the ConfigMap cannot be read."""
    kinds = {n.annotations.get("flannel.alpha.coreos.com/backend-type", "") for n in world.nodes}
    kinds.discard("")
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    return NetConf(network="", backend=kind, port=8472 if kind == "vxlan" else 0)


def kube_proxy_daemonsets(world: World) -> tuple[DaemonSet, ...]:
    """Find kube-proxy's DaemonSets, one or one for each architecture, by kubeadm's label or its image."""
    return tuple(
        d
        for d in world.daemonsets
        if (
            d.spec.template.metadata.labels is not None
            and d.spec.template.metadata.labels.get("k8s-app") == "kube-proxy"
        )
        or any(
            _repository(c.image).endswith("/kube-proxy") for c in d.spec.template.spec.containers
        )
    )


def kube_proxy_daemonset(world: World) -> DaemonSet | None:
    """Find kube-proxy's DaemonSet, the first of several."""
    return next(iter(kube_proxy_daemonsets(world)), None)


def coredns_service(world: World) -> Service | None:
    """Find the cluster's DNS Service: by its label, else by what its selector matches."""
    named = [
        s
        for s in world.services.values()
        if s.labels.get("k8s-app") == "kube-dns" and s.spec.cluster_ip not in ("", "None")
    ]
    if named:
        return min(named, key=lambda s: (s.name != "kube-dns", s.key))
    dns_pods = pods_of_image(world, "/coredns")
    return next(
        (
            s
            for s in world.services.values()
            if s.spec.cluster_ip not in ("", "None")
            and any(p.port == _DNS_PORT for p in s.spec.ports or ())
            and any(matches(s.spec.selector, p.labels) for p in dns_pods)
        ),
        None,
    )


def metallb_controllers(world: World) -> tuple[Deployment, ...]:
    """Find MetalLB's controller Deployments, by the labels of its manifests and charts."""
    return tuple(
        w
        for w in world.workloads
        if (labels := w.spec.template.metadata.labels or {})
        and (labels.get("app") == "metallb" or labels.get("app.kubernetes.io/name") == "metallb")
        and "controller"
        in (labels.get("component", ""), labels.get("app.kubernetes.io/component", ""))
    )


def speakers(world: World) -> tuple[Pod, ...]:
    """Find MetalLB's speakers."""
    return pods_of_image(world, "metallb/speaker")


_ENGINES = {
    "kube-router": "kube-router",
    "kube-network-policies": "kube-network-policies",
    "calico/node": "Calico",
    "cilium/cilium": "Cilium",
    "antrea-agent": "Antrea",
    "antrea-agent-ubuntu": "Antrea",
    "weave-npc": "Weave Net",
    "kubeovn/kube-ovn": "Kube-OVN",
    "ovn-kube": "OVN-Kubernetes",
    "aws-network-policy-agent": "the AWS network policy agent",
}
"""Who enforces NetworkPolicies, by the ends of their images' repositories."""


_ENGINE_LABELS = {"calico/node": "calico-node", "cilium/cilium": "cilium"}
"""The label k8s-app of their manifests, where it is another: images may have been renamed."""


def policy_engine(world: World) -> PolicyEngine | None:
    """Find what enforces NetworkPolicies."""
    for image, name in _ENGINES.items():
        label = _ENGINE_LABELS.get(image, image)
        pods = pods_of_image(world, image) or tuple(
            p for p in world.pods if p.labels.get("k8s-app") == label
        )
        if pods:
            return PolicyEngine(name, tuple(sorted({p.node for p in pods if p.ready})))
    return None


class _Product(msgspec.Struct, frozen=True):
    """An ingress controller product: how it is recognised, and what it serves by default."""

    name: str
    image: str
    controller: str
    annotation: str
    classless: bool


_PRODUCTS = (
    _Product("traefik", "traefik", "traefik.io/ingress-controller", "traefik", classless=True),
    _Product(
        "ingress-nginx",
        "ingress-nginx/controller",
        "k8s.io/ingress-nginx",
        "nginx",
        classless=False,
    ),
    _Product(
        "ingress-nginx",
        "ingress-nginx-controller",
        "k8s.io/ingress-nginx",
        "nginx",
        classless=False,
    ),
    _Product(
        "nginx-ingress",
        "nginx/nginx-ingress",
        "nginx.org/ingress-controller",
        "nginx",
        classless=False,
    ),
    _Product(
        "haproxy-ingress",
        "haproxy-ingress",
        "haproxy-ingress.github.io/controller",
        "haproxy",
        classless=False,
    ),
    _Product(
        "kong",
        "kong/kubernetes-ingress-controller",
        "ingress-controllers.konghq.com/kong",
        "kong",
        classless=False,
    ),
    _Product(
        "contour",
        "projectcontour/contour",
        "projectcontour.io/ingress-controller",
        "contour",
        classless=False,
    ),
)


def ingress_controllers(
    world: World, classes: tuple[IngressClass, ...]
) -> tuple[IngressController, ...]:
    """Find the ingress controllers that run or should run, by their images."""
    found: dict[str, IngressController] = {}
    for product in _PRODUCTS:
        for pod in pods_of_image(world, product.image):
            place = _Place(
                f"{pod.namespace}/{_owner(pod)}", pod.namespace, pod.labels, pod.spec.containers
            )
            made = _controller(product, place, classes, world)
            old = found.get(made.key)
            pods = (*(old.pods if old else ()), pod)
            found[made.key] = msgspec.structs.replace(made, pods=pods)
        for workload in world.workloads:
            containers = workload.spec.template.spec.containers
            if any(_repository(c.image).endswith(product.image) for c in containers):
                labels = workload.spec.template.metadata.labels or {}
                place = _Place(workload.key, workload.namespace, labels, containers)
                found.setdefault(workload.key, _controller(product, place, classes, world))
    return tuple(found.values())


class _Place(msgspec.Struct, frozen=True):
    """Where a controller runs, or would run if it were not scaled to zero."""

    key: str
    namespace: str
    labels: dict[str, str]
    containers: tuple[Container, ...]


def _controller(
    product: _Product, place: _Place, classes: tuple[IngressClass, ...], world: World
) -> IngressController:
    """Describe the controller of a pod or of a workload's template."""
    arguments = [a for c in place.containers for a in c.args or ()]
    named = _argument(arguments, "--controller-class") or product.controller
    only = _argument(arguments, "--providers.kubernetesingress.ingressclass")
    annotation = _argument(arguments, "--ingress-class") or only or product.annotation
    serving = [c for c in classes if c.spec.controller == named and (not only or c.name == only)]
    without = any("--watch-ingress-without-class" in a and "false" not in a for a in arguments)
    return IngressController(
        name=product.name,
        controller=named,
        key=place.key,
        pods=(),
        services=tuple(
            sorted(
                s.key
                for s in world.services.values()
                if s.namespace == place.namespace and matches(s.spec.selector, place.labels)
            )
        ),
        classes=tuple(sorted(c.name for c in serving)),
        annotation_classes=(annotation,),
        classless=(product.classless and not only) or without,
    )


def _owner(pod: Pod) -> str:
    """Name the workload of a pod: a ReplicaSet's name without its hash."""
    owner = next(iter(pod.metadata.owner_references or ()), None)
    if owner is None:
        return pod.name
    return owner.name.rpartition("-")[0] if owner.kind == "ReplicaSet" else owner.name


def _argument(arguments: list[str], name: str) -> str:
    """Return the value of ``--name=value``; empty where it is not given."""
    prefix = f"{name}="
    return next((a[len(prefix) :] for a in arguments if a.lower().startswith(prefix.lower())), "")
