"""Evidence: the typed tables that checks ask for, by naming them in their signature.

A *state* is what objects say, a *measurement* is what probes saw. Each table carries the gaps that
were met while it was gathered; a check that needs a table with an essential gap, and finds nothing,
is INSUFFICIENT rather than PASS.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_network

import msgspec

from doctor.model.certificate import Certificate, Vouching
from doctor.model.counters import Burst
from doctor.model.flow import FlowKind, Observation, Purpose, VantageKind
from doctor.model.kube import (
    BGPAdvertisement,
    DaemonSet,
    Deployment,
    Event,
    Ingress,
    IngressClass,
    IPAddressPool,
    L2Advertisement,
    NetworkPolicy,
    Node,
    Pod,
    Service,
    ServicePort,
)
from doctor.model.logs import ContainerLog
from doctor.model.node import FilterRule, NodeNetwork
from doctor.model.proxy import HostProxy
from doctor.model.resolver import Corefile, ResolvConf
from doctor.model.verdict import Gap

__all__ = [
    "Backend",
    "BackendFlows",
    "Backends",
    "Counters",
    "DnsFlows",
    "DnsService",
    "EgressFlows",
    "EndpointAddress",
    "Evidence",
    "Flannel",
    "HostPod",
    "HostPods",
    "IngressController",
    "IngressFlows",
    "Ingresses",
    "KubeProxy",
    "LoadBalancers",
    "Logs",
    "Measured",
    "Mesh",
    "NetworkPolicies",
    "NodeNetworks",
    "NodeResolver",
    "Nodes",
    "Pings",
    "PodAddress",
    "PolicyEngine",
    "ProbePod",
    "ProbePods",
    "Proxy",
    "Resolvers",
    "ServiceIpFlows",
    "StaleQueries",
    "StaleQuery",
    "StuckPod",
    "TargetFlows",
    "Upstream",
    "Upstreams",
    "VipFlows",
    "WebhookBackend",
    "WebhookCertificate",
    "WebhookCertificates",
    "WebhookFlows",
    "Webhooks",
]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A table of evidence.

    Args:
        gaps: What could not be looked at while it was gathered.
        absent: Why the table does not apply to this cluster ("MetalLB is not installed"); the
            checks that need it are then SKIPPED. Empty where it applies.
    """

    gaps: tuple[Gap, ...] = ()
    absent: str = ""

    def lacks(self, *plurals: str) -> bool:
        """Say whether objects of these kinds could not all be listed: then none proves nothing."""
        wanted = {f"api:{plural}" for plural in plurals}
        return any(g.needs.split(".")[0].split(" ")[0] in wanted for g in self.gaps)


class Measured(Evidence, frozen=True, kw_only=True):
    """A table of observations."""

    observations: tuple[Observation, ...] = ()

    def of(
        self,
        *purposes: Purpose,
        vantage: VantageKind | None = None,
        kind: FlowKind | None = None,
        subject: str | None = None,
        address: str | None = None,
    ) -> tuple[Observation, ...]:
        """Select observations."""
        return tuple(
            o
            for o in self.observations
            if (not purposes or o.flow.purpose in purposes)
            and (vantage is None or o.flow.vantage.kind is vantage)
            and (kind is None or o.flow.kind is kind)
            and (subject is None or o.flow.subject == subject)
            and (address is None or o.flow.address == address)
        )


class Nodes(Evidence, frozen=True, kw_only=True):
    """All nodes."""

    items: tuple[Node, ...] = ()
    events: tuple[Event, ...] = ()

    def named(self, name: str) -> Node | None:
        """Return the node of that name."""
        return next((n for n in self.items if n.name == name), None)

    @property
    def linux(self) -> tuple[str, ...]:
        """The names of the Linux nodes."""
        return tuple(n.name for n in self.items if n.linux)

    @property
    def networked(self) -> tuple[str, ...]:
        """The names of the Linux nodes that daemons of the network have to run on."""
        return tuple(n.name for n in self.items if n.linux and not n.apart)

    def down(self, name: str) -> bool:
        """Say whether a node is not ready for another reason than a missing pod network."""
        node = self.named(name)
        ready = [c for c in (node.status.conditions or () if node else ()) if c.type == "Ready"]
        return any(
            c.status != "True" and not re.search(r"(?i)network|\bcni\b", c.reason + c.message)
            for c in ready
        )


