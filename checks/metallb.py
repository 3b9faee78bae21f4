"""MetalLB: is an address assigned, announced, on the nodes' network, and let through?"""

from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    collapse_addresses,
    summarize_address_range,
)

from checks.common import and_list, ids
from doctor.contract import Check, check
from doctor.model.evidence import (
    Backends,
    LoadBalancers,
    NodeNetworks,
    Nodes,
    VipFlows,
)
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import BGPAdvertisement, Event, IPAddressPool, L2Advertisement, Pod, Service
from doctor.model.link import Link

__all__ = [
    "CHECKS",
    "LB_CONTROLLER_MISSING",
    "METALLB_CONTROLLER_DOWN",
    "METALLB_NODES_EXCLUDED",
    "METALLB_NOT_ADVERTISED",
    "METALLB_NOT_ASSIGNED",
    "METALLB_NO_POOL",
    "METALLB_POOL_EXHAUSTED",
    "METALLB_SPEAKER_DOWN",
    "METALLB_VIP_FILTERED",
    "METALLB_VIP_OUTSIDE_SUBNET",
    "METALLB_VIP_TWO_OWNERS",
]

LB_CONTROLLER_MISSING = Code(
    "LB_CONTROLLER_MISSING",
    Link.METALLB,
    "A Service of type LoadBalancer waits for an address, and nobody in the cluster assigns one.",
)
METALLB_CONTROLLER_DOWN = Code(
    "METALLB_CONTROLLER_DOWN",
    Link.METALLB,
    "MetalLB's controller, which assigns addresses, is down.",
)
METALLB_NO_POOL = Code(
    "METALLB_NO_POOL", Link.METALLB, "MetalLB has no IPAddressPool to assign an address from."
)
METALLB_POOL_EXHAUSTED = Code(
    "METALLB_POOL_EXHAUSTED", Link.METALLB, "All addresses of MetalLB's pools are assigned."
)
METALLB_NOT_ASSIGNED = Code(
    "METALLB_NOT_ASSIGNED", Link.METALLB, "MetalLB runs, has pools, and assigns no address."
)
METALLB_NOT_ADVERTISED = Code(
    "METALLB_NOT_ADVERTISED", Link.METALLB, "No advertisement selects the pool of an address."
)
METALLB_NODES_EXCLUDED = Code(
    "METALLB_NODES_EXCLUDED",
    Link.METALLB,
    "Each node is labelled to be left out from load balancing, so none announces an address.",
)
METALLB_SPEAKER_DOWN = Code(
    "METALLB_SPEAKER_DOWN",
    Link.METALLB,
    "No speaker of MetalLB, which announces addresses, is ready.",
)
METALLB_VIP_OUTSIDE_SUBNET = Code(
    "METALLB_VIP_OUTSIDE_SUBNET",
    Link.METALLB,
    "An address announced by ARP lies in no network that the nodes are connected to.",
)
METALLB_VIP_FILTERED = Code(
    "METALLB_VIP_FILTERED",
    Link.METALLB,
    "An address is announced, and the answers to ARP for it are lost between the nodes.",
)
METALLB_VIP_TWO_OWNERS = Code(
    "METALLB_VIP_TWO_OWNERS", Link.METALLB, "Several hardware addresses answer ARP for an address."
)

_VERIFY = "wwwm-doctor check metallb"
_MEMBERLIST = "tcp/7946"
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_WEBHOOK_SERVICES = ("metallb-webhook-service", "webhook-service")  # of its manifests, old and new
_INNER = ("lo", "cni", "flannel", "veth", "docker", "cali", "kube-", "tunl", "virbr", "br-")
_NO_ADDRESS = "no available IPs"


