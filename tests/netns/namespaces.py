"""Network namespaces of a test's own: a client, a router, a server behind it, and two claimants.

```
client 10.9.0.1 --- 10.9.0.254 router 10.8.0.254 --- 10.8.0.2 server
       10.7.0.1 --- bridge --- 10.7.0.2 (twice)
```
Nothing in them has a way to the machine's own interfaces.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from tests.lab.shell import poll, run

SERVER: Final = "10.8.0.2"
ROUTER: Final = "10.9.0.254"
NOBODY: Final = "10.9.0.77"
TWICE: Final = "10.7.0.2"
FREE: Final = "10.7.0.9"

# The router answers for these, each in its own way.
PROHIBITED: Final = "10.8.0.10"
FILTERED: Final = "10.8.0.11"
DROPPED: Final = "10.8.0.12"
NET_UNREACHABLE: Final = "10.8.0.13"
PORT_UNREACHABLE: Final = "10.8.0.14"

_RULES = f"""
table ip test {{
 chain forward {{
  type filter hook forward priority 0;
  ip daddr {PROHIBITED} reject with icmp type host-prohibited
  ip daddr {FILTERED} reject with icmp type admin-prohibited
  ip daddr {DROPPED} drop
  ip daddr {NET_UNREACHABLE} reject with icmp type net-unreachable
  ip daddr {PORT_UNREACHABLE} reject with icmp type port-unreachable
 }}
}}
"""
_ACCEPT = f"""
import socket
listener = socket.create_server(("{SERVER}", 80))
while True:
    listener.accept()[0].close()
"""


class World(msgspec.Struct, frozen=True):
    """The namespaces, by what they are."""

    prefix: str

    def __getitem__(self, name: str) -> str:
        """The namespace's own name."""
        return f"{self.prefix}-{name}"

    def ip(self, name: str, *words: str) -> None:
        """Run ``ip`` for a namespace."""
        run("ip", "-n", self[name], *words)

    def inside(self, name: str, *words: str, input: str = "") -> str:
        """Run a program in a namespace."""
        return run("ip", "netns", "exec", self[name], *words, input=input).stdout

    def join(self, one: str, other: str, devices: tuple[str, str]) -> None:
        """Lay a cable between two namespaces."""
        self.ip(
            one, "link", "add", devices[0], "type", "veth",
            "peer", "name", devices[1], "netns", self[other],
        )  # fmt: skip
        self.ip(one, "link", "set", devices[0], "up")
        self.ip(other, "link", "set", devices[1], "up")


_NAMES = ("client", "router", "server", "bridge", "first", "second")


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Make the namespaces and remove them."""
    made = World(f"wdt{os.getpid()}")
    try:
        for name in _NAMES:
            run("ip", "netns", "add", made[name])
            made.ip(name, "link", "set", "lo", "up")
        _routed(made)
        _claimed(made)
        with _serving(made):
            yield made
    finally:
        for name in _NAMES:
            run("ip", "netns", "del", made[name], check=False)


def _routed(made: World) -> None:
    """Join client, router and server."""
    made.join("client", "router", ("e0", "e0"))
    made.join("router", "server", ("e1", "e0"))
    made.ip("client", "addr", "add", "10.9.0.1/24", "dev", "e0")
    made.ip("router", "addr", "add", f"{ROUTER}/24", "dev", "e0")
    made.ip("router", "addr", "add", "10.8.0.254/24", "dev", "e1")
    made.ip("server", "addr", "add", f"{SERVER}/24", "dev", "e0")
    made.ip("client", "route", "add", "default", "via", ROUTER)
    made.ip("server", "route", "add", "default", "via", "10.8.0.254")
    # ICMP errors are rationed, and these tests want each.
    settings = ("net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
    made.inside("router", "sysctl", "-qw", *settings)
    made.inside("router", "nft", "-f", "-", input=_RULES)


def _claimed(made: World) -> None:
    """Join the client to a segment on which two own one address."""
    made.ip("bridge", "link", "add", "br0", "type", "bridge")
    made.ip("bridge", "link", "set", "br0", "up")
    for name, device in (("client", "e1"), ("first", "e0"), ("second", "e0")):
        made.join("bridge", name, (f"to-{name}", device))
        made.ip("bridge", "link", "set", f"to-{name}", "master", "br0")
    made.ip("client", "addr", "add", "10.7.0.1/24", "dev", "e1")
    for name in ("first", "second"):
        made.ip(name, "addr", "add", f"{TWICE}/24", "dev", "e0")


@contextlib.contextmanager
def _serving(made: World) -> Iterator[None]:
    """Accept connections on the server's port 80, and nothing else."""
    command = ("ip", "netns", "exec", made["server"], sys.executable, "-c", _ACCEPT)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
        try:
            poll(
                lambda: ":80 " in made.inside("server", "ss", "-Hltn"),
                seconds=20,
                what="the server to listen",
            )
            yield
        finally:
            server.terminate()
            server.wait(timeout=10)


def hardware_addresses(made: World) -> tuple[str, ...]:
    """The two that own one address."""
    return tuple(
        sorted(
            made.inside(name, "cat", "/sys/class/net/e0/address").strip()
            for name in ("first", "second")
        )
    )
