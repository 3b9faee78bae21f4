"""A small network, for the length of a test module.

::

    near ------+                                   (mtu 1300)
    twin ------+-- switch --- router --- 203.0.113.0/24 --- inner --- 192.0.2.0/24 --- server
    other twin +         198.51.100.0/24
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.netns.wires import Host, cable

FILTER = """
table ip filter {
  counter resets { }
  chain forward {
    type filter hook forward priority 0
    tcp dport 81 reject with icmp type host-prohibited
    tcp dport 82 reject with icmp type admin-prohibited
    tcp dport 83 drop
    tcp dport 84 reject
    tcp dport 85 reject with tcp reset
    tcp dport 86 tcp flags syn numgen inc mod 2 == 0 drop
    tcp dport 87 reject with icmp type net-prohibited
    udp dport 81 reject with icmp type host-prohibited
    udp dport 83 drop
    udp dport 86 numgen inc mod 2 == 0 drop
    tcp flags & (syn | rst) == rst tcp dport 80 counter name resets
    ip daddr 192.0.2.3 icmp type echo-request drop
    ip daddr 192.0.2.4 icmp type echo-request numgen inc mod 2 == 0 drop
  }
}
"""


@dataclass(frozen=True)
class Network:
    """The hosts."""

    near: Host
    switch: Host
    twins: tuple[Host, Host]
    router: Host
    inner: Host
    server: Host


def _wire(made: list[Host]) -> Network:
    def host(name: str) -> Host:
        made.append(Host(name))
        return made[-1]

    switch = host("switch")
    switch.ip("link", "add", "br0", "type", "bridge")
    switch.ip("link", "set", "br0", "up")
    near, twin, other, router = (host(n) for n in ("near", "twin", "other", "router"))
    for number, (there, addresses) in enumerate(
        (
            (near, ("198.51.100.2/24", "198.51.100.200/32")),
            (twin, ("198.51.100.7/24", "198.51.100.8/24")),
            (other, ("198.51.100.7/24", "198.51.100.9/24")),
            (router, ("198.51.100.1/24",)),
        )
    ):
        cable(switch, f"port{number}", there, "lan0")
        switch.ip("link", "set", f"port{number}", "master", "br0", "up")
        there.address("lan0", *addresses)
    inner, server = host("inner"), host("server")
    cable(router, "wan0", inner, "wan0", mtu=1300)
    router.address("wan0", "203.0.113.1/24")
    inner.address("wan0", "203.0.113.2/24")
    cable(inner, "lan0", server, "lan0")
    inner.address("lan0", "192.0.2.1/24")
    server.address("lan0", "192.0.2.2/24", "192.0.2.3/24", "192.0.2.4/24")
    near.ip("route", "add", "default", "via", "198.51.100.1")
    router.ip("route", "add", "192.0.2.0/24", "via", "203.0.113.2")
    inner.ip("route", "add", "198.51.100.0/24", "via", "203.0.113.1")
    server.ip("route", "add", "default", "via", "192.0.2.1")
    for forwarder in (router, inner):
        forwarder.set("net.ipv4.ip_forward", 1)
        # Tests follow each other faster than routers send errors to one address.
        forwarder.set("net.ipv4.icmp_ratelimit", 0)
    inner.nft(FILTER)
    return Network(near, switch, (twin, other), router, inner, server)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Make the network, and take it away whatever happens."""
    made: list[Host] = []
    try:
        yield _wire(made)
    finally:
        for host in reversed(made):
            host.remove()