@check(
    id="metallb.installed",
    title="Somebody is there to assign load balancer addresses",
    codes=(LB_CONTROLLER_MISSING, METALLB_CONTROLLER_DOWN),
)
def installed(table: LoadBalancers) -> Iterator[Finding]:
    """Judge who assigns addresses to Services of type LoadBalancer.

    What it looks at:
        Services of type LoadBalancer without an address; whether MetalLB is installed, and whether
        its controller has a ready pod.

    Why it matters:
        Kubernetes itself assigns no load balancer address: without a controller, on OpenStack
        as on bare metal, EXTERNAL-IP stays <pending>.

    What proves it:
        No MetalLB, and no Service that somebody assigned an address to; or a controller
        without a ready pod.

    Look-alikes:
        Services of another loadBalancerClass belong to another controller and are left out.
        A controller without a pool or with an exhausted one is found by metallb.assigned.

    Remediation:
        Install MetalLB with a pool of free addresses of the nodes' network; bring its
        controller back.

    Sources:
        MetalLB: Installation; Troubleshooting, component responsibilities.
        Kubernetes: Service, type LoadBalancer.
    """
    pending = _pending(table)
    if not table.installed:
        seen = not table.lacks("services", "pods", "deployments")
        if seen and pending and not any(s.vips for s in table.services):
            yield _nobody(pending)
        return
    if table.lacks("pods", "deployments") or any(p.ready for p in table.controller):
        return
    if table.controller or table.controllers or table.speakers:
        yield _controller_down(table, pending)


@check(
    id="metallb.assigned",
    title="MetalLB assigns an address to each Service that wants one",
    codes=(METALLB_NO_POOL, METALLB_POOL_EXHAUSTED, METALLB_NOT_ASSIGNED),
)
def assigned(table: LoadBalancers) -> Iterator[Finding]:
    """Judge why a Service has no address although MetalLB is installed.

    What it looks at:
        Services of type LoadBalancer without an address, MetalLB's IPAddressPools, their size and
        what is assigned from them, and the events of these Services.

    Why it matters:
        Until an address is assigned there is nothing to announce, and nowhere to connect to.

    What proves it:
        No IPAddressPool; or the event "no available IPs" while as many addresses are assigned
        as the pools have. Any other reason is quoted from the event.

    Look-alikes:
        A controller that is down assigns nothing either, and is found by metallb.installed.
        Free addresses with the same event: autoAssign is off, or a pool is for other namespaces.

    Remediation:
        Create or extend an IPAddressPool with free addresses of the nodes' network.

    Sources:
        MetalLB: Configuration; Usage; Troubleshooting, "Service is not assigned an IP".
    """
    pending = _pending(table)
    if not table.installed or table.lacks("ipaddresspools", "services"):
        return
    if not table.pools:
        yield from (_no_pool(table, s) for s in pending)
    elif any(p.ready for p in table.controller):
        yield from (_unassigned(table, s) for s in pending)


@check(
    id="metallb.advertised",
    title="Each address is announced",
    codes=(METALLB_NOT_ADVERTISED, METALLB_NODES_EXCLUDED, METALLB_SPEAKER_DOWN),
)
def advertised(table: LoadBalancers, nodes: Nodes | None) -> Iterator[Finding]:
    """Judge whether addresses that are assigned are announced to the network.

    What it looks at:
        For each address the pool that it comes from, the L2- and BGPAdvertisements that select
        that pool, the speakers' pods, and the label that excludes nodes from load balancing.

    Why it matters:
        An address that nobody announces works on the nodes, where kube-proxy translates it, and
        from nowhere else.

    What proves it:
        No advertisement selects the pool; or no speaker is ready; or each node carries the label
        and the speakers are not told to ignore it.

    Look-alikes:
        `curl` on a node works all the same, and proves nothing about the network.
        An address that does not answer ping is no fault. An advertisement that selects pools by
        label is not judged, and taken to select the pool.

    Remediation:
        Create an L2Advertisement for the pool; bring the speakers back; remove the label.

    Sources:
        MetalLB: Configuration, layer 2; Advanced L2 configuration; Troubleshooting.
        Kubernetes: Well-Known Labels, exclude-from-external-load-balancers.
    """
    if not table.installed or table.lacks("ipaddresspools", "l2advertisements"):
        return
    if not table.lacks("bgpadvertisements"):
        for service, vip, pool in _addresses(table):
            if not _selecting(table.l2, pool) and not _selecting(table.bgp, pool):
                yield _unadvertised(table, service, vip, pool)
    if not table.lacks("pods"):
        yield from _speakers(table, nodes)