class NodeNetworks(Evidence, frozen=True, kw_only=True):
    """What was read inside the nodes."""

    items: tuple[NodeNetwork, ...] = ()

    def of(self, node: str) -> NodeNetwork | None:
        """Return what was read inside one node, or None where it could not be read."""
        return next((n for n in self.items if n.node == node), None)

    def dropping(
        self, node: str, chain: str, protocol: str, among: Iterable[str]
    ) -> FilterRule | None:
        """Return the first rule of a node's chain that would drop such traffic.

        Args:
            node: The node's name.
            chain: The built-in chain.
            protocol: ``udp/53``.
            among: Networks that the traffic may come from or go to: a rule that names addresses
                outside them is passed over, as is one with conditions that are not understood.
        """
        read = self.of(node)
        rules = read.drops if read and read.tools else ()
        return next(
            (r for r in rules if r.chain == chain and r.hits(protocol) and _concerns(r, among)),
            None,
        )


class Logs(Evidence, frozen=True, kw_only=True):
    """The last words of system pods: of those that are not ready, and what CoreDNS said lately.

    Its gaps are never essential: a log says why, not whether.
    """

    items: tuple[ContainerLog, ...] = ()

    def of(self, pod: str) -> tuple[ContainerLog, ...]:
        """Return what was read of a pod, by its ``namespace/name``."""
        return tuple(x for x in self.items if x.pod == pod)

    def said(self, pod: str, *words: str) -> tuple[str, str] | None:
        """Return the last line of a pod's that contains all of these words, with its evidence."""
        found = ((x.said(*words), x.evidence) for x in self.of(pod))
        return next(((line.text, where) for line, where in found if line), None)


class ProbePod(msgspec.Struct, frozen=True):
    """What became of a probe pod.

    Args:
        node: Where it was to run.
        address: Its pod IP; empty where it does not run.
        reason: Why it does not run, as kubelet or API server said; empty where it runs.
        evidence: Id of the record.
        port: The TCP port that it answers on.
    """

    node: str
    address: str
    reason: str
    evidence: str
    port: int = 0


class ProbePods(Evidence, frozen=True, kw_only=True):
    """The probe pods of this run: that one cannot start is evidence itself."""

    items: tuple[ProbePod, ...] = ()

    def failed(self, node: str) -> ProbePod | None:
        """Return the probe pod of a node if it could not start."""
        return next((p for p in self.items if p.node == node and p.reason), None)


class PodAddress(msgspec.Struct, frozen=True):
    """A pod with an address of the pod network, the node that it runs on, and when it was made."""

    pod: str
    node: str
    address: str
    since: str = ""


class StuckPod(msgspec.Struct, frozen=True):
    """A pod that has no network now, and what the kubelet said of it last.

    Args:
        pod: ``namespace/name``.
        node: The node that it is bound to.
        message: Of the event that says why its sandbox could not be made.
        evidence: Id of that event.
    """

    pod: str
    node: str
    message: str
    evidence: str


class Flannel(Evidence, frozen=True, kw_only=True):
    """Flannel, as its objects describe it.

    Args:
        daemonsets: Its DaemonSets (one per CPU architecture in old manifests).
        pods: Its pods.
        backend: ``vxlan``, ``host-gw`` or another backend's type.
        port: UDP port of the VXLAN backend, 0 for others.
        config: ``namespace/name`` of the ConfigMap that says so.
        network: The pod network of net-conf.json.
        events: Events of pods that could not get a network.
        problem: Why net-conf.json cannot be read; empty where it can, or was not seen.
        stuck: Pods that have no network now.
        addressed: Pods with an address that is not their node's.
        assigner: Arguments of the controller manager that are about podCIDRs.
    """

    daemonsets: tuple[DaemonSet, ...] = ()
    pods: tuple[Pod, ...] = ()
    backend: str = ""
    port: int = 0
    config: str = ""
    network: str = ""
    events: tuple[Event, ...] = ()
    problem: str = ""
    stuck: tuple[StuckPod, ...] = ()
    addressed: tuple[PodAddress, ...] = ()
    assigner: tuple[str, ...] = ()

    def on(self, node: str) -> Pod | None:
        """Return flannel's pod on a node."""
        return next((p for p in self.pods if p.node == node), None)

    def enter(self, node: str) -> str:
        """Return the start of a command that runs in a node's network."""
        pod = self.on(node)
        return f"kubectl -n {pod.namespace} exec {pod.name} --" if pod else f"ssh {node} sudo"


_LOSSY_SHARE = 0.3
_SENT_ANEW_SECONDS = 0.9


