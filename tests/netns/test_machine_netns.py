"""Sockets of this machine in a small network of namespaces: errors, loss, and the way ARP fails."""

import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Observation, Purpose, Vantage, VantageKind
from doctor.probe.machine import observe
from doctor.probe.route import interface_towards, is_local
from tests.netns.conftest import Network
from tests.netns.wires import Host, cable
from tests.unit.datagrams import answering, reply
from tests.unit.loopback import saying

pytestmark = pytest.mark.lab

SERVER, ROUTER, INNER = "192.0.2.2", "198.51.100.1", "203.0.113.2"
OWN = "198.51.100.2"


def see(
    host: Host, kind: FlowKind, port: int, address: str = SERVER, samples: int = 1
) -> Observation:
    """Carry out one flow from a host."""
    here = Vantage(VantageKind.MACHINE)
    name, url = "shop.example", "http://shop.example/"
    flow = Flow("f", Purpose.VIP, here, kind, address, port, name, "/", url, samples=samples)
    return host.do(lambda: observe(flow))


@pytest.mark.parametrize(
    ("port", "failure", "icmp"),
    [
        (79, Failure.CONNECTION_REFUSED, None),
        (81, Failure.HOST_PROHIBITED, Icmp(3, 10, INNER)),
        (82, Failure.HOST_PROHIBITED, Icmp(3, 13, INNER)),
        (84, Failure.CONNECTION_REFUSED, Icmp(3, 3, INNER)),
        (85, Failure.CONNECTION_REFUSED, None),
        (87, Failure.HOST_PROHIBITED, Icmp(3, 9, INNER)),
    ],
)
def test_which_error_ended_a_connection(
    network: Network, port: int, failure: Failure, icmp: Icmp | None
) -> None:
    for kind in (FlowKind.TCP, FlowKind.TLS, FlowKind.DNS_TCP, FlowKind.HTTP):
        seen = see(network.near, kind, port)
        assert (seen.failure, seen.icmp, seen.lost) == (failure, icmp, 0)


@pytest.mark.parametrize(
    ("port", "failure", "icmp"),
    [
        (79, Failure.PORT_UNREACHABLE, Icmp(3, 3, SERVER)),
        (81, Failure.HOST_PROHIBITED, Icmp(3, 10, INNER)),
        (83, Failure.TIMEOUT, None),
    ],
)
def test_which_error_came_for_a_datagram(
    network: Network, port: int, failure: Failure, icmp: Icmp | None
) -> None:
    seen = see(network.near, FlowKind.DNS_UDP, port)
    assert (seen.failure, seen.icmp, seen.lost) == (failure, icmp, int(icmp is None))


@pytest.mark.parametrize(("address", "teller"), [("198.51.100.77", OWN), ("192.0.2.77", INNER)])
@pytest.mark.parametrize("kind", [FlowKind.TCP, FlowKind.DNS_UDP])
def test_a_host_that_is_not_there_is_told_from_a_filter(
    network: Network, kind: FlowKind, address: str, teller: str
) -> None:
    seen = see(network.near, kind, 80, address)
    assert (seen.failure, seen.icmp) == (Failure.NO_ROUTE, Icmp(3, 1, teller))
    assert (seen.seconds > 2.5, seen.lost) == (True, 1)


def test_http_waits_for_arp_to_fail_too(network: Network) -> None:
    seen = see(network.near, FlowKind.HTTP, 80, "198.51.100.77")
    assert (seen.failure, seen.phases, seen.lost) == (Failure.NO_ROUTE, None, 1)
    assert seen.icmp == Icmp(3, 1, OWN)
    seen = see(network.near, FlowKind.HTTP, 83)
    assert (seen.failure, seen.phases, seen.lost) == (Failure.TIMEOUT, None, 1)
    assert seen.seconds > 3.5


def test_no_way_from_here(network: Network) -> None:
    for kind in (FlowKind.TCP, FlowKind.HTTP, FlowKind.DNS_UDP, FlowKind.DNS_TCP):
        seen = see(network.switch, kind, 80)
        assert (seen.failure, seen.lost) == (Failure.NETWORK_UNREACHABLE, 0)