@check(
    id="metallb.vip-in-subnet",
    title="Addresses announced by ARP lie in a network of the nodes",
    codes=(METALLB_VIP_OUTSIDE_SUBNET,),
)
def vip_in_subnet(
    table: LoadBalancers, networks: NodeNetworks, nodes: Nodes, flows: VipFlows | None
) -> Iterator[Finding]:
    """Judge whether anybody asks for an address that is announced by ARP.

    What it looks at:
        Each address of a pool that is advertised in layer 2 alone, and the networks of the nodes'
        own interfaces.

    Why it matters:
        ARP is asked only for addresses of one's own network. For one outside, others ask their
        router, which knows no way, so that they get "no route to host".

    What proves it:
        The address lies in none of the networks that the nodes are connected to.

    Look-alikes:
        `curl` on a node works, through kube-proxy alone. With BGP, addresses lie outside by
        design. If this machine reaches the address through the network, it is routed: no finding.

    Remediation:
        Give the pool free addresses of the nodes' network, or have the router send the pool's
        network there.

    Sources:
        MetalLB: MetalLB in layer 2 mode; Troubleshooting.
    """
    if not table.installed or table.lacks("ipaddresspools", "bgpadvertisements"):
        return
    subnets = _subnets(networks)
    for service, vip, pool in _addresses(table):
        in_l2 = _selecting(table.l2, pool) and not _selecting(table.bgp, pool)
        if subnets and in_l2 and not _within(vip, subnets) and not _reached(vip, flows):
            yield _outside(table, (service, vip, pool), networks, nodes)


@check(
    id="metallb.one-owner",
    title="One node, and only one, answers ARP for each address",
    codes=(METALLB_VIP_FILTERED, METALLB_VIP_TWO_OWNERS),
    essential=False,
)
def one_owner(
    table: LoadBalancers,
    flows: VipFlows,
    networks: NodeNetworks | None,
    nodes: Nodes | None,
    backends: Backends | None,
) -> Iterator[Finding]:
    """Ask for each address by ARP from the nodes that do not announce it.

    What it looks at:
        ARP requests for the address from every node but the announcer, with a request for another
        node's address from the same place as control.

    Why it matters:
        OpenStack's port security drops what a port sends from an address that is not its own:
        MetalLB announces, and nobody hears it. Two owners share connections at random.

    What proves it:
        Nobody is answered for the address, while the control is answered; or answers come from
        several hardware addresses.

    Look-alikes:
        An address that is not advertised, or lies outside the nodes' network, is not asked for.
        MetalLB withdraws an address whose Service has no ready endpoint: not judged then.

    Remediation:
        Allow the address on the port of each node (allowed address pairs); of two owners, take
        the address from the one that is not MetalLB's, or keep MetalLB to one interface.

    Sources:
        MetalLB: Cloud compatibility, OpenStack; MetalLB in layer 2 mode; Troubleshooting.
        OpenStack Neutron: Allowed address pairs.
    """
    if not table.installed or not any(p.ready for p in table.speakers):
        return
    subnets = _subnets(networks) if networks else ()
    for service, vip, pool in _addresses(table):
        backend = backends.of(service.key) if backends else None
        served = backend is None or backend.ready
        inside = not subnets or _within(vip, subnets)
        asked = flows.of(Purpose.VIP_ARP, kind=FlowKind.ARP, address=vip)
        if not (inside and _selecting(table.l2, pool)):
            continue
        yield from _two_owners(service, vip, asked, networks)
        if served:
            yield from _filtered(table, (service, vip), _controlled(asked, flows), nodes)


CHECKS: tuple[Check, ...] = (installed, assigned, advertised, vip_in_subnet, one_owner)


# ---- assigned -----------------------------------------------------------------------------------


def _wanted(table: LoadBalancers) -> list[Service]:
    """List the Services that targets cross."""
    return [s for s in table.services if s.key in table.wanted]


def _pending(table: LoadBalancers) -> list[Service]:
    """List the Services that wait for an address, and are not reached by external IPs either."""
    return [
        s
        for s in _wanted(table)
        if s.spec.type == "LoadBalancer"
        and not any(i.ip or i.hostname for i in s.status.load_balancer.ingress or ())
        and not s.spec.external_ips
    ]


