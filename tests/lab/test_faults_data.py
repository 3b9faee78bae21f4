"""The fault catalogue's data holds together; this needs no lab."""

import re

import pytest

from tests.lab.faults import FAULTS, Fault
from tests.lab.lab import Lab
from tests.lab.shape import SHAPES, Shape

CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
PATTERN = re.compile(r"[A-Z0-9_*]+")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
CATALOGUE = {
    "sg-drops-8472",
    "sg-drops-8472-oneway",
    "vxlan-mtu-blackhole",
    "mtu-inconsistent-pod-vs-flannel",
    "vxlan-fdb-missing",
    "vxlan-neighbour-missing",
    "vxlan-route-missing",
    "vxlan-route-shadowed",
    "vxlan-flannel1-down",
    "flannel-vtep-mac-drift",
    "vxlan-port-mismatch",
    "vxlan-port-in-use",
    "vxlan-vni-mismatch",
    "vxlan-backend-type-mismatch",
    "vxlan-8472-blocked-host-fw",
    "vxlan-8472-blocked-oneway",
    "vxlan-8472-blocked-nft",
    "node-forward-policy-drop",
    "node-firewalld-reject",
    "node-forward-reject-default",
    "node-ip-forward-off",
    "node-input-drops-pod-to-host",
    "node-underlay-down",
    "node-rp-filter-strict",
    "sg-drops-53",
    "udp53-dropped",
    "tcp53-dropped",
    "flannel-not-on-node",
    "cni-subnet-env-missing",
    "node-networkunavailable",
    "cni-binary-missing",
    "cni-config-uninitialized",
    "cni-stale-conflist",
    "hostlocal-ip-exhausted",
    "cni0-down",
    "cni0-no-ip",
    "cni0-ip-conflict",
    "veth-detached",
    "flannel-rbac-denied",
    "flannel-netconf-malformed",
    "flannel-netconf-cidr-mismatch",
    "flannel-br-netfilter-missing",
    "flannel-podcidr-unassigned",
    "flannel-podcidr-exhausted",
    "podcidr-duplicate",
    "flannel-wrong-iface-public-ip",
    "flannel-node-ip-changed",
    "coredns-at-zero",
    "dns-upstream-unreachable",
    "dns-upstream-pods-filtered",
    "dns-upstream-one-of-n-dead",
    "dns-stubdomain-wrong",
    "dns-kubelet-clusterdns-mismatch",
    "dns-kubelet-missing-clusterdns",
    "dns-nodelocal-down",
    "dns-clusterdomain-mismatch",
    "dns-coredns-pending-taints",
    "dns-corefile-invalid",
    "dns-coredns-loop",
    "dns-coredns-api-unreachable",
    "dns-one-replica-bad-node",
    "dns-dnspolicy-hostnetwork",
    "dns-stale-udp-conntrack",
    "dns-coredns-rbac-endpointslices",
    "dns-coredns-oom",
    "dns-svc-selector",
    "dns-svc-target-port",
    "dns-svc-without-tcp",
    "dns-forward-max-concurrent",
    "dns-netpol-ingress-kube-system",
    "dns-netpol-egress-deny",
    "decoy-netpol-without-engine",
    "dns-ndots-wildcard-hijack",
    "decoy-resolver-limits",
    "kube-proxy-gone",
    "kube-proxy-rules-flushed",
    "kube-proxy-hung",
    "bridge-nf-call-off",
    "hairpin-off",
    "external-traffic-local",
    "sg-drops-node-ports",
    "service-cidr-overlaps",
    "pod-cidr-overlaps",
    "kube-proxy-cluster-cidr-wrong",
    "kube-proxy-api-unreachable",
    "kube-proxy-duplicate",
    "kube-proxy-backends-mixed",
    "kp-kube-firewall-drop-all",
    "service-target-port-wrong",
    "service-named-port-missing",
    "service-protocol-mismatch",
    "internal-traffic-local",
    "webhook-backend-down",
    "pool-missing",
    "no-l2advertisement",
    "port-security-vip",
    "ingress-host-mismatch",
    "ingress-class-missing",
    "host-header-lost",
    "db-port-closed",
    "eg-masquerade-missing",
    "selector-matches-nothing",
    "vip-outside-subnet",
    "app-unready",
    "decoy-old-subnet-env",
    "decoy-workers-were-unreachable",
    "decoy-class-annotation-honoured",
}
# their texts depend on where pods run
ASKS_THE_CLUSTER = {"kube-proxy-gone", "bridge-nf-call-off", "hairpin-off"}

each = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


def test_the_catalogue_is_whole() -> None:
    assert set(FAULTS) == CATALOGUE


@each
def test_the_name_leads_to_the_fault(fault: Fault) -> None:
    assert FAULTS[fault.name] is fault
    assert NAME.fullmatch(fault.name)


@each
def test_a_decoy_is_called_so(fault: Fault) -> None:
    assert fault.decoy == fault.name.startswith("decoy-")


@each
def test_the_story_is_one_sentence(fault: Fault) -> None:
    assert re.fullmatch(r"\S[^\n]*[^.\s]\.", fault.story)
    assert not re.search(r"[.!?] [A-Z]", fault.story)
    assert "  " not in fault.story


@each
def test_codes_are_codes(fault: Fault) -> None:
    assert all(CODE.fullmatch(code) for code in fault.expected)
    assert all(PATTERN.fullmatch(pattern) for pattern in fault.forbidden)


@each
def test_what_is_expected_is_not_forbidden(fault: Fault) -> None:
    assert not [code for code in fault.expected if fault.forbids(code)]


@each
def test_a_fault_expects_a_code_and_a_decoy_forbids_all(fault: Fault) -> None:
    assert bool(fault.expected) != fault.decoy
    assert fault.forbids("ANY_CODE") == fault.decoy


@each
def test_lookalikes_are_other_faults(fault: Fault) -> None:
    assert fault.lookalikes
    assert set(fault.lookalikes) <= set(FAULTS) - {fault.name}
    assert len(set(fault.lookalikes)) == len(fault.lookalikes)


@each
def test_a_lookalikes_code_is_forbidden_unless_shared(fault: Fault) -> None:
    alike = {code for name in fault.lookalikes for code in FAULTS[name].expected}
    assert not [code for code in alike - fault.expected if not fault.forbids(code)]


@each
def test_it_fits_some_shape(fault: Fault) -> None:
    assert any(fault.fits(shape) for shape in SHAPES.values())


@pytest.mark.parametrize(
    "fault",
    [f for f in FAULTS.values() if f.name not in ASKS_THE_CLUSTER],
    ids=lambda f: f.name,
)
def test_texts_are_known_before_and_stay(fault: Fault) -> None:
    """But for those whose texts depend on where pods run."""
    for shape in (shape for shape in SHAPES.values() if fault.fits(shape)):
        names = fault.names(Lab(shape))
        assert bool(names) != fault.decoy
        assert all(names)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_shape_has_faults_and_decoys(shape: Shape) -> None:
    fitting = [fault for fault in FAULTS.values() if fault.fits(shape)]
    assert any(fault.decoy for fault in fitting)
    assert any(not fault.decoy for fault in fitting)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_faults_of_one_code_are_told_apart_by_what_they_name(shape: Shape) -> None:
    """Where two faults share a code, the place or the rule that a diagnosis names tells which."""
    named: dict[str, list[tuple[str, ...]]] = {}
    for fault in (f for f in FAULTS.values() if f.fits(shape) and f.name not in ASKS_THE_CLUSTER):
        for code in fault.expected:
            named.setdefault(code, []).append(fault.names(Lab(shape)))
    assert [c for c, names in named.items() if len(set(names)) < len(names)] == []


def test_port_53_is_blamed_where_pods_are_routed_only() -> None:
    fitting = {name for name, shape in SHAPES.items() if FAULTS["sg-drops-53"].fits(shape)}
    assert fitting == {name for name, shape in SHAPES.items() if shape.backend == "host-gw"}


def test_the_tunnels_port_is_the_shapes_own() -> None:
    names = FAULTS["sg-drops-8472"].names
    assert names(Lab(SHAPES["article"])) == ("8472",)
    assert names(Lab(SHAPES["port4789"])) == ("4789",)
