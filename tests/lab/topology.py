"""The network around the cluster: switches, router, and who is plugged in where.

    internet 203.0.113.0/24 (resolver, databases)
       |  ext0
    router (NAT towards the internet)
       |  qr0                        |  qg0
    tenant switch br-tenant       provider switch br-prov
       |  tap-0, tap-1, …            |  prv-p        |  prv-d
    nodes                         proxy host    an operator's desk

Both switches live in the namespace `fabric`. Nothing leads out: the router has no default route,
and every cable ends in a namespace of the lab.
"""

from collections.abc import Iterable
from typing import Final

from tests.lab.places import NETNS, NETNS_FILES, Places
from tests.lab.shape import (
    DATABASES,
    INTERNET,
    INTERNET_GATEWAY,
    RESOLVER,
    Shape,
    with_length,
)
from tests.lab.shell import run

TENANT: Final = "br-tenant"
PROVIDER: Final = "br-prov"
FABRIC: Final = "fabric"
ROUTER: Final = "router"
PROXY: Final = "proxy"
DESK: Final = "desk"
OUTSIDE: Final = "internet"
MACHINES: Final = (FABRIC, ROUTER, PROXY, DESK, OUTSIDE)


def tap(index: int) -> str:
    """The port of a node on the tenant switch."""
    return f"tap-{index}"


class Topology:
    """Makes and unmakes the network of one lab."""

    def __init__(self, shape: Shape, places: Places) -> None:
        """Remember what to make, and under which names."""
        self._shape = shape
        self._places = places

    def make(self) -> None:
        """Make everything but the nodes' own cables."""
        for name in MACHINES:
            self._namespace(name)
        self._switches()
        self._router()
        self._visitor(PROXY, "prv-p", self._shape.proxy_address)
        self._visitor(DESK, "prv-d", self._shape.desk_address)
        self._outside()
        for name in (PROXY, DESK, OUTSIDE):
            self._file(name, "resolv.conf", f"nameserver {RESOLVER}\n")
        # sshd lets nobody in whose account is locked, as root's may be on the machine itself
        self._file(PROXY, "shadow", "root:*:20000:0:99999:7:::\n", mode=0o600)

    def plug_node(self, index: int) -> None:
        """Give a node a network namespace with a cable to the tenant switch."""
        name = self._shape.nodes[index].name
        self._namespace(name)
        self._cable(name, "eth0", TENANT, tap(index))
        self._ip(
            name,
            f"addr add {with_length(self._shape.address(index), self._shape.node_network)} dev eth0",
            f"route add default via {self._shape.gateway}",
        )

    def unplug_node(self, index: int) -> None:
        """Take a node's network away, with all that it had configured in there."""
        # by hand, for the kernel unmakes a namespace's links some time after the namespace
        port = (self._places.netns(FABRIC), "link", "del", tap(index))
        run("ip", "-n", *port, check=False)
        run("ip", "netns", "del", self._places.netns(self._shape.nodes[index].name), check=False)

    def _namespace(self, name: str) -> None:
        if not (NETNS / self._places.netns(name)).exists():
            run("ip", "netns", "add", self._places.netns(name))
        self._ip(name, "link set lo up")

    def _ip(self, name: str, *lines: str) -> None:
        run("ip", "-n", self._places.netns(name), "-batch", "-", input="\n".join(lines) + "\n")

    def _sysctl(self, name: str, settings: Iterable[str]) -> None:
        run("ip", "netns", "exec", self._places.netns(name), "sysctl", "-qw", *settings)

    def _veth(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        (name, device), (peer_name, peer) = one, other
        link = (device, "netns", self._places.netns(name))
        peer_link = (peer, "netns", self._places.netns(peer_name))
        run("ip", "link", "add", *link, "type", "veth", "peer", "name", *peer_link)

    def _cable(self, name: str, device: str, bridge: str, port: str) -> None:
        self._veth((FABRIC, port), (name, device))
        self._ip(FABRIC, f"link set {port} master {bridge}", f"link set {port} up")
        self._ip(name, f"link set {device} up")

    def _switches(self) -> None:
        for bridge in (TENANT, PROVIDER):
            self._ip(FABRIC, f"link add {bridge} type bridge", f"link set {bridge} up")
        # a switch does not pass its frames through the IP filters of its own machine
        families = ("iptables", "ip6tables", "arptables")
        self._sysctl(FABRIC, [f"net.bridge.bridge-nf-call-{family}=0" for family in families])

    def _router(self) -> None:
        shape = self._shape
        self._cable(ROUTER, "qr0", TENANT, "tap-r")
        self._cable(ROUTER, "qg0", PROVIDER, "prv-r")
        self._veth((ROUTER, "ext0"), (OUTSIDE, "eth0"))
        self._ip(
            ROUTER,
            f"addr add {with_length(shape.gateway, shape.node_network)} dev qr0",
            f"addr add {with_length(shape.provider_gateway, shape.provider_network)} dev qg0",
            f"addr add {with_length(INTERNET_GATEWAY, INTERNET)} dev ext0",
            "link set ext0 up",
        )
        self._sysctl(ROUTER, ["net.ipv4.ip_forward=1"])
        namespace = self._places.netns(ROUTER)
        nat = ("-t", "nat", "-A", "POSTROUTING", "-o", "ext0", "-j", "MASQUERADE")
        run("ip", "netns", "exec", namespace, "iptables", "-w", *nat)

    def _visitor(self, name: str, port: str, address: str) -> None:
        """Plug a machine into the provider network."""
        shape = self._shape
        self._cable(name, "eth0", PROVIDER, port)
        self._ip(
            name,
            f"addr add {with_length(address, shape.provider_network)} dev eth0",
            f"route add default via {shape.provider_gateway}",
        )

    def _file(self, name: str, file: str, text: str, *, mode: int = 0o644) -> None:
        """Give a machine its own version of a file in /etc."""
        path = NETNS_FILES / self._places.netns(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=mode)
        path.write_text(text)

    def _outside(self) -> None:
        self._ip(
            OUTSIDE,
            "link set eth0 up",
            f"addr add {with_length(RESOLVER, INTERNET)} dev eth0",
            f"addr add {with_length(DATABASES, INTERNET)} dev eth0",
            f"route add default via {INTERNET_GATEWAY}",
        )