class Mesh(Measured, frozen=True, kw_only=True):
    """Flows between nodes (UNDERLAY) and towards pods of every node (MESH), with pings of both.

    Args:
        overlay: What carries pod traffic between nodes: ``udp/8472``; empty where it is routed.
    """

    overlay: str = ""

    def loses(self, a: str, b: str) -> bool:
        """Say whether so many pings between two nodes are lost that three in a row may be.

        That is some and not all of one flow: where none is answered, pings may be filtered, or the
        way is broken. Of two nodes that did not ping each other nothing is known. A node may limit
        how many pings it answers: connections to it have to be slow, too.
        """
        ends = {a, b}
        if self._loses(Purpose.MESH_SIZE, ends):
            return True
        control = [
            o for o in self.of(Purpose.UNDERLAY) if {o.flow.vantage.node, o.flow.subject} == ends
        ]
        slow = any(o.failure or o.lost or o.seconds >= _SENT_ANEW_SECONDS for o in control)
        return self._loses(Purpose.UNDERLAY_SIZE, ends) and (slow or not control)

    def _loses(self, purpose: Purpose, ends: set[str]) -> bool:
        """Say it of the pings to the nodes, or of those to their pods."""
        answered = [
            o
            for o in self.of(purpose)
            if o.ok and not o.flow.size and {o.flow.vantage.node, o.flow.subject} == ends
        ]
        lost, sent = sum(o.lost for o in answered), sum(o.sent for o in answered)
        return bool(answered) and lost >= _LOSSY_SHARE * sent


class Pings(Measured, frozen=True, kw_only=True):
    """Pings between nodes, and from nodes to pods of others: small ones, and ones of full size.

    Its gaps tell where none is answered, which proves nothing of sizes and of loss.

    Args:
        overlay: What carries pod traffic between nodes: ``udp/8472``; empty where it is routed.
    """

    overlay: str = ""


class Counters(Measured, frozen=True, kw_only=True):
    """What was counted around bursts between nodes whose pods do not reach each other.

    Args:
        items: One for each burst. Where pods reach each other there is none.
    """

    items: tuple[Burst, ...] = ()

    def way(self, sender: str, receiver: str) -> Burst | None:
        """Return what was counted one way."""
        found = (b for b in self.items if (b.sender, b.receiver) == (sender, receiver))
        return next(found, None)


class EndpointAddress(msgspec.Struct, frozen=True):
    """One endpoint of a Service, resolved to where it runs."""

    address: str
    port: int
    ready: bool
    node: str = ""
    pod: str = ""


class Backend(msgspec.Struct, frozen=True):
    """A Service with what stands behind it.

    Args:
        key: ``namespace/name`` as it is referred to.
        service: None where it does not exist.
        port: The port meant, None where the Service has no such port.
        asked_port: The port as written by whoever refers to it.
        endpoints: All endpoints of that port, ready or not.
        pods: Pods that its selector matches.
        workloads: Deployments and StatefulSets whose template its selector matches.
        nearly: Pods of the namespace that share a label key with the selector, but not its value.
        events: Events of its pods.
        referrers: Who refers to it: ``Ingress shop/web``.
        daemonsets: DaemonSets whose template its selector matches.
    """

    key: str
    service: Service | None
    port: ServicePort | None
    asked_port: str = ""
    endpoints: tuple[EndpointAddress, ...] = ()
    pods: tuple[Pod, ...] = ()
    workloads: tuple[Deployment, ...] = ()
    nearly: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    referrers: tuple[str, ...] = ()
    daemonsets: tuple[DaemonSet, ...] = ()

    @property
    def ready(self) -> tuple[EndpointAddress, ...]:
        """The endpoints that traffic is sent to."""
        return tuple(e for e in self.endpoints if e.ready)

    @property
    def scaled_to_zero(self) -> tuple[Deployment, ...]:
        """The workloads that are told to run no pod."""
        return tuple(w for w in self.workloads if w.spec.replicas == 0)


class DnsService(Evidence, frozen=True, kw_only=True):
    """The cluster's DNS Service, and what stands behind it.

    Args:
        backend: Service, endpoints, pods and workloads; None where no DNS Service was found.
        domain: The cluster domain.
        guessed: Whether that is only the usual one, because no Corefile could be read.
        corefile: CoreDNS's configuration; None where it could not be read.
        control_port: A TCP port other than 53 that CoreDNS's pods declare; 0 if none.
    """

    backend: Backend | None = None
    domain: str = "cluster.local"
    guessed: bool = False
    corefile: Corefile | None = None
    control_port: int = 0


