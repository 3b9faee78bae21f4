"""Checks that both of CoreDNS's ports answer from everywhere."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from checks.common import and_list, by_chance, ids, removal, security_group_rules, sharing, written
from checks.dns.codes import VERIFY, dns_code
from checks.dns.fences import fence
from doctor.contract import check
from doctor.model.evidence import (
    Backend,
    DnsFlows,
    DnsService,
    EndpointAddress,
    Flannel,
    Mesh,
    NodeNetworks,
    Nodes,
)
from doctor.model.failure import Failure
from doctor.model.filtering import Met
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Role
from doctor.model.flow import FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.node import FilterRule

__all__ = [
    "DNS_ENDPOINT_REFUSES",
    "DNS_PORT_FILTERED",
    "DNS_SERVICE_IP_DEAD",
    "DNS_TCP_FILTERED",
    "DNS_TIMEOUT",
    "DNS_UDP_FILTERED",
    "DNS_WRONG_ANSWER",
    "udp_and_tcp",
]

DNS_UDP_FILTERED = dns_code("DNS_UDP_FILTERED", "UDP to CoreDNS is dropped, while TCP passes.")
DNS_TCP_FILTERED = dns_code("DNS_TCP_FILTERED", "DNS over TCP is dropped, while UDP passes.")
DNS_PORT_FILTERED = dns_code(
    "DNS_PORT_FILTERED", "CoreDNS's port is dropped for UDP and TCP; its other ports pass."
)
DNS_ENDPOINT_REFUSES = dns_code(
    "DNS_ENDPOINT_REFUSES", "A ready replica of CoreDNS does not listen on the port sent to."
)
DNS_WRONG_ANSWER = dns_code(
    "DNS_WRONG_ANSWER", "CoreDNS answers a name that every cluster has with an error."
)
DNS_TIMEOUT = dns_code("DNS_TIMEOUT", "Queries to the cluster's DNS get no answer.", Role.SYMPTOM)
DNS_SERVICE_IP_DEAD = dns_code(
    "DNS_SERVICE_IP_DEAD",
    "The DNS Service's address does not answer, while its endpoints do.",
    Role.SYMPTOM,
)

_PORT = 53

ANSWERED_WRONG = {
    Failure.DNS_NXDOMAIN,
    Failure.DNS_SERVFAIL,
    Failure.DNS_REFUSED,
    Failure.DNS_NO_ANSWER,
}
REFUSED = {*(f for f in Failure if f.refused), Failure.CONNECTION_RESET}


class _World(NamedTuple):
    """What queries are judged with."""

    dns: DnsService
    backend: Backend
    flows: DnsFlows
    networks: NodeNetworks
    flannel: Flannel
    nets: list[str]
    address: str
    mesh: Mesh
    nodes: Nodes


class _Ask(NamedTuple):
    """What came of asking one endpoint from one vantage, over UDP, TCP and at another port.

    Lost are the queries that got no answer, or one that a filter gave in the endpoint's place.
    """

    vantage: Vantage
    endpoint: EndpointAddress
    asked: tuple[Observation, ...]
    lost: tuple[Observation, ...]
    control: bool

    @property
    def proven(self) -> bool:
        """Whether the endpoint is known to be alive from here."""
        return self.control or any(_came_back(o) for o in self.asked if o not in self.lost)

    @property
    def across(self) -> bool:
        """Whether the queries leave their node."""
        return self.vantage.node != self.endpoint.node


@check(
    id="dns.udp-and-tcp",
    title="CoreDNS answers over UDP and TCP from every node",
    codes=(
        DNS_PORT_FILTERED,
        DNS_UDP_FILTERED,
        DNS_TCP_FILTERED,
        DNS_ENDPOINT_REFUSES,
        DNS_WRONG_ANSWER,
        DNS_TIMEOUT,
        DNS_SERVICE_IP_DEAD,
    ),
)
def udp_and_tcp(
    dns: DnsService,
    flows: DnsFlows,
    networks: NodeNetworks | None,
    nodes: Nodes | None,
    flannel: Flannel | None,
    mesh: Mesh | None,
) -> Iterator[Finding]:
    """CoreDNS answers over UDP and TCP from every node.

    What it looks at:
        Real queries over UDP and TCP from pods and nodes to every CoreDNS endpoint and to the
        Service's address, beside a TCP connection to another port of the same pod.

    Why it matters:
        Resolvers ask over UDP and turn to TCP for long answers: each can be filtered alone, and
        pods, Service and endpoints look healthy all the while.

    What proves it:
        The port is silent while another port of the same pod answers the same vantage in the same
        minute. A rule on a node, or loss between nodes alone, tells where.

    Look-alikes:
        A broken overlay silences the other port too: then queries only time out, as a symptom.
        With VXLAN a filter on port 53 between the nodes does not touch these queries, so it is
        never named. A dead Service address with living endpoints is kube-proxy's.

    Remediation:
        Remove the rule that is named, or open port 53 for UDP and TCP in the security group.

    Sources:
        Kubernetes documentation, "Debugging DNS Resolution"; flannel documentation, "Backends";
        RFC 7766, "DNS Transport over TCP".
    """
    backend = dns.backend
    if backend is None or backend.service is None:
        return
    items = nodes.items if nodes else ()
    nets = [n for i in items for n in (i.pod_cidr, i.address) if n]
    nets += [e.address for e in backend.endpoints]
    address = next((n.address for n in items if n.address), "")
    world = _World(
        dns,
        backend,
        flows,
        networks or NodeNetworks(),
        flannel or Flannel(),
        nets,
        address,
        mesh or Mesh(),
        nodes or Nodes(),
    )
    asks = list(_asks(world))
    service = _service_asks(world)
    yield from _filtered(world, asks, service)
    yield from _refused(world, asks)
    yield from _wrong(world, asks)
    yield from _timeout(world, asks, service)
    yield from _service_dead(asks, service)


def _came_back(seen: Observation) -> bool:
    """Say whether anything came back, an error or a refusal included."""
    return seen.ok or seen.failure in ANSWERED_WRONG | REFUSED


def _asks(world: _World) -> Iterator[_Ask]:
    """Sort the queries by vantage and ready endpoint."""
    for endpoint in world.backend.ready:
        seen = world.flows.of(Purpose.DNS, address=endpoint.address)
        for vantage in sorted({o.flow.vantage for o in seen}):
            if world.mesh.loses(vantage.node, endpoint.node):
                continue  # what is lost there is no filter's work
            asked = tuple(o for o in seen if o.flow.vantage == vantage)
            control = any(
                o.ok or o.failure in REFUSED
                for o in world.flows.of(Purpose.DNS_CONTROL, address=endpoint.address)
                if o.flow.vantage == vantage
            )
            lost = tuple(o for o in asked if _is_lost(world, o, endpoint))
            yield _Ask(vantage, endpoint, asked, lost, control)


def _is_lost(world: _World, seen: Observation, endpoint: EndpointAddress) -> bool:
    """Say whether a query got no answer, or a refusal that a node's rule gives."""
    if seen.failure is None or seen.failure.unanswered:
        return seen.failure is not None
    ends = (seen.flow.vantage.node, endpoint.node) if seen.failure in REFUSED else ()
    return any(_rule(world, seen, n) for n in ends)


