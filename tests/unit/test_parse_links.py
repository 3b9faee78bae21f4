"""What iproute2 prints of links, routes, neighbours and forwarding tables, and any text at all."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.node import FdbEntry, Link, Neighbour, PolicyRule, Route, Traffic
from doctor.parse.bridge_fdb import parse_fdb
from doctor.parse.ip_json import parse_links, parse_neighbours, parse_policy_rules, parse_routes
from tests.unit.recorded import damaged, printed

LINKS = {link.name: link for link in parse_links(printed("address"))}
ROUTES = """[
{"type":"prohibit","dst":"10.3.0.0/16","table":"100","flags":[]},
{"type":"throw","dst":"10.6.0.0/16","table":"100","flags":[]},
{"dst":"10.1.0.0/16","gateway":"192.0.2.9","dev":"v0","prefsrc":"192.0.2.1","metric":7,"flags":["linkdown"],"metrics":[{"mtu":1400}]},
{"type":"blackhole","dst":"10.2.0.0/16","flags":[]},
{"dst":"10.4.0.0/16","flags":["dead","linkdown"],"nexthops":[{"gateway":"192.0.2.8","dev":"v0","weight":1,"flags":["dead","linkdown"]},{"gateway":"192.0.2.7","dev":"v1","weight":1,"flags":["onlink"]}]},
{"dst":"10.5.0.0/16","via":{"family":"inet6","host":"fe80::1"},"dev":"v0","flags":["linkdown"]},
{"type":"local","dst":"127.0.0.1","dev":"lo","table":"local","protocol":"kernel","scope":"host","prefsrc":"127.0.0.1","flags":[]},
{"type":"broadcast","dst":"127.255.255.255","dev":"lo","table":"local","protocol":"kernel","scope":"link","prefsrc":"127.0.0.1","flags":[]}]"""
RULES = """[
{"priority":0,"src":"all","table":"local"},
{"priority":3,"src":"10.3.4.5","table":"70"},
{"priority":100,"src":"10.1.0.0","srclen":16,"fwmark":"0x10","fwmask":"0xff","iif":"v0","table":"100"},
{"priority":101,"not":null,"src":"all","dst":"10.9.9.9","oif":"v1","action":"blackhole"}]"""


def test_an_uplink() -> None:
    link = LINKS["eth0"]
    assert (link.kind, link.state, link.carrier, link.mtu) == ("veth", "UP", True, 1500)
    assert (link.index, link.peer_index, link.addresses) == (2, 9, ("192.168.100.103/24",))
    assert link.received is not None
    assert link.received.packets > 1000
    assert link.received.bytes > link.received.packets
    assert link.sent is not None
    assert link.sent.errors == 0


def test_a_vxlan_device() -> None:
    link = LINKS["flannel.1"]
    assert (link.vxlan_id, link.vxlan_port) == (1, 8472)
    assert (link.vxlan_local, link.vxlan_device) == ("192.168.100.103", "eth0")
    assert (link.vxlan_learning, link.state, link.carrier) == (False, "UNKNOWN", True)
    assert link.peer_index == 0


def test_a_bridge_and_its_port() -> None:
    port = next(link for name, link in LINKS.items() if name.startswith("veth"))
    assert (LINKS["cni0"].kind, LINKS["cni0"].hairpin) == ("bridge", None)
    assert (port.master, port.hairpin, port.peer_index) == ("cni0", True, 2)


def test_what_is_not_counted_is_not_zero() -> None:
    (link,) = parse_links('[{"ifname": "x"}]')
    assert (link.received, link.sent) == (None, None)
    (link,) = parse_links('[{"ifname": "x", "stats64": {"rx": {"dropped": 3}}}]')
    assert (link.received, link.sent) == (Traffic(dropped=3), Traffic())


@pytest.mark.parametrize(
    "details",
    [
        '{"info_kind": "gre", "info_data": {"local": 7, "id": "x", "port": []}}',
        '{"info_kind": "vxlan", "info_data": {"external": true, "link": null}}',
        '{"info_slave_kind": "bond", "info_slave_data": {"hairpin": "none"}}',
        '{"info_kind": "vlan"}',
    ],
)
def test_details_of_other_kinds_are_passed_over(details: str) -> None:
    (link,) = parse_links(f'[{{"ifname": "x", "link_index": 5, "linkinfo": {details}}}]')
    assert (link.vxlan_id, link.vxlan_device, link.hairpin) == (0, "", None)
    assert link.peer_index == 0


def test_routes_of_all_tables() -> None:
    assert parse_routes(ROUTES) == (
        Route("10.3.0.0/16", kind="prohibit", table="100"),
        Route("10.6.0.0/16", kind="throw", table="100"),
        Route("10.1.0.0/16", "v0", "192.0.2.9", metric=7, mtu=1400, source="192.0.2.1"),
        Route("10.2.0.0/16", kind="blackhole"),
        Route("10.4.0.0/16", "v0", "192.0.2.8", dead=True),
        Route("10.4.0.0/16", "v1", "192.0.2.7", onlink=True),
        Route("10.5.0.0/16", "v0", "fe80::1"),
    )


def test_routes_of_a_node() -> None:
    routes = parse_routes(printed("route"))
    assert [r.destination for r in routes] == [
        "default",
        "10.244.0.0/24",
        "10.244.1.0/24",
        "10.244.2.0/24",
        "192.168.100.0/24",
    ]
    assert routes[1] == Route("10.244.0.0/24", "flannel.1", "10.244.0.0", onlink=True)


def test_rules_of_policy_routing() -> None:
    assert parse_policy_rules(RULES) == (
        PolicyRule(0, "local"),
        PolicyRule(3, "70", source="10.3.4.5"),
        PolicyRule(100, "100", source="10.1.0.0/16", mark="0x10/0xff", input="v0"),
        PolicyRule(101, action="blackhole", destination="10.9.9.9", output="v1", inverted=True),
    )


def test_neighbours() -> None:
    found = {n.address: n for n in parse_neighbours(printed("neighbour"))}
    assert found["10.244.0.0"] == Neighbour(
        "10.244.0.0", "flannel.1", "42:2f:44:95:c4:8f", "PERMANENT"
    )
    assert found["192.168.100.230"] == Neighbour("192.168.100.230", "eth0", state="FAILED")
    assert parse_neighbours('[{"dev": "x"}, {"dst": "192.0.2.1", "state": []}]') == (
        Neighbour("192.0.2.1", ""),
    )


def test_forwarding_tables() -> None:
    found = parse_fdb(printed("fdb"))
    assert found[1] == FdbEntry(
        "42:2f:44:95:c4:8f", "flannel.1", remote="192.168.100.101", state="permanent"
    )
    assert {f.bridge for f in found[2:]} == {"cni0"}
    assert all(f.device.startswith("veth") for f in found[2:])


def test_multicast_is_no_entry() -> None:
    text = '[{"mac":"33:33:00:00:00:01","ifname":"x"},{"mac":"01:00:5e:00:00:01"},{"mac":""}]'
    assert parse_fdb(text) == ()
    assert parse_fdb("dev flannel.1\n[]\n\ndev cni0\n") == ()


PARSERS = (parse_links, parse_routes, parse_policy_rules, parse_neighbours, parse_fdb)
NAMES = ("address", "route", "rule", "neighbour", "fdb")


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"dst": 1}',
        "[1]",
        '[{"more": ' + "[" * 100_000,
        '[{"dst":1,"mac":1,"mtu":"x","priority":""}]',
    ],
)
def test_what_iproute2_does_not_print_is_refused(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(msgspec.DecodeError):
        parse(text)


@given(damaged(ROUTES, RULES, *map(printed, NAMES)) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in PARSERS:
        with contextlib.suppress(msgspec.DecodeError):
            parse(text)


def test_a_link_is_found_by_its_name() -> None:
    assert LINKS["lo"] == Link(
        "lo",
        mtu=65536,
        mac="00:00:00:00:00:00",
        addresses=("127.0.0.1/8",),
        index=1,
        state="UNKNOWN",
        carrier=True,
        received=LINKS["lo"].received,
        sent=LINKS["lo"].sent,
    )