def _assign_hop(services: list[Service]) -> Hop:
    """Name the assignment of one Service, or of all."""
    return Hop(HopKind.ASSIGN, services[0].key if len(services) == 1 else ANY)


def _nobody(pending: list[Service]) -> Finding:
    """Say that there is no controller at all."""
    names = and_list(s.key for s in pending)
    return Finding(
        code=LB_CONTROLLER_MISSING,
        title=(
            f"Service {names} has EXTERNAL-IP <pending>: nothing in the cluster assigns load "
            "balancer addresses, neither MetalLB nor a cloud's controller"
        ),
        hop=_assign_hop(pending),
        evidence=_service_ids(pending),
        confidence=Confidence.LIKELY,
        remediation=(
            _mend(
                "Install MetalLB, then give it a pool of free addresses of the nodes' network",
                "helm repo add metallb https://metallb.github.io/metallb",
                "helm install metallb metallb/metallb -n metallb-system --create-namespace",
                _pool_command("metallb-system"),
            ),
        ),
        falsifier="a Service of type LoadBalancer is assigned an address",
    )


def _controller_down(table: LoadBalancers, pending: list[Service]) -> Finding:
    """Say that MetalLB's controller is down."""
    at_zero = [w for w in table.controllers if w.spec.replicas == 0]
    why = and_list(f"{p.name} {p.waiting or p.status.phase}" for p in table.controller)
    if at_zero or not why:
        why = f"Deployment {at_zero[0].key} is scaled to zero" if at_zero else "it has no pod"
    waits = f": {and_list(s.key for s in pending)} stays <pending>" if pending else ""
    names = [w.name for w in table.controllers] or ["controller"]
    # who answers MetalLB's webhook is this controller, too: with nothing pending, that is worse
    webhooks = () if pending else _WEBHOOK_SERVICES
    return Finding(
        code=METALLB_CONTROLLER_DOWN,
        title=f"MetalLB's controller in {table.namespace} is not ready ({why}){waits}",
        hop=Hop(HopKind.ASSIGN, ANY),
        evidence=(
            *(f"api:deployments/{w.key}" for w in table.controllers),
            *_pod_ids(table.controller),
            *_service_ids(pending),
        )
        or ("api:pods",),
        severity=Severity.FAIL if pending else Severity.WARN,
        confidence=Confidence.CERTAIN if table.controllers else Confidence.LIKELY,
        consequence_of=(
            *_places(table.controller, HopKind.FLANNEL, HopKind.NODE, HopKind.POD_NETWORK),
            *(Hop(HopKind.SERVICE, f"{table.namespace}/{name}") for name in webhooks),
        ),
        remediation=(
            _mend(
                "Bring MetalLB's controller back",
                *(
                    f"kubectl -n {table.namespace} scale deployment {w.name} --replicas=1"
                    for w in at_zero
                ),
                f"kubectl -n {table.namespace} describe deployment {names[0]}",
            ),
        ),
        falsifier="a pod of MetalLB's controller is Ready",
    )


def _pool_command(namespace: str) -> str:
    """Make a pool with its advertisement; which addresses are free only the network's owner knows."""
    meta = f"metadata: {{name: site, namespace: {namespace}}}"
    return (
        "printf '%s\\n' "
        "'apiVersion: metallb.io/v1beta1' 'kind: IPAddressPool' "
        f"'{meta}' \"spec: {{addresses: ['${{FREE_RANGE:?from-to}}']}}\" '---' "
        "'apiVersion: metallb.io/v1beta1' 'kind: L2Advertisement' "
        f"'{meta}' 'spec: {{ipAddressPools: [site]}}' | kubectl apply -f -"
    )


def _no_pool(table: LoadBalancers, service: Service) -> Finding:
    """Say that there is no pool."""
    return Finding(
        code=METALLB_NO_POOL,
        title=f"Service {service.key} has EXTERNAL-IP <pending>: MetalLB has no IPAddressPool",
        hop=_assign_hop([service]),
        evidence=(*_service_ids([service]), "api:ipaddresspools"),
        remediation=(
            _mend(
                'Create a pool of free addresses of the nodes\' network (FREE_RANGE="from-to")',
                _pool_command(table.namespace),
            ),
        ),
        falsifier=f"kubectl -n {table.namespace} get ipaddresspools lists one",
    )


