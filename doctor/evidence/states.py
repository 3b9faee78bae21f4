"""Builders of states: what the cluster's objects say, joined and recognised."""

from collections import defaultdict

from doctor.evidence.finders import (
    coredns_service,
    flannel_conf,
    flannel_conf_problem,
    flannel_daemonsets,
    ingress_controllers,
    metallb_controllers,
    pods_of_image,
    speakers,
)
from doctor.evidence.pod_network import (
    addressed_pods,
    assigner_arguments,
    stuck_pods,
)
from doctor.evidence.resolving import corefile
from doctor.evidence.world import World
from doctor.model.evidence import (
    Backends,
    DnsService,
    Flannel,
    Ingresses,
    LoadBalancers,
    Nodes,
    WebhookBackend,
    Webhooks,
)
from doctor.model.kube import Backend as RuleBackend
from doctor.model.kube import (
    BGPAdvertisement,
    DaemonSet,
    Event,
    Ingress,
    IngressClass,
    IPAddressPool,
    L2Advertisement,
    Pod,
    ServiceL2Status,
    Webhook,
    WebhookConfiguration,
)
from doctor.model.target import host_matches

__all__ = [
    "LEADS_TO_TARGETS",
    "backends",
    "dns_service",
    "flannel",
    "ingresses",
    "load_balancers",
    "nodes",
    "pods_of",
    "relevant",
    "webhooks",
]

_DNS_PORT = 53
_WEBHOOK_KINDS = {
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
}
LEADS_TO_TARGETS = ("ingresses", "pods", "services", "deployments", "daemonsets")
"""What says which URLs and Services are in question: one that was not read leaves that open."""

_SANDBOX = "FailedCreatePodSandBox"
_METALLB = (
    "services",
    "pods",
    "deployments",
    "ipaddresspools",
    "l2advertisements",
    "bgpadvertisements",
    "events:services",
)


def nodes(world: World) -> Nodes:
    """Build the table of nodes."""
    return Nodes(items=world.nodes, gaps=world.gaps("nodes"), absent=world.nodeless)


def pods_of(world: World, daemonsets: tuple[DaemonSet, ...]) -> tuple[Pod, ...]:
    """Return the pods of DaemonSets."""
    labels = [(d.namespace, d.spec.template.metadata.labels) for d in daemonsets]
    return tuple(
        p for ns, selector in labels for p in world.selected(ns, selector) if p.spec.node_name
    )


def flannel(world: World) -> Flannel:
    """Build flannel's state."""
    gaps = world.gaps("nodes", "pods", "daemonsets")
    daemonsets = flannel_daemonsets(world)
    pods = pods_of(world, daemonsets) or pods_of_image(world, "/flannel")
    annotated = any(
        k.startswith("flannel.alpha.coreos.com/") for n in world.nodes for k in n.annotations
    )
    if not gaps and not daemonsets and not pods and not annotated:
        return Flannel(absent="flannel is not installed in this cluster")
    key, conf = flannel_conf(world)
    return Flannel(
        gaps=gaps,
        daemonsets=daemonsets,
        pods=pods,
        backend=conf.backend if conf else "",
        port=conf.port if conf else 0,
        config=key,
        network=conf.network if conf else "",
        events=tuple(e for e in world.warnings if e.reason == _SANDBOX),
        problem=flannel_conf_problem(world),
        stuck=stuck_pods(world),
        addressed=addressed_pods(world),
        assigner=assigner_arguments(world),
    )


def dns_service(world: World) -> DnsService:
    """Build the state of the cluster's DNS Service."""
    gaps = world.gaps("services", "endpointslices", "pods", "deployments")
    service = coredns_service(world)
    if service is None:
        return DnsService(gaps=gaps)
    backend = world.backend(service.key, "53")
    ports = {
        p.container_port
        for pod in backend.pods
        for c in pod.spec.containers
        for p in c.ports or ()
        if p.protocol == "TCP" and p.container_port != _DNS_PORT
    }
    domain = _domain(world, service.namespace)
    return DnsService(
        gaps=gaps,
        backend=backend,
        domain=domain or "cluster.local",
        guessed=not domain,
        corefile=corefile(world, service.namespace),
        control_port=max(ports, default=0),
    )


def _domain(world: World, namespace: str) -> str:
    """Read the cluster domain from the Corefile's kubernetes line; empty where it is not there."""
    conf = corefile(world, namespace)
    if conf:
        return next(iter(conf.cluster_zones), "")
    found = world.configmap(f"{namespace}/coredns")
    words = ((found.data or {}).get("Corefile", "") if found else "").split()
    zones = words[words.index("kubernetes") + 1 :] if "kubernetes" in words else []
    return next((z for z in zones if "arpa" not in z and z != "{"), "")


def webhooks(world: World) -> Webhooks:
    """Build the table of admission webhooks that are called at a Service."""
    kinds = tuple(_WEBHOOK_KINDS)
    gaps = world.gaps(*kinds, "services", "endpointslices", "pods")
    found = tuple(
        _webhook(world, kind, configuration.name, webhook)
        for kind in kinds
        for configuration in world.items(kind, WebhookConfiguration)
        for webhook in configuration.webhooks or ()
        if webhook.client_config.service is not None
    )
    none = world.lists(*kinds) and not found
    absent = "no webhook is called at a Service" if none else ""
    return Webhooks(gaps=gaps, items=tuple(w for w in found if w), absent=absent)


