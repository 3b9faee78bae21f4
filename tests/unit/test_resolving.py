"""Whom CoreDNS asks and what pods are told: read from records, and asked from where that matters."""

import msgspec
import pytest

from doctor.bundle.schema import CommandOutput, NodeRecord, Record, ResolverRecord
from doctor.collect.flow import Stage
from doctor.collect.flows import plan
from doctor.collect.flows_resolving import plan_resolvers
from doctor.evidence.tables import Tables, Wave
from doctor.model.evidence import DnsService, NetworkPolicies, Resolvers, Upstreams
from doctor.model.flow import FlowKind, Purpose, VantageKind
from doctor.model.kube import ConfigMap, Event, Item, Meta, NetworkPolicy
from tests.unit.support import DNS_IP, api, bundle, cluster, names, pod, probe_pods

NODES = names(3)
OWN = "nameserver 203.0.113.53\nsearch novalocal\n"
POD = f"nameserver {DNS_IP}\nsearch x.svc.cluster.local svc.cluster.local cluster.local novalocal\n"
KUBERNETES = "kubernetes cluster.local in-addr.arpa {\n  fallthrough in-addr.arpa\n }"


def corefile(text: str) -> Record:
    """Make the record of CoreDNS's ConfigMap."""
    found = ConfigMap(
        metadata=Meta(name="coredns", namespace="kube-system"), data={"Corefile": text}
    )
    return api("configmaps/kube-system/coredns", found)


def block(*lines: str, zone: str = ".:53") -> str:
    """Write a server block."""
    return f"{zone} {{\n {chr(10).join(lines)}\n}}\n"


def read(**confs: str) -> tuple[Record, ...]:
    """Make the records of nodes, with their resolv.conf."""
    return tuple(
        NodeRecord(n, "flannel", (CommandOutput("resolv.conf", 0, text),))
        for n, text in confs.items()
    )


def tables(*records: Record, more: tuple[Item, ...] = ()) -> Tables:
    """Look at a cluster of three nodes."""
    return Tables(bundle(*cluster(3, *more), *probe_pods(NODES), *records))


def stage(found: Tables, nonce: int = 0x010203) -> Stage:
    """Make the stage in which every node is entered."""
    return Stage(found, nodes=NODES, pods=NODES, waves=frozenset({Wave.DNS}), nonce=nonce)


def asked(found: Tables, purpose: Purpose) -> set[tuple[str, str, str]]:
    """List kind of vantage and node, and who is asked, for one purpose."""
    return {
        (f"{f.vantage.kind}@{f.vantage.node}", f.kind, f.address)
        for f in plan(stage(found))
        if f.purpose is purpose
    }


EVERYWHERE = read(**dict.fromkeys(NODES, OWN))


def test_the_nodes_resolvers_are_asked_where_coredns_runs() -> None:
    found = tables(corefile(block(KUBERNETES, "forward . /etc/resolv.conf")), *EVERYWHERE)
    (item,) = found.get(Upstreams).items
    assert (item.zone, item.address, item.source) == (".", "203.0.113.53", "resolv.conf")
    assert item.nodes == NODES[:2]
    assert asked(found, Purpose.RESOLVER) == {
        (f"{v}@{n}", k, "203.0.113.53")
        for v in (VantageKind.POD, VantageKind.NODE)
        for n in NODES[:2]
        for k in (FlowKind.DNS_UDP, FlowKind.DNS_TCP)
    }
    through = [f for f in plan(stage(found)) if f.purpose is Purpose.FORWARDED]
    assert {f.name for f in through} == {"3.2.1.127.in-addr.arpa."}
    assert {f.vantage.kind for f in through} == {VantageKind.NODE}
    (made_up,) = [f for f in plan(stage(found)) if f.purpose is Purpose.SEARCH]
    assert (made_up.name, made_up.address) == ("wwwm-doctor-010203.novalocal.", DNS_IP)


@pytest.mark.parametrize(
    ("lines", "zone", "expected"),
    [
        (
            ("forward . 192.0.2.1 192.0.2.2:5353",),
            ".:53",
            {(".", "192.0.2.1", 53), (".", "192.0.2.2", 5353)},
        ),
        (("forward . tls://192.0.2.1",), ".:53", {(".", "192.0.2.1", 853)}),
        (
            ("forward . 192.0.2.1",),
            "corp.test lab.test",
            {("corp.test", "192.0.2.1", 53), ("lab.test", "192.0.2.1", 53)},
        ),
        (("forward corp.test 192.0.2.1",), ".:53", {("corp.test", "192.0.2.1", 53)}),
        (("forward . 192.0.2.1",), ".:1053", set()),
        (("forward . resolver.example 2001:db8::1 quic://192.0.2.1 192.0.2.1:99999",), ".", set()),
        (("forward",), ".", set()),
        (("whoami",), ".", set()),
    ],
)
def test_whom_a_corefile_names(
    lines: tuple[str, ...], zone: str, expected: set[tuple[str, str, int]]
) -> None:
    found = tables(corefile(block(*lines, zone=zone))).get(Upstreams)
    assert {(u.zone, u.address, u.port) for u in found.items} == expected


