"""Rules of nft: recorded rulesets, single rules, entries of Services, and any text at all.

The tables of kube-proxy and flannel were made by nft from commands of the form that their sources
write, and printed by it.
"""

import contextlib
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable, ServiceEntry
from doctor.parse.kube_nft import nft_services
from doctor.parse.nft_json import nft_rule_tables, parse_nft
from doctor.parse.nft_rule import Elements, read_rules
from doctor.parse.nft_text import plain
from tests.unit.recorded import ANY_JSON, damaged, text

PROXY, SITE = text("nft-kube-proxy.json"), text("nft-site.json")
TABLES = {t.name: t for t in nft_rule_tables(parse_nft(PROXY) + parse_nft(SITE))}


def chain(table: str, name: str) -> Chain:
    """Return a recorded chain."""
    found = TABLES[table].chain(name)
    assert found is not None
    return found


def match(left: object, right: object, op: str = "==") -> dict[str, object]:
    """Make a match."""
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str) -> dict[str, object]:
    """Make what a match looks at in a packet."""
    return {"payload": {"protocol": protocol, "field": field}}


def meta(key: str) -> dict[str, object]:
    """Make what a match looks at beside a packet."""
    return {"meta": {"key": key}}


def sets(**named: list[object]) -> Elements:
    """Make sets and maps."""
    elements = Elements()
    elements.named = named
    return elements


def test_tables_and_hooks() -> None:
    assert {(t.origin, t.family, t.name) for t in TABLES.values()} == {
        (Origin.NFT, "ip", "kube-proxy"),
        (Origin.NFT, "ip", "flannel-ipv4"),
        (Origin.NFT, "inet", "site"),
    }
    assert all(t.whole and t.used for t in TABLES.values())
    found = chain("site", "input")
    assert (found.hook, found.kind, found.priority) == ("input", "filter", 0)
    assert found.policy is Action.DROP
    assert (chain("site", "pods").hook, chain("site", "pods").kind) == ("", "")
    assert chain("kube-proxy", "nat-postrouting").priority == 100


def test_rules_with_sets_and_ranges() -> None:
    rules = chain("site", "input").rules
    assert rules[3].inputs == ("cni0", "flannel*", "lo")
    assert rules[4] == Rule(
        Action.ACCEPT,
        protocols=("tcp",),
        ports=((22, 22), (6443, 6443), (30000, 32767)),
        sources=("10.0.0.5-10.0.0.9", "172.20.112.0/24", "192.168.100.1"),
        packets=7,
        bytes=420,
        text="ip saddr @admins tcp dport { 22, 6443, 30000-32767 } accept",
        handle=11,
    )
    assert (rules[-1].inverted, rules[-1].other) == (("ports",), True)


def test_a_map_of_verdicts_is_a_rule_for_each() -> None:
    rules = chain("site", "input").rules
    assert [(r.states, r.action) for r in rules[:3]] == [
        (("invalid",), Action.DROP),
        (("established",), Action.ACCEPT),
        (("related",), Action.ACCEPT),
    ]
    assert [(r.protocols, r.ports, r.action) for r in rules[5:7]] == [
        (("udp",), ((4789, 4789),), Action.DROP),
        (("udp",), ((8472, 8472),), Action.DROP),
    ]
    assert rules[6].text == "udp dport vmap @by-port (8472 : drop)"


def test_rules_that_drop_and_reject() -> None:
    rules = chain("site", "forward").rules
    assert [r.text for r in rules] == [
        "iifname cni0 oifname cni0 accept",
        "oifname flannel.1 jump pods",
        "udp dport 53 drop",
        "tcp dport 53 reject with tcp reset",
        "ip protocol gre reject with icmp admin-prohibited",
        "meta mark & 255 16 drop",
        "ct state { invalid, new } tcp dport 9090-9099 reject with icmpx port-unreachable",
    ]
    assert (rules[2].packets, rules[2].comment) == (12, "no DNS; says the 'site'")
    assert (rules[1].action, rules[1].target) == (Action.JUMP, "pods")
    assert rules[5].mark == (16, 255)


def test_rules_of_ipv6_alone_are_left_out() -> None:
    assert [r.action for r in chain("site", "pods").rules] == [Action.RETURN, Action.ACCEPT]
    assert chain("site", "pods").rules[1].other


def test_flannels_masquerading() -> None:
    rules = chain("flannel-ipv4", "postrtg").rules
    assert [r.action for r in rules] == [*[Action.RETURN] * 4, Action.MASQUERADE, Action.MASQUERADE]
    assert rules[-1].inverted == ("sources",)
    assert rules[0].mark == (0x4000, 0xFFFFFFFF)