def _unassigned(table: LoadBalancers, service: Service) -> Finding:
    """Say why MetalLB assigned nothing."""
    event = _last_event(table, service)
    said = event.message if event else ""
    pools = [p for p in table.pools if p.spec.auto_assign]
    size = sum(n.num_addresses for p in pools for n in _networks(p))
    used = {
        v for s in table.services for v in s.vips if any(_within(v, _networks(p)) for p in pools)
    }
    names = and_list(p.name for p in pools)
    if pools and _NO_ADDRESS in said and size <= len(used):
        return Finding(
            code=METALLB_POOL_EXHAUSTED,
            title=(
                f"Service {service.key} has EXTERNAL-IP <pending>: all {size} addresses of "
                f"MetalLB's pool {names} are assigned"
            ),
            hop=_assign_hop([service]),
            evidence=_cited(service, event, pools),
            remediation=(_extend(table, pools[0]),),
            falsifier=f"an address of {names} belongs to no Service",
        )
    return Finding(
        code=METALLB_NOT_ASSIGNED,
        title=(
            f"Service {service.key} has EXTERNAL-IP <pending> although MetalLB has a pool"
            + (f": {said.rstrip('.')}" if said else ", and no event says why")
        ),
        hop=_assign_hop([service]),
        evidence=_cited(service, event, table.pools),
        confidence=Confidence.LIKELY if said else Confidence.POSSIBLE,
        remediation=(
            _mend(
                "Compare what the Service asks for with what the pools allow",
                f"kubectl -n {service.namespace} describe service {service.name}",
                f"kubectl -n {table.namespace} get ipaddresspools -o yaml",
            ),
        ),
        falsifier=f"Service {service.key} is assigned an address",
    )


def _last_event(table: LoadBalancers, service: Service) -> Event | None:
    """Return the last event that says why nothing was assigned."""
    said = [
        e
        for e in table.events
        if e.reason in ("AllocationFailed", "LoadBalancerFailed")
        and (e.involved_object.namespace, e.involved_object.name)
        == (service.namespace, service.name)
    ]
    return max(said, key=lambda e: e.last_timestamp or e.event_time or "", default=None)


def _cited(
    service: Service, event: Event | None, pools: Iterable[IPAddressPool]
) -> tuple[str, ...]:
    """Cite a Service, what was said about it, and the pools."""
    events = (f"api:events/{event.key}",) if event else ()
    return (*_service_ids([service]), *events, *(f"api:ipaddresspools/{p.key}" for p in pools))


def _extend(table: LoadBalancers, pool: IPAddressPool) -> Remediation:
    """Add addresses to a pool."""
    step = '\'[{"op":"add","path":"/spec/addresses/-","value":"\'"${FREE_RANGE:?from-to}"\'"}]\''
    return _mend(
        f'Add free addresses of the nodes\' network to pool {pool.name} (FREE_RANGE="from-to")',
        f"kubectl -n {pool.namespace or table.namespace} patch ipaddresspool {pool.name} "
        f"--type=json -p {step}",
    )


# ---- announced ----------------------------------------------------------------------------------


def _addresses(table: LoadBalancers) -> Iterator[tuple[Service, str, IPAddressPool]]:
    """Yield the IPv4 addresses assigned to Services that targets cross, each once, with pools."""
    seen: set[str] = set()
    for service in _wanted(table):
        for vip in service.vips:
            pool = next((p for p in table.pools if _within(vip, _networks(p))), None)
            if pool is not None and vip not in seen:
                seen.add(vip)
                yield service, vip, pool


def _networks(pool: IPAddressPool) -> tuple[IPv4Network, ...]:
    """List a pool's IPv4 addresses as networks; what is written otherwise is passed over."""
    found: list[IPv4Network] = []
    for text in pool.spec.addresses:
        first, dash, last = (part.strip() for part in text.partition("-"))
        try:
            if dash:
                found += summarize_address_range(IPv4Address(first), IPv4Address(last))
            else:
                found.append(IPv4Network(first, strict=False))
        except ValueError:
            continue
    return tuple(collapse_addresses(found))


