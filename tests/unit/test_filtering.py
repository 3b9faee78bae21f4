"""Which rule drops a packet: the order of rules, jumps, and what is not understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.filtering import Packet, dropped
from doctor.model.netfilter import Action, Chain, Origin, Rule, RuleTable
from doctor.parse.iptables_save import read_saved, rule_tables
from doctor.parse.nft_json import nft_rule_tables, parse_nft
from tests.unit.recorded import printed, text

DNS = Packet("udp", 53, "10.244.1.0/24", "10.244.2.7", "cni0", "flannel.1")
VXLAN = Packet("udp", 8472, "192.168.100.102", "192.168.100.101", "eth0")
NODE = rule_tables(read_saved(printed("iptables-nft")))
PROXY, SITE = text("nft-kube-proxy.json"), text("nft-site.json")


def tables(*rules: str, policy: str = "ACCEPT", whole: bool = True) -> tuple[RuleTable, ...]:
    """Make the table filter of a node: with rules, some of which may stand in chain SITE."""
    lines = (":FORWARD " + policy + " [0:0]", ":SITE - [0:0]", ":MORE - [0:0]", *rules)
    end = "COMMIT\n" if whole else ""
    return rule_tables(read_saved("*filter\n" + "\n".join(lines) + "\n" + end))


def said(found: tuple[RuleTable, ...], packet: Packet = DNS, hook: str = "forward") -> str:
    """Say in words what drops a packet."""
    met = dropped(found, hook, packet)
    if met is None:
        return "passes"
    where = met.rule.text if met.rule else f"policy of {met.chain}"
    return where if met.certain else f"perhaps {where}"


DROP = "-A FORWARD -p udp --dport 53 -j DROP"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), "passes"),
        ((DROP,), DROP),
        (("-A FORWARD -j REJECT",), "-A FORWARD -j REJECT"),
        (("-A FORWARD -p tcp --dport 53 -j DROP",), "passes"),
        (("-A FORWARD -p udp --dport 50:60 -j DROP",), "-A FORWARD -p udp --dport 50:60 -j DROP"),
        (("-A FORWARD -s 10.244.0.0/16 -j ACCEPT", DROP), "passes"),
        (("-A FORWARD -s 10.244.3.0/24 -j ACCEPT", DROP), DROP),
        (("-A FORWARD -s 10.244.1.128/25 -j ACCEPT", DROP), f"perhaps {DROP}"),
        (("-A FORWARD ! -s 10.244.0.0/16 -j ACCEPT", DROP), DROP),
        (("-A FORWARD ! -d 10.244.2.7/32 -j DROP",), "passes"),
        (("-A FORWARD -i eth+ -j ACCEPT", DROP), DROP),
        (("-A FORWARD -i cni+ -o flannel.1 -j ACCEPT", DROP), "passes"),
        (("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", DROP), DROP),
        (("-A FORWARD -m limit --limit 1/s -j ACCEPT", DROP), f"perhaps {DROP}"),
        (("-A FORWARD -p udp --sport 53 -j ACCEPT", DROP), f"perhaps {DROP}"),
        (("-A FORWARD -m limit --limit 1/s -j DROP",), "perhaps -A FORWARD -m limit --limit 1/s -j DROP"),
        (("-A FORWARD -m limit --limit 1/s -j DROP", "-A FORWARD -j REJECT"), "-A FORWARD -j REJECT"),
        (("-A FORWARD -j LOG", DROP), DROP),
        (("-A FORWARD -j NFQUEUE", DROP), f"perhaps {DROP}"),
        (("-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT", DROP), DROP),
        (("-A FORWARD -j MARK --set-xmark 0x1/0x1", "-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT", DROP), f"perhaps {DROP}"),
        (("-A FORWARD -j SITE", DROP, "-A SITE -d 10.244.0.0/16 -j ACCEPT"), "passes"),
        (("-A FORWARD -j SITE", DROP, "-A SITE -p tcp -j ACCEPT"), DROP),
        (("-A FORWARD -j SITE", "-A SITE -j DROP"), "-A SITE -j DROP"),
        (("-A FORWARD -j SITE", DROP, "-A SITE -j RETURN", "-A SITE -j ACCEPT"), DROP),
        (("-A FORWARD -j SITE", DROP, "-A SITE -m limit --limit 1/s -j RETURN", "-A SITE -j ACCEPT"), f"perhaps {DROP}"),
        (("-A FORWARD -j SITE", DROP, "-A SITE -p udp -m limit --limit 1/s -j RETURN"), DROP),
        (("-A FORWARD -m limit --limit 1/s -j SITE", DROP, "-A SITE -j ACCEPT"), f"perhaps {DROP}"),
        (("-A FORWARD -m limit --limit 1/s -j SITE", DROP, "-A SITE -p tcp -j ACCEPT"), DROP),
        (("-A FORWARD -m limit --limit 1/s -j SITE", "-A FORWARD -j ACCEPT", "-A SITE -j DROP"), "perhaps -A SITE -j DROP"),
        (("-A FORWARD -g SITE", DROP), "passes"),
        (("-A FORWARD -j MORE", DROP, "-A MORE -g SITE", "-A MORE -j ACCEPT"), DROP),
        (("-A FORWARD -m limit --limit 1/s -g SITE", DROP), f"perhaps {DROP}"),
        (("-A FORWARD -m limit --limit 1/s -j ACCEPT", "-A FORWARD -j ACCEPT", DROP), "passes"),
        (("-A FORWARD -j GONE", DROP), f"perhaps {DROP}"),
    ],
)  # fmt: skip
def test_rules_in_their_order(rules: tuple[str, ...], expected: str) -> None:
    assert said(tables(*rules)) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), "policy of FORWARD"),
        (("-A FORWARD -d 10.244.0.0/16 -j ACCEPT",), "passes"),
        (("-A FORWARD -p tcp -j ACCEPT",), "policy of FORWARD"),
        (("-A FORWARD -m limit --limit 1/s -j ACCEPT",), "perhaps policy of FORWARD"),
        (("-A FORWARD -j RETURN", "-A FORWARD -j ACCEPT"), "policy of FORWARD"),
        (("-A FORWARD -j SITE", "-A SITE -j RETURN"), "policy of FORWARD"),
    ],
)
def test_a_policy_that_drops(rules: tuple[str, ...], expected: str) -> None:
    assert said(tables(*rules, policy="DROP")) == expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Packet("udp", 53), DROP),
        (Packet("udp"), f"perhaps {DROP}"),
        (Packet(), f"perhaps {DROP}"),
        (Packet("tcp"), "passes"),
        (Packet("icmp"), "passes"),
    ],
)
def test_what_is_not_known_of_a_packet(packet: Packet, expected: str) -> None:
    assert said(tables(DROP), packet) == expected


def test_of_a_table_that_was_cut_nothing_is_certain() -> None:
    assert said(tables(DROP, whole=False)) == f"perhaps {DROP}"
    assert said(tables(policy="DROP", whole=False)) == "perhaps policy of FORWARD"


def test_a_healthy_node_drops_nothing_that_matters() -> None:
    for hook in ("prerouting", "input", "forward", "output", "postrouting"):
        assert said(NODE, DNS, hook) == "passes"
        assert said(NODE, VXLAN, hook) == "passes"
    proxy = nft_rule_tables(parse_nft(PROXY))
    assert said(proxy, DNS) == "passes"
    assert said(proxy, VXLAN, "input") == "passes"


def test_packets_to_a_node_itself_as_kubelets_rule_has_it() -> None:
    martian = Packet("tcp", 10249, "192.168.100.9", "127.0.0.1", "eth0")
    assert "block incoming localnet" in said(NODE, martian, "input")


@pytest.mark.parametrize(
    ("hook", "packet", "expected"),
    [
        ("forward", DNS, "udp dport 53 drop"),
        ("forward", Packet("tcp", 53, "10.244.1.1", "10.244.2.2", "cni0", "eth0"), "tcp dport 53 reject with tcp reset"),
        ("forward", Packet("udp", 53, "10.244.1.0/24", "10.244.2.7", "cni0", "cni0"), "passes"),
        ("forward", Packet("udp", 54, "10.244.1.1", "10.244.2.2", "cni0", "eth0", mark=0x110), "meta mark & 255 16 drop"),
        ("input", VXLAN, "udp dport vmap @by-port (8472 : drop)"),
        ("input", Packet("udp", 8472, input="flannel.1"), "passes"),
        ("input", Packet("tcp", 6443, "172.20.112.50", input="eth0"), "passes"),
        ("input", Packet("tcp", 6443, "10.0.0.4", input="eth0"), "policy of input"),
        ("input", Packet("tcp", 6443, "10.0.0.5", input="eth0"), "passes"),
        ("input", Packet("tcp", 10250, "10.0.0.4", input="eth0"), "policy of input"),
        ("output", Packet("tcp", 443, destination="10.100.20.30"), "reject with icmp port-unreachable"),
    ],
)  # fmt: skip
def test_rules_of_nft(hook: str, packet: Packet, expected: str) -> None:
    assert said(nft_rule_tables(parse_nft(PROXY) + parse_nft(SITE)), packet, hook) == expected


def drop_all(family: str, kind: str = "filter", priority: int = 0) -> RuleTable:
    """Make a table of nft that drops everything that is forwarded."""
    rule = Rule(Action.DROP, text=family)
    chain = Chain("c", (rule,), hook="forward", kind=kind, priority=priority)
    return RuleTable(Origin.NFT, family, "t", (chain,))


def test_chains_of_one_hook_in_the_order_of_their_priority() -> None:
    late, early = drop_all("ip", priority=10), drop_all("inet", priority=-10)
    assert said((late, early)) == "inet"


def test_tables_that_see_no_routed_packets_of_ipv4() -> None:
    assert said((drop_all("bridge"), drop_all("ip6"), drop_all("ip", "nat"))) == "passes"


CHAINS = st.lists(
    st.lists(
        st.builds(
            Rule,
            st.sampled_from([*Action]),
            target=st.sampled_from("abcd"),
            other=st.booleans(),
            mark=st.none() | st.just((1, 1)),
        ),
        max_size=5,
    ),
    min_size=4,
    max_size=4,
)


@given(CHAINS)
def test_any_jumps_end(rules: list[list[Rule]]) -> None:
    chains = tuple(
        Chain(n, tuple(r), hook="forward" if n == "a" else "")
        for n, r in zip("abcd", rules, strict=True)
    )
    met = dropped((RuleTable(Origin.NFT, "ip", "t", chains),), "forward", DNS)
    assert met is None or met.action in (Action.DROP, Action.REJECT)


def test_jumps_that_multiply_end() -> None:
    names = [f"c{n}" for n in range(15)]
    chains = tuple(
        Chain(n, (Rule(Action.JUMP, target=m),) * 8, hook="forward" if n == "c0" else "")
        for n, m in zip(names, [*names[1:], "c14"], strict=True)
    )
    last = Chain("c14", (Rule(Action.DROP, protocols=("tcp",)),))
    table = RuleTable(Origin.NFT, "ip", "t", (*chains[:-1], last))
    assert said((table,)) == "passes"
