"""Policies that cut pods off from DNS: enforced or not, by what they let through."""

import json
from typing import Any

import msgspec
import pytest

from checks.dns.policy import policies
from doctor.model.evidence import DnsFlows, NetworkPolicies, NodeResolver, PolicyEngine, Resolvers
from doctor.model.failure import Failure
from doctor.model.finding import Confidence, Finding, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.kube import (
    IpBlock,
    LabelSelector,
    Meta,
    NetworkPolicy,
    Owner,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    PolicySpec,
)
from doctor.model.resolver import ResolvConf
from tests.rules.factories import DNS_IP, ONE, PODS, TWO, dns, findings, pod, said, seen, vantage

KUBE_ROUTER = PolicyEngine("kube-router", (ONE, TWO))
LABELS = {"k8s-app": "kube-dns"}
WEB = pod("web-1", ONE, namespace="shop", labels={"app": "web"})
UDP, TCP = PolicyPort("UDP", 53), PolicyPort("TCP", 53)
EVERYWHERE = LabelSelector()
SYSTEM = LabelSelector(match_labels={"kubernetes.io/metadata.name": "kube-system"})
COREDNS = LabelSelector(match_labels=LABELS)


def served() -> object:
    """Make the DNS Service with labelled pods."""
    table = dns(ONE)
    backend = table.backend
    assert backend is not None
    plain = pod(f"coredns-{ONE}", ONE, labels=LABELS)
    own = (
        msgspec.structs.replace(
            plain, status=msgspec.structs.replace(plain.status, pod_ip=PODS[ONE])
        ),
    )
    return msgspec.structs.replace(table, backend=msgspec.structs.replace(backend, pods=own))


def policy(
    namespace: str,
    *rules: PolicyRule,
    kind: str = "Egress",
    selector: LabelSelector = EVERYWHERE,
) -> NetworkPolicy:
    """Make a policy that limits one direction."""
    spec = PolicySpec(
        pod_selector=selector,
        policy_types=(kind,),
        egress=rules if kind == "Egress" else None,
        ingress=rules if kind == "Ingress" else None,
    )
    return NetworkPolicy(metadata=Meta(name="deny", namespace=namespace), spec=spec)


def judge(
    *items: NetworkPolicy,
    engine: PolicyEngine | None = KUBE_ROUTER,
    pods: tuple[Pod, ...] = (WEB,),
    flows: DnsFlows | None = None,
) -> list[Finding]:
    """Run the check."""
    return findings(
        policies, NetworkPolicies(items=items, engine=engine, pods=pods), served(), flows
    )


def to(*peers: PolicyPeer, ports: tuple[PolicyPort, ...] = (UDP, TCP)) -> PolicyRule:
    """Let something out."""
    return PolicyRule(ports=ports or None, to=peers or None)


@pytest.mark.parametrize(
    ("rules", "cut"),
    [
        ((), True),
        ((to(),), False),
        ((to(ports=()),), False),
        ((to(ports=(TCP,)),), True),
        ((to(ports=(PolicyPort("UDP", 1, 1024),)),), False),
        ((to(ports=(PolicyPort("UDP", "dns"),)),), False),
        ((to(PolicyPeer(namespace_selector=EVERYWHERE)),), False),
        ((to(PolicyPeer(namespace_selector=SYSTEM, pod_selector=COREDNS)),), False),
        (
            (to(PolicyPeer(namespace_selector=LabelSelector(match_labels={"team": "infra"}))),),
            False,
        ),
        ((to(PolicyPeer(pod_selector=COREDNS)),), True),
        (
            (
                to(
                    PolicyPeer(
                        namespace_selector=LabelSelector(
                            match_labels={"kubernetes.io/metadata.name": "data"}
                        )
                    )
                ),
            ),
            True,
        ),
        ((to(PolicyPeer(ip_block=IpBlock("192.0.2.0/24"))),), True),
        ((to(PolicyPeer(ip_block=IpBlock(f"{DNS_IP}/32"))),), False),
        ((to(PolicyPeer(ip_block=IpBlock("what?"))),), False),
    ],
)
def test_what_lets_queries_out(rules: tuple[PolicyRule, ...], cut: bool) -> None:  # noqa: FBT001
    found = judge(policy("shop", *rules))
    expected = {("DNS_POLICY_DENIES_EGRESS", "pod:shop/web-1")} if cut else set()
    assert said(found) == expected


def test_without_an_engine_no_policy_is_to_blame() -> None:
    assert judge(policy("shop"), engine=None) == []


def test_pods_that_run_are_cut_off_on_purpose_perhaps() -> None:
    (found,) = judge(policy("shop"))
    assert found.severity is Severity.WARN
    failing = pod("web-1", ONE, namespace="shop", ready=False)
    (found,) = judge(policy("shop"), pods=(failing,))
    assert found.severity is Severity.FAIL
    manifest = json.loads(found.remediation[0].commands[0].split("'")[1])
    assert manifest["metadata"] == {"name": "allow-dns", "namespace": "shop"}
    assert manifest["spec"]["egress"][0]["ports"][0] == {"protocol": "UDP", "port": 53}


def owned(name: str, *, ready: bool, waiting: str = "", phase: str = "Running") -> Pod:
    """Make a pod of a ReplicaSet."""
    made = pod(name, ONE, namespace="shop", ready=ready, waiting=waiting, phase=phase)
    meta = msgspec.structs.replace(made.metadata, owner_references=(Owner("ReplicaSet", "web"),))
    return msgspec.structs.replace(made, metadata=meta)