def test_what_this_machines_own_filter_refuses(network: Network) -> None:
    with network.near.filtering("output", "meta l4proto { tcp, udp } th dport 88 drop"):
        datagram = see(network.near, FlowKind.DNS_UDP, 88)
        connection = see(network.near, FlowKind.TCP, 88)
    assert datagram.failure is Failure.PERMISSION_DENIED
    # A SYN that the output filter drops is lost like any other.
    assert connection.failure is Failure.TIMEOUT


def test_a_lost_syn_is_counted(network: Network) -> None:
    with network.server.do(lambda: socket.create_server((SERVER, 86))):
        seen = see(network.near, FlowKind.TCP, 86, samples=4)
    assert (seen.failure, seen.sent) == (None, 4)
    assert seen.lost == 2
    assert seen.degraded


def test_lost_datagrams_are_counted(network: Network) -> None:
    def server() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((SERVER, 86))
        return sock

    with answering(lambda q: (reply(q, "192.0.2.9"),), network.server.do(server)):
        seen = see(network.near, FlowKind.DNS_UDP, 86, samples=6)
    assert (seen.failure, seen.answers) == (None, ("192.0.2.9",))
    assert (seen.sent, seen.lost, seen.degraded) == (6, 3, True)


def test_a_request_whose_first_syn_was_lost(network: Network) -> None:
    answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            answer(connection)

    lost_first = "tcp dport 89 tcp flags syn numgen inc mod 100 == 0 drop"
    with (
        network.server.do(lambda: socket.create_server((SERVER, 89))) as listener,
        network.inner.filtering("forward", lost_first),
    ):
        listener.settimeout(10)
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        seen = see(network.near, FlowKind.HTTP, 89)
        server.join()
    assert (seen.failure, seen.status, seen.lost) == (None, 200, 1)
    assert seen.phases is not None
    assert seen.phases.connect > 0.9
    assert seen.phases.first_byte is not None
    assert seen.phases.first_byte < seen.phases.connect


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("198.51.100.7", "lan0"),
        ("198.51.100.77", "lan0"),  # nobody has to be there
        (ROUTER, "lan0"),
        (SERVER, ""),  # behind a gateway
        (OWN, ""),
        ("198.51.100.200", ""),
        ("198.51.100.255", ""),
        ("224.0.0.1", ""),
        ("127.0.0.1", ""),
        ("0.0.0.0", ""),  # noqa: S104 - not bound
        ("2001:db8::1", ""),
        ("shop.example", ""),
        ("", ""),
    ],
)
def test_the_interface_towards_an_address(network: Network, address: str, interface: str) -> None:
    assert network.near.do(lambda: interface_towards(address)) == interface


def test_an_interface_towards_no_segment(network: Network) -> None:
    switch = network.switch
    assert switch.do(lambda: interface_towards("198.51.100.7")) == ""
    cable(switch, "quiet0", switch, "quiet1")
    switch.ip("link", "set", "quiet1", "up")
    switch.address("quiet0", "198.18.1.1/24")
    assert switch.do(lambda: interface_towards("198.18.1.7")) == "quiet0"
    switch.ip("link", "set", "quiet0", "arp", "off")
    assert switch.do(lambda: interface_towards("198.18.1.7")) == ""
    switch.ip("link", "set", "quiet0", "arp", "on")
    switch.ip("route", "add", "unreachable", "198.18.1.8")
    assert switch.do(lambda: interface_towards("198.18.1.8")) == ""
    assert switch.do(lambda: interface_towards("198.18.1.9")) == "quiet0"


@pytest.mark.parametrize("anything_can_be_bound", ["0", "1"])
def test_which_addresses_are_this_machines_own(
    network: Network, anything_can_be_bound: str
) -> None:
    """Load balancers with a floating address set net.ipv4.ip_nonlocal_bind."""
    switch = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")
    network.near.do(lambda: switch.write_text(anything_can_be_bound))
    try:
        own = [network.near.do(partial(is_local, a)) for a in (OWN, "127.0.0.1", SERVER, ROUTER)]
        assert own == [True, True, False, False]
    finally:
        network.near.do(lambda: switch.write_text("0"))