def _rule(world: _World, seen: Observation, node: str) -> FilterRule | None:
    """Return the rule of a node that fits how a query failed."""
    own = node == seen.flow.vantage.node and seen.flow.vantage.kind is VantageKind.NODE
    chain = "OUTPUT" if own else "FORWARD"
    rule = world.networks.dropping(node, chain, seen.flow.protocol, world.nets)
    told = seen.failure is not Failure.TIMEOUT
    return rule if rule and (rule.action == "REJECT") is told else None


def _service_asks(world: _World) -> list[Observation]:
    """Select the failed queries to the Service's address."""
    service = world.backend.service
    address = service.spec.cluster_ip if service else ""
    return [
        o
        for o in world.flows.of(Purpose.DNS, address=address)
        if not o.ok
        and not any(world.mesh.loses(o.flow.vantage.node, e.node) for e in world.backend.ready)
    ]


def _beside(asks: Iterable[_Ask], seen: Observation) -> list[Observation]:
    """Select the queries to endpoints from the same vantage over the same protocol."""
    return [
        o
        for a in asks
        for o in a.asked
        if (o.flow.vantage, o.flow.kind) == (seen.flow.vantage, seen.flow.kind)
    ]


def _echoes(service: list[Observation], lost: Iterable[Observation]) -> list[Observation]:
    """Select the queries to the Service's address that fail as those to its endpoints do."""
    same = {(o.flow.vantage, o.flow.kind) for o in lost}
    return [o for o in service if (o.flow.vantage, o.flow.kind) in same]


