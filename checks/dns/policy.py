"""Checks that no NetworkPolicy which is enforced keeps pods from the cluster's DNS."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network

import msgspec

from checks.common import and_list, ids
from checks.dns.codes import VERIFY, dns_code
from doctor.contract import check
from doctor.model.evidence import Backend, DnsFlows, DnsService, NetworkPolicies, Resolvers
from doctor.model.finding import Confidence, Finding, Remediation, Risk, Severity
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import LabelSelector, NetworkPolicy, Pod, PolicyPeer, PolicyRule

__all__ = ["DNS_POLICY_DENIES_EGRESS", "DNS_POLICY_DENIES_INGRESS", "policies"]

DNS_POLICY_DENIES_INGRESS = dns_code(
    "DNS_POLICY_DENIES_INGRESS",
    "A NetworkPolicy that is enforced lets no query in to the cluster's DNS.",
)
DNS_POLICY_DENIES_EGRESS = dns_code(
    "DNS_POLICY_DENIES_EGRESS",
    "NetworkPolicies that are enforced let no query out of pods.",
)

_PORT = 53
_NODE_LOCAL = "169.254.20.10"
"""Where the manifest of NodeLocal DNSCache has it listen, beside the Service's own address."""
_OF_ONE_REVISION = {"pod-template-hash", "controller-revision-hash"}
_PLAIN = ("kube-router", "kube-network-policies")
"""Engines that have no policies of a kind of their own."""
_NAME = "kubernetes.io/metadata.name"
_PORTS = [{"protocol": p, "port": _PORT} for p in ("UDP", "TCP")]


@check(
    id="dns.policies",
    title="NetworkPolicies let pods ask the cluster's DNS",
    codes=(DNS_POLICY_DENIES_INGRESS, DNS_POLICY_DENIES_EGRESS),
    essential=False,
)
def policies(
    table: NetworkPolicies,
    dns: DnsService,
    flows: DnsFlows | None = None,
    resolvers: Resolvers | None = None,
) -> Iterator[Finding]:
    """NetworkPolicies let pods ask the cluster's DNS.

    What it looks at:
        All NetworkPolicies, who enforces them, whom pods are told to ask, and the queries of probe
        pods to CoreDNS.

    Why it matters:
        The first policy that limits what a pod sends cuts it off from DNS, unless it says
        otherwise; everything then looks like a dead network.

    What proves it:
        Something that enforces policies runs, a policy selects the pods, and no policy that does
        lets UDP port 53 through. For what goes in to CoreDNS, pods' queries have to be lost, too.

    Look-alikes:
        flannel enforces no policy: without an engine, none is to blame. A filter on a node or
        between nodes strikes whoever asks. Pods that are cut off on purpose do run, as do others of
        their kind, and one that waits for its image has another reason: a warning. Engines have
        policies of their own kinds, too, which are not read and may let queries out.

    Remediation:
        Add a rule that lets UDP and TCP port 53 through.

    Sources:
        Kubernetes documentation, "Network Policies"; flannel documentation, "Network policies".
    """
    backend = dns.backend
    if table.engine is None or backend is None or backend.service is None:
        return
    yield from _ingress(table, backend, flows or DnsFlows())
    yield from _egress(table, backend, _asked(backend, resolvers or Resolvers()))


def _asked(backend: Backend, resolvers: Resolvers) -> frozenset[str]:
    """List the addresses that pods ask: the Service, its endpoints, or a cache on their node."""
    service = backend.service.spec.cluster_ip if backend.service else ""
    told = (a.partition("%")[0] for i in resolvers.items for a in i.pod.nameservers)
    return frozenset((service, *(e.address for e in backend.endpoints), _NODE_LOCAL, *told))


def _apply(namespace: str, spec: Mapping[str, object]) -> str:
    """Write a command that adds a policy: what several policies let pass adds up."""
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "allow-dns", "namespace": namespace},
        "spec": spec,
    }
    return f"echo '{msgspec.json.encode(manifest).decode()}' | kubectl apply -f -"


