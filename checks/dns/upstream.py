"""Checks that the resolvers which CoreDNS asks answer it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from checks.common import and_list, ids, security_group_rules
from checks.dns.codes import VERIFY, dns_code
from checks.dns.mending import namespace_of, restarts
from doctor.contract import check
from doctor.model.evidence import DnsService, Nodes, Upstream, Upstreams
from doctor.model.failure import Failure
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.flow import FlowKind, Observation, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.resolver import DNS_PORT, ROOT

__all__ = [
    "DNS_STUB_DEAD",
    "DNS_UPSTREAM_DEAD",
    "DNS_UPSTREAM_PARTLY_DEAD",
    "DNS_UPSTREAM_POD_ONLY",
    "upstreams",
]

DNS_UPSTREAM_DEAD = dns_code(
    "DNS_UPSTREAM_DEAD",
    "No resolver that CoreDNS asks for names outside the cluster answers its nodes or its pods.",
)
DNS_UPSTREAM_PARTLY_DEAD = dns_code(
    "DNS_UPSTREAM_PARTLY_DEAD",
    "Of the resolvers that CoreDNS asks in turn, some answer and some do not.",
)
DNS_UPSTREAM_POD_ONLY = dns_code(
    "DNS_UPSTREAM_POD_ONLY",
    "The resolvers that CoreDNS asks answer its nodes, and not the pods there.",
)
DNS_STUB_DEAD = dns_code(
    "DNS_STUB_DEAD", "The resolver that the Corefile names for one zone alone does not answer."
)

_ANSWERS = {
    Failure.DNS_NXDOMAIN,
    Failure.DNS_SERVFAIL,
    Failure.DNS_REFUSED,
    Failure.DNS_NO_ANSWER,
}
"""Any answer shows that somebody is there, an error as well."""


_FILTERED = tuple(Hop(HopKind.UNDERLAY, f"{ANY}>{ANY}", f"{t}/53") for t in ("udp", "tcp"))
"""What drops DNS between all nodes stands at their ports, and meets what leaves the cluster, too."""


class _Asked(NamedTuple):
    """What came of asking one resolver; and what it was asked over TCP in vain."""

    upstream: Upstream
    answered: tuple[Observation, ...]
    lost: tuple[Observation, ...]
    beside: tuple[Observation, ...] = ()

    @property
    def dead(self) -> bool:
        """Whether nobody got an answer."""
        return bool(self.lost) and not self.answered

    @property
    def pod_only(self) -> bool:
        """Whether every node that was answered has a pod that was not, and no pod was."""
        pods = {o.flow.vantage.node for o in self.lost if o.flow.vantage.kind is VantageKind.POD}
        kinds = {o.flow.vantage.kind for o in self.answered}
        fine = {o.flow.vantage.node for o in self.answered}
        nodes_lost = any(o.flow.vantage.kind is VantageKind.NODE for o in self.lost)
        return bool(pods) and pods <= fine and kinds == {VantageKind.NODE} and not nodes_lost

    @property
    def place(self) -> str:
        """Its address, with the port where that is not DNS's own."""
        port = f":{self.upstream.port}" if self.upstream.port != DNS_PORT else ""
        return f"{self.upstream.address}{port}"


@check(
    id="dns.upstreams",
    title="The resolvers that CoreDNS asks answer it",
    codes=(DNS_UPSTREAM_DEAD, DNS_UPSTREAM_PARTLY_DEAD, DNS_UPSTREAM_POD_ONLY, DNS_STUB_DEAD),
)
def upstreams(table: Upstreams, dns: DnsService, nodes: Nodes | None = None) -> Iterator[Finding]:
    """The resolvers that CoreDNS asks answer it.

    What it looks at:
        The resolvers that the Corefile forwards to, or that the resolv.conf of CoreDNS's nodes
        names: each is asked over UDP by those nodes and by pods there, for a name that discloses
        nothing and that resolvers answer by themselves.

    Why it matters:
        Without them no name outside the cluster resolves; with one of several dead, every now and
        then a lookup takes seconds.

    What proves it:
        No answer at all, not even an error. Answered on the node and not in a pod beside it, the
        resolver lives, and the way of pods out of the cluster is broken.

    Look-alikes:
        A resolver that answers with an error lives: what it says is not the cluster's fault. A
        filter between CoreDNS and its clients leaves these questions alone. A node that drops what
        pods send to everybody is the overlay's or the way out's.

    Remediation:
        Let the nodes reach port 53 of their resolvers, restore the translation of pods' addresses,
        or forward to resolvers that answer.

    Sources:
        CoreDNS documentation, "forward"; Kubernetes documentation, "Customizing DNS Service" and
        "Debugging DNS Resolution"; RFC 6303, "Locally Served DNS Zones".
    """
    asked = [a for u in table.items if (a := _asked(table, u))]
    for zone in dict.fromkeys(a.upstream.zone for a in asked):
        mine = [a for a in asked if a.upstream.zone == zone]
        if zone != ROOT or not all(a.dead for a in mine) or not _came_through(table):
            yield from _zone(dns, nodes, zone, mine)


