"""What counters tell of bursts: each outcome gives its own code, place and direction.

A wrong checksum is not seen in a lab: no driver there leaves checksums to hardware that gets them wrong.
"""

from typing import Any

import pytest

from doctor.model.counters import Burst, Hit
from doctor.model.evidence import Counters, Mesh
from doctor.model.finding import Confidence
from doctor.model.node_state import Sysctl
from tests.rules.factories import ADDRESSES, MASTER, NAMES, ONE, TWO, networks, said
from tests.rules.test_overlay import around, between, everything, judge, mesh, nothing
from tests.rules.test_overlay_peers import read, told, whole

PAIR = (ONE, TWO)
UDP = "OVERLAY_UDP_FILTERED"
RULE = "-A INPUT -p udp -m string --algo bm --string x -j DROP"


def burst(sender: str, receiver: str, **counted: object) -> Burst:
    """Make a burst of which nothing arrives."""
    made: dict[str, object] = {
        "left": 20, "unsent": 0, "arrived": 0, "closed": 0, "damaged": 0, "taken": 0,
        "refused": 0, "wrong_way": 0, "evidence": (f"burst:{sender}>{receiver}",),
    }  # fmt: skip
    return Burst(sender, receiver, 20, **(made | counted))  # type: ignore[arg-type]


def lost(*ways: tuple[str, str], carried: bool = True, names: tuple[str, ...] = NAMES) -> Counters:
    """Make the counters where these ways lose all; the others carry, or were not counted."""
    all_ = [(a, b) for a in names for b in names if a != b]
    whole_ways = [w for w in all_ if w not in ways] if carried else []
    return Counters(
        items=(
            *(burst(*w) for w in ways),
            *(burst(*w, arrived=20, taken=20) for w in whole_ways),
        )
    )


def hop(where: str) -> str:
    """Write a hop of the underlay."""
    return f"underlay:{where}:udp/8472"


@pytest.mark.parametrize(
    ("flows", "counters", "where"),
    [
        (mesh(between(PAIR)), lost((ONE, TWO)), f"{ONE}>{TWO}"),
        (mesh(between(PAIR)), lost((TWO, ONE)), f"{TWO}>{ONE}"),
        (mesh(between(PAIR)), lost((ONE, TWO), (TWO, ONE)), f"{ONE}>{TWO}"),
        (mesh(around(ONE)), lost((TWO, ONE), (MASTER, ONE)), f"*>{ONE}"),
        (mesh(around(ONE)), lost((ONE, TWO), (ONE, MASTER)), f"{ONE}>*"),
        (mesh(everything), lost(*((a, b) for a in NAMES for b in NAMES if a != b)), "*>*"),
        (mesh(everything), Counters(), "*>*"),
    ],
)
def test_which_way_is_lost(flows: Mesh, counters: Counters, where: str) -> None:
    found = judge(flows, networks(), counters=counters)
    assert said(found) == {(UDP, hop(where))}


def test_one_way_is_said_in_words_and_proven_by_the_bursts() -> None:
    (found,) = judge(mesh(between(PAIR)), networks(), counters=lost((ONE, TWO)))
    assert found.title == f"UDP 8472 is dropped from {ONE} to {TWO}, and passes the other way"
    assert f"burst:{ONE}>{TWO}" in found.evidence
    assert found.confidence is Confidence.CERTAIN


def test_two_ways_are_two_where_no_node_has_both() -> None:
    ways = ((ONE, TWO), (TWO, MASTER))
    broken = mesh(lambda _, a, b: {a, b} in ({ONE, TWO}, {TWO, MASTER}))
    found = judge(broken, networks(), counters=lost(*ways))
    assert said(found) == {(UDP, hop(f"{a}>{b}")) for a, b in ways}


