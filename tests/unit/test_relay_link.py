"""What ping and arping print, read: recorded output of each kind."""

import pytest

from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Icmp, Observation
from doctor.probe.relay import read_observations
from doctor.probe.relay_frames import Frame, Frames, Tools
from tests.unit.relay_bench import flow

IPUTILS = "PING 10.8.0.2 (10.8.0.2) 1372(1400) bytes of data.\n"
SENT = "\n--- 10.8.0.2 ping statistics ---\n{} packets transmitted, {} received, {}% packet loss\n"
FROM = "From 10.9.0.254 icmp_seq=1 {}\n"
BUSYBOX = (
    "PING 10.8.0.2 (10.8.0.2): 1372 data bytes\n"
    "\n--- 10.8.0.2 ping statistics ---\n{} packets transmitted, {} packets received, 33% packet loss\n"
)
ROUTE = "route mtu={} no_pmtu_disc={} 10.8.0.2 via 10.9.0.254 dev e0 src 10.9.0.1 uid 0"
CACHED = f"{ROUTE}\n    cache expires 599sec mtu 1300"


def ping(
    stdout: str, stderr: str = "", *, status: int = 1, plain: bool = False, size: int = 0
) -> Observation | str:
    """Read a ping's output."""
    tools = Tools(folder="made", ping="plain" if plain else "ping")
    asked = (flow(FlowKind.PING, 0, address="10.8.0.2", samples=3, size=size),)
    reading = read_observations(
        asked, Frames(tools, {0: Frame(status, 0.4, stdout, stderr)}, ended=True)
    )
    return reading.observations[0] if reading.observations else reading.unseen[0][1]


def seen(outcome: Observation | str) -> Observation:
    """Expect an observation."""
    assert isinstance(outcome, Observation)
    return outcome


@pytest.mark.parametrize(
    ("words", "failure", "icmp"),
    [
        ("Destination Net Unreachable", Failure.NETWORK_UNREACHABLE, (3, 0)),
        ("Destination Host Unreachable", Failure.NO_ROUTE, (3, 1)),
        ("Destination Port Unreachable", Failure.PORT_UNREACHABLE, (3, 3)),
        ("Frag needed and DF set (mtu = 1300)", Failure.TOO_BIG, (3, 4)),
        ("Destination Net Prohibited", Failure.HOST_PROHIBITED, (3, 9)),
        ("Destination Host Prohibited", Failure.HOST_PROHIBITED, (3, 10)),
        ("Packet filtered", Failure.HOST_PROHIBITED, (3, 13)),
        ("Time to live exceeded", Failure.UNKNOWN, (11, 0)),
    ],
)
def test_which_icmp_error_came(words: str, failure: Failure, icmp: tuple[int, int]) -> None:
    outcome = seen(ping(IPUTILS + FROM.format(words) + SENT.format(3, 0, 100), size=1400))
    assert (outcome.failure, outcome.sent, outcome.lost) == (failure, 3, 3)
    assert outcome.icmp == Icmp(*icmp, "10.9.0.254")
    assert words in outcome.detail


def test_the_next_hop_s_mtu_comes_first() -> None:
    text = IPUTILS + FROM.format("Frag needed and DF set (mtu = 1300)") + SENT.format(3, 0, 100)
    assert seen(ping(text, size=1400)).detail.startswith("mtu=1300: From 10.9.0.254")
    local = "ping: local error: message too long, mtu=1450\n"
    outcome = seen(ping(IPUTILS + SENT.format(3, 0, 100), local * 3, size=1600))
    assert (outcome.failure, outcome.icmp) == (Failure.TOO_BIG, None)
    assert outcome.detail == "mtu=1450: ping: local error: message too long, mtu=1450"


def test_a_redirect_is_no_error() -> None:
    text = IPUTILS + FROM.format("Redirect Host(New nexthop: 10.9.0.2)") + SENT.format(3, 0, 100)
    assert seen(ping(text)).failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    ("sent", "received", "failure", "lost"),
    [(3, 3, None, 0), (3, 2, None, 1), (3, 0, Failure.TIMEOUT, 3)],
)
def test_loss_is_counted(sent: int, received: int, failure: Failure | None, lost: int) -> None:
    for text in (IPUTILS + SENT.format(sent, received, 0), BUSYBOX.format(sent, received)):
        outcome = seen(ping(text))
        assert (outcome.failure, outcome.sent, outcome.lost) == (failure, sent, lost)


