"""What is read inside a node: recorded outputs, and any text at all."""

import contextlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.node import FilterRule, Link, Route, SubnetEnv
from doctor.parse.flannel_conf import NetConf, parse_net_conf
from doctor.parse.ip_json import parse_links, parse_routes
from doctor.parse.iptables_save import chain_names, drops, read_saved
from doctor.parse.subnet_env import parse_subnet_env

DATA = Path(__file__).parent / "data"
LONG = "9" * 5000
DEEP = '[{"more": ' + "[" * 100_000


def recorded(name: str) -> str:
    """Return what a tool printed on a node."""
    return (DATA / name).read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (recorded("subnet.env"), SubnetEnv("10.244.0.0/16", "10.244.0.1/24", 1450, ipmasq=True)),
        ("", SubnetEnv()),
        ("FLANNEL_SUBNET = 10.1.2.1/24 \r\nFLANNEL_MTU=big\n", SubnetEnv(subnet="10.1.2.1/24")),
        (f"FLANNEL_MTU={LONG}\nFLANNEL_IPMASQ=yes\nno pair", SubnetEnv()),
    ],
)
def test_subnet_env(text: str, expected: SubnetEnv) -> None:
    assert parse_subnet_env(text) == expected


def test_links_as_recorded() -> None:
    lo, eth0, vxlan, bridge = parse_links(recorded("ip-address.json"))
    assert lo.addresses == ("127.0.0.1/8",)
    assert eth0 == Link(
        "eth0",
        mtu=1500,
        mac="c6:c8:e2:38:1a:8a",
        addresses=("192.168.100.101/24",),
        index=2,
        kind="veth",
        state="UP",
        carrier=True,
    )
    assert (vxlan.name, vxlan.vxlan_id, vxlan.vxlan_port, vxlan.mtu) == ("flannel.1", 1, 8472, 1450)
    assert (bridge.name, bridge.up, bridge.vxlan_id) == ("cni0", True, 0)
    assert (bridge.carrier, bridge.state) == (False, "DOWN")


def test_a_link_that_is_down_or_nameless() -> None:
    text = (
        '[{"ifname": "eth1", "flags": ["BROADCAST"]}, {"mtu": 9}, {"ifname": "v", "linkinfo": {}}]'
    )
    assert parse_links(text) == (
        Link("eth1", up=False, carrier=False),
        Link("v", up=False, carrier=False),
    )


def test_routes_as_recorded() -> None:
    routes = parse_routes(recorded("ip-route.json"))
    assert routes[0] == Route("default", "eth0", "192.168.100.1")
    assert routes[1] == Route("10.244.0.0/24", "cni0", source="10.244.0.1")
    assert routes[2] == Route("10.244.1.0/24", "flannel.1", "10.244.1.0", onlink=True)
    assert len(routes) == 5
    assert parse_routes("[{}]") == ()


ALL_PORTS = (0, 65535)


def test_drops_as_recorded() -> None:
    found = drops(read_saved(recorded("iptables-drops.txt")))
    reduced = [(r.chain, r.action, r.protocol, r.ports, r.narrow) for r in found]
    assert reduced == [
        ("INPUT", "DROP", "udp", (8472, 8472), False),
        ("INPUT", "REJECT", "tcp", (30000, 32767), True),
        ("INPUT", "DROP", "udp", (53, 53), True),
        ("FORWARD", "DROP", "tcp", (53, 9153), False),
        ("FORWARD", "DROP", "", ALL_PORTS, False),
        ("OUTPUT", "REJECT", "", ALL_PORTS, True),
        ("FORWARD", "DROP", "", ALL_PORTS, True),
    ]
    assert found[0].text == "-A INPUT -p udp -m udp --dport 8472 -j DROP"
    assert found[-1].text == "-P FORWARD DROP"


