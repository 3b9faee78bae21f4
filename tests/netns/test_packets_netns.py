"""The packet child in a small network of namespaces: who answers, and with which code."""

import contextlib
import itertools
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import pytest

import doctor
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Observation, Purpose, Vantage, VantageKind
from doctor.probe import packet_child
from doctor.probe.packet_child import observe_packets
from tests.netns.conftest import Network
from tests.netns.wires import Host, cable, run
from tests.unit.datagrams import answering, reply

pytestmark = pytest.mark.lab

HERE = Vantage(VantageKind.MACHINE)
SERVER, ROUTER, INNER = "192.0.2.2", "198.51.100.1", "203.0.113.2"
CHILD = str(packet_child._CHILD)
EXPIRED = Icmp(11, 0, ROUTER), Icmp(11, 0, INNER)


def arp(address: str, interface: str = "lan0", samples: int = 3) -> Flow:
    """Ask who has an address."""
    flow_id = f"arp {address}"
    return Flow(
        flow_id, Purpose.VIP_ARP, HERE, FlowKind.ARP, address, name=interface, samples=samples
    )


def trace(address: str = SERVER, port: int = 80) -> Flow:
    """Trace the way to a port."""
    return Flow(f"trace {port}", Purpose.TRACE, HERE, FlowKind.TRACE, address, port)


def ping(size: int, address: str = SERVER, samples: int = 2) -> Flow:
    """Ping with a size."""
    flow_id = f"ping {size}"
    return Flow(
        flow_id, Purpose.MESH_SIZE, HERE, FlowKind.PING, address, size=size, samples=samples
    )


def query(port: int = 53, samples: int = 1) -> Flow:
    """Ask for a name."""
    flow_id = f"dns {port}"
    return Flow(
        flow_id, Purpose.NAME, HERE, FlowKind.DNS_UDP, SERVER, port, "shop.example", samples=samples
    )


def see(host: Host, *flows: Flow, seconds: float = 15) -> list[Observation]:
    """Carry out flows from a host; all are seen."""
    seen, unseen = host.do(lambda: observe_packets(flows, sudo=False, seconds=seconds))
    assert unseen == []
    assert [o.flow for o in seen] == list(flows)
    return seen


# ARP


def test_the_owners_of_an_address(network: Network) -> None:
    one, both, nobody = see(network.near, arp(ROUTER), arp("198.51.100.7"), arp("198.51.100.77"))
    assert (one.failure, one.sent, one.lost) == (None, 3, 0)
    assert one.answers == (network.router.hardware("lan0"),)
    assert (both.failure, both.sent, both.lost) == (None, 3, 0)
    assert both.answers == tuple(sorted(t.hardware("lan0") for t in network.twins))
    assert "3 times" in both.detail
    assert (nobody.failure, nobody.answers) == (Failure.ARP_UNANSWERED, ())
    assert (nobody.sent, nobody.lost) == (3, 3)


@contextlib.contextmanager
def shouting(host: Host, frame: bytes) -> Iterator[None]:
    """Send a frame again and again from a host."""
    wire = host.do(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    host.do(lambda: wire.bind(("lan0", 0)))
    done = threading.Event()

    def shout() -> None:
        while not done.wait(0.02):
            wire.send(frame)

    thread = threading.Thread(target=shout)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        wire.close()


def announcement(
    owner: str, address: str, to: str = "ff:ff:ff:ff:ff:ff", about: str = "", op: int = 2
) -> bytes:
    """Build an ARP frame that tells of an address, to all or to one."""
    mac, goal = (bytes.fromhex(text.replace(":", "")) for text in (owner, to))
    told, whom = (socket.inet_aton(text) for text in (address, about or address))
    return (
        goal + mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, op) + mac + told + goal + whom
    )