def _filtered(world: _World, asks: list[_Ask], service: list[Observation]) -> Iterator[Finding]:
    """Say which protocols of the port are dropped, once per kind of filter and place."""
    kinds: dict[frozenset[FlowKind], list[_Ask]] = {}
    for ask in asks:
        if ask.proven and ask.lost:
            kinds.setdefault(frozenset(o.flow.kind for o in ask.lost), []).append(ask)
    both, udp = frozenset({FlowKind.DNS_UDP, FlowKind.DNS_TCP}), frozenset({FlowKind.DNS_UDP})
    for kind, lost in sorted(kinds.items(), key=lambda k: -len(k[0])):
        code = {both: DNS_PORT_FILTERED, udp: DNS_UDP_FILTERED}.get(kind, DNS_TCP_FILTERED)
        for place in _places(world, asks, lost):
            made = _filter(world, code, place, service)
            read = place.rules or place.fences
            yield made if read else by_chance(made, [o for a in place.asks for o in a.lost])


class _Place(NamedTuple):
    """Where queries are dropped, and what shows it."""

    hop: Hop
    words: str
    asks: list[_Ask]
    rules: tuple[tuple[str, FilterRule], ...] = ()
    confidence: Confidence = Confidence.LIKELY
    fences: tuple[tuple[str, Met], ...] = ()


def _what(asks: Iterable[_Ask]) -> str:
    """Write the protocols that are lost: ``udp/53``, ``udp+tcp/53``."""
    lost = sorted({o.flow.protocol for a in asks for o in a.lost}, reverse=True)
    names = dict.fromkeys(p.partition("/")[0] for p in lost)
    return f"{'+'.join(names)}/{lost[0].partition('/')[2]}"


def _rules(world: _World, ask: _Ask, node: str) -> tuple[FilterRule, ...]:
    """Return the rules of a node that drop all that is lost, and not what answers."""
    found = [_rule(world, o, node) for o in ask.lost]
    passes = [o.flow.protocol for o in ask.asked if o not in ask.lost and _came_back(o)]
    passes += [f"tcp/{world.dns.control_port}"] if ask.control else []
    rules = tuple(dict.fromkeys(r for r in found if r))
    fits = None not in found and not any(r.hits(p) for r in rules for p in passes)
    return rules if fits else ()


def _places(world: _World, asks: list[_Ask], lost: list[_Ask]) -> Iterator[_Place]:
    """Find where queries are dropped: by a rule on a node, between nodes, or not known."""
    left = list(lost)
    ends = sorted({n for a in lost for n in (a.endpoint.node, a.vantage.node) if n})
    ruled = {n: [a for a in lost if n in _ends(a) and _rules(world, a, n)] for n in ends}
    if len(ends) > 1 and all(ruled.values()):
        rules = tuple((n, r) for n in ends for r in _rules(world, ruled[n][0], n))
        hop = Hop(HopKind.FORWARD, ANY, _what(lost))
        yield _Place(hop, f"on the nodes {and_list(ends)}", lost, rules, Confidence.CERTAIN)
        return
    guilty: dict[str, list[_Ask]] = {}
    while left and (node := max(ends, key=lambda n: sum(a in left for a in ruled[n]))):
        mine = [a for a in ruled[node] if a in left]
        if not mine:
            break
        guilty[node] = mine
        left = [a for a in left if a not in mine]
    if guilty:
        yield _by_rules(world, guilty)
    if left and (fenced := _by_fences(world, asks, left)):
        yield fenced
    elif left and world.flannel.backend == "host-gw" and all(a.across for a in left):
        yield _between(asks, left)
    elif left:
        yield _somewhere(asks, left)


