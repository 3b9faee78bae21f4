"""The API resources that are read: their paths, their types, and what of them is kept."""

import re
from collections.abc import Iterable

import msgspec

from doctor.model.kube import (
    OTHER_NETWORK,
    APIService,
    APIServiceStatus,
    BGPAdvertisement,
    ConfigMap,
    Container,
    ContainerState,
    ContainerStatus,
    DaemonSet,
    Deployment,
    EndpointSlice,
    EnvName,
    Event,
    Ingress,
    IngressClass,
    IPAddressPool,
    Item,
    L2Advertisement,
    NetworkPolicy,
    Node,
    Pod,
    PodStatus,
    PodTemplate,
    Service,
    ServiceL2Status,
    WebhookConfiguration,
)
from doctor.parse.corefile import reduce_corefile
from doctor.parse.log_lines import clean_text

__all__ = ["RESOURCES", "Resource", "reduce_items"]


class Resource(msgspec.Struct, frozen=True):
    """One kind of object.

    Args:
        name: Plural name; the key of its record.
        path: Path of its LIST.
        type: The struct that declares what is kept.
    """

    name: str
    path: str
    type: type[Item]


_APPS = "/apis/apps/v1"
_NETWORKING = "/apis/networking.k8s.io/v1"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_METALLB = "/apis/metallb.io/v1beta1"

RESOURCES = {
    r.name: r
    for r in (
        Resource("nodes", "/api/v1/nodes", Node),
        Resource("pods", "/api/v1/pods", Pod),
        Resource("services", "/api/v1/services", Service),
        Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", EndpointSlice),
        Resource("events:warning", "/api/v1/events?fieldSelector=type%3DWarning", Event),
        Resource(
            "events:services",
            "/api/v1/events?fieldSelector=involvedObject.kind%3DService",
            Event,
        ),
        Resource("daemonsets", f"{_APPS}/daemonsets", DaemonSet),
        Resource("deployments", f"{_APPS}/deployments", Deployment),
        Resource("statefulsets", f"{_APPS}/statefulsets", Deployment),
        Resource("ingresses", f"{_NETWORKING}/ingresses", Ingress),
        Resource("networkpolicies", f"{_NETWORKING}/networkpolicies", NetworkPolicy),
        Resource("ingressclasses", f"{_NETWORKING}/ingressclasses", IngressClass),
        Resource(
            "validatingwebhookconfigurations",
            f"{_ADMISSION}/validatingwebhookconfigurations",
            WebhookConfiguration,
        ),
        Resource(
            "mutatingwebhookconfigurations",
            f"{_ADMISSION}/mutatingwebhookconfigurations",
            WebhookConfiguration,
        ),
        Resource("ipaddresspools", f"{_METALLB}/ipaddresspools", IPAddressPool),
        Resource("l2advertisements", f"{_METALLB}/l2advertisements", L2Advertisement),
        Resource("bgpadvertisements", f"{_METALLB}/bgpadvertisements", BGPAdvertisement),
        Resource("servicel2statuses", f"{_METALLB}/servicel2statuses", ServiceL2Status),
        Resource("apiservices", "/apis/apiregistration.k8s.io/v1/apiservices", APIService),
        Resource("configmaps", "/api/v1/configmaps", ConfigMap),
    )
}

_ANNOTATIONS = (
    "flannel.alpha.coreos.com/",
    "ingressclass.kubernetes.io/",
    "kubernetes.io/ingress.class",
    "metallb.io/",
    "metallb.universe.tf/",
    "nginx.ingress.kubernetes.io/rewrite-target",
    OTHER_NETWORK,
)
_ARGUMENTS = re.compile(
    r"--(controller-class|ingress-class|lb-class|watch-ingress-without-class"
    r"|providers\.kubernetesingress(\.ingressclass)?|iface|ip-masq|cluster-cidr|allocate-node-cidrs|node-cidr-mask-size"
    r"|service-cluster-ip-range)\b",
    re.IGNORECASE,
)
_DATA_KEYS = ("net-conf.json", "Corefile", "config.conf", "kubeconfig.conf")
_DATA_LINES = re.compile(r"^\s*(mode:\s|clusterCIDR:|detectLocalMode:|(-\s+)?server:\s[^@]*$)")
_TARGET = re.compile(r"(?<![\w.@:/-])((?:[a-z0-9-]+\.)*[a-z0-9-]+):(\d{2,5})(?![\w.:-])", re.ASCII)
_LAST_PORT = 65535
_URL = re.compile(r"\b[a-z][a-z0-9+]*://([^\s\"'<>]+)", re.ASCII)
_HOST_PORT = re.compile(r"([a-z0-9.-]+):(\d{2,5})", re.ASCII)
_SYSTEM = re.compile(r"(/|^)(flannel|coredns|kube-proxy|metallb/(controller|speaker))(:|@|$)")
_LONGEST_MESSAGE = 300
_PRIVATE = re.compile(r"PASS|PWD|SECRET|TOKEN|CRED|(AUTH|KEY|USER|LOGIN)$", re.IGNORECASE)


class _Env(msgspec.Struct):
    """An environment variable, read for the targets in its value and dropped."""

    name: str = ""
    value: str = ""


class _EnvContainer(msgspec.Struct):
    """The environment of a container."""

    env: list[_Env] | None = None


class _EnvSpec(msgspec.Struct):
    """The containers of a pod."""

    containers: list[_EnvContainer] = []


class _EnvPod(msgspec.Struct):
    """A pod, as far as its environment goes."""

    spec: _EnvSpec = msgspec.field(default_factory=_EnvSpec)