def test_what_is_shouted_is_no_answer(network: Network) -> None:
    shouter, near = network.twins[1], network.near
    mac, ours = shouter.hardware("lan0"), near.hardware("lan0")
    free = "198.51.100.88"
    for noise in (
        announcement(mac, free),  # a gratuitous reply
        announcement(mac, free, op=1),  # a gratuitous request
        announcement(
            mac, free, to=ours, about="198.51.100.99"
        ),  # told to us, about another's asking
        announcement(mac, "198.51.100.99", to=ours, about="198.51.100.2"),  # of another address
    ):
        with shouting(shouter, noise):
            (seen,) = see(near, arp(free, samples=1))
        assert (seen.failure, seen.answers) == (Failure.ARP_UNANSWERED, ())
    with shouting(shouter, announcement(mac, free, to=ours, about="198.51.100.2")):
        (seen,) = see(near, arp(free, samples=1))
    assert seen.answers == (mac,)  # that would have been one


def test_answers_that_are_lost_are_counted(network: Network) -> None:
    owner = network.twins[0]
    owner.nft(
        "table arp t {\nchain c {\ntype filter hook input priority 0\n"
        "arp operation request arp daddr ip 198.51.100.8 numgen inc mod 2 == 0 drop\n}\n}"
    )
    (seen,) = see(network.near, arp("198.51.100.8", samples=6))
    assert (seen.failure, seen.answers) == (None, (owner.hardware("lan0"),))
    assert (seen.sent, seen.lost, seen.degraded) == (6, 3, True)


def test_from_an_interface_without_an_address(network: Network) -> None:
    bare = network.switch  # its bridge has none
    seen, unseen = bare.do(lambda: observe_packets((arp(ROUTER, "br0"),), sudo=False, seconds=10))
    assert unseen == []
    assert seen[0].answers == (network.router.hardware("lan0"),)


def test_an_interface_that_is_not_there_or_no_ethernet(network: Network) -> None:
    cable(network.near, "down0", network.near, "down1")
    flows = (arp(ROUTER, "nope0"), arp(ROUTER, "lo"), arp(ROUTER), arp(ROUTER, "down0"))
    seen, unseen = network.near.do(lambda: observe_packets(flows, sudo=False, seconds=10))
    assert [o.flow for o in seen] == [flows[2]]
    assert [r for _, r in unseen] == ["No such device", "lo is no Ethernet", "Network is down"]


# The path of a SYN


def test_a_way_that_is_open(network: Network) -> None:
    before = network.inner.nft("list counters")
    with network.server.do(lambda: socket.create_server((SERVER, 80))) as listener:
        (seen,) = see(network.near, trace())
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()  # the kernel's RST took it back
    assert (seen.failure, seen.icmp, seen.lost) == (None, None, 0)
    assert [(h.ttl, h.answer, h.source, h.icmp) for h in seen.trace] == [
        (1, "icmp", ROUTER, EXPIRED[0]),
        (2, "icmp", INNER, EXPIRED[1]),
        (3, "syn-ack", SERVER, None),
    ]
    assert before != network.inner.nft("list counters")


@pytest.mark.parametrize(
    ("port", "failure", "last"),
    [
        (79, Failure.CONNECTION_REFUSED, None),
        (81, Failure.HOST_PROHIBITED, Icmp(3, 10, INNER)),
        (82, Failure.HOST_PROHIBITED, Icmp(3, 13, INNER)),
        (84, Failure.PORT_UNREACHABLE, Icmp(3, 3, INNER)),
        (85, Failure.CONNECTION_REFUSED, None),
        (87, Failure.HOST_PROHIBITED, Icmp(3, 9, INNER)),
    ],
)
def test_who_refuses(network: Network, port: int, failure: Failure, last: Icmp | None) -> None:
    (seen,) = see(network.near, trace(port=port))
    assert (seen.failure, seen.icmp) == (failure, last)
    assert [h.icmp for h in seen.trace] == [*EXPIRED, last]
    assert seen.trace[-1].answer == ("icmp" if last else "rst")
    assert seen.trace[-1].source == (INNER if last else SERVER)