def _came_through(table: Upstreams) -> bool:
    """Say whether a replica handed on a question and brought an answer that is not its own.

    CoreDNS says SERVFAIL itself, where nobody answers it. The resolv.conf that was read may be older
    than CoreDNS's: then it asks others, and is answered.
    """
    return any(
        o.ok or (o.failure in _ANSWERS and o.failure is not Failure.DNS_SERVFAIL)
        for o in table.of(Purpose.FORWARDED)
    )


def _asked(table: Upstreams, upstream: Upstream) -> _Asked | None:
    """Gather what came of asking one resolver; None where it was not asked."""
    own = FlowKind.TCP if upstream.scheme == "tls" else FlowKind.DNS_UDP
    everything = [
        o
        for o in table.of(Purpose.RESOLVER, address=upstream.address)
        if o.flow.port == upstream.port
    ]
    seen = [o for o in everything if o.flow.kind is own]
    answered = tuple(o for o in seen if o.ok or o.failure in _ANSWERS)
    lost = tuple(
        o
        for o in seen
        if o not in answered and o.failure and (o.failure.unanswered or o.failure.refused)
    )
    beside = tuple(
        o for o in everything if o.flow.kind is not own and o.failure and o.failure.unanswered
    )
    return _Asked(upstream, answered, lost, beside) if answered or lost else None


def _zone(
    dns: DnsService, nodes: Nodes | None, zone: str, asked: list[_Asked]
) -> Iterator[Finding]:
    """Judge the resolvers of one zone."""
    dead = [a for a in asked if a.dead]
    fenced = [a for a in asked if a.pod_only]
    if dead and len(dead) == len(asked):
        yield _dead(dns, nodes, zone, dead)
    elif fenced and len(dead) + len(fenced) == len(asked):
        yield _pod_only(zone, fenced)
    elif dead:
        alive = [a for a in asked if a not in dead]
        yield _partly(dns, zone, dead, alive)


def _hop(asked: Iterable[_Asked]) -> Hop:
    """Name the way to some resolvers."""
    each = list(asked)
    tls = each[0].upstream.scheme == "tls"
    where = ",".join(sorted({a.upstream.address for a in each}))
    both = all(a.beside for a in each)
    what = f"{'tcp' if tls else 'udp+tcp' if both else 'udp'}/{each[0].upstream.port}"
    return Hop(HopKind.EGRESS, where, what)


def _make(
    code: Code,
    title: str,
    asked: list[_Asked],
    *mends: Remediation,
    consequence_of: tuple[Hop, ...] = (),
) -> Finding:
    """Make a finding about some resolvers."""
    lost = [
        o for a in asked for o in (*a.lost, *(a.beside if all(b.beside for b in asked) else ()))
    ]
    return Finding(
        code=code,
        title=title,
        hop=_hop(asked),
        evidence=ids([*lost, *(o for a in asked for o in a.answered)]),
        flows=ids(lost),
        consequence_of=consequence_of,
        remediation=mends,
        falsifier=f"{and_list(a.place for a in asked)} answers a query from {lost[0].flow.vantage}",
    )


def _who(asked: Iterable[_Asked]) -> str:
    """Say who got no answer."""
    seen = {o.flow.vantage.kind for a in asked for o in a.lost}
    words = {VantageKind.NODE: "nodes", VantageKind.POD: "pods"}
    nodes = and_list(o.flow.vantage.node for a in asked for o in a.lost)
    return (
        f"{and_list(words[k] for k in seen if k in words)} on {nodes}"
        if len(seen) == 1
        else (f"{nodes} and the pods there")
    )


def _whence(asked: Iterable[_Asked]) -> str:
    """Say where the resolvers are written."""
    sources = {a.upstream.source for a in asked}
    return "from the Corefile" if sources == {"Corefile"} else "from the nodes' resolv.conf"


