"""Facts about one node's kernel, its CNI files and its kube-proxy."""

import datetime as dt

import msgspec

__all__ = [
    "Cni",
    "CniConf",
    "Conntrack",
    "ProxyHealth",
    "Socket",
    "Sysctl",
    "TrackedQueries",
    "TrackedQuery",
]


class Sysctl(msgspec.Struct, frozen=True):
    """A setting of the kernel; None where the kernel has none of that name.

    ``net.bridge.*`` is there only while the module br_netfilter is loaded.
    """

    name: str
    value: int | None


class Conntrack(msgspec.Struct, frozen=True):
    """What connection tracking counted since the node started, over all processors.

    Args:
        entries: Connections in the table now; None where it was not read.
        insert_failed: Entries that could not be confirmed, mostly two packets racing for one.
        drop: Packets dropped because no entry could be made.
        early_drop: Entries thrown out to make room.
        invalid: Packets that fit no connection.
    """

    entries: int | None = None
    insert_failed: int = 0
    drop: int = 0
    early_drop: int = 0
    invalid: int = 0


class TrackedQuery(msgspec.Struct, frozen=True):
    """Where connection tracking leads the queries that a client sends to the DNS Service by one port.

    Args:
        client: Who asks.
        port: From which port.
        replier: Who is to answer: the endpoint that was chosen when the entry was made.
        seconds: How long the entry lives on, if no further query comes.
    """

    client: str
    port: int
    replier: str
    seconds: int


class TrackedQueries(msgspec.Struct, frozen=True):
    """Such entries of a node; of those that lead to one address only some.

    Args:
        at: The node's uptime when they were read, in seconds.
        items: The entries.
    """

    at: float
    items: tuple[TrackedQuery, ...] = ()


class CniConf(msgspec.Struct, frozen=True):
    """A file in /etc/cni/net.d, reduced; all else in it is never kept.

    Args:
        file: Its name: the first in order is the one that is used.
        name: The network's name; empty where the file is malformed.
        version: Of the CNI specification.
        plugins: Their types, in order.
        mtu: What a bridge plugin, or flannel's delegate, is told; 0 for none.
        masquerade: ``ipMasq`` likewise; None where it is not set.
        hairpin: ``hairpinMode`` likewise.
        default_gateway: ``isDefaultGateway`` likewise.
    """

    file: str
    name: str = ""
    version: str = ""
    plugins: tuple[str, ...] = ()
    mtu: int = 0
    masquerade: bool | None = None
    hairpin: bool | None = None
    default_gateway: bool | None = None


class Cni(msgspec.Struct, frozen=True):
    """CNI as far as it is seen from where the node was read.

    Args:
        confs: The files of /etc/cni/net.d in order; None where that directory is not visible.
        programs: The names in /opt/cni/bin; None where that directory is not visible.
    """

    confs: tuple[CniConf, ...] | None = None
    programs: tuple[str, ...] | None = None


class ProxyHealth(msgspec.Struct, frozen=True):
    """What kube-proxy says of itself, asked from inside the node's network.

    Args:
        mode: ``iptables``, ``nftables``, ``ipvs``; empty where it did not say.
        status: HTTP status of /healthz: 200, or 503 if its rules are too old or the node is to be
            deleted; 0 where nothing answered.
        last_updated: When its rules were last written; while all is well, the time of the question.
        current_time: When it was asked.
        eligible: Whether the node may be sent traffic of load balancers; None where it did not say.
        ipv4_updated: When its rules of IPv4 were last written, whether all is well or not; empty
            where it did not say, as older versions do not. While no Service changes, it is long ago.
        reason: Why nothing answered; empty where something did.
    """

    mode: str = ""
    status: int = 0
    last_updated: str = ""
    current_time: str = ""
    eligible: bool | None = None
    ipv4_updated: str = ""
    reason: str = ""

    @property
    def behind(self) -> float | None:
        """How many seconds its rules are behind; None where it did not say."""
        return self._before(self.last_updated)

    @property
    def age(self) -> float | None:
        """How many seconds ago its rules of IPv4 were last written; None where it did not say."""
        return self._before(self.ipv4_updated)

    def _before(self, then: str) -> float | None:
        """How many seconds lie between a time that it named and now; None where it is none."""
        try:
            named, now = map(dt.datetime.fromisoformat, (then, self.current_time))
            return max(0.0, (now - named).total_seconds())
        except (ValueError, TypeError):
            return None


class Socket(msgspec.Struct, frozen=True):
    """A socket that waits for connections or packets: ``0.0.0.0`` and ``::`` stand for any."""

    protocol: str
    address: str
    port: int