def test_kube_proxys_chains_of_services_are_left_out() -> None:
    names = {c.name for c in TABLES["kube-proxy"].chains}
    assert not [n for n in names if "/" in n]
    assert chain("kube-proxy", "services").rules == ()
    refusing = chain("kube-proxy", "service-endpoints-check").rules
    assert [(r.destinations, r.ports, r.action, r.target) for r in refusing] == [
        (("192.168.100.231",), ((80, 80),), Action.DROP, ""),
        (("10.100.20.30",), ((443, 443),), Action.GOTO, "reject-chain"),
    ]


def test_entries_of_services() -> None:
    assert nft_services(parse_nft(PROXY)) == (
        ServiceEntry(
            "10.96.0.10",
            "udp",
            53,
            "kube-system/kube-dns:dns",
            "service-FY5PMXPG-kube-system/kube-dns/udp/dns",
            ("10.244.1.4:53", "10.244.2.2:53"),
        ),
        ServiceEntry(
            "10.98.7.6",
            "tcp",
            80,
            "shop/api:http",
            "service-LAUZTJTB-shop/api/tcp/http",
            ("10.244.1.9:8080",),
        ),
        ServiceEntry(
            "10.107.116.92",
            "tcp",
            80,
            "traefik/traefik:web",
            "service-42NFTM6N-traefik/traefik/tcp/web",
            ("10.244.2.3:8000",),
        ),
        ServiceEntry(
            "192.168.100.230",
            "tcp",
            80,
            "traefik/traefik:web",
            "external-42NFTM6N-traefik/traefik/tcp/web",
            ("10.244.2.3:8000",),
        ),
        ServiceEntry(
            "192.168.100.231",
            "tcp",
            80,
            "shop/api:http",
            "external-LAUZTJTB-shop/api/tcp/http",
            refusal=Action.DROP,
        ),
        ServiceEntry(
            "",
            "tcp",
            31492,
            "traefik/traefik:web",
            "external-42NFTM6N-traefik/traefik/tcp/web",
            ("10.244.2.3:8000",),
        ),
        ServiceEntry("10.100.20.30", "tcp", 443, "site-policy/site-policy", refusal=Action.REJECT),
        ServiceEntry("", "tcp", 30080, "shop/api:http", refusal=Action.DROP),
    )
    assert nft_services(parse_nft(SITE)) is None


def test_protocols_may_be_numbers() -> None:
    """As flannel's image prints them, which has no /etc/protocols."""
    concat = re.compile(r'("concat":\s*\[[^]]*)"(tcp|udp)"')
    numbers = {"tcp": "6", "udp": "17"}
    text = concat.sub(lambda m: m[1] + numbers[m[2]], PROXY)
    assert text != PROXY
    assert nft_services(parse_nft(text)) == nft_services(parse_nft(PROXY))


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], [Rule(Action.NONE)]),
        ([{"accept": None}], [Rule(Action.ACCEPT, text="accept")]),
        ([{"reject": {}}], [Rule(Action.REJECT, text="reject")]),
        ([{"queue": {"num": 1}}], [Rule(Action.UNKNOWN, text="queue")]),
        ([{"xt": {"type": "target", "name": "X"}}], [Rule(Action.UNKNOWN, text="xt")]),
        ([{"xt": None}, {"drop": None}], [Rule(Action.DROP, other=True, text="xt drop")]),
        ([{"counter": "named"}, {"drop": None}], [Rule(Action.DROP, text="drop")]),
        (
            [match(payload("ip6", "saddr"), "::1"), {"drop": None}],
            [],
        ),
        ([match(meta("nfproto"), "ipv6", "!="), {"drop": None}], [Rule(Action.DROP, text="meta nfproto != ipv6 drop")]),
        ([match(meta("nfproto"), "ipv4", "!="), {"drop": None}], []),
        ([match(meta("nfproto"), "x"), {"drop": None}], [Rule(Action.DROP, other=True, text="meta nfproto x drop")]),
        ([match(meta("mark"), "@marks"), {"drop": None}], [Rule(Action.DROP, other=True, text="meta mark @marks drop")]),
        ([match(payload("tcp", "dport"), 53, "<"), {"drop": None}], [Rule(Action.DROP, protocols=("tcp",), other=True, text="tcp dport < 53 drop")]),
        ([match(payload("tcp", "dport"), "http"), {"drop": None}], [Rule(Action.DROP, protocols=("tcp",), other=True, text="tcp dport http drop")]),
        (
            [match(meta("l4proto"), "tcp"), match(payload("tcp", "dport"), 80), {"drop": None}],
            [Rule(Action.DROP, protocols=("tcp",), ports=((80, 80),), text="meta l4proto tcp tcp dport 80 drop")],
        ),
        (
            [match(meta("l4proto"), {"set": ["tcp", "udp"]}), match(payload("th", "dport"), 53), {"drop": None}],
            [Rule(Action.DROP, protocols=("tcp", "udp"), ports=((53, 53),), text="meta l4proto { tcp, udp } th dport 53 drop")],
        ),
        ([{"vmap": {"key": meta("l4proto"), "data": "@gone"}}], [Rule(Action.UNKNOWN, text="meta l4proto vmap @gone")]),
        ([{"snat": {"addr": "192.0.2.1"}}], [Rule(Action.SNAT, target="192.0.2.1", text="snat to 192.0.2.1")]),
        ([{"mangle": {"key": meta("mark"), "value": 1}}], [Rule(Action.MARK, text="meta mark set 1")]),
    ],
)  # fmt: skip
def test_single_rules(statements: list[object], expected: list[Rule]) -> None:
    assert list(read_rules(statements, sets())) == expected


