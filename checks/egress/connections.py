"""Names and connections outside the cluster that failing workloads depend on."""

from collections.abc import Iterable, Iterator

import msgspec

from checks.common import and_list, ids, security_group_rules
from doctor.contract import check
from doctor.model.evidence import Backends, EgressFlows, Flannel, Nodes, TargetFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Role, Severity
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.link import Link

__all__ = [
    "EGRESS_FROM_SOME_NODES",
    "EGRESS_NAME_SERVFAIL",
    "EGRESS_NAME_TIMEOUT",
    "EGRESS_NAME_UNRESOLVED",
    "EGRESS_POD_ONLY",
    "EGRESS_TCP_FILTERED",
    "EGRESS_TCP_REFUSED",
    "reachable",
]

EGRESS_NAME_UNRESOLVED = Code(
    "EGRESS_NAME_UNRESOLVED",
    Link.EGRESS,
    "A name that pods depend on does not exist, as the cluster's DNS answers.",
)
EGRESS_NAME_SERVFAIL = Code(
    "EGRESS_NAME_SERVFAIL",
    Link.EGRESS,
    "The cluster's DNS cannot look up a name that pods depend on: its upstream resolver fails.",
)
EGRESS_NAME_TIMEOUT = Code(
    "EGRESS_NAME_TIMEOUT",
    Link.EGRESS,
    "The cluster's DNS does not answer for a name that pods depend on.",
    Role.SYMPTOM,
)
EGRESS_TCP_FILTERED = Code(
    "EGRESS_TCP_FILTERED",
    Link.EGRESS,
    "What pods depend on gives no answer to pods or nodes: it is filtered on the way out.",
)
EGRESS_TCP_REFUSED = Code(
    "EGRESS_TCP_REFUSED",
    Link.EGRESS,
    "What pods depend on refuses connections: the service there is down, or at another port.",
)
EGRESS_POD_ONLY = Code(
    "EGRESS_POD_ONLY",
    Link.EGRESS,
    "Nodes reach what pods depend on, and their pods do not: translation or forwarding fails.",
)
EGRESS_FROM_SOME_NODES = Code(
    "EGRESS_FROM_SOME_NODES",
    Link.EGRESS,
    "What pods depend on is reached from some nodes, and not from others.",
)

_VERIFY = "wwwm-doctor check egress"
_SEEN = tuple(f for f in Failure if f.unanswered or f.refused)
_NAMELESS = (Failure.DNS_NXDOMAIN, Failure.DNS_NO_ANSWER)
_UPSTREAM = (Failure.DNS_SERVFAIL, Failure.DNS_REFUSED)
_ANSWERED = (EGRESS_NAME_UNRESOLVED, EGRESS_NAME_SERVFAIL, EGRESS_TCP_REFUSED)
_CLASSES = (EGRESS_TCP_FILTERED, EGRESS_POD_ONLY, EGRESS_FROM_SOME_NODES, EGRESS_NAME_SERVFAIL)


