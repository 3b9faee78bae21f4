"""Packet filters and address translation of a node, reduced to what is understood of them."""

from enum import StrEnum

import msgspec

__all__ = ["Action", "Chain", "Origin", "Rule", "RuleTable", "ServiceEntry"]

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, first and last; none for any port."""


class Action(StrEnum):
    """What becomes of a packet that a rule matches."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    MASQUERADE = "masquerade"
    SNAT = "snat"
    DNAT = "dnat"
    MARK = "mark"
    NONE = "none"
    """It goes on to the next rule: counted, logged, changed."""
    UNKNOWN = "unknown"
    """Something that is not understood, which may end its way."""


class Origin(StrEnum):
    """Whose format rules were read in. Both kinds of iptables judge every packet if both are set."""

    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    NFT = "nft"


class Rule(msgspec.Struct, frozen=True):
    """One rule. Conditions that are empty are not there; all that are there must hold.

    Args:
        action: What it does.
        target: The chain that it jumps to, or the address that it writes into the packet.
        protocols: ``udp``, ``tcp``, …
        ports: Destination ports.
        source_ports: Source ports.
        sources: Addresses, prefixes or ranges (``192.0.2.5-192.0.2.9``).
        destinations: Likewise.
        inputs: Names of devices; a trailing ``*`` stands for any rest.
        outputs: Likewise.
        states: Of connection tracking: ``new``, ``established``, …
        mark: The packet's mark after masking, and the mask.
        inverted: Names of the fields above whose condition is negated.
        other: Whether it has further conditions, which are not understood.
        packets: How many it matched; None where rules are not counted.
        bytes: Likewise.
        comment: What was written beside it, shortened.
        text: The rule as it was printed, or as nft would print it, shortened.
        handle: nft's number of it, by which it is deleted; 0 for rules of iptables.
    """

    action: Action
    target: str = ""
    protocols: tuple[str, ...] = ()
    ports: Ports = ()
    source_ports: Ports = ()
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    mark: tuple[int, int] | None = None
    inverted: tuple[str, ...] = ()
    other: bool = False
    packets: int | None = None
    bytes: int | None = None
    comment: str = ""
    text: str = ""
    handle: int = 0


class Chain(msgspec.Struct, frozen=True):
    """A chain of rules.

    Args:
        name: Its name.
        rules: In the order in which they are tried.
        hook: Where packets enter it: ``prerouting``, ``input``, ``forward``, ``output``,
            ``postrouting``; empty for a chain that only others lead to.
        kind: ``filter``, ``nat`` or ``route``; empty likewise.
        priority: Chains of one hook are entered in this order.
        policy: What becomes of packets that no rule ends.
        packets: How many met the policy; None where they are not counted.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: Action = Action.ACCEPT
    packets: int | None = None


class RuleTable(msgspec.Struct, frozen=True):
    """A table of chains.

    Args:
        origin: Whose format it was read in.
        family: ``ip``, ``inet``, ``bridge``, …
        name: ``filter``, or any name for tables of nft.
        chains: Its chains; those that kube-proxy makes per Service and endpoint are left out, for
            they are what the entries of Services are read from.
        whole: False where the output was cut: rules may be missing.
    """

    origin: Origin
    family: str
    name: str
    chains: tuple[Chain, ...] = ()
    whole: bool = True

    def chain(self, name: str) -> Chain | None:
        """Return the chain of that name."""
        return next((c for c in self.chains if c.name == name), None)

    @property
    def used(self) -> bool:
        """Whether it holds any rule, or a policy that drops."""
        return any(c.rules or c.policy is not Action.ACCEPT for c in self.chains)


class ServiceEntry(msgspec.Struct, frozen=True):
    """Where kube-proxy's rules on a node lead what is sent to one address and port of a Service.

    Args:
        address: The Service's address; empty for a node port.
        protocol: ``udp``, ``tcp`` or ``sctp``.
        port: The port.
        name: ``namespace/name:port`` as kube-proxy wrote it; empty where it wrote none.
        chain: The chain that it leads to; empty where it leads nowhere.
        endpoints: ``address:port``, in the order of the rules, each once; those for packets from
            outside the cluster, where others are for packets from within.
        refusal: Drop or reject, where packets have no endpoint to go to; None where they have.
    """

    address: str
    protocol: str
    port: int
    name: str = ""
    chain: str = ""
    endpoints: tuple[str, ...] = ()
    refusal: Action | None = None