class DnsFlows(Measured, frozen=True, kw_only=True):
    """Queries from every vantage to the DNS Service and to every CoreDNS endpoint."""


class Upstream(msgspec.Struct, frozen=True):
    """One resolver that CoreDNS asks for names which are not the cluster's.

    Args:
        zone: Which names it is asked for: ``.`` for all others.
        address: Where it is.
        port: The port it is asked at.
        scheme: ``dns``, or ``tls``.
        source: Where that is written: ``Corefile``, or ``resolv.conf``.
        nodes: The nodes whose replicas of CoreDNS ask it.
    """

    zone: str
    address: str
    port: int = 53
    scheme: str = "dns"
    source: str = "Corefile"
    nodes: tuple[str, ...] = ()


class Upstreams(Measured, frozen=True, kw_only=True):
    """The resolvers that CoreDNS asks, asked by nodes and pods where it runs; and through CoreDNS.

    Names that nobody has are asked below the domains that pods search, too (SEARCH).

    Args:
        items: The resolvers.
        key: ``namespace/name`` of the DNS Service.
        service: Its address.
    """

    items: tuple[Upstream, ...] = ()
    key: str = ""
    service: str = ""

    def loops(self, upstream: Upstream) -> bool:
        """Say whether CoreDNS would ask itself: a loopback address is its own pod's."""
        return upstream.address == self.service or upstream.address.startswith("127.")


class StaleQuery(msgspec.Struct, frozen=True):
    """Queries to the DNS Service that a node leads to an address which is nobody's.

    Args:
        node: The node.
        client: Who asks: an address.
        pod: The pod that has it; empty where it is a node's.
        port: The port that the client asks from.
        replier: Where the queries go: no pod has this address any more.
        seconds: How long the entry would live on without a further query.
        kept: Whether a query came between two looks at it: then whoever asks still does, in vain.
        evidence: Id of the record.
    """

    node: str
    client: str
    port: int
    replier: str
    seconds: int
    pod: str = ""
    kept: bool = False
    evidence: str = ""


class StaleQueries(Evidence, frozen=True, kw_only=True):
    """Such entries of connection tracking, although kube-proxy's rules lead elsewhere.

    Args:
        items: The entries.
        server: The address of the DNS Service.
        nodes: The nodes on which they were looked for.
    """

    items: tuple[StaleQuery, ...] = ()
    server: str = ""
    nodes: tuple[str, ...] = ()


class NodeResolver(msgspec.Struct, frozen=True):
    """What the resolver of a probe pod on a node is told, as of every pod there.

    Args:
        node: The node.
        pod: The pod's resolv.conf.
        own: That of pods on the node's own network; None where it was not read.
        evidence: Id of the record.
    """

    node: str
    pod: ResolvConf
    own: ResolvConf | None = None
    evidence: str = ""


class Resolvers(Measured, frozen=True, kw_only=True):
    """What pods' resolvers are told on each node, and the answers of those that are not the Service.

    Args:
        items: For each node with a probe pod that was asked.
        events: Warnings of the kubelet that it could not give a pod the cluster's DNS.
    """

    items: tuple[NodeResolver, ...] = ()
    events: tuple[Event, ...] = ()


class HostPod(msgspec.Struct, frozen=True):
    """A failing pod on its node's own network, which asks the node's resolvers.

    Args:
        pod: The pod.
        names: ``host:port`` of Services that its environment names.
        workload: What it was made by: ``deployment/web``; empty where nothing made it.
    """

    pod: Pod
    names: tuple[str, ...]
    workload: str = ""


class HostPods(Evidence, frozen=True, kw_only=True):
    """Failing pods on their nodes' own network that name Services, and are not told whom to ask.

    Args:
        items: The pods: with the policy ClusterFirst, which means the node's resolvers there.
        server: The address of the cluster's DNS Service; empty where there is none.
        site: The pods that URLs cross which were asked for; empty where that is not known.
    """

    items: tuple[HostPod, ...] = ()
    server: str = ""
    site: tuple[str, ...] = ()


class PolicyEngine(msgspec.Struct, frozen=True):
    """What enforces NetworkPolicies.

    Args:
        name: ``kube-router``.
        nodes: The nodes on which a pod of it is ready.
    """

    name: str
    nodes: tuple[str, ...] = ()