def test_what_is_not_known_is_not_asked() -> None:
    assert tables(corefile(block("forward . /etc/resolv.conf"))).get(Upstreams).items == ()
    assert tables().get(Upstreams).items == ()
    # who was entered is told to ask the cluster's DNS: that is no node's own
    hosts = read(**dict.fromkeys(NODES, f"nameserver {DNS_IP}\n"))
    assert tables(corefile(block("forward . /etc/resolv.conf")), *hosts).get(Upstreams).items == ()


def test_coredns_that_asks_itself_is_not_asked_about_it() -> None:
    found = tables(corefile(block("forward . 127.0.0.1 " + DNS_IP)))
    table = found.get(Upstreams)
    assert [table.loops(u) for u in table.items] == [True, True]
    assert asked(found, Purpose.RESOLVER) == set()


@pytest.mark.parametrize(
    ("lines", "through"),
    [
        (("forward . 192.0.2.1", KUBERNETES), True),
        (("forward . 192.0.2.1",), True),
        (("forward . 192.0.2.1", "kubernetes cluster.local"), True),
        (("forward . 192.0.2.1", "kubernetes cluster.local in-addr.arpa"), False),
        (("forward . 192.0.2.1", "kubernetes in-addr.arpa {\n fallthrough ip6.arpa\n}"), False),
        (("forward . 192.0.2.1", "kubernetes in-addr.arpa {\n fallthrough\n}"), True),
        (("forward corp.test 192.0.2.1",), False),
        (("whoami",), False),
    ],
)
def test_through_coredns_goes_what_it_hands_on(lines: tuple[str, ...], through: bool) -> None:  # noqa: FBT001
    found = tables(corefile(block(*lines)))
    assert bool(asked(found, Purpose.FORWARDED)) is through


def test_the_domain_is_the_corefiles() -> None:
    table = tables(corefile(block("kubernetes corp.internal in-addr.arpa {\n}"))).get(DnsService)
    assert (table.domain, table.guessed) == ("corp.internal", False)
    assert table.corefile is not None


def told(**confs: str) -> tuple[Record, ...]:
    """Make the records of what probe pods are told."""
    return tuple(ResolverRecord(n, text) for n, text in confs.items())


def later(found: Tables) -> set[tuple[str, str, str]]:
    """List vantage, who is asked and for what, of the second wave."""
    return {(f.vantage.node, f.address, f.name) for f in plan_resolvers(stage(found))}


def test_pods_that_are_told_the_right_address_ask_no_more() -> None:
    found = tables(*told(**dict.fromkeys(NODES, POD)), *EVERYWHERE)
    assert [i.node for i in found.get(Resolvers).items] == list(NODES)
    assert later(found) == set()
    assert plan_resolvers(msgspec.structs.replace(stage(found), waves=frozenset())) == ()


def test_another_address_is_asked_from_the_pod_that_is_told_of_it() -> None:
    wrong = POD.replace(DNS_IP, "169.254.20.10")
    found = tables(*told(**{NODES[0]: POD, NODES[1]: wrong}), *EVERYWHERE)
    assert later(found) == {
        (NODES[1], "169.254.20.10", "kubernetes.default.svc.cluster.local."),
    }


def test_a_domain_that_only_pods_search_is_asked_for_later() -> None:
    more = POD.replace("novalocal", "lab.test")
    found = tables(*told(**dict.fromkeys(NODES, more)), *EVERYWHERE)
    assert later(found) == {(NODES[0], DNS_IP, "wwwm-doctor-010203.lab.test.")}


def test_an_empty_file_tells_nothing() -> None:
    assert tables(*told(**{NODES[0]: ""})).get(Resolvers).items == ()


def test_events_of_pods_without_the_clusters_dns() -> None:
    odd = Event(metadata=Meta(name="a"), reason="MissingClusterDNS")
    noise = Event(metadata=Meta(name="b"), reason="DNSConfigForming")
    assert tables(api("events:warning", odd, noise)).get(Resolvers).events == (odd,)


@pytest.mark.parametrize(
    ("image", "labels", "engine"),
    [
        ("docker.io/cloudnativelabs/kube-router:v2.5.0", {}, "kube-router"),
        ("mirror.example/library/calico/node:v3", {}, "Calico"),
        ("mirror.example/renamed:1", {"k8s-app": "cilium"}, "Cilium"),
        ("ghcr.io/flannel-io/flannel:v0.28.10", {"k8s-app": "flannel"}, ""),
    ],
)
def test_who_enforces_policies(image: str, labels: dict[str, str], engine: str) -> None:
    policy = NetworkPolicy(metadata=Meta(name="deny", namespace="shop"))
    made = pod("kube-system/engine-1", NODES[0], "192.0.2.9", image=image)
    made = msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, labels=labels)
    )
    found = tables(api("networkpolicies", policy), more=(made,)).get(NetworkPolicies)
    assert found.items == (policy,)
    assert (found.engine.name if found.engine else "") == engine


def test_no_policies_and_none_that_may_be_read() -> None:
    assert tables(api("networkpolicies")).get(NetworkPolicies).absent
    refused = tables(api("networkpolicies", status=403, reason="may not")).get(NetworkPolicies)
    assert refused.absent == ""
    assert [g.needs for g in refused.gaps] == ["api:networkpolicies"]