def _by_fences(world: _World, asks: list[_Ask], lost: list[_Ask]) -> _Place | None:
    """Describe the rules of other filters than iptables' that drop all that is lost."""
    fences: list[tuple[str, Met]] = []
    for endpoint in dict.fromkeys(a.endpoint for a in lost):
        mine = [a for a in lost if a.endpoint == endpoint]
        queries = [o for a in mine for o in a.lost]
        others = [a for a in asks if a.endpoint == endpoint and a.across]
        passed = [o for a in others for o in a.asked if o not in a.lost and _came_back(o)]
        passed += [
            o
            for o in world.flows.of(Purpose.DNS_CONTROL, address=endpoint.address)
            if o.ok and o.flow.vantage in {a.vantage for a in others}
        ]
        found = fence(world.networks, world.nodes, endpoint, queries, passed)
        if not found:
            return None
        fences += [(endpoint.node, m) for m in found]
    names = sorted({n for n, _ in fences})
    where = f"on node{'s' if len(names) > 1 else ''} {and_list(names)}"
    table = fences[0][1].table
    words = f"{where} in table {table.family} {table.name} by {written(fences[0][1])}"
    hop = Hop(HopKind.FORWARD, ",".join(names), _what(lost))
    return _Place(hop, words, lost, (), Confidence.CERTAIN, tuple(fences))


def _by_rules(world: _World, guilty: dict[str, list[_Ask]]) -> _Place:
    """Describe the rules that drop queries: the same on several nodes is one fault."""
    rules = tuple((n, r) for n, mine in sorted(guilty.items()) for r in _rules(world, mine[0], n))
    asks = [a for mine in guilty.values() for a in mine]
    first = rules[0][1]
    kind = HopKind.FORWARD if all(r.chain == "FORWARD" for _, r in rules) else HopKind.NODE
    nodes = f"on node{'s' if guilty.keys() - {rules[0][0]} else ''} {and_list(guilty)}"
    its = "by its" if len(guilty) == 1 else "by their"
    words = f"{nodes} {its} {first.chain} rule {first.text}"
    hop = Hop(kind, ",".join(sorted(guilty)), _what(asks))
    return _Place(hop, words, asks, rules, Confidence.CERTAIN)


def _ends(ask: _Ask) -> tuple[str, str]:
    """Name the nodes whose chains a query passes."""
    return ask.vantage.node, ask.endpoint.node


def _fine(ask: _Ask, lost: list[_Ask]) -> bool:
    """Say whether a vantage gets answers over the protocols that others do not."""
    kinds = {o.flow.kind for a in lost for o in a.lost}
    return all(any(o.flow.kind is k and _came_back(o) for o in ask.asked) for k in kinds)


def _between(asks: list[_Ask], lost: list[_Ask]) -> _Place:
    """Say between which nodes queries are dropped, where pod traffic is routed."""
    to, start = {a.endpoint.node for a in lost}, {a.vantage.node for a in lost}
    fine = [a for a in asks if a.across and _fine(a, lost)]
    near = any(not a.across and _fine(a, lost) for a in asks)
    where, words = "*>*", "between the nodes"
    if fine and len(to) == 1 and not any(a.endpoint.node in to for a in fine):
        where, words = f"*>{min(to)}", f"between node {min(to)} and the others"
    elif fine and len(start) == 1 and not any(a.vantage.node in start for a in fine):
        where, words = f"{min(start)}>*", f"between node {min(start)} and the others"
    sure = near and (not fine or where != "*>*")
    confidence = Confidence.CERTAIN if sure else Confidence.LIKELY
    return _Place(Hop(HopKind.UNDERLAY, where, _what(lost)), words, lost, (), confidence)