def test_silence_begins_behind_the_last_who_answered(network: Network) -> None:
    (seen,) = see(network.near, trace(port=83))
    assert (seen.failure, seen.lost) == (Failure.TIMEOUT, 1)
    assert [(h.ttl, h.answer, h.source) for h in seen.trace] == [
        (1, "icmp", ROUTER),
        (2, "icmp", INNER),
        (3, "", ""),
    ]


def test_a_hop_that_is_silent_is_a_gap(network: Network) -> None:
    with network.router.filtering("output", "icmp type time-exceeded drop"):
        (seen,) = see(network.near, trace(port=79))
    assert [(h.ttl, h.answer, h.source) for h in seen.trace] == [
        (1, "", ""),
        (2, "icmp", INNER),
        (3, "rst", SERVER),
    ]


def test_the_first_who_refuses_is_the_end(network: Network) -> None:
    refuse = "tcp dport 90 reject with icmp type admin-prohibited"
    chain = f"chain d {{\ntype filter hook forward priority 10\n{refuse}\n}}"
    with network.router.filtering("output", "icmp type time-exceeded drop", more=chain):
        (seen,) = see(network.near, trace(port=90))
    assert seen.failure is Failure.HOST_PROHIBITED
    assert [(h.ttl, h.source, h.icmp) for h in seen.trace] == [
        (1, "", None),
        (2, ROUTER, Icmp(3, 13, ROUTER)),
    ]


@pytest.mark.parametrize(
    ("address", "hops", "last"),
    [
        ("198.51.100.77", 1, Icmp(3, 1, "198.51.100.2")),  # on-link: this machine itself says so
        ("192.0.2.77", 3, Icmp(3, 1, INNER)),  # its last router does
        ("198.18.0.1", 1, Icmp(3, 0, ROUTER)),  # a router knows no way
    ],
)
def test_nobody_is_there(network: Network, address: str, hops: int, last: Icmp) -> None:
    (seen,) = see(network.near, trace(address))
    failure = Failure.NO_ROUTE if last.code else Failure.NETWORK_UNREACHABLE
    assert (seen.failure, seen.icmp, len(seen.trace)) == (failure, last, hops)
    assert seen.seconds > 2.5 or last.code != 1  # it takes ARP three seconds to give up


def test_a_way_that_goes_in_a_circle(network: Network) -> None:
    network.inner.ip("route", "add", "198.18.5.0/24", "via", "203.0.113.1")
    network.router.ip("route", "add", "198.18.5.0/24", "via", INNER)
    (seen,) = see(network.near, trace("198.18.5.1"))
    assert seen.failure is Failure.TIMEOUT
    assert len(seen.trace) == 30
    assert {h.icmp for h in seen.trace} == set(EXPIRED)


def test_no_way_from_here_and_none_that_its_filter_lets_pass(network: Network) -> None:
    (seen,) = see(network.switch, trace())
    assert (seen.failure, seen.trace) == (Failure.NETWORK_UNREACHABLE, ())
    with network.near.filtering("output", "tcp dport 88 drop"):
        refused, other = see(network.near, trace(port=88), trace(port=79))
    assert refused.failure is Failure.PERMISSION_DENIED
    assert other.failure is Failure.CONNECTION_REFUSED


def test_the_filter_of_this_machine_hides_no_answer(network: Network) -> None:
    with network.near.filtering("input", "drop"):
        (seen,) = see(network.near, trace(port=79))
    assert (seen.failure, len(seen.trace)) == (Failure.CONNECTION_REFUSED, 3)


def test_one_source_port_for_a_whole_trace(network: Network) -> None:
    ports = "set ports {\ntype inet_service\nflags dynamic\n}"
    spy = "tcp dport 83 add @ports { tcp sport }"
    with network.near.filtering("output", spy, more=ports):
        see(network.near, trace(port=83))
        found = network.near.nft("list set ip more ports").partition("elements")[2]
    assert len(re.findall(r"\d+", found)) == 1