def reduce_items(resource: Resource, items: Iterable[msgspec.Raw]) -> list[Item]:
    """Decode objects, keeping only what is declared and harmless.

    Raises:
        msgspec.DecodeError: An object has another shape than the API promises.
    """
    return [_reduce(resource.type, raw) for raw in items]


def _reduce(kind: type[Item], raw: msgspec.Raw) -> Item:
    """Decode and clean one object."""
    item: Item = msgspec.json.decode(raw, type=kind)
    item = msgspec.structs.replace(
        item, metadata=msgspec.structs.replace(item.metadata, annotations=_notes(item))
    )
    match item:
        case Pod():
            return _pod(item, raw)
        case DaemonSet():
            return msgspec.structs.replace(
                item,
                spec=msgspec.structs.replace(item.spec, template=_template(item.spec.template)),
            )
        case Deployment():
            return msgspec.structs.replace(
                item,
                spec=msgspec.structs.replace(item.spec, template=_template(item.spec.template)),
            )
        case ConfigMap():
            return msgspec.structs.replace(item, data=_data(item.data or {}))
        case APIService():
            kept = tuple(c for c in item.status.conditions or () if c.type == "Available")
            return msgspec.structs.replace(item, status=APIServiceStatus(conditions=kept))
        case _:
            return item


def _notes(item: Item) -> dict[str, str]:
    """Keep annotations that are judged; others may hold anything, a whole Secret included."""
    return {k: v for k, v in item.annotations.items() if k.startswith(_ANNOTATIONS)}


def _data(data: dict[str, str]) -> dict[str, str]:
    """Keep the lines of known keys that are judged."""
    return {k: _lines(k, v) for k, v in data.items() if k in _DATA_KEYS}


def _lines(key: str, text: str) -> str:
    """net-conf.json is kept whole; of others, only what is read."""
    if key == "net-conf.json":
        return text
    if key == "Corefile":
        return reduce_corefile(text)
    return "\n".join(line for line in text.splitlines() if _DATA_LINES.match(line))


def _harmless(container: Container) -> Container:
    """Drop arguments that are not read: a password may be among them."""
    program, *more = container.command or ("",)
    kept = tuple(a for a in (*more, *(container.args or ())) if _ARGUMENTS.match(a))
    return msgspec.structs.replace(container, args=kept, command=(program,) if program else ())


def _template(template: PodTemplate) -> PodTemplate:
    """Clean a workload's template: its containers, and annotations, which may hold anything."""
    containers = tuple(_harmless(c) for c in template.spec.containers)
    return msgspec.structs.replace(
        template,
        metadata=msgspec.structs.replace(template.metadata, annotations=None),
        spec=msgspec.structs.replace(template.spec, containers=containers),
    )


def _pod(pod: Pod, raw: msgspec.Raw) -> Pod:
    """Clean a pod; of a failing one, learn from its environment what it depends on."""
    containers = tuple(_harmless(c) for c in pod.spec.containers)
    pod = msgspec.structs.replace(pod, status=_last_words(pod))
    if not pod.ready and pod.status.phase in ("Running", "Pending"):
        env = msgspec.json.decode(raw, type=_EnvPod).spec.containers
        containers = tuple(
            msgspec.structs.replace(c, dependencies=_dependencies(e.env or []))
            for c, e in zip(containers, env, strict=True)
        )
    return msgspec.structs.replace(
        pod, spec=msgspec.structs.replace(pod.spec, containers=containers)
    )


def _last_words(pod: Pod) -> PodStatus:
    """Keep what containers of system pods said when they ended; others may say anything."""
    told = (*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ()))
    if not any(s.state.terminated or s.last_state.terminated for s in told):
        return pod.status
    system = any(_SYSTEM.search(c.image) for c in pod.spec.containers)

    def end(state: ContainerState) -> ContainerState:
        ended = state.terminated
        if ended is None or not ended.message:
            return state
        said = clean_text(ended.message, _LONGEST_MESSAGE) if system else ""
        return msgspec.structs.replace(
            state, terminated=msgspec.structs.replace(ended, message=said)
        )

    def all_of(statuses: tuple[ContainerStatus, ...] | None) -> tuple[ContainerStatus, ...] | None:
        return statuses and tuple(
            msgspec.structs.replace(s, state=end(s.state), last_state=end(s.last_state))
            for s in statuses
        )

    return msgspec.structs.replace(
        pod.status,
        container_statuses=all_of(pod.status.container_statuses),
        init_container_statuses=all_of(pod.status.init_container_statuses),
    )


def _dependencies(env: list[_Env]) -> tuple[EnvName, ...]:
    """Keep only the host:port pairs of environment values, never the values."""
    named = (EnvName(name=e.name, targets=_targets(e.name, e.value)) for e in env)
    return tuple(e for e in named if e.targets)


def _targets(name: str, value: str) -> tuple[str, ...]:
    """Find host:port pairs, in a URL or bare; ``user:4711`` looks like one, so names decide."""
    found = [pair for rest in _URL.findall(value) for pair in _authority(rest)]
    if "://" not in value and "@" not in value and not _PRIVATE.search(name):
        found += [f"{h}:{p}" for h, p in _TARGET.findall(value) if not h.isdecimal()]
    return tuple(dict.fromkeys(f for f in found if 0 < int(f.rpartition(":")[2]) <= _LAST_PORT))


def _authority(rest: str) -> list[str]:
    """Read what follows ``://``: its hosts with ports, userinfo left out.

    A password may hold an unescaped ``/`` or ``?``, and what stands before them then looks like a
    host: where an ``@`` follows, nothing is read.
    """
    before, _, path = rest.partition("/")
    head, _, query = before.partition("?")
    if "@" in path.partition("?")[0] or "@" in query:
        return []
    return [h for h in head.rpartition("@")[2].split(",") if _HOST_PORT.fullmatch(h)]