def test_too_many_addresses_are_a_condition_that_is_not_understood() -> None:
    many: list[object] = [f"10.0.{n // 256}.{n % 256}" for n in range(5000)]
    (found,) = read_rules([match(payload("ip", "saddr"), "@many"), {"drop": None}], sets(many=many))
    assert (found.other, found.sources) == (True, ())


def test_what_is_written_out_of_sets_is_bounded_in_all() -> None:
    some: list[object] = [f"10.0.{n // 256}.{n % 256}" for n in range(4000)]
    elements = sets(some=some)
    rule: list[object] = [match(payload("ip", "saddr"), "@some"), {"drop": None}]
    found = [r for _ in range(20) for r in read_rules(rule, elements)]
    assert [r.other for r in found] == [*[False] * 12, *[True] * 8]


@pytest.mark.parametrize("length", [0, 1, 200, len(SITE) - 10])
def test_what_was_cut_is_refused(length: int) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_nft(SITE[:length])


NAMES = st.sampled_from(
    [
        *("match", "op", "left", "right", "payload", "meta", "ct", "key", "protocol", "field"),
        *("vmap", "data", "set", "concat", "elem", "val", "prefix", "range", "&", "drop", "jump"),
        *("target", "counter", "mangle", "xt", "@x", "==", "!=", "mark", "tcp", "dport", "ip6"),
        *("nfproto", "ipv6", "dnat", "addr", "port", "reject", "packets"),
    ]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=20,
)


@given(st.lists(TREES, max_size=4), st.lists(TREES, max_size=3))
def test_any_statements_are_rules(statements: list[object], elements: list[object]) -> None:
    for found in read_rules(statements, sets(x=elements)):
        assert found.action in Action
        assert len(found.text) <= 1100


@given(TREES | ANY_JSON)
def test_anything_can_be_written(value: Any) -> None:
    assert isinstance(plain(value), str)


def test_two_conditions_of_one_kind_are_one_too_many() -> None:
    first = match(payload("ip", "saddr"), "10.0.0.1")
    for second in ("10.0.0.2", "10.0.0.1"):
        more = match(payload("ip", "saddr"), second, "!=")
        (found,) = read_rules([first, more, {"drop": None}], sets())
        assert (found.sources, found.inverted, found.other) == (("10.0.0.1",), (), True)
    (found,) = read_rules([first, first, {"drop": None}], sets())
    assert found.other is False


def test_deep_nesting_ends() -> None:
    lists: object = 1
    for _ in range(5000):
        lists = [lists]
    assert plain(lists)
    deep: object = 1
    for _ in range(900):
        deep = {"match": {"op": deep, "left": {"&": [deep, 1]}}}
    assert plain(deep)
    assert read_rules([deep], sets())


@given(damaged(PROXY, SITE) | st.text())
def test_any_text_is_read_or_refused(anything: str) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        tables = parse_nft(anything)
        assert all(isinstance(t, RuleTable) for t in nft_rule_tables(tables))
        nft_services(tables)


@given(
    st.lists(st.dictionaries(st.sampled_from(["table", "chain", "rule", "set", "map"]), ANY_JSON))
)
def test_any_listing_is_read_or_refused(items: list[object]) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        nft_rule_tables(parse_nft(json.dumps({"nftables": items})))


@given(st.lists(TREES, max_size=4), st.lists(TREES, max_size=4))
def test_any_map_of_services_is_read(entries: list[object], statements: list[object]) -> None:
    of = {"family": "ip", "table": "kube-proxy"}
    items = [
        {"map": {**of, "name": "service-ips", "elem": entries}},
        {"rule": {**of, "chain": "x", "expr": statements}},
    ]
    assert nft_services(parse_nft(json.dumps({"nftables": items}))) is not None