@pytest.fixture
def few_errors(network: Network) -> Iterator[None]:
    """Have the routers send as few errors as Linux's do by default."""
    routers = network.router, network.inner
    for router in routers:
        router.set("net.ipv4.icmp_ratelimit", 1000)
    yield
    for router in routers:
        router.set("net.ipv4.icmp_ratelimit", 0)


@pytest.mark.usefixtures("few_errors")
def test_many_at_once_past_routers_that_send_few_errors(network: Network) -> None:
    flows = [trace(port=p) for p in (81, 82, 84, 87, 83, 79)]
    flows += [trace("192.0.2.77"), arp(ROUTER), arp("198.51.100.77"), ping(1400), ping(0), query()]
    seen = see(network.near, *flows, seconds=60)
    assert [len(o.trace) for o in seen[:4]] == [3] * 4  # no gap where an error was kept back
    assert [o.failure for o in seen] == [
        Failure.HOST_PROHIBITED,
        Failure.HOST_PROHIBITED,
        Failure.PORT_UNREACHABLE,
        Failure.HOST_PROHIBITED,
        Failure.TIMEOUT,
        Failure.CONNECTION_REFUSED,
        Failure.NO_ROUTE,
        None,
        Failure.ARP_UNANSWERED,
        Failure.TOO_BIG,
        None,
        Failure.PORT_UNREACHABLE,
    ]


@pytest.mark.usefixtures("few_errors")
def test_errors_kept_back_for_another_program(network: Network) -> None:
    def spend() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for _ in range(12):
                other.sendto(b"", (SERVER, 81))

    network.near.do(spend)
    (seen,) = see(network.near, trace(port=84))
    assert (seen.failure, len(seen.trace)) == (Failure.PORT_UNREACHABLE, 3)
    assert [h.answer for h in seen.trace] == ["icmp"] * 3


def test_a_router_that_keeps_back_where_the_path_ends_is_asked_again(network: Network) -> None:
    """What is sent one further is answered; the answer to the third is kept back two times."""
    # a SYN's identification is its time-to-live; the error that cites it takes 68 to 72 bytes
    cites = "icmp type destination-unreachable @th,96,16 3"
    with network.inner.filtering("output", f"{cites} quota until 150 bytes drop"):
        (seen,) = see(network.near, trace(port=84), seconds=40)
    assert (seen.failure, len(seen.trace)) == (Failure.PORT_UNREACHABLE, 3)


# Sizes


def test_sizes_that_pass_and_those_that_do_not(network: Network) -> None:
    sizes = (1300, 1301, 9000, 0, 1500)
    seen = dict(zip(sizes, see(network.near, *map(ping, sizes)), strict=True))
    for size in (0, 1300):
        assert (seen[size].failure, seen[size].sent, seen[size].lost) == (None, 2, 0)
        assert seen[size].seconds > 0
    for size in (1301, 1500):
        assert (seen[size].failure, seen[size].icmp) == (Failure.TOO_BIG, Icmp(3, 4, ROUTER))
        assert seen[size].detail == "the next hop takes 1300 bytes"
        assert (seen[size].sent, seen[size].lost) == (2, 2)
    assert (seen[9000].failure, seen[9000].icmp) == (Failure.TOO_BIG, None)


def learn(host: Host) -> None:
    """Have a host learn how much the way to the server takes, as a connection would."""

    def teach() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
            sock.connect((SERVER, 9))
            with contextlib.suppress(OSError):
                sock.send(bytes(1400))

    host.do(teach)
    hang_guard = time.monotonic() + 10
    while "mtu 1300" not in host.ip("route", "get", SERVER):
        assert time.monotonic() < hang_guard