class NetworkPolicies(Evidence, frozen=True, kw_only=True):
    """NetworkPolicies, what they are about, and who enforces them: flannel by itself does not.

    Args:
        items: All of them.
        engine: What enforces them; None where nothing is known to.
        pods: All pods.
    """

    items: tuple[NetworkPolicy, ...] = ()
    engine: PolicyEngine | None = None
    pods: tuple[Pod, ...] = ()


class WebhookBackend(msgspec.Struct, frozen=True):
    """One webhook and the Service that the API server calls for it."""

    configuration: str
    kind: str
    webhook: str
    failure_policy: str
    intercepts: tuple[str, ...]
    backend: Backend
    ca_bundle: str = ""


class Webhooks(Evidence, frozen=True, kw_only=True):
    """All admission webhooks that are called at a Service."""

    items: tuple[WebhookBackend, ...] = ()


class WebhookFlows(Measured, frozen=True, kw_only=True):
    """TCP from the control-plane nodes to webhook Services and their endpoints."""


class WebhookCertificate(msgspec.Struct, frozen=True):
    """The certificate that one endpoint of a webhook showed.

    Args:
        webhook: The webhook.
        address: ``address:port`` of the endpoint.
        name: The name that the API server asks for.
        certificate: What it showed.
        vouching: Whether the webhook's caBundle vouches for it.
        at: Unix time at which it was shown.
        evidence: Ids of what proves it.
    """

    webhook: WebhookBackend
    address: str
    name: str
    certificate: Certificate
    vouching: Vouching
    at: float
    evidence: tuple[str, ...]


class WebhookCertificates(Evidence, frozen=True, kw_only=True):
    """The certificates of all webhooks that completed so much of a handshake.

    Its gaps tell which others were not seen, and what of those that were could not be judged.
    """

    items: tuple[WebhookCertificate, ...] = ()


class KubeProxy(Evidence, frozen=True, kw_only=True):
    """kube-proxy, as its objects describe it.

    Args:
        daemonset: Its DaemonSet.
        pods: Its pods.
        mode: ``iptables``, ``nftables`` or ``ipvs``; empty where its configuration was not read.
        config: ``namespace/name`` of the ConfigMap that says so; empty where it was not read.
        cluster_cidr: The networks that it takes for pods'; None where that was not read.
        detect_local: How else it tells traffic of the node's own pods; empty where it does not.
        server: The URL at which it looks for the API server; empty where that was not read.
        instances: All pods with its image, whoever made them.
        more: Its other DaemonSets, where there is one for each architecture.
    """

    daemonset: DaemonSet | None = None
    pods: tuple[Pod, ...] = ()
    mode: str = ""
    config: str = ""
    cluster_cidr: str | None = None
    detect_local: str = ""
    server: str = ""
    instances: tuple[Pod, ...] = ()
    more: tuple[DaemonSet, ...] = ()

    def on(self, node: str) -> Pod | None:
        """Return kube-proxy's pod on a node."""
        return next((p for p in self.pods if p.node == node), None)


class ServiceIpFlows(Measured, frozen=True, kw_only=True):
    """From every vantage: the API server at its ClusterIP, and directly.

    From nodes also where kube-proxy looks for it (PROXY_API), if that is another place.
    """


class Backends(Evidence, frozen=True, kw_only=True):
    """The Services that targets cross: behind Ingresses, and the controllers' own."""

    items: tuple[Backend, ...] = ()

    def of(self, key: str) -> Backend | None:
        """Return the Service of that ``namespace/name``."""
        return next((b for b in self.items if b.key == key), None)


class BackendFlows(Measured, frozen=True, kw_only=True):
    """TCP to backends' endpoints, and the kubelet's readiness request repeated.

    With it, each node's own node ports, asked on the node itself (NODE_PORT).
    """