def _within(address: str, networks: Iterable[IPv4Network]) -> bool:
    """Say whether an address lies in one of the networks."""
    try:
        parsed = IPv4Address(address)
    except ValueError:
        return False
    return any(parsed in n for n in networks)


def _selecting(
    advertisements: Iterable[L2Advertisement | BGPAdvertisement], pool: IPAddressPool
) -> bool:
    """Say whether an advertisement selects a pool, or may do so by labels."""
    return any(
        pool.name in (a.spec.ip_address_pools or ())
        or bool(a.spec.ip_address_pool_selectors)
        or not a.spec.ip_address_pools
        for a in advertisements
    )


def _unadvertised(table: LoadBalancers, service: Service, vip: str, pool: IPAddressPool) -> Finding:
    """Say that no advertisement selects a pool."""
    others = and_list(a.name for a in (*table.l2, *table.bgp))
    lacks = f"only {others} exists, for other pools" if others else "there is none at all"
    manifest = (
        "printf '%s\\n' 'apiVersion: metallb.io/v1beta1' 'kind: L2Advertisement' "
        f"'metadata: {{name: {pool.name}, namespace: {pool.namespace or table.namespace}}}' "
        f"'spec: {{ipAddressPools: [{pool.name}]}}' | kubectl apply -f -"
    )
    return Finding(
        code=METALLB_NOT_ADVERTISED,
        title=(
            f"VIP {vip} of {service.key} (pool {pool.name}) is announced by nobody: no "
            f"L2Advertisement selects the pool, {lacks}"
        ),
        hop=Hop(HopKind.ANNOUNCE, vip),
        evidence=(
            *_cited(service, None, [pool]),
            *(f"api:l2advertisements/{a.key}" for a in table.l2),
        ),
        remediation=(_mend(f"Announce pool {pool.name} by an L2Advertisement", manifest),),
        falsifier=f"an L2Advertisement or BGPAdvertisement selects pool {pool.name}",
    )


def _speakers(table: LoadBalancers, nodes: Nodes | None) -> Iterator[Finding]:
    """Judge the speakers, and where they may announce."""
    vips = [vip for _, vip, _ in _addresses(table)]
    if not any(p.ready for p in table.speakers):
        if table.speakers or table.controller or table.controllers:
            yield _speaker_down(table, vips)
        return
    excluded = _excluded(table, nodes)
    if excluded and vips:
        yield Finding(
            code=METALLB_NODES_EXCLUDED,
            title=(
                f"VIP {and_list(vips)} is announced by nobody: each node with a speaker, "
                f"{and_list(excluded)}, has the label {_EXCLUDED}"
            ),
            hop=Hop(HopKind.ANNOUNCE, vips[0] if len(vips) == 1 else ANY),
            evidence=tuple(f"api:nodes/{n}" for n in excluded),
            remediation=(
                _mend(
                    "Let the nodes announce",
                    *(f"kubectl label node {n} {_EXCLUDED}-" for n in excluded),
                ),
            ),
            falsifier=f"a node with a ready speaker lacks the label {_EXCLUDED}",
        )


def _speaker_down(table: LoadBalancers, vips: list[str]) -> Finding:
    """Say that no speaker is ready."""
    why = and_list(f"{p.name} {p.waiting or p.status.phase}" for p in table.speakers)
    return Finding(
        code=METALLB_SPEAKER_DOWN,
        title=(
            f"No speaker of MetalLB in {table.namespace} is ready ({why or 'there is no pod'})"
            + (f": nobody announces {and_list(vips)}" if vips else "")
        ),
        hop=Hop(HopKind.ANNOUNCE, ANY),
        evidence=_pod_ids(table.speakers) or (f"api:daemonsets/{table.namespace}",),
        severity=Severity.FAIL if vips else Severity.WARN,
        confidence=Confidence.CERTAIN if table.speakers else Confidence.LIKELY,
        consequence_of=_places(table.speakers, HopKind.NODE),
        remediation=(
            _mend(
                "Bring MetalLB's speakers back",
                f"kubectl -n {table.namespace} get daemonsets",
                *(
                    f"kubectl -n {table.namespace} describe pod {p.name}"
                    for p in table.speakers[:1]
                ),
            ),
        ),
        falsifier="a speaker's pod is Ready",
    )