class _Case(msgspec.Struct, frozen=True):
    """One dependency that is out of reach.

    Args:
        code: How.
        subject: ``host:port``.
        failed: The observations that show it.
        good: Controls: observations of the same dependency that succeeded.
        nodes: The nodes that it fails on.
    """

    code: Code
    subject: str
    failed: tuple[Observation, ...]
    good: tuple[Observation, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host as it is configured."""
        return self.subject.rpartition(":")[0]

    @property
    def port(self) -> str:
        """The port as it is configured."""
        return self.subject.rpartition(":")[2]

    @property
    def hop(self) -> Hop:
        """The way out to this dependency."""
        return Hop(HopKind.EGRESS, self.host, f"tcp/{self.port}")


@check(
    id="egress.reachable",
    title="Pods reach what they depend on outside the cluster",
    codes=(
        EGRESS_NAME_UNRESOLVED,
        EGRESS_NAME_SERVFAIL,
        EGRESS_NAME_TIMEOUT,
        EGRESS_TCP_FILTERED,
        EGRESS_TCP_REFUSED,
        EGRESS_POD_ONLY,
        EGRESS_FROM_SOME_NODES,
    ),
)
def reachable(
    flows: EgressFlows,
    flannel: Flannel | None,
    backends: Backends | None = None,
    targets: TargetFlows | None = None,
    nodes: Nodes | None = None,
) -> Iterator[Finding]:
    """Look up and connect to what failing pods depend on.

    What it looks at:
        For each host and port in the environment of workloads that are not ready: its name, asked
        of the cluster's DNS by pods, and TCP connections from pods and from their nodes.

    Why it matters:
        A service that cannot reach its database crashes, or reports itself unhealthy, and its site
        is down although all of the cluster is in order.

    What proves it:
        The same connection from a pod and from its node: lost from both, it is filtered outside
        the cluster; lost from the pod alone, its node does not translate or forward. A refusal
        shows that the packet arrived. Other targets that answer are the control.

    Look-alikes:
        Lookups that get no answer are the fault of the cluster's DNS or of the path to it. A node
        that drops forwarded packets is the overlay's. One node that fails is missing in the
        database's own filter, as outside each node has an address of its own.

    Remediation:
        Allow the port in the security group and at the database; correct the name; restore
        masquerading.

    Sources:
        Kubernetes: Debug Services; Customizing DNS Service. flannel: Troubleshooting, --ip-masq.
        OpenStack: Security groups.
    """
    subjects = sorted({o.flow.subject for o in flows.of(Purpose.EGRESS, Purpose.EGRESS_NAME)})
    cases = [case for s in subjects for case in (*_name(s, flows), *_connection(s, flows))]
    for code in dict.fromkeys(c.code for c in cases):
        alike = [c for c in cases if c.code is code]
        whole = {c.subject for c in alike} >= set(subjects)
        together = code in _CLASSES and len(alike) > 1 and whole
        for group in [alike] if together else [[c] for c in alike]:
            found = _say(group, flows, flannel, nodes)
            aside = _aside(group, flows, backends, targets)
            yield msgspec.structs.replace(found, severity=Severity.WARN) if aside else found


# ---- judging ------------------------------------------------------------------------------------


def _name(subject: str, flows: EgressFlows) -> Iterator[_Case]:
    """Judge the lookups of a name."""
    asked = flows.of(Purpose.EGRESS_NAME, subject=subject)
    if any(o.ok for o in asked):
        return
    for code, failures in (
        (EGRESS_NAME_UNRESOLVED, _NAMELESS),
        (EGRESS_NAME_SERVFAIL, _UPSTREAM),
        (EGRESS_NAME_TIMEOUT, _SEEN),
    ):
        found = tuple(o for o in asked if o.failure in failures)
        if found:
            yield _Case(code, subject, found)
            return


def _connection(subject: str, flows: EgressFlows) -> Iterator[_Case]:
    """Judge the connections to one dependency, by comparing vantages."""
    seen = [o for o in flows.of(Purpose.EGRESS, subject=subject) if o.ok or o.failure in _SEEN]
    good = tuple(o for o in seen if o.ok)
    failed = tuple(o for o in seen if not o.ok and not _answers(o, good))
    inside = {o.flow.vantage.node for o in failed if o.flow.vantage.kind is VantageKind.POD}
    around = {o.flow.vantage.node for o in failed if o.flow.vantage.kind is VantageKind.NODE}
    by_node = {o.flow.vantage.node for o in good if o.flow.vantage.kind is VantageKind.NODE}
    by_pod = {o.flow.vantage.node for o in good if o.flow.vantage.kind is VantageKind.POD}
    if not failed:
        return
    if not good:
        refused = all(o.failure is Failure.CONNECTION_REFUSED for o in failed)
        code = EGRESS_TCP_REFUSED if refused else EGRESS_TCP_FILTERED
        yield _Case(code, subject, failed, (), tuple(sorted(inside | around)))
    elif inside and inside <= by_node:
        from_pods = tuple(o for o in failed if o.flow.vantage.kind is VantageKind.POD)
        yield _Case(EGRESS_POD_ONLY, subject, from_pods, good, tuple(sorted(inside)))
    elif bad := sorted((inside | (around - by_pod)) - by_pod):
        there = tuple(o for o in failed if o.flow.vantage.node in bad)
        yield _Case(EGRESS_FROM_SOME_NODES, subject, there, good, tuple(bad))


def _answers(observation: Observation, good: Iterable[Observation]) -> bool:
    """Say whether the same vantage got through, to another address of the same name."""
    return any(o.flow.vantage == observation.flow.vantage for o in good)


def _control(flows: EgressFlows, hosts: set[str]) -> Observation | None:
    """Find a connection to something else outside that was answered."""
    found = (
        o
        for o in flows.of(Purpose.EGRESS)
        if (o.ok or o.failure is Failure.CONNECTION_REFUSED) and o.flow.subject not in hosts
    )
    return next(found, None)


# ---- saying -------------------------------------------------------------------------------------


def _aside(
    cases: list[_Case],
    flows: EgressFlows,
    backends: Backends | None,
    targets: TargetFlows | None,
) -> bool:
    """Say whether only pods that no URL asked for crosses depend on this."""
    if targets is None or targets.derived or not targets.urls or not backends or backends.gaps:
        return False
    subjects = {c.subject for c in cases}
    users = {p.key for s, pods in flows.wanted_by if s in subjects for p in pods}
    site = {p.key for b in backends.items for p in b.pods}
    return bool(users) and not users & site


def _say(
    cases: list[_Case], flows: EgressFlows, flannel: Flannel | None, nodes: Nodes | None
) -> Finding:
    """Make one finding of dependencies that fail alike."""
    first = cases[0]
    failed = [o for c in cases for o in c.failed]
    control = _control(flows, {c.subject for c in cases})
    evidence = [*failed, *first.good[:2]]
    if first.code is EGRESS_TCP_FILTERED and control:
        evidence.append(control)
    users = {p.key for s, pods in flows.wanted_by if s in {c.subject for c in cases} for p in pods}
    needed = f"; needed by {and_list(users)}" if users else ""
    # where pods alone were asked, or alone fail, a node on their path may be the reason
    within = all(o.flow.vantage.kind is VantageKind.POD for o in failed)
    return Finding(
        code=first.code,
        title=_title(cases, control) + needed,
        hop=first.hop if len(cases) == 1 else Hop(HopKind.EGRESS, ANY),
        evidence=ids(evidence),
        confidence=_confidence(first, control),
        flows=ids(failed) if within and first.code not in _ANSWERED else (),
        consequence_of=_behind_dns(failed) if first.code is EGRESS_NAME_SERVFAIL else (),
        remediation=_remedy(cases, flannel, nodes),
        falsifier=f"from {failed[0].flow.vantage} the same question is answered well",
    )


def _behind_dns(failed: Iterable[Observation]) -> tuple[Hop, ...]:
    """List what lies between CoreDNS and its resolvers: broken, it makes CoreDNS say SERVFAIL."""
    kinds = (HopKind.FORWARD, HopKind.MASQUERADE, HopKind.EGRESS)
    hops = (h for o in failed for h in o.hops if h.kind in kinds)
    return tuple(
        dict.fromkeys(h for h in hops if h.kind is not HopKind.FORWARD or h.what == "udp/53")
    )


def _confidence(case: _Case, control: Observation | None) -> Confidence:
    """Say how strong the inference is."""
    both = len({o.flow.vantage.kind for o in case.failed}) > 1
    if case.code is EGRESS_TCP_FILTERED and not (both and control and _is_filter(case)):
        return Confidence.LIKELY
    if case.code is EGRESS_TCP_REFUSED and not both:
        return Confidence.LIKELY
    return Confidence.CERTAIN


def _title(cases: list[_Case], control: Observation | None) -> str:
    """Put a finding into words."""
    case = cases[0]
    what = and_list(_target(c) for c in cases)
    hosts = and_list(c.host for c in cases)
    nodes = and_list(case.nodes)
    words = {
        EGRESS_NAME_UNRESOLVED: f"The name {hosts} does not exist, as the cluster's DNS answers",
        EGRESS_NAME_SERVFAIL: (
            f"The cluster's DNS answers SERVFAIL for {hosts}: its upstream resolver does not answer"
        ),
        EGRESS_NAME_TIMEOUT: f"The cluster's DNS gives no answer to pods that look up {hosts}",
        EGRESS_TCP_REFUSED: f"{what} refuses connections: nothing listens there",
        EGRESS_POD_ONLY: f"{what} answers the nodes, and not the pods on {nodes}",
        EGRESS_FROM_SOME_NODES: (
            f"{what} gives no answer to {nodes}, and answers {_elsewhere(case)}"
        ),
    }
    if case.code is EGRESS_TCP_FILTERED:
        kinds = {o.flow.vantage.kind for o in case.failed}
        who = {VantageKind.POD: "pods", VantageKind.NODE: "nodes", VantageKind.MACHINE: "us"}
        while_ = f", while {control.flow.subject} answers" if control else ""
        return (
            f"{what} gives no answer to {and_list(who[k] for k in kinds)}: {_stopped(case)}{while_}"
        )
    return words[case.code]


def _stopped(case: _Case) -> str:
    """Say what stops connections: one error may mean that a filter rejects, or that no way leads on."""
    words = "filtered on the way out"
    if _is_filter(case):
        return words
    silent = any(o.failure is Failure.TIMEOUT for o in case.failed)
    return f"{words}, or {'that host is down' if silent else 'no route leads there'}"


def _is_filter(case: _Case) -> bool:
    """Say whether a connection failed as only a filter has it; a host that is down is silent, too."""
    return any(o.failure is Failure.HOST_PROHIBITED for o in case.failed)


def _target(case: _Case) -> str:
    """Name a dependency with the address that was dialled."""
    addresses = and_list(o.flow.address for o in case.failed if o.flow.address != case.host)
    return f"TCP {case.port} to {case.host}" + (f" ({addresses})" if addresses else "")


def _elsewhere(case: _Case) -> str:
    """Name the nodes that a dependency answers."""
    return and_list({o.flow.vantage.node for o in case.good} - set(case.nodes)) or "others"


def _remedy(
    cases: list[_Case], flannel: Flannel | None, nodes: Nodes | None
) -> tuple[Remediation, ...]:
    """Say how to mend it."""
    case = cases[0]
    if case.code is EGRESS_POD_ONLY:
        return (_masquerade(case, flannel),)
    if case.code is EGRESS_TCP_FILTERED:
        return (_allow(cases, nodes),)
    if case.code is EGRESS_FROM_SOME_NODES:
        address = case.failed[0].flow.address
        title = (
            f"At {case.host}, and on the way there, allow the addresses of {and_list(case.nodes)}"
        )
        show = "kubectl get nodes -o wide"
        return (_mend(title, show, f"nc -zvw 3 {address} {case.port}"),)
    if case.code is EGRESS_TCP_REFUSED:
        return (_mend(f"Start what listens on port {case.port} of {case.host}", _ss(case)),)
    if case.code is EGRESS_NAME_UNRESOLVED:
        title = f"Correct the name {case.host} where the workload is configured, or add it to DNS"
        return (_mend(title, f"getent ahostsv4 {case.host}"),)
    title = "See whom CoreDNS asks, and whether that resolver answers the nodes"
    return (
        _mend(
            title,
            "kubectl -n kube-system get configmap coredns -o jsonpath='{.data.Corefile}'",
            "kubectl -n kube-system logs -l k8s-app=kube-dns --tail=50",
            "wwwm-doctor check dns",
        ),
    )


def _ss(case: _Case) -> str:
    """Show what listens there."""
    return f"ssh {case.host} ss -lnt 'sport = :{case.port}'"


def _allow(cases: list[_Case], nodes: Nodes | None) -> Remediation:
    """Allow the way out."""
    places = sorted({(o.flow.address, o.flow.port) for c in cases for o in c.failed})
    known = nodes.named(cases[0].failed[0].flow.vantage.node) if nodes else None
    rules = [f"--egress --protocol tcp --dst-port {port} --remote-ip {a}/32" for a, port in places]
    return _mend(
        f"Let {and_list(c.subject for c in cases)} out, in the nodes' security group, at the "
        "router and at the database's own filter",
        *security_group_rules(known.address if known else "", *rules),
        *(f"nc -zvw 3 {address} {port}" for address, port in places),
    )


def _masquerade(case: _Case, flannel: Flannel | None) -> Remediation:
    """Restore the translation of pods' addresses, and forwarding."""
    address = case.failed[0].flow.address
    restarts = [
        f"kubectl -n {d.namespace} rollout restart daemonset {d.name}"
        for d in (flannel.daemonsets if flannel else ())
    ]
    return _mend(
        f"Restore masquerading and forwarding on {and_list(case.nodes)}",
        *(f"ssh {node} sudo iptables -t nat -S POSTROUTING" for node in case.nodes[:2]),
        *(f"ssh {node} sudo iptables -S FORWARD" for node in case.nodes[:2]),
        *restarts,
        f"nc -zvw 3 {address} {case.port}",
        risk=Risk.DISRUPTIVE if restarts else Risk.SAFE,
    )


def _mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's check verifies."""
    return Remediation(title=title, commands=commands, risk=risk, verify=_VERIFY)
