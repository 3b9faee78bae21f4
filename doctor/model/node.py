"""Facts about one node's network, parsed from what was read inside it."""

import msgspec

__all__ = ["FilterRule", "Link", "NodeNetwork", "Route", "SubnetEnv"]


class SubnetEnv(msgspec.Struct, frozen=True):
    """What flanneld wrote to /run/flannel/subnet.env."""

    network: str = ""
    subnet: str = ""
    mtu: int = 0
    ipmasq: bool = False


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
    """

    name: str
    up: bool = True
    mtu: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()
    vxlan_id: int = 0
    vxlan_port: int = 0


class Route(msgspec.Struct, frozen=True):
    """An IPv4 route of the main table."""

    destination: str
    device: str = ""
    gateway: str = ""


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


class NodeNetwork(msgspec.Struct, frozen=True):
    """What was read inside one node.

    Args:
        node: Kubernetes node name.
        evidence: Id of the record that it was parsed from.
        subnet_env: None where the file is absent.
        links: All interfaces.
        routes: IPv4 routes of the main table.
        drops: Rules that drop or reject, in the order of the chain.
        nat_chains: Names of the nat table's chains.
        ip_forward: The sysctl, None where it was not read.
        tools: Whether iptables could be read: an empty ``drops`` means something only then.
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