@pytest.mark.parametrize(
    ("answered", "sent", "lost"),
    [
        ([0, 1, 2, 3, 4], 5, 0),
        ([0, 1, 2, 3], 4, 0),
        ([0, 2, 3], 4, 1),
        ([0, 1, 4], 5, 2),
        ([4], 5, 4),
        ([0], 4, 3),
        ([], 5, 5),
    ],
)
def test_the_last_ping_of_busybox_may_be_late(answered: list[int], sent: int, lost: int) -> None:
    """It does not wait for it as for the others."""
    lines = "".join(f"64 bytes from 10.8.0.2: seq={n} ttl=63 time=0.05 ms\n" for n in answered)
    summary = SENT.format(5, f"{len(answered)} packets", 0)
    outcome = seen(ping(f"PING 10.8.0.2 (10.8.0.2): 56 data bytes\n{lines}{summary}", plain=True))
    assert (outcome.sent, outcome.lost) == (sent, lost)


def test_iputils_waits_for_the_last_ping_too() -> None:
    lines = "64 bytes from 10.8.0.2: icmp_seq=1 ttl=63 time=0.05 ms\n"
    outcome = seen(ping(IPUTILS + lines + SENT.format(2, 1, 50)))
    assert (outcome.sent, outcome.lost) == (2, 1)


def test_an_error_beside_answers_is_told_but_is_no_failure() -> None:
    text = IPUTILS + FROM.format("Destination Host Unreachable") + SENT.format(3, 1, 66)
    outcome = seen(ping(text))
    assert (outcome.failure, outcome.degraded) == (None, True)
    assert "Host Unreachable" in outcome.detail


@pytest.mark.parametrize(
    ("stderr", "failure"),
    [
        ("ping: connect: Network is unreachable", Failure.NETWORK_UNREACHABLE),
        ("ping: sendto: Network unreachable", Failure.NETWORK_UNREACHABLE),
        ("ping: sendto: Host is unreachable", Failure.NO_ROUTE),
        ("ping: sendto: Message too large", Failure.TOO_BIG),
        ("ping: sendmsg: Operation not permitted", Failure.PERMISSION_DENIED),
    ],
)
def test_what_the_kernel_refuses_to_send(stderr: str, failure: Failure) -> None:
    assert seen(ping("", stderr)).failure is failure
    assert seen(ping(IPUTILS + SENT.format(3, 0, 100), stderr)).failure is failure


@pytest.mark.parametrize(
    "stderr",
    [
        "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted",
        "ping: permission denied (are you root?)",
        "timeout: failed to run command 'ping': Operation not permitted",
    ],
)
def test_who_may_not_ping_has_seen_nothing(stderr: str) -> None:
    outcome = ping("PING 10.8.0.2 (10.8.0.2): 56 data bytes", stderr)
    assert isinstance(outcome, str)
    assert "NET_RAW" in outcome


@pytest.mark.parametrize("stdout", ["", "Usage: ping", "0 packets transmitted, 0 received"])
def test_a_ping_that_says_something_else(stdout: str) -> None:
    assert isinstance(ping(stdout), str)