def _somewhere(asks: list[_Ask], lost: list[_Ask]) -> _Place:
    """Name the narrowest hop that all lost queries share, where no rule was seen."""
    pods = sorted({a.endpoint.pod for a in lost})
    starts = {a.vantage.node for a in lost}
    others = any(_fine(a, lost) for a in asks if a.vantage.node not in starts)
    if len(starts) == 1 and others:
        hop = Hop(HopKind.FORWARD, min(starts), _what(lost))
        return _Place(hop, f"on node {min(starts)}", lost)
    hop = Hop(HopKind.POD, pods[0] if len(pods) == 1 else ANY, _what(lost))
    return _Place(hop, f"on the way to {and_list(pods)}", lost)


def _filter(world: _World, code: Code, place: _Place, service: list[Observation]) -> Finding:
    """Say what is dropped, where, and who notices."""
    what = _what(place.asks)
    names, _, port = what.partition("/")
    lost = [o for a in place.asks for o in a.lost]
    flows = lost + _echoes(service, lost)
    words = " and ".join(n.upper() for n in names.split("+"))
    verb = "are" if "+" in names else "is"
    vantages = _vantages(a.vantage for a in place.asks)
    to = and_list(a.endpoint.node or a.endpoint.address for a in place.asks)
    alive = [a for a in place.asks if a.control]
    other = f"TCP {world.dns.control_port}" if alive else "the other protocol"
    partly = {a.endpoint for a in place.asks} < set(world.backend.ready)
    rest = "; the other replicas do, so only some lookups fail" if partly else ""
    return Finding(
        code=code,
        title=f"{words} port {port} {verb} dropped {place.words}: {vantages} get no answer from "
        f"CoreDNS on {to}, though {other} of the same pods answers{rest}",
        hop=place.hop,
        evidence=ids(flows) + _proofs(world, place),
        confidence=place.confidence,
        flows=ids(flows),
        remediation=_open(world, place, what),
        falsifier=f"A query over {words} from {vantages} is answered by CoreDNS on {to}",
    )


def _proofs(world: _World, place: _Place) -> tuple[str, ...]:
    """List the controls that answered, and the records that the rules were read in."""
    asked = {(a.vantage, a.endpoint.address) for a in place.asks}
    controls = ids(
        o
        for o in world.flows.of(Purpose.DNS_CONTROL)
        if o.ok and (o.flow.vantage, o.flow.address) in asked
    )
    named = dict.fromkeys(n for n, _ in (*place.rules, *place.fences))
    read = (world.networks.of(n) for n in named)
    return controls + tuple(r.evidence for r in read if r)


def _vantages(vantages: Iterable[Vantage]) -> str:
    """Name vantages, those that are alike together: ``pods on a and b, node c``."""
    seen = set(vantages)
    pods = {v.node for v in seen if v.kind is VantageKind.POD}
    nodes = {v.node for v in seen if v.kind is VantageKind.NODE}
    if pods == nodes:
        return f"pods on {and_list(pods)} and these nodes themselves"
    words = [f"pods on {and_list(pods)}"] if pods else []
    words += [f"node{'s' if len(nodes) > 1 else ''} {and_list(nodes)}"] if nodes else []
    return ", ".join(words)