def _dead(dns: DnsService, nodes: Nodes | None, zone: str, dead: list[_Asked]) -> Finding:
    """Say that no resolver of a zone answers."""
    places = and_list(a.place for a in dead)
    mends = (_reach(dead, nodes), _edit(dns))
    if zone != ROOT:
        title = (
            f"The resolver that the Corefile names for {zone}, {places}, gives no answer to "
            f"{_who(dead)}"
        )
        return _make(DNS_STUB_DEAD, title, dead, *mends, consequence_of=_FILTERED)
    title = (
        f"CoreDNS's resolver for names outside the cluster, {places} ({_whence(dead)}), gives no "
        f"answer to {_who(dead)}"
    )
    return _make(DNS_UPSTREAM_DEAD, title, dead, *mends, consequence_of=_FILTERED)


def _pod_only(zone: str, fenced: list[_Asked]) -> Finding:
    """Say that resolvers answer nodes alone."""
    nodes = sorted({o.flow.vantage.node for a in fenced for o in a.lost})
    what = "names outside the cluster" if zone == ROOT else zone
    title = (
        f"CoreDNS's resolver for {what}, {and_list(a.place for a in fenced)}, answers the nodes "
        f"{and_list(nodes)}, and not the pods there"
    )
    address = fenced[0].upstream.address
    look = Remediation(
        "Find the rule that drops them, or that their addresses are not translated",
        tuple(
            f"ssh {n} sudo iptables-save | grep -E '{address}|MASQUERADE|dport 53'" for n in nodes
        ),
        Risk.SAFE,
        VERIFY,
    )
    return _make(
        DNS_UPSTREAM_POD_ONLY,
        title,
        fenced,
        look,
        consequence_of=tuple(
            Hop(k, n) for n in nodes for k in (HopKind.FORWARD, HopKind.POD_NETWORK)
        ),
    )


def _partly(dns: DnsService, zone: str, dead: list[_Asked], alive: list[_Asked]) -> Finding:
    """Say that some of a zone's resolvers do not answer."""
    title = (
        f"Of CoreDNS's resolvers for {'names outside the cluster' if zone == ROOT else zone}, "
        f"{and_list(a.place for a in dead)} gives no answer, while "
        f"{and_list(a.place for a in alive)} answers: some lookups are slow or fail"
    )
    made = _make(DNS_UPSTREAM_PARTLY_DEAD, title, dead, _only(dns, dead, alive))
    return msgspec.structs.replace(made, severity=Severity.WARN)


def _reach(asked: list[_Asked], nodes: Nodes | None) -> Remediation:
    """Say how to let queries out."""
    rules = [
        f"--egress --protocol {p} --dst-port {a.upstream.port} --remote-ip {a.upstream.address}/32"
        for a in asked
        for p in (("tcp",) if a.upstream.scheme == "tls" else ("udp", "tcp"))
    ]
    node = asked[0].lost[0].flow.vantage.node
    known = nodes.named(node) if nodes else None
    let = security_group_rules(known.address if known else "", *rules)
    look = f"ssh {node} nslookup -timeout=2 kubernetes.io {asked[0].upstream.address}"
    title = (
        f"See whether {and_list(a.place for a in asked)} is up, and let the nodes reach it: in "
        "their security group, and at routers on the way"
    )
    return Remediation(title, (look, *let), Risk.SAFE, VERIFY)


def _edit(dns: DnsService) -> Remediation:
    """Say where CoreDNS is told whom to ask."""
    namespace = namespace_of(dns.backend)
    return Remediation(
        "Or forward to a resolver that answers",
        (f"kubectl -n {namespace} edit configmap coredns",),
        Risk.SAFE,
        VERIFY,
    )


def _only(dns: DnsService, dead: list[_Asked], alive: list[_Asked]) -> Remediation:
    """Forward to those that answer alone."""
    namespace = namespace_of(dns.backend)
    good = " ".join(dict.fromkeys(a.place for a in alive))
    get = f"kubectl -n {namespace} get configmap coredns -o yaml"
    if all(a.upstream.source == "resolv.conf" for a in (*dead, *alive)):
        change = f"s|\\(forward [^ ]*\\) /etc/resolv.conf|\\1 {good}|"
    else:
        change = ";".join(f"/forward /s| {a.place.replace('.', '[.]')}\\b||" for a in dead)
    return Remediation(
        f"Forward to {and_list(a.place for a in alive)} alone; CoreDNS reloads it within a minute",
        (
            f"{get} | sed '{change}' | kubectl replace -f -",
            *restarts(dns.backend),
        ),
        Risk.SAFE,
        VERIFY,
    )