def _excluded(table: LoadBalancers, nodes: Nodes | None) -> list[str]:
    """List the nodes with a ready speaker if each of them is excluded by label."""
    speakers = [p for p in table.speakers if p.ready]
    told = [
        a
        for p in speakers
        for c in p.spec.containers
        for a in (*(c.command or ()), *(c.args or ()))
    ]
    found = [nodes.named(p.node) if nodes else None for p in speakers]
    if any(a.startswith("--ignore-exclude-lb") for a in told) or not found:
        return []
    if not all(n is not None and _EXCLUDED in n.labels for n in found):
        return []
    return sorted(p.node for p in speakers)


# ---- on the network -----------------------------------------------------------------------------


def _subnets(networks: NodeNetworks) -> tuple[IPv4Network, ...]:
    """List the networks that the nodes' own interfaces are connected to."""
    interfaces = (
        IPv4Interface(address)
        for item in networks.items
        for link in item.links
        if not link.name.startswith(_INNER) and not link.vxlan_id
        for address in link.addresses
    )
    return tuple(sorted({i.network for i in interfaces if i.network.num_addresses > 1}))


def _reached(vip: str, flows: VipFlows | None) -> bool:
    """Say whether anybody outside the nodes got an answer from an address through the network.

    On a node an answer comes from kube-proxy, and such a path has no ARP hop.
    """
    seen = flows.of(Purpose.VIP, address=vip) if flows else ()
    return any(
        o.flow.vantage.outside
        and (o.ok or o.failure is Failure.CONNECTION_REFUSED)
        and (not o.hops or any(h.kind is HopKind.ARP for h in o.hops))
        for o in seen
    )


def _outside(
    table: LoadBalancers,
    assigned_: tuple[Service, str, IPAddressPool],
    networks: NodeNetworks,
    nodes: Nodes,
) -> Finding:
    """Say that an address lies outside the nodes' networks."""
    service, vip, pool = assigned_
    known = {n.node for n in networks.items if n.links}
    subnets = and_list(str(n) for n in _subnets(networks))
    patch = '\'{"spec":{"addresses":["\'"${FREE_RANGE:?from-to}"\'"]}}\''
    return Finding(
        code=METALLB_VIP_OUTSIDE_SUBNET,
        title=(
            f"VIP {vip} of {service.key} (pool {pool.name}) lies outside the nodes' subnet "
            f"{subnets}: nobody there asks for it by ARP"
        ),
        hop=Hop(HopKind.ARP, vip),
        evidence=(
            *_cited(service, None, [pool]),
            *(n.evidence for n in networks.items if n.links),
        ),
        confidence=(
            Confidence.CERTAIN
            if all(n.name in known for n in nodes.items if n.linux)
            else Confidence.LIKELY
        ),
        remediation=(
            _mend(
                f'Give pool {pool.name} free addresses of {subnets} (FREE_RANGE="from-to")',
                f"kubectl -n {pool.namespace or table.namespace} patch ipaddresspool {pool.name} "
                f"--type=merge -p {patch}",
                risk=Risk.DISRUPTIVE,
            ),
        ),
        falsifier=f"a node has an interface in a network that holds {vip}, or a router sends it there",
    )


def _controlled(asked: tuple[Observation, ...], flows: VipFlows) -> tuple[Observation, ...]:
    """Keep what was asked from where the control was answered; all of it where one was answered."""
    heard = {o.flow.vantage for o in flows.of(Purpose.ARP_CONTROL) if o.ok and o.answers}
    kept = tuple(o for o in asked if o.flow.vantage in heard)
    return () if any(o.ok for o in asked) else kept