def _open(world: _World, place: _Place, what: str) -> tuple[Remediation, ...]:
    """Say how to let the queries pass."""
    names, _, port = what.partition("/")
    if place.fences:
        title = "Remove the rule, and from whatever would write it again"
        commands = [removal(world.flannel.enter(n), m) for n, m in place.fences]
    elif place.rules:
        title = "Remove the rule, and from whatever would write it again"
        commands = [
            f"{world.flannel.enter(n)} iptables "
            + (f"-D{r.text[2:]}" if r.text.startswith("-A ") else f"-S {r.chain}")
            for n, r in place.rules
        ]
    elif place.hop.kind is HopKind.UNDERLAY:
        title = f"Allow port {port} from pods and nodes in the nodes' security group"
        # Routed packets carry the pods' addresses, which a remote group need not hold.
        pods = [f"--remote-ip {world.flannel.network}"] if world.flannel.network else []
        rules = [
            f"--protocol {name} --dst-port {port} {remote}"
            for name in names.split("+")
            for remote in (*pods, "--remote-group {group}")
        ]
        commands = [*security_group_rules(world.address, *rules)]
    else:
        title = f"Find the NetworkPolicy or the filter that drops port {port}"
        nodes = sorted({a.endpoint.node for a in place.asks if a.endpoint.node})
        namespace = world.backend.key.partition("/")[0]
        commands = [
            f"kubectl -n {namespace} get networkpolicy",
            *(f"{world.flannel.enter(n)} iptables -v -n -L FORWARD" for n in nodes),
        ]
    return (Remediation(title, tuple(commands), Risk.SAFE, VERIFY),)


def _one_pod(world: _World, asks: list[_Ask], what: str = "") -> Hop:
    """Name the pod if there is only one, else the Service."""
    pods = {a.endpoint.pod for a in asks if a.endpoint.pod}
    if len(pods) == 1 and what:
        return Hop(HopKind.POD, pods.pop(), what)
    return Hop(HopKind.SERVICE, world.backend.key)


def _logs(world: _World, title: str) -> tuple[Remediation, ...]:
    """Say where CoreDNS's configuration and words are."""
    namespace = world.backend.key.partition("/")[0]
    pods = [p.name for p in world.backend.pods[:2]]
    commands = (
        f"kubectl -n {namespace} get configmap coredns -o yaml",
        *(f"kubectl -n {namespace} logs {p} --tail=50" for p in pods),
    )
    return (Remediation(title, commands, Risk.SAFE, VERIFY),)


def _refused(world: _World, asks: list[_Ask]) -> Iterator[Finding]:
    """Say that ready endpoints refuse."""
    found = [a for a in asks if any(o.failure in REFUSED for o in a.asked) and not a.lost]
    if not found:
        return
    flows = [o for a in found for o in a.asked if o.failure in REFUSED]
    lost = sorted({o.flow.protocol for o in flows}, reverse=True)
    what = "+".join(p.partition("/")[0] for p in lost) + "/" + lost[0].partition("/")[2]
    yield Finding(
        code=DNS_ENDPOINT_REFUSES,
        title=f"CoreDNS refuses {what} at {and_list(a.endpoint.pod for a in found)}: it is ready, "
        "but does not listen there",
        hop=_one_pod(world, found, what),
        evidence=ids(flows),
        consequence_of=sharing(world.nodes, (a.endpoint.node for a in found)),
        remediation=_lead_back(world)
        or _logs(world, "Compare the Corefile's port with the Service's targetPort"),
        falsifier="A query to the same endpoint is answered",
    )


def _lead_back(world: _World) -> tuple[Remediation, ...]:
    """Say how to lead the Service to the ports that CoreDNS's pods declare; empty if it does."""
    declared = {
        (p.protocol, p.container_port)
        for pod in world.backend.pods
        for c in pod.spec.containers
        for p in c.ports or ()
    }
    service = world.backend.service
    changes = [
        {"op": "replace", "path": f"/spec/ports/{n}/targetPort", "value": p.port}
        for n, p in enumerate((service.spec.ports if service else None) or ())
        if p.port == _PORT
        and isinstance(p.target_port, int)
        and p.target_port != p.port
        and (p.protocol, p.port) in declared
    ]
    if not changes:
        return ()
    namespace, _, name = world.backend.key.partition("/")
    patch = msgspec.json.encode(changes).decode()
    return (
        Remediation(
            "Lead the Service to the port that CoreDNS's pods declare",
            (f"kubectl -n {namespace} patch service {name} --type=json -p '{patch}'",),
            Risk.SAFE,
            VERIFY,
        ),
    )