def test_a_healthy_node_drops_nothing_of_its_own() -> None:
    saved = read_saved(recorded("iptables-node.txt"))
    assert drops(saved) == ()
    assert "KUBE-SERVICES" in chain_names(saved, "nat")
    assert "FLANNEL-FWD" in chain_names(saved, "filter")
    assert "FLANNEL-FWD" not in chain_names(saved, "nat")
    assert chain_names(saved, "raw") == ()


@pytest.mark.parametrize(
    ("rule", "ports"),
    [
        (f"-A INPUT -p tcp --dport {LONG} -j DROP", ALL_PORTS),
        ('-A INPUT -p tcp -m comment --comment "open -j DROP', ALL_PORTS),
        ("[0:0] -A INPUT -j DROP", ALL_PORTS),
        ("[7:420] -A INPUT -p udp --dport 53 -j DROP", (53, 53)),
        ("-A INPUT -p tcp --dport domain -j DROP", ALL_PORTS),
    ],
)
def test_rules_that_are_not_well_formed(rule: str, ports: tuple[int, int]) -> None:
    (found,) = drops(read_saved(f"*filter\n{rule}\nCOMMIT\n"))
    assert (found.chain, found.ports) == ("INPUT", ports)


@pytest.mark.parametrize(
    ("rule", "protocol", "hit"),
    [
        (FilterRule("INPUT", "DROP", "udp", (53, 53), ""), "udp/53", True),
        (FilterRule("INPUT", "DROP", "udp", (53, 53), ""), "tcp/53", False),
        (FilterRule("INPUT", "DROP", "udp", (53, 60), ""), "udp/61", False),
        (FilterRule("INPUT", "DROP", "", ALL_PORTS, ""), "tcp/8080", True),
    ],
)
def test_what_a_rule_hits(rule: FilterRule, protocol: str, hit: bool) -> None:  # noqa: FBT001
    assert rule.hits(protocol) is hit


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        (
            {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}},
            NetConf("10.244.0.0/16", "vxlan", 8472),
        ),
        ({"Backend": {"Type": "VXLAN", "Port": 4789}}, NetConf("", "vxlan", 4789)),
        ({"Backend": {"Type": "host-gw", "Port": 1}, "More": 1}, NetConf("", "host-gw", 0)),
        ({}, NetConf("", "vxlan", 8472)),
        ({"Backend": None}, None),
        ([], None),
    ],
)
def test_net_conf(conf: object, expected: NetConf | None) -> None:
    assert parse_net_conf(json.dumps(conf)) == expected


@pytest.mark.parametrize("text", [DEEP, "", "[", '{"Network": 1}', "null"])
def test_json_that_is_not_what_was_promised(text: str) -> None:
    assert parse_net_conf(text.replace("[{", "{")) is None
    for parse in (parse_links, parse_routes):
        with pytest.raises(msgspec.DecodeError):
            parse(text)


WORDS = st.sampled_from(
    [
        "*filter",
        "*nat",
        "COMMIT",
        ":INPUT DROP [0:0]",
        ":",
        "-A INPUT",
        "-A",
        "-j",
        "-j DROP",
        "-p udp",
        "--dport",
        "53:",
        "'",
        '"',
        "!",
        "\n",
        "FLANNEL_MTU=",
        "\nFLANNEL_MTU=²\n",
        "=",
        "{",
        "}",
        "[",
        "]",
        "{}",
        "null",
        "1e9",
        "",
    ]
)
TEXT = st.lists(WORDS | st.text(max_size=5)).map(" ".join) | st.text()


@given(TEXT)
def test_any_text_is_read_or_refused_as_documented(text: str) -> None:
    parse_subnet_env(text)
    saved = read_saved(text)
    drops(saved)
    chain_names(saved, "filter")
    parse_net_conf(text)
    with contextlib.suppress(msgspec.DecodeError):
        parse_links(text)
    with contextlib.suppress(msgspec.DecodeError):
        parse_routes(text)