def _webhook(
    world: World, kind: str, configuration: str, webhook: Webhook
) -> WebhookBackend | None:
    """Join one webhook with its Service."""
    service = webhook.client_config.service
    if service is None:
        return None
    intercepted = (
        f"{'/'.join(rule.operations or ('*',))} {resource}"
        for rule in webhook.rules or ()
        for resource in rule.resources or ()
    )
    return WebhookBackend(
        configuration=configuration,
        kind=_WEBHOOK_KINDS[kind],
        webhook=webhook.name,
        failure_policy=webhook.failure_policy,
        intercepts=tuple(dict.fromkeys(intercepted)),
        backend=world.backend(f"{service.namespace}/{service.name}", str(service.port)),
        ca_bundle=webhook.client_config.ca_bundle,
    )


def hosts(world: World) -> tuple[str, ...]:
    """Return the hosts of the URLs asked for."""
    return tuple(dict.fromkeys(t.host for t in world.bundle.question.targets))


def relevant(world: World, items: tuple[Ingress, ...]) -> tuple[Ingress, ...]:
    """Return the Ingresses that the asked hosts concern; all where none was asked for."""
    asked = hosts(world)
    if not asked:
        return items
    return tuple(
        i
        for i in items
        if i.spec.default_backend
        or any(host_matches(r.host, h) for r in i.spec.rules or () for h in asked)
    )


def ingresses(world: World) -> Ingresses:
    """Build the table of Ingresses, classes and controllers."""
    gaps = world.gaps("ingresses", "ingressclasses", "pods", "services", "deployments")
    classes = world.items("ingressclasses", IngressClass)
    items = world.items("ingresses", Ingress)
    none = world.lists("ingresses") and not items and not hosts(world)
    return Ingresses(
        gaps=gaps,
        absent="there is no Ingress, and no URL was given" if none else "",
        items=items,
        classes=classes,
        controllers=ingress_controllers(world, classes),
        hosts=hosts(world),
    )


def backends(world: World) -> Backends:
    """Build the table of Services that targets cross."""
    gaps = world.gaps("services", "endpointslices", "pods", "ingresses")
    referrers: dict[tuple[str, str], list[str]] = defaultdict(list)
    table = ingresses(world)
    for item in relevant(world, table.items):
        for backend in _rule_backends(world, item):
            if backend.service is not None:
                key = f"{item.namespace}/{backend.service.name}"
                port = backend.service.port
                asked = port.name or (str(port.number) if port.number else "")
                referrers[key, asked].append(f"Ingress {item.key}")
    for controller in table.controllers:
        for key in controller.services:
            if not key.endswith(("-admission", "-webhook", "-metrics", "-defaultbackend")):
                referrers[key, ""].append(f"ingress controller {controller.name}")
    if not referrers:  # then any of these may hide who refers to a Service
        gaps = tuple(dict.fromkeys((*gaps, *world.gaps(*LEADS_TO_TARGETS))))
    known = world.lists(*LEADS_TO_TARGETS)
    none = "no Ingress and no ingress controller refers to a Service"
    return Backends(
        gaps=gaps,
        absent=none if known and not referrers else "",
        items=tuple(
            world.backend(key, port, tuple(dict.fromkeys(who)))
            for (key, port), who in referrers.items()
        ),
    )


def _rule_backends(world: World, item: Ingress) -> list[RuleBackend]:
    """List the backends of an Ingress that the asked hosts concern."""
    asked = hosts(world)
    found = [
        path.backend
        for rule in item.spec.rules or ()
        if not asked or any(host_matches(rule.host, h) for h in asked)
        for path in (rule.http.paths if rule.http else ())
    ]
    return found + ([item.spec.default_backend] if item.spec.default_backend else [])


def load_balancers(world: World) -> LoadBalancers:
    """Build the state of MetalLB and of the Services that want an address."""
    gaps = world.gaps(*_METALLB)
    controllers = metallb_controllers(world)
    talkers = speakers(world)
    installed = bool(controllers or talkers) and world.served("ipaddresspools")
    services = tuple(
        s
        for s in world.services.values()
        if s.spec.type == "LoadBalancer" and not s.spec.load_balancer_class
    )
    if not services:
        read = not world.gaps("services")
        return LoadBalancers(gaps=gaps, absent="no Service of type LoadBalancer" if read else "")
    if not installed and any(s.vips for s in services):
        seen = not world.gaps("pods", "deployments")
        other = "another load balancer than MetalLB assigns addresses"
        return LoadBalancers(gaps=gaps, absent=other if seen else "")
    labels = [(w.namespace, w.spec.template.metadata.labels) for w in controllers]
    return LoadBalancers(
        gaps=gaps,
        installed=installed,
        namespace=controllers[0].namespace if controllers else "",
        services=services,
        pools=world.items("ipaddresspools", IPAddressPool),
        l2=world.items("l2advertisements", L2Advertisement),
        bgp=world.items("bgpadvertisements", BGPAdvertisement),
        controller=tuple(p for ns, chosen in labels for p in world.selected(ns, chosen)),
        controllers=controllers,
        speakers=talkers,
        events=world.items("events:services", Event),
        wanted=_wanted(world),
        announced=tuple(
            (f"{s.status.service_namespace}/{s.status.service_name}", s.status.node)
            for s in world.items("servicel2statuses", ServiceL2Status)
        ),
    )


def _wanted(world: World) -> tuple[str, ...]:
    """Name the load balanced Services that targets cross; all where nothing was asked for."""
    fronts = tuple(
        key
        for c in ingresses(world).controllers
        for key in c.services
        if world.services[key].spec.type == "LoadBalancer"
    )
    everything = tuple(k for k, s in world.services.items() if s.spec.type == "LoadBalancer")
    return fronts if hosts(world) and fronts else everything
