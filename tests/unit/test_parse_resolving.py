"""resolv.conf and Corefile: recorded ones, odd ones, and any text at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.resolver import Corefile, Plugin, ResolvConf, is_within
from doctor.parse.corefile import parse_corefile, reduce_corefile
from doctor.parse.resolv_conf import parse_resolv_conf

KUBEADM = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""
"""As kubeadm 1.34 writes it."""

POD = """\
search shop.svc.cluster.local svc.cluster.local cluster.local openstacklocal novalocal
nameserver 10.96.0.10
options ndots:5
"""
"""As a kubelet writes it."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            POD,
            ResolvConf(
                ("10.96.0.10",),
                (
                    "shop.svc.cluster.local",
                    "svc.cluster.local",
                    "cluster.local",
                    "openstacklocal",
                    "novalocal",
                ),
                ("ndots:5",),
            ),
        ),
        ("", ResolvConf()),
        ("# nameserver 192.0.2.1\n; no\nnameserver\nnameserver here\n", ResolvConf()),
        (
            "domain A.example.\nsearch b.example c.example\n\tnameserver fe80::1%eth0\r\n",
            ResolvConf(("fe80::1%eth0",), ("b.example", "c.example")),
        ),
        (
            "search .\noptions rotate\noptions ndots:2 edns0",
            ResolvConf((), (".",), ("rotate", "ndots:2", "edns0")),
        ),
    ],
)
def test_resolv_conf(text: str, expected: ResolvConf) -> None:
    assert parse_resolv_conf(text) == expected


@pytest.mark.parametrize(
    ("options", "dots"),
    [
        ((), 1),
        (("ndots:5",), 5),
        (("ndots:x", "ndots:2"), 2),
        (("ndots:99",), 15),
        (("ndots:999",), 1),
    ],
)
def test_dots(options: tuple[str, ...], dots: int) -> None:
    assert ResolvConf(options=options).ndots == dots


def test_the_corefile_of_kubeadm() -> None:
    found = parse_corefile(KUBEADM)
    assert found.whole
    (block,) = found.blocks
    assert (block.zones, block.port) == ((".",), 53)
    assert [p.name for p in block.plugins] == [
        *("errors", "health", "ready", "kubernetes", "prometheus", "forward", "cache", "loop"),
        *("reload", "loadbalance"),
    ]
    assert found.cluster_zones == ("cluster.local",)
    forward = block.plugin("forward")
    assert forward == Plugin("forward", (".", "/etc/resolv.conf"), (("max_concurrent", "1000"),))
    assert forward.values("max_concurrent") == ("1000",)
    assert forward.values("policy") is None
    assert block.plugin("file") is None


def test_blocks_of_several_zones_and_ports() -> None:
    text = (
        "Corp.Test. lab.test:53,\n quoted.test:1053 tls://.:853 { # why\n"
        "  forward . 192.0.2.1\n}\n. { whoami\n}\nkube.test { kubernetes\n}"
    )
    found = parse_corefile(text)
    assert found.whole
    assert [(b.zones, b.port) for b in found.blocks] == [
        (("corp.test", "lab.test"), 53),
        (("quoted.test",), 1053),
        ((".",), 853),
        ((".",), 53),
        (("kube.test",), 53),
    ]
    assert found.cluster_zones == ("kube.test",)
    for name, zones in (("a.corp.test.", ("corp.test", "lab.test")), ("x.test", (".",))):
        block = found.block_for(name)
        assert block is not None
        assert block.zones == zones
    assert Corefile().block_for("any") is None


@pytest.mark.parametrize(
    "text",
    [
        ".:53 {\n forward . 192.0.2.1\n",
        "import /etc/more\n.:53 {\n}\n",
        "(shared) {\n errors\n}\n.:53 {\n import shared\n}\n",
        "forward . 192.0.2.1",
        "{\n}\n",
        "# cut\n.:53 {\n}\n",
    ],
)
def test_what_is_not_understood_whole(text: str) -> None:
    assert not parse_corefile(text).whole
    assert not parse_corefile(reduce_corefile(text)).whole


def test_what_may_be_secret_is_not_kept() -> None:
    text = (
        ".:53 {\n route53 zone:KEY {\n aws_access_key ID SECRET\n }\n tsig {\n secret k. HUSH\n }\n"
        " forward . tls://user:PASSWORD@192.0.2.1/TOKEN {\n tls CERT KEY\n policy sequential\n }\n}\n"
    )
    kept = reduce_corefile(text)
    for word in ("KEY", "ID", "SECRET", "HUSH", "PASSWORD", "TOKEN", "CERT"):
        assert word not in kept
    assert "tls://192.0.2.1" in kept
    assert "policy sequential" in kept
    broken = reduce_corefile(".:53 {\n route53 {\n x }\n SECRET\n")
    assert "SECRET" not in broken


def test_reduced_it_reads_the_same() -> None:
    before, after = parse_corefile(KUBEADM), parse_corefile(reduce_corefile(KUBEADM))
    assert after.cluster_zones == before.cluster_zones
    for name in ("kubernetes", "forward", "cache", "loop"):
        assert after.blocks[0].plugin(name) == before.blocks[0].plugin(name)
    assert reduce_corefile(reduce_corefile(KUBEADM)) == reduce_corefile(KUBEADM)


@pytest.mark.parametrize(
    ("name", "zone", "within"),
    [
        ("a.b.", "b", True),
        ("B", "b.", True),
        ("ab", "b", False),
        ("anything", ".", True),
        ("b", "a.b", False),
    ],
)
def test_within(name: str, zone: str, within: bool) -> None:  # noqa: FBT001 - a table
    assert is_within(name, zone) is within


_WORDS = st.sampled_from(
    [
        *[".:53", "{", "}", "forward", "kubernetes", '"', "\\", "#", ",", "(", ":99999", "import"],
        "\n",
        " ",
    ]
)


@given(st.one_of(st.text(), st.lists(_WORDS).map(" ".join)))
def test_any_text_is_read(text: str) -> None:
    parse_resolv_conf(text)
    found = parse_corefile(text)
    assert all(0 < b.port <= 65535 for b in found.blocks)
    again = parse_corefile(reduce_corefile(text))
    assert again.cluster_zones == found.cluster_zones or not found.whole