def _wrong(world: _World, asks: list[_Ask]) -> Iterator[Finding]:
    """Say that CoreDNS answers with an error for a name that every cluster has."""
    found = [a for a in asks if any(o.failure in ANSWERED_WRONG for o in a.asked)]
    if not found:
        return
    flows = [o for a in found for o in a.asked if o.failure in ANSWERED_WRONG]
    said = and_list(str(o.failure).removeprefix("dns_").upper() for o in flows)
    nodes = sorted({a.endpoint.node for a in found if a.endpoint.node})
    yield Finding(
        code=DNS_WRONG_ANSWER,
        title=f"CoreDNS at {and_list(a.endpoint.pod for a in found)} answers {said} for "
        f"{flows[0].flow.name.rstrip('.')}",
        hop=_one_pod(world, found, "udp/53"),
        evidence=ids(flows),
        confidence=Confidence.LIKELY,
        consequence_of=tuple(Hop(HopKind.KUBE_PROXY, n) for n in nodes),
        remediation=_logs(world, "See the Corefile's kubernetes zone and what CoreDNS logs"),
        falsifier="The same query is answered with the address of the API server's Service",
    )


def _timeout(world: _World, asks: list[_Ask], service: list[Observation]) -> Iterator[Finding]:
    """Say that queries time out where nothing shows that the pod is within reach."""
    lost = [o for a in asks if not a.proven for o in a.lost]
    known = {(o.flow.vantage, o.flow.kind) for a in asks for o in a.asked}
    alone = [
        o
        for o in service
        if o.failure and o.failure.unanswered and (o.flow.vantage, o.flow.kind) not in known
    ]
    filtered = [o for a in asks if a.proven for o in a.lost]
    echoes = [o for o in _echoes(service, lost) if o not in _echoes(service, filtered)]
    flows = lost + echoes + alone
    if not flows:
        return
    yield Finding(
        code=DNS_TIMEOUT,
        title=f"{_vantages(o.flow.vantage for o in flows)} get no answer from CoreDNS at "
        f"{and_list(o.flow.address for o in flows)}",
        hop=_one_pod(world, [a for a in asks if not a.proven and a.lost], _lost_what(lost)),
        evidence=ids(flows),
        confidence=Confidence.LIKELY,
        flows=ids(flows),
        remediation=_logs(world, "See whether CoreDNS answers on its own node, and what it logs"),
        falsifier="The same queries are answered",
    )


def _lost_what(lost: list[Observation]) -> str:
    """Write the protocol that is lost; empty where it is more than one."""
    found = {o.flow.protocol for o in lost}
    return found.pop() if len(found) == 1 else ""


def _service_dead(asks: list[_Ask], service: list[Observation]) -> Iterator[Finding]:
    """Say that the Service's address fails where all endpoints answer."""
    flows = [
        o
        for o in service
        if o.failure not in ANSWERED_WRONG
        and (near := _beside(asks, o))
        and all(n.ok for n in near)
    ]
    if not flows:
        return
    nodes = sorted({o.flow.vantage.node for o in flows})
    made = Finding(
        code=DNS_SERVICE_IP_DEAD,
        title=f"{_vantages(o.flow.vantage for o in flows)} get no answer from the DNS "
        f"Service's address {flows[0].flow.address}, though CoreDNS's pods answer",
        hop=Hop(HopKind.KUBE_PROXY, nodes[0] if len(nodes) == 1 else ANY),
        evidence=ids(flows) + ids(n for o in flows for n in _beside(asks, o)),
        flows=ids(flows),
        consequence_of=tuple(Hop(HopKind.KUBE_PROXY, n) for n in nodes),
        remediation=(
            Remediation(
                "See whether kube-proxy writes its rules there",
                tuple(
                    f"kubectl get pods -A -o wide --field-selector spec.nodeName={n}" for n in nodes
                ),
                Risk.SAFE,
                "wwwm-doctor check kube-proxy",
            ),
        ),
        falsifier="The Service's address answers the same query",
    )
    yield by_chance(made, flows)