class LoadBalancers(Evidence, frozen=True, kw_only=True):
    """MetalLB and the Services that want an address.

    Args:
        installed: Whether MetalLB is there.
        namespace: MetalLB's namespace.
        services: Services of type LoadBalancer, those of another class left out.
        pools: IPAddressPools.
        l2: L2Advertisements.
        bgp: BGPAdvertisements.
        controller: The controller's pods.
        controllers: The controller's Deployments.
        speakers: The speakers' pods.
        events: Events of these Services.
        wanted: ``namespace/name`` of the Services that targets cross; all if there is no target.
        announced: Pairs of Service and node, as the speakers' status objects say.
    """

    installed: bool = False
    namespace: str = ""
    services: tuple[Service, ...] = ()
    pools: tuple[IPAddressPool, ...] = ()
    l2: tuple[L2Advertisement, ...] = ()
    bgp: tuple[BGPAdvertisement, ...] = ()
    controller: tuple[Pod, ...] = ()
    controllers: tuple[Deployment, ...] = ()
    speakers: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    wanted: tuple[str, ...] = ()
    announced: tuple[tuple[str, str], ...] = ()

    def announcer(self, service: Service) -> str:
        """Return the node that last said it announces the Service; empty if none did."""
        for key, node in self.announced:
            if key == service.key:
                return node
        said = sorted(
            (
                e
                for e in self.events
                if e.reason == "nodeAssigned"
                and (e.involved_object.namespace, e.involved_object.name)
                == (service.namespace, service.name)
            ),
            key=lambda e: e.last_timestamp or e.event_time or "",
        )
        return said[-1].message.split('"')[1] if said and '"' in said[-1].message else ""


class VipFlows(Measured, frozen=True, kw_only=True):
    """ARP for each VIP from the nodes it is on-link of (with a control), TCP from this machine."""


class IngressController(msgspec.Struct, frozen=True):
    """An ingress controller.

    Args:
        name: ``traefik``, ``ingress-nginx`` or another product's name.
        controller: The value that IngressClasses name: ``traefik.io/ingress-controller``.
        key: ``namespace/name`` of its workload's first pod owner.
        pods: Its pods.
        services: ``namespace/name`` of the Services in front of it.
        classes: IngressClass names that are its.
        annotation_classes: Values of the deprecated annotation that it honours.
        classless: Whether it also serves Ingresses without any class.
    """

    name: str
    controller: str
    key: str
    pods: tuple[Pod, ...]
    services: tuple[str, ...]
    classes: tuple[str, ...]
    annotation_classes: tuple[str, ...]
    classless: bool = False


class Ingresses(Evidence, frozen=True, kw_only=True):
    """Ingress objects, classes and controllers.

    Args:
        items: All Ingresses.
        classes: All IngressClasses.
        controllers: Controllers found running.
        hosts: The hosts asked for: of ``--url``, else empty (then each Ingress's own).
    """

    items: tuple[Ingress, ...] = ()
    classes: tuple[IngressClass, ...] = ()
    controllers: tuple[IngressController, ...] = ()
    hosts: tuple[str, ...] = ()


class IngressFlows(Measured, frozen=True, kw_only=True):
    """HTTP with a target's Host to the controllers' pods."""


class Proxy(Measured, frozen=True, kw_only=True):
    """The reverse proxy in front of the cluster, and the same request past it.

    Args:
        proxy: What owns the port; None where nothing is known.
        place: The host that it stands on, as users read it.
        ssh: What reaches that host by ssh: ``user@host``; empty for this machine.
    """

    proxy: HostProxy | None = None
    place: str = "this machine"
    ssh: str = ""


class TargetFlows(Measured, frozen=True, kw_only=True):
    """What a visitor does, from this machine: resolve the name, connect, ask.

    Beside it, what each of this machine's resolvers says of the name (NAME), the handshake of an
    https URL (TARGET_TLS), and how far packets get where nothing was answered (TRACE).

    Args:
        urls: The URLs asked for.
        derived: Whether they were derived from Ingresses, for want of ``--url``.
    """

    urls: tuple[str, ...] = ()
    derived: bool = False


class EgressFlows(Measured, frozen=True, kw_only=True):
    """Names and connections outside that failing workloads depend on.

    Args:
        wanted_by: Per ``host:port``, the pods that depend on it.
    """

    wanted_by: tuple[tuple[str, tuple[Pod, ...]], ...] = ()


_PLAIN = re.compile(
    r"-A \S+"
    r"( -[sd] [\d./]+| -[io] (cni|flannel|eth|en|bond)\S*| -p \w+| -m (tcp|udp|multiport|comment)"
    r"| --comment (\"[^\"]*\"|\S+)| --dports? [\d:,]+| --reject-with \S+| -j \w+)*"
)


def _concerns(rule: FilterRule, among: Iterable[str]) -> bool:
    """Say whether a rule's further conditions are understood, and met by these networks."""
    named = [ip_network(a, strict=False) for a in re.findall(r" -[sd] ([\d./]+)", rule.text)]
    nets = [ip_network(a, strict=False) for a in among]
    return not rule.narrow or (
        _PLAIN.fullmatch(rule.text) is not None
        and all(any(a.overlaps(n) for n in nets) for a in named)
    )