OUTCOMES: dict[str, tuple[dict[str, Any], str]] = {
    "checksum": ({"damaged": 20}, "OVERLAY_UDP_CHECKSUM_BROKEN"),
    "wrong way": ({"wrong_way": 20}, "OVERLAY_RP_FILTER_DROPS"),
    "not taken": ({"arrived": 20}, "OVERLAY_NOT_DECAPSULATED"),
    "a rule": ({"hits": (Hit(TWO, "filter INPUT", RULE, 20),)}, "OVERLAY_HOST_FIREWALL"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_becomes_of_a_burst_where_it_arrives(name: str) -> None:
    """It is the receiver's, from that sender; and a burst that was taken proves the contrary."""
    counted, code = OUTCOMES[name]
    counters = Counters(items=(burst(ONE, TWO, **counted), burst(TWO, ONE, arrived=20, taken=20)))
    found = judge(mesh(between(PAIR)), whole(), told(ONE), counters=counters)
    assert said(found) == {(code, hop(f"{ONE}>{TWO}"))}
    fine = Counters(items=(burst(ONE, TWO, **(counted | {"taken": 20})), counters.items[1]))
    others = judge(mesh(between(PAIR)), whole(), told(ONE), counters=fine)
    assert said(others) == {("OVERLAY_PATH_BROKEN", hop(f"{ONE}>{TWO}"))}
    assert judge(mesh(nothing), whole(), told(ONE), counters=counters) == []


def test_a_rule_of_the_sender_is_the_senders() -> None:
    hit = Hit(ONE, "mangle POSTROUTING", "-A POSTROUTING -p udp -m length --length 60 -j DROP", 20)
    counters = Counters(items=(burst(ONE, TWO, hits=(hit,)), burst(TWO, ONE, arrived=20, taken=20)))
    (found,) = judge(mesh(between(PAIR)), whole(), told(ONE), counters=counters)
    assert said([found]) == {("OVERLAY_HOST_FIREWALL", hop(f"{ONE}>{TWO}"))}
    assert "20 packets" in found.title
    assert hit.text in found.title
    assert (
        found.remediation[0]
        .commands[1]
        .endswith("iptables -t mangle -D POSTROUTING -p udp -m length --length 60 -j DROP")
    )


def test_what_was_read_goes_before_what_was_counted() -> None:
    bent = whole(read(ONE, fdb=()))
    found = judge(mesh(between(PAIR)), bent, told(ONE), counters=lost((ONE, TWO), (TWO, ONE)))
    assert said(found) == {("OVERLAY_FDB_WRONG", hop(f"{ONE}>{TWO}"))}


def test_nodes_that_do_not_meet_because_of_a_strict_way_back() -> None:
    """Nothing passes between the two, their own addresses included; the counter tells why."""
    counters = Counters(items=(burst(ONE, TWO, wrong_way=20), burst(TWO, ONE)))
    strict = read(TWO, sysctls=(Sysctl("net.ipv4.conf.eth1.rp_filter", 1),))
    both = mesh(between(PAIR), between(PAIR))
    (found,) = judge(both, whole(strict), told(ONE), counters=counters)
    assert said([found]) == {("OVERLAY_RP_FILTER_DROPS", f"underlay:{ONE}>{TWO}")}
    assert found.remediation[0].commands == (
        f"ssh {TWO} ip route get {ADDRESSES[ONE]}",
        f"ssh {TWO} sudo sysctl -w net/ipv4/conf/eth1/rp_filter=2",
    )
    silent = Counters(items=(burst(ONE, TWO), burst(TWO, ONE)))
    assert said(judge(both, whole(strict), told(ONE), counters=silent)) == {
        ("UNDERLAY_UNREACHABLE", f"underlay:{ONE}>{TWO}")
    }


def test_a_few_packets_of_others_prove_nothing() -> None:
    noisy = {"arrived": 19, "closed": 3, "damaged": 2, "taken": 5, "wrong_way": 9}
    counters = Counters(items=(burst(ONE, TWO, **noisy), burst(TWO, ONE, taken=20)))
    found = judge(mesh(between(PAIR)), whole(), told(ONE), counters=counters)
    assert said(found) == {(UDP, hop(f"{ONE}>{TWO}"))}
    assert "the other way" in found[0].title


def test_what_never_leaves_is_not_said_to_be_lost_on_one_way() -> None:
    counters = Counters(items=(burst(ONE, TWO, left=0), burst(TWO, ONE, taken=20)))
    (found,) = judge(mesh(between(PAIR)), whole(), told(ONE), counters=counters)
    assert "the other way" not in found.title