def test_a_ping_that_had_to_be_ended_is_counted() -> None:
    text = "PING 10.8.0.2 (10.8.0.2): 56 data bytes\n64 bytes from 10.8.0.2: seq=0 ttl=63 time=0.05 ms\n"
    outcome = seen(ping(text, status=143))
    assert (outcome.failure, outcome.sent, outcome.lost) == (None, 3, 2)
    assert seen(ping("PING 10.8.0.2", status=143)).failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    ("received", "route", "failure", "detail"),
    [
        (3, ROUTE.format(1500, 0), None, ""),
        (2, ROUTE.format(1500, 0), None, ""),
        (0, ROUTE.format(1500, 0), Failure.TIMEOUT, ""),
        (2, CACHED.format(1500, 0), Failure.TOO_BIG, "mtu=1300: the kernel has learned it"),
        (0, CACHED.format(1500, 0), Failure.TOO_BIG, "mtu=1300: the kernel has learned it"),
        (3, ROUTE.format(1350, 0), Failure.TOO_BIG, "mtu=1350: the interface's own"),
        (0, "", Failure.TIMEOUT, ""),
    ],
)
def test_a_ping_that_cannot_forbid_fragments(
    received: int, route: str, failure: Failure | None, detail: str
) -> None:
    outcome = seen(ping(BUSYBOX.format(3, received) + route, plain=True, size=1400))
    assert outcome.failure is failure
    assert outcome.detail.startswith(detail)
    assert outcome.lost == (3 if failure else 3 - received)


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ("", "no ip tells"),
        ("route mtu= no_pmtu_disc=0 ", "no ip tells"),
        (ROUTE.format(1500, 1), "path MTU discovery is off"),
    ],
)
def test_fragments_that_nobody_can_exclude(route: str, reason: str) -> None:
    outcome = ping(BUSYBOX.format(3, 2) + route, plain=True, size=1400)
    assert isinstance(outcome, str)
    assert reason in outcome
    # A packet of the tool's own size is never cut.
    assert seen(ping(BUSYBOX.format(3, 2) + route, plain=True)).failure is None


REPLY = "Unicast reply from {} [{}] 0.5ms\n"
HABETS = "42 bytes from {1} ({0}): index=0 time=8.713 usec\n"
ONE, TWO = "16:f7:13:f8:32:10", "06:25:95:31:F3:FE"
ME = "10.7.0.2"


def arp(stdout: str, stderr: str = "", status: int = 0) -> Observation | str:
    """Read an arping's output."""
    frame = Frame(status, 1.0, stdout, stderr)
    asked = (flow(FlowKind.ARP, 0, "e0", address=ME),)
    tools = Tools(folder="made", arping="iputils")
    reading = read_observations(asked, Frames(tools, {0: frame}, ended=True))
    return reading.observations[0] if reading.observations else reading.unseen[0][1]


@pytest.mark.parametrize("line", [REPLY, HABETS], ids=["busybox, iputils", "habets"])
def test_who_owns_an_address(line: str) -> None:
    outcome = seen(arp(line.format(ME, TWO) + line.format(ME, ONE) + line.format(ME, ONE)))
    assert (outcome.failure, outcome.answers) == (None, (TWO.lower(), ONE))
    outcome = seen(arp(line.format("10.7.0.3", ONE) + "Sent 1 probe(s) (1 broadcast(s))"))
    assert (outcome.failure, outcome.answers) == (Failure.ARP_UNANSWERED, ())


@pytest.mark.parametrize(
    "stdout",
    [
        "ARPING 10.7.0.2 from 10.7.0.1 e0\nSent 1 probe(s) (0 broadcast(s))\nReceived 0 response(s)",
        "ARPING 10.7.0.2 from 10.7.0.1 e0\nSent 2 probes (2 broadcast(s))\nReceived 0 response(s)",
        "ARPING 10.7.0.2\nTimeout\n\n--- 10.7.0.2 statistics ---\n1 packets transmitted, 0 packets received",
    ],
)
def test_an_address_that_nobody_owns(stdout: str) -> None:
    outcome = seen(arp(stdout, status=1))
    assert (outcome.failure, outcome.lost) == (Failure.ARP_UNANSWERED, 1)


@pytest.mark.parametrize(
    ("stdout", "stderr", "reason"),
    [
        ("", "arping: socket: Operation not permitted", "NET_RAW"),
        (
            "",
            "arping: libnet_init(LIBNET_LINK, e0): UID/EUID 0 or capability CAP_NET_RAW required",
            "NET_RAW",
        ),
        ("", "arping: interface lo is not ARPable", "is not ARPable"),
        ("", "arping: interface nope not found: No such device", "No such device"),
        ("ARPING 10.7.0.2 from 10.7.0.1 e0\n", "", "ARPING"),
        ("Sent 0 probes (0 broadcast(s))", "", "Sent 0"),
    ],
)
def test_an_arping_that_did_not_ask(stdout: str, stderr: str, reason: str) -> None:
    outcome = arp(stdout, stderr, 2)
    assert isinstance(outcome, str)
    assert reason in outcome