@pytest.mark.parametrize(
    ("pods", "severity"),
    [
        ((owned("web-1", ready=False),), Severity.FAIL),
        ((owned("web-1", ready=False), owned("web-2", ready=False)), Severity.FAIL),
        # it needs no lookup to become ready, as another of its kind shows
        ((owned("web-1", ready=False), owned("web-2", ready=True)), Severity.WARN),
        ((owned("web-1", ready=False, waiting="ImagePullBackOff"),), Severity.WARN),
        ((owned("web-1", ready=False, phase="Pending"),), Severity.WARN),
        ((owned("web-1", ready=False, phase="Succeeded"),), Severity.WARN),
    ],
)
def test_what_shows_that_lookups_fail(pods: tuple[Pod, ...], severity: Severity) -> None:
    (found,) = judge(policy("shop"), pods=pods)
    assert found.severity is severity


@pytest.mark.parametrize(
    ("engine", "confidence"),
    [
        ("kube-router", Confidence.CERTAIN),
        ("kube-network-policies", Confidence.CERTAIN),
        ("Cilium", Confidence.LIKELY),
        ("Calico", Confidence.LIKELY),
    ],
)
def test_policies_of_an_engine_s_own_kind_are_not_read(engine: str, confidence: Confidence) -> None:
    (found,) = judge(policy("shop"), engine=PolicyEngine(engine, (ONE,)))
    assert found.confidence is confidence


def test_a_cache_on_the_node_is_asked() -> None:
    out = policy("shop", to(PolicyPeer(ip_block=IpBlock("169.254.20.10/32"))))
    assert judge(out) == []
    moved = policy("shop", to(PolicyPeer(ip_block=IpBlock("169.254.25.10/32"))))
    assert {f.code.name for f in judge(moved)} == {"DNS_POLICY_DENIES_EGRESS"}
    told = Resolvers(items=(NodeResolver(ONE, ResolvConf(("169.254.25.10",))),))
    table = NetworkPolicies(items=(moved,), engine=KUBE_ROUTER, pods=(WEB,))
    assert findings(policies, table, served(), None, told) == []


def test_who_is_not_selected_is_not_cut_off() -> None:
    other = LabelSelector(match_labels={"app": "other"})
    assert judge(policy("shop", selector=other)) == []
    assert judge(policy("elsewhere")) == []
    fuzzy = LabelSelector(match_expressions=({"key": "app", "operator": "Exists"},))
    assert judge(policy("shop", selector=fuzzy)) == []
    # another policy adds what this one lacks
    assert judge(policy("shop"), policy("shop", to())) == []
    assert judge(policy("shop"), policy("shop", to(), selector=fuzzy)) == []


def opened(found: Finding) -> Any:
    """Read which pods the printed policy selects."""
    return json.loads(found.remediation[0].commands[0].split("'")[1])["spec"]["podSelector"]


def test_only_who_is_cut_off_is_given_a_policy() -> None:
    """To any other pod it would be the first, and shut off all but DNS."""
    mine = LabelSelector(match_labels=WEB.labels)
    (found,) = judge(policy("shop", selector=mine))
    assert opened(found) == {"matchLabels": WEB.labels}
    (found,) = judge(policy("shop"))
    assert opened(found) == {}
    revision = msgspec.structs.replace(
        WEB.metadata, labels={**WEB.labels, "pod-template-hash": "5d"}
    )
    pods = (msgspec.structs.replace(WEB, metadata=revision),)
    (found,) = judge(policy("shop"), policy("shop", selector=mine), pods=pods)
    assert opened(found) == {"matchLabels": WEB.labels}


def asked(failure: Failure | None, start: str = TWO) -> DnsFlows:
    """Ask the replica from a pod."""
    return DnsFlows(
        observations=(_ask(start, failure), _ask(ONE, None)),
    )


def _ask(start: str, failure: Failure | None) -> Observation:
    return seen(Purpose.DNS, vantage("pod", start), PODS[ONE], 53, failure, kind=FlowKind.DNS_UDP)


def test_nothing_is_let_in_to_coredns() -> None:
    closed = policy("kube-system", kind="Ingress")
    where = ("DNS_POLICY_DENIES_INGRESS", f"pod:kube-system/coredns-{ONE}")
    (found,) = judge(closed, flows=asked(Failure.TIMEOUT))
    assert said([found]) == {where}
    json.loads(found.remediation[0].commands[0].split("'")[1])
    # nothing is lost, or nothing was asked
    assert judge(closed, flows=asked(None)) == []
    assert judge(closed) == []
    assert judge(closed, flows=asked(Failure.TIMEOUT), engine=None) == []
    opened = policy("kube-system", PolicyRule(ports=(UDP,)), kind="Ingress")
    assert judge(closed, opened, flows=asked(Failure.TIMEOUT)) == []
    elsewhere = policy("shop", kind="Ingress")
    assert judge(elsewhere, flows=asked(Failure.TIMEOUT)) == []


def test_a_policy_without_types_limits_what_comes_in() -> None:
    bare = NetworkPolicy(metadata=Meta(name="deny", namespace="shop"))
    assert bare.limits == {"Ingress"}
    out = msgspec.structs.replace(bare, spec=PolicySpec(egress=(PolicyRule(),)))
    assert out.limits == {"Ingress", "Egress"}
