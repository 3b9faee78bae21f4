"""Facts about one node's network, parsed from what was read inside it."""

import msgspec

from doctor.model.netfilter import Chain, Origin, RuleTable, ServiceEntry
from doctor.model.node_state import Cni, Conntrack, ProxyHealth, Socket, Sysctl, TrackedQueries

__all__ = [
    "FdbEntry",
    "FilterRule",
    "Link",
    "Neighbour",
    "NodeNetwork",
    "PolicyRule",
    "Route",
    "SubnetEnv",
    "Traffic",
    "Unread",
]


class SubnetEnv(msgspec.Struct, frozen=True):
    """What flanneld wrote to /run/flannel/subnet.env."""

    network: str = ""
    subnet: str = ""
    mtu: int = 0
    ipmasq: bool = False


class Traffic(msgspec.Struct, frozen=True):
    """What a link has counted in one direction since it was made."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0
    dropped: int = 0


class Link(msgspec.Struct, frozen=True):
    """A network interface.

    Args:
        name: Interface name.
        up: Whether it is administratively up.
        mtu: In bytes.
        mac: Hardware address.
        addresses: IPv4 addresses with prefix length, ``192.0.2.1/24``.
        vxlan_id: VNI of a VXLAN device, else 0.
        vxlan_port: UDP port of a VXLAN device, else 0.
        vxlan_local: The address that a VXLAN device sends from; empty where it is not set.
        vxlan_device: The link that a VXLAN device sends through; empty where it is not set.
        vxlan_learning: Whether a VXLAN device learns where addresses are; flannel's does not.
        index: The kernel's number of it.
        kind: ``veth``, ``bridge``, ``vxlan``, …; empty for hardware.
        state: ``UP``, ``DOWN``, ``UNKNOWN``, … as the driver says; VXLAN devices say UNKNOWN.
        carrier: Whether the layer below is up (LOWER_UP).
        master: The bridge or bond that it is a port of.
        peer_index: Of a veth, the number of its other end, in that end's namespace; else 0.
        hairpin: Of a bridge's port, whether it may send back where a frame came from.
        received: What came in; None where it was not counted.
        sent: What went out; None where it was not counted.
    """

    name: str
    up: bool = True
    mtu: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()
    vxlan_id: int = 0
    vxlan_port: int = 0
    vxlan_local: str = ""
    vxlan_device: str = ""
    vxlan_learning: bool | None = None
    index: int = 0
    kind: str = ""
    state: str = ""
    carrier: bool | None = None
    master: str = ""
    peer_index: int = 0
    hairpin: bool | None = None
    received: Traffic | None = None
    sent: Traffic | None = None


class Route(msgspec.Struct, frozen=True):
    """An IPv4 route; one with several next hops is given once for each.

    Args:
        destination: A prefix, an address or ``default``.
        device: Where it leads out; empty for one that leads nowhere.
        gateway: The next hop; empty where the destination is on the link.
        kind: ``unicast``, ``blackhole``, ``unreachable``, ``prohibit`` or ``throw``.
        table: ``main``, ``default``, or a number or name.
        metric: The lowest wins among equals.
        mtu: In bytes; 0 where the link's holds.
        source: The address that is preferred for what is sent along it.
        onlink: Whether the gateway is taken to be on the link whatever its address.
        dead: Whether the kernel passes over it, because its link is down.
    """

    destination: str
    device: str = ""
    gateway: str = ""
    kind: str = "unicast"
    table: str = "main"
    metric: int = 0
    mtu: int = 0
    source: str = ""
    onlink: bool = False
    dead: bool = False


class PolicyRule(msgspec.Struct, frozen=True):
    """A rule that says which table of routes is looked at.

    Args:
        priority: The lowest is tried first.
        table: The table; empty for a rule that ends the search.
        action: ``lookup``, or what it ends the search with: ``blackhole``, ``unreachable``, …
        source: A prefix, or ``all``.
        destination: A prefix, or ``all``.
        mark: ``value`` or ``value/mask`` in hexadecimal; empty for any.
        input: The device that packets came in by; empty for any.
        output: The device that a socket is bound to; empty for any.
        inverted: Whether it holds for what does not match.
    """

    priority: int
    table: str = ""
    action: str = "lookup"
    source: str = "all"
    destination: str = "all"
    mark: str = ""
    input: str = ""
    output: str = ""
    inverted: bool = False


class Neighbour(msgspec.Struct, frozen=True):
    """An entry of the ARP table; ``state`` is PERMANENT, REACHABLE, STALE, FAILED, … of the kernel."""

    address: str
    device: str
    mac: str = ""
    state: str = ""


class FdbEntry(msgspec.Struct, frozen=True):
    """An entry of a bridge's or VXLAN device's forwarding table.

    Args:
        mac: Hardware address.
        device: The VXLAN device, or the bridge's port.
        remote: For a VXLAN device, the address of the node that frames to ``mac`` are sent to.
        bridge: The bridge that ``device`` is a port of; empty for a VXLAN device's own entries.
        state: ``permanent``, ``static``, or empty for a learned one.
    """

    mac: str
    device: str
    remote: str = ""
    bridge: str = ""
    state: str = ""


class FilterRule(msgspec.Struct, frozen=True):
    """A rule of iptables that drops or rejects, as far as it is understood.

    Args:
        chain: The built-in chain it stands in: INPUT, FORWARD or OUTPUT.
        action: ``DROP`` or ``REJECT``.
        protocol: ``udp``, ``tcp`` or empty for any.
        ports: First and last destination port; (0, 65535) where none is named.
        text: The rule as printed, shortened.
        narrow: Whether it has further conditions, which are not judged here.
    """

    chain: str
    action: str
    protocol: str
    ports: tuple[int, int]
    text: str
    narrow: bool = False

    def hits(self, protocol: str) -> bool:
        """Say whether traffic written as ``udp/53`` would match, conditions aside."""
        name, _, port = protocol.partition("/")
        return self.protocol in ("", name) and self.ports[0] <= int(port or 0) <= self.ports[1]


class Unread(msgspec.Struct, frozen=True):
    """A reading that failed, was cut, or is not understood, by the name of what it would give."""

    what: str
    reason: str


class NodeNetwork(msgspec.Struct, frozen=True):
    """What was read inside one node. What is None was not read; ``unread`` says why.

    Args:
        node: Kubernetes node name.
        evidence: Id of the record that it was parsed from.
        subnet_env: None where the file is absent; with empty fields where it could not be read.
        links: All interfaces; empty where they could not be read.
        routes: IPv4 routes of the main table that lead somewhere; empty where they were not read.
        drops: Rules of iptables that drop or reject, in the order of the chain.
        nat_chains: Names of the chains of iptables' nat table.
        ip_forward: The sysctl, None where it was not read.
        tools: Whether iptables could be read: an empty ``drops`` means something only then.
        other_routes: IPv4 routes of other tables, and those that lead nowhere.
        policy_rules: Which table of routes is looked at when.
        neighbours: The ARP table.
        fdb: Forwarding tables of VXLAN devices, and what bridges have learned.
        tables: Rules of iptables of both kinds, and of nft. Those of nft that iptables shows are
            given as iptables'.
        services: What kube-proxy's rules do with Services; None also where the rules were cut.
        services_twice: The same by the kind of rules, where more than one kind holds such rules.
        sysctls: Settings of the kernel.
        conntrack: Numbers of connection tracking.
        cni: CNI's files, as far as they are visible.
        proxy: What kube-proxy says of itself.
        sockets: What listens on the node.
        queries: What connection tracking remembers of queries to the DNS Service; None where that
            was not read.
        queries_later: The same a while later, where something had led to nobody.
        unread: What could not be read.
    """

    node: str
    evidence: str
    subnet_env: SubnetEnv | None = None
    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    drops: tuple[FilterRule, ...] = ()
    nat_chains: tuple[str, ...] = ()
    ip_forward: bool | None = None
    tools: bool = False
    other_routes: tuple[Route, ...] = ()
    policy_rules: tuple[PolicyRule, ...] | None = None
    neighbours: tuple[Neighbour, ...] | None = None
    fdb: tuple[FdbEntry, ...] | None = None
    tables: tuple[RuleTable, ...] = ()
    services: tuple[ServiceEntry, ...] | None = None
    services_twice: tuple[tuple[Origin, tuple[ServiceEntry, ...]], ...] = ()
    sysctls: tuple[Sysctl, ...] | None = None
    conntrack: Conntrack | None = None
    cni: Cni = Cni()
    proxy: ProxyHealth | None = None
    sockets: tuple[Socket, ...] | None = None
    queries: TrackedQueries | None = None
    queries_later: TrackedQueries | None = None
    unread: tuple[Unread, ...] = ()

    def why_unread(self, what: str) -> str:
        """Return why something could not be read; empty where it was."""
        return next((u.reason for u in self.unread if u.what == what), "")

    def holding(self, address: str) -> Link | None:
        """Return the interface that has an address; None for an empty one."""
        return next(
            (i for i in self.links for a in i.addresses if address and a.startswith(f"{address}/")),
            None,
        )

    def device(self, address: str) -> str:
        """Name the interface that has an address; empty where none has."""
        found = self.holding(address)
        return found.name if found else ""

    def link(self, name: str) -> Link | None:
        """Return the interface of that name."""
        return next((i for i in self.links if i.name == name), None)

    def sysctl(self, name: str) -> Sysctl | None:
        """Return a setting of the kernel by its dotted name; None where it was not read."""
        return next((s for s in self.sysctls or () if s.name == name), None)

    def chain(self, table: str, name: str, origin: Origin | None = None) -> Chain | None:
        """Return a chain of a table; of kinds that both have it, the first one's."""
        found = (
            t.chain(name)
            for t in self.tables
            if t.name == table and origin in (None, t.origin) and t.family == "ip"
        )
        return next((c for c in found if c), None)

    def service(self, address: str, protocol: str, port: int) -> ServiceEntry | None:
        """Return what kube-proxy's rules do with an address; the empty one stands for node ports."""
        wanted = (address, protocol, port)
        return next(
            (s for s in self.services or () if (s.address, s.protocol, s.port) == wanted), None
        )

    @property
    def iptables_kinds(self) -> tuple[Origin, ...]:
        """The kinds of iptables that hold rules: two judge every packet twice."""
        kinds = (Origin.IPTABLES_NFT, Origin.IPTABLES_LEGACY)
        return tuple(k for k in kinds if any(t.origin is k and t.used for t in self.tables))