def test_what_was_learned_before_hides_no_router(network: Network) -> None:
    learn(network.near)
    try:
        (seen,) = see(network.near, ping(1450))
    finally:
        network.near.ip("route", "flush", "cache")
    assert (seen.failure, seen.icmp) == (Failure.TOO_BIG, Icmp(3, 4, ROUTER))


def test_a_hole_for_large_packets(network: Network) -> None:
    with network.router.filtering("output", "icmp type destination-unreachable drop"):
        small, large = see(network.near, ping(1300), ping(1301))
    assert small.failure is None
    assert (large.failure, large.icmp, large.lost) == (Failure.TIMEOUT, None, 2)


def test_pings_that_are_lost_are_counted(network: Network) -> None:
    some, none = see(network.near, ping(0, "192.0.2.4", samples=6), ping(0, "192.0.2.3", samples=3))
    assert (some.failure, some.sent, some.lost, some.degraded) == (None, 6, 3, True)
    assert (none.failure, none.sent, none.lost) == (Failure.TIMEOUT, 3, 3)


# DNS


def listening(host: Host, address: str, port: int) -> socket.socket:
    """Make a socket for datagrams on a host."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        return sock

    return host.do(make)


def test_answers_to_a_query(network: Network) -> None:
    with answering(lambda q: (reply(q, "192.0.2.9"),), listening(network.server, SERVER, 53)):
        (seen,) = see(network.near, query(samples=3))
    assert (seen.failure, seen.answers) == (None, ("192.0.2.9",))
    assert (seen.sent, seen.lost, seen.detail) == (3, 0, "")
    nobody = listening(network.server, SERVER, 53)
    with answering(lambda q: (reply(q, rcode=dns.rcode.NXDOMAIN),), nobody):
        (seen,) = see(network.near, query())
    assert seen.failure is Failure.DNS_NXDOMAIN


def test_another_answers_in_its_stead(network: Network) -> None:
    def early(asked: bytes) -> Iterator[bytes]:
        yield reply(asked, "192.0.2.66")

    def late(asked: bytes) -> Iterator[tuple[bytes, socket.socket]]:
        yield reply(asked, "192.0.2.66"), other
        time.sleep(0.3)
        yield reply(asked, "192.0.2.9"), own

    with listening(network.server, "192.0.2.3", 53) as other:
        with answering(early, listening(network.server, SERVER, 53), other):
            (seen,) = see(network.near, query())
        own = listening(network.server, SERVER, 53)
        with answering(late, own):
            (both,) = see(network.near, query())
    assert (seen.failure, seen.answers, seen.lost) == (Failure.TIMEOUT, (), 1)
    assert (both.failure, both.answers, both.lost) == (None, ("192.0.2.9",), 0)
    for observed in (seen, both):
        assert observed.detail == "192.0.2.3:53 answered in its stead"


def test_a_mangled_answer_is_passed_over(network: Network) -> None:
    def answers(asked: bytes) -> list[bytes]:
        good, response = reply(asked, "192.0.2.9"), asked[:2] + b"\x85\x80"
        counts = b"\0\x01\xff\xff\xff\xff\xff\xff"
        mangled = [
            b"",
            asked[:1],
            response,
            response + counts,
            response + counts + b"\xc0\x0c" * 40,  # a name that points at itself
            response + counts + b"\x3f" * 40,
            *(good[:length] for length in range(12, len(good), 5)),
        ]
        return [*mangled, good]

    with answering(answers, listening(network.server, SERVER, 53)):
        (seen,) = see(network.near, query(samples=20))
    assert (seen.failure, seen.answers) == (None, ("192.0.2.9",))
    assert (seen.sent, seen.lost) == (20, 0)

    lengths = itertools.count(1)

    def cut(asked: bytes) -> list[bytes]:
        return [reply(asked, "192.0.2.9")[: -next(lengths)]]

    with answering(cut, listening(network.server, SERVER, 53)):
        (seen,) = see(network.near, query(samples=16))  # as long as the record with the address
    assert (seen.failure, seen.lost) == (Failure.TIMEOUT, 16)


def test_errors_to_a_query(network: Network) -> None:
    closed, rejected, dropped = see(network.near, query(), query(81), query(83))
    assert (closed.failure, closed.icmp) == (Failure.PORT_UNREACHABLE, Icmp(3, 3, SERVER))
    assert (rejected.failure, rejected.icmp) == (Failure.HOST_PROHIBITED, Icmp(3, 10, INNER))
    assert (dropped.failure, dropped.icmp) == (Failure.TIMEOUT, None)


# Time and rights


def test_what_was_cut_short_is_not_seen(network: Network) -> None:
    flows = (trace(port=83), trace(port=79))
    seen, unseen = network.near.do(lambda: observe_packets(flows, sudo=False, seconds=5))
    assert [o.flow for o in seen] == [flows[1]]
    assert unseen == [(flows[0], "there was no time left for it")]


def _capabilities(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        k: int(v, 16)
        for k, v in re.findall(r"^(Cap\w+|NoNewPrivs):\s*(\S+)$", status, re.MULTILINE)
    }


def test_the_child_keeps_one_capability(network: Network) -> None:
    request = {"kind": "trace", "address": SERVER, "port": 83, "hops": 3}
    document = json.dumps({"seconds": 20, "requests": [request]}).encode()
    child = network.near.do(
        lambda: subprocess.Popen(
            [sys.executable, "-I", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    )
    with child:
        assert child.stdin is not None
        child.stdin.write(document)
        child.stdin.close()
        hang_guard = time.monotonic() + 10
        held: dict[str, int] = {}
        while held.get("CapEff") != 1 << 13 and time.monotonic() < hang_guard:
            held = _capabilities(child.pid)
        child.kill()
    only = 1 << 13
    wanted = {"CapEff": only, "CapPrm": only, "CapBnd": only, "CapInh": 0, "CapAmb": 0}
    assert held == wanted | {"NoNewPrivs": 1}


NOBODY = "65534"
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from doctor.model.flow import *
from doctor.probe.packet_child import observe_packets
def flow(kind, address, port, name=""):
    return Flow("t", Purpose.TRACE, Vantage(VantageKind.MACHINE), kind, address, port, name)
flows = (
    flow(FlowKind.TRACE, "192.0.2.2", 79),
    flow(FlowKind.ARP, "198.51.100.1", 0, "lan0"),
    flow(FlowKind.PING, "192.0.2.2", 0),
    flow(FlowKind.DNS_UDP, "192.0.2.2", 79, "shop.example"),
)
seen, unseen = observe_packets(flows, sudo=False, seconds=10)
print(*(o.failure for o in seen), *dict.fromkeys(reason for _, reason in unseen))
"""


def as_nobody(host: Host, command: str) -> str:
    """Run a shell command of root's on a host."""
    return run("ip", "netns", "exec", host.name, "sh", "-c", command).strip()


def test_the_command_that_grants_the_capability_does(network: Network, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(doctor.__file__).parents[1]
    ours = f"{sys.executable} {script} {root}"
    # Reading what only root may read comes along: the tests may stand in root's own home.
    bare = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
    reading = "--inh-caps +dac_read_search --ambient-caps +dac_read_search "
    said = as_nobody(network.near, bare + reading + ours)
    assert said == packet_child._HOW_TO_GRANT

    found = re.search(r"`sudo (setpriv .*)wwwm-doctor …`", said)
    assert found is not None
    granting = found[1].replace("+net_raw", "+net_raw,+dac_read_search")
    granting = granting.replace("$(id -u)", NOBODY).replace("$(id -g)", NOBODY)
    assert (
        as_nobody(network.near, granting + ours) == "connection_refused None None port_unreachable"
    )