def _selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Say whether a selector surely matches: expressions are not understood."""
    wanted = selector.match_labels or {}
    return not selector.match_expressions and all(labels.get(k) == v for k, v in wanted.items())


def _opens(rule: PolicyRule) -> bool:
    """Say whether a rule is for UDP port 53, or may be: of a named port that is not known."""
    return not rule.ports or any(
        p.protocol == "UDP"
        and (
            p.port is None
            or isinstance(p.port, str)
            or p.port == _PORT
            or bool(p.end_port and p.port <= _PORT <= p.end_port)
        )
        for p in rule.ports
    )


def _ingress(table: NetworkPolicies, backend: Backend, flows: DnsFlows) -> Iterator[Finding]:
    """Judge what is let in to CoreDNS."""
    namespace = backend.key.partition("/")[0]
    pods = [p for p in backend.pods if not p.spec.host_network]
    mine = [
        p
        for p in table.items
        if p.namespace == namespace
        and "Ingress" in p.limits
        and any(_selects(p.spec.pod_selector, pod.labels) for pod in pods)
    ]
    if not mine or any(_opens(rule) for p in mine for rule in p.spec.ingress or ()):
        return
    seen = [
        o
        for o in flows.of(Purpose.DNS, vantage=VantageKind.POD)
        if o.flow.address in {e.address for e in backend.ready}
    ]
    lost = [o for o in seen if o.failure and (o.failure.unanswered or o.failure.refused)]
    if lost and not any(o.ok for o in seen if _across(o, pods)):
        yield _closed(table, backend, mine, lost)


def _across(seen: Observation, pods: Iterable[Pod]) -> bool:
    """Say whether a query left its node: on the node itself, engines may let it pass."""
    return not any(
        p.node == seen.flow.vantage.node and p.status.pod_ip == seen.flow.address for p in pods
    )


def _closed(
    table: NetworkPolicies,
    backend: Backend,
    mine: list[NetworkPolicy],
    lost: list[Observation],
) -> Finding:
    """Say that nothing is let in."""
    engine = table.engine.name if table.engine else ""
    namespace, _, name = backend.key.partition("/")
    selector = (backend.service.spec.selector if backend.service else None) or {}
    spec = {
        "podSelector": {"matchLabels": dict(sorted(selector.items()))},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": _PORTS}],
    }
    return Finding(
        code=DNS_POLICY_DENIES_INGRESS,
        title=f"NetworkPolicy {and_list(p.key for p in mine)}, which {engine} enforces, lets no query "
        f"in to the pods behind Service {namespace}/{name}",
        hop=Hop(HopKind.POD, ",".join(sorted(p.key for p in backend.pods))),
        evidence=(*(f"api:networkpolicies/{p.key}" for p in mine), *ids(lost)),
        remediation=(
            Remediation(
                "Let queries in to the cluster's DNS",
                (_apply(namespace, spec),),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"A pod on another node gets an answer from {lost[0].flow.address}",
    )


def _egress(table: NetworkPolicies, backend: Backend, asked: frozenset[str]) -> Iterator[Finding]:
    """Judge what is let out of pods, one namespace after the other."""
    limiting = [p for p in table.items if "Egress" in p.limits]
    for namespace in sorted({p.namespace for p in limiting}):
        here = [p for p in limiting if p.namespace == namespace]
        cut = [
            pod
            for pod in table.pods
            if pod.namespace == namespace
            and not pod.spec.host_network
            and any(_selects(p.spec.pod_selector, pod.labels) for p in here)
            and not any(
                _lets_out(p, r, backend, asked)
                for p in _maybe(here, pod)
                for r in p.spec.egress or ()
            )
        ]
        if cut:
            guilty = [
                p for p in here if any(_selects(p.spec.pod_selector, pod.labels) for pod in cut)
            ]
            yield _cut_off(table, backend, guilty, cut)


def _maybe(here: list[NetworkPolicy], pod: Pod) -> Iterator[NetworkPolicy]:
    """Select the policies that may select a pod: one with expressions may."""
    for policy in here:
        chosen = policy.spec.pod_selector
        if chosen.match_expressions or _selects(chosen, pod.labels):
            yield policy


def _lets_out(
    policy: NetworkPolicy, rule: PolicyRule, backend: Backend, asked: frozenset[str]
) -> bool:
    """Say whether a rule lets queries out to CoreDNS, or may."""
    return _opens(rule) and (
        not rule.to or any(_may_be(policy, t, backend, asked) for t in rule.to)
    )


def _may_be(
    policy: NetworkPolicy, peer: PolicyPeer, backend: Backend, asked: frozenset[str]
) -> bool:
    """Say whether a peer may be CoreDNS: what is not understood may."""
    namespace = backend.key.partition("/")[0]
    if peer.ip_block:
        try:
            net = ip_network(peer.ip_block.cidr, strict=False)
        except ValueError:
            return True
        return any(ip_address(a) in net for a in asked if a and a != "None")
    if peer.namespace_selector is None and policy.namespace != namespace:
        return False
    labels = peer.namespace_selector.match_labels if peer.namespace_selector else None
    if (labels or {}).get(_NAME, namespace) != namespace:
        return False
    return (
        peer.pod_selector is None
        or bool(peer.pod_selector.match_expressions)
        or not backend.pods
        or any(_selects(peer.pod_selector, p.labels) for p in backend.pods)
    )


def _fails(pod: Pod, cut: list[Pod]) -> bool:
    """Say whether a pod fails as it is cut off: it runs, is not ready, and no twin of it is."""
    states = pod.status.container_statuses or ()
    runs = all(s.state.waiting is None and s.state.terminated is None for s in states)
    owners = pod.metadata.owner_references
    twins = (p for p in cut if owners and p.metadata.owner_references == owners)
    return (
        runs
        and bool(states)
        and pod.status.phase == "Running"
        and not pod.ready
        and not pod.metadata.deletion_timestamp
        and not any(t.ready for t in twins)
    )


def _selector(guilty: list[NetworkPolicy], cut: list[Pod]) -> dict[str, dict[str, str]]:
    """Select the pods that are cut off already: for all others, a policy would be the first.

    What several policies cut off is selected by the labels that those pods have in common.
    """
    wanted, *others = (p.spec.pod_selector.match_labels or {} for p in guilty)
    if any(o != wanted for o in others):
        wanted = {
            key: value
            for key, value in sorted(cut[0].labels.items())
            if key not in _OF_ONE_REVISION and all(p.labels.get(key) == value for p in cut)
        }
    return {"matchLabels": wanted} if wanted else {}


def _cut_off(
    table: NetworkPolicies, backend: Backend, guilty: list[NetworkPolicy], cut: list[Pod]
) -> Finding:
    """Say which pods no query leaves."""
    engine = table.engine.name if table.engine else ""
    namespace, where = guilty[0].namespace, backend.key.partition("/")[0]
    failing = [p for p in cut if _fails(p, cut)]
    sure = table.engine is not None and table.engine.name in _PLAIN
    to = {"namespaceSelector": {"matchLabels": {_NAME: where}}}
    spec: dict[str, object] = {
        "podSelector": _selector(guilty, cut),
        "policyTypes": ["Egress"],
        "egress": [{"to": [to], "ports": _PORTS}],
    }
    return Finding(
        code=DNS_POLICY_DENIES_EGRESS,
        title=f"NetworkPolicy {and_list(p.key for p in guilty)}, which {engine} enforces, lets no "
        f"query to the cluster's DNS out of {and_list(p.key for p in cut)}",
        hop=Hop(HopKind.POD, ",".join(sorted(p.key for p in cut))),
        evidence=(
            *(f"api:networkpolicies/{p.key}" for p in guilty),
            *(f"api:pods/{p.key}" for p in cut),
        ),
        severity=Severity.FAIL if failing else Severity.WARN,
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        remediation=(
            Remediation(
                f"Let these pods of {namespace} ask the cluster's DNS",
                (_apply(namespace, spec),),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"a name resolves in {cut[0].key}",
    )