def _filtered(
    table: LoadBalancers,
    assigned_: tuple[Service, str],
    asked: tuple[Observation, ...],
    nodes: Nodes | None,
) -> Iterator[Finding]:
    """Say that nobody gets an answer for an address that is announced."""
    service, vip = assigned_
    leader = table.announcer(service)
    lost = [
        o
        for o in asked
        if o.failure is Failure.ARP_UNANSWERED
        and (o.flow.vantage.node != leader or o.flow.vantage.outside)
    ]
    if not lost:
        return
    by = f", announced by {leader}," if leader else ""
    where = and_list(o.flow.vantage.node or str(o.flow.vantage) for o in lost)
    logs = [p for p in table.speakers if p.node == leader] or list(table.speakers)
    yield Finding(
        code=METALLB_VIP_FILTERED,
        title=(
            f"VIP {vip} of {service.key}{by} answers no ARP from {where}: the switch drops it "
            "(OpenStack port security, allowed address pairs)"
            + ("" if leader else ", or no speaker announces it")
        ),
        hop=Hop(HopKind.ARP, vip),
        evidence=(*ids(lost), *_service_ids([service])),
        confidence=Confidence.CERTAIN if leader else Confidence.LIKELY,
        consequence_of=(Hop(HopKind.ANNOUNCE, vip), *(Hop(HopKind.NODE, n) for n in [leader] if n)),
        remediation=(
            _mend(f"Allow {vip} on the port of each node", *_pairs(vip, nodes)),
            _mend(
                "Without port security: see whether a speaker announces it",
                *(f"kubectl -n {p.namespace} logs {p.name} --tail=50" for p in logs[:1]),
            ),
        ),
        falsifier=f"an ARP request for {vip} from {where} is answered",
    )


def _pairs(vip: str, nodes: Nodes | None) -> tuple[str, ...]:
    """Allow an address on the port of each node."""
    addresses = [n.address for n in nodes.items if n.address] if nodes else []
    found = [f"$(openstack port list --fixed-ip ip-address={a} -f value -c ID)" for a in addresses]
    return tuple(
        f'openstack port set --allowed-address ip-address={vip} "{port}"'
        for port in found or ["$NODE_PORT"]
    )


def _two_owners(
    service: Service, vip: str, asked: tuple[Observation, ...], networks: NodeNetworks | None
) -> Iterator[Finding]:
    """Say that several hardware addresses answer."""
    owners = sorted({mac.lower() for o in asked for mac in o.answers})
    if len(owners) < 2:  # noqa: PLR2004
        return
    at = {
        link.mac.lower(): i.node for i in (networks.items if networks else ()) for link in i.links
    }
    names = and_list(f"{m} ({at.get(m, 'no node')})" if at else m for m in owners)
    at_once = any(len({m.lower() for m in o.answers}) > 1 for o in asked)
    yield Finding(
        code=METALLB_VIP_TWO_OWNERS,
        title=f"VIP {vip} of {service.key} has {len(owners)} owners that answer ARP: {names}",
        hop=Hop(HopKind.ARP, vip),
        evidence=ids(o for o in asked if o.answers),
        confidence=Confidence.CERTAIN if at_once else Confidence.LIKELY,
        consequence_of=_speakers_apart({at[m] for m in owners if m in at}),
        remediation=(
            _mend(
                f"Take {vip} from whoever is not MetalLB's announcer",
                f"kubectl -n {service.namespace} describe service {service.name}",
                f"ip neigh show {vip}",
            ),
        ),
        falsifier=f"all answers to ARP for {vip} come from one hardware address",
    )


def _speakers_apart(nodes: Iterable[str]) -> tuple[Hop, ...]:
    """List what lies between the owners: speakers that do not hear each other announce both."""
    ordered = sorted(nodes)
    return tuple(
        Hop(HopKind.UNDERLAY, f"{a}>{b}", _MEMBERLIST) for a in ordered for b in ordered if a != b
    )


# ---- in common ----------------------------------------------------------------------------------


def _mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=risk, verify=_VERIFY)


def _service_ids(services: Iterable[Service]) -> tuple[str, ...]:
    """Cite Services."""
    return tuple(f"api:services/{s.key}" for s in services)


def _pod_ids(pods: Iterable[Pod]) -> tuple[str, ...]:
    """Cite pods."""
    return tuple(f"api:pods/{p.key}" for p in pods)


def _places(pods: Iterable[Pod], *kinds: HopKind) -> tuple[Hop, ...]:
    """List hops of the nodes that pods are on."""
    return tuple(
        Hop(kind, node) for node in sorted({p.node for p in pods} - {""}) for kind in kinds
    )
