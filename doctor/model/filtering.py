"""What a node's rules do to a packet: rules in their order, as far as they are understood."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_network

import msgspec

from doctor.model.netfilter import Action, Chain, Ports, Rule, RuleTable

__all__ = ["Met", "Packet", "dropped", "keeps_source", "surely_dropped"]

_STEPS = 50_000
_DEEPEST = 16
_IPV4 = ("ip", "inet")
_DROPS = (Action.DROP, Action.REJECT)
_JUMPS = (Action.JUMP, Action.GOTO)
_ENDS = (Action.ACCEPT, Action.RETURN, *_DROPS)


class Packet(msgspec.Struct, frozen=True):
    """The first packet of a flow, as a hook sees it; empty fields are not known.

    Args:
        protocol: ``udp``, ``tcp``, …
        port: Destination port, None where it is not known or there is none.
        source: An address or a prefix that holds it.
        destination: Likewise; after translation, if the hook comes after it.
        input: The device that it came in by.
        output: The device that it will leave by.
        state: What connection tracking says of it.
        mark: Its mark, as rules of earlier hooks left it: kube-proxy marks what it masquerades.
    """

    protocol: str = ""
    port: int | None = None
    source: str = ""
    destination: str = ""
    input: str = ""
    output: str = ""
    state: str = "new"
    mark: int = 0


class Met(msgspec.Struct, frozen=True):
    """A rule or policy that drops or rejects a packet.

    Args:
        action: Which of the two.
        table: Where it stands.
        chain: The chain's name.
        rule: The rule; None for the chain's policy.
        certain: Whether it ends the way of such a packet for sure, if none before it has dropped
            it; otherwise a rule before it, or a condition of its own, is not understood or depends
            on what is not known of the packet.
    """

    action: Action
    table: RuleTable
    chain: str
    rule: Rule | None
    certain: bool


def dropped(tables: Iterable[RuleTable], hook: str, packet: Packet) -> Met | None:
    """Return what drops such a packet at a hook: what does so for sure, else what may.

    Args:
        tables: All tables of a node; those that see no packets of IPv4 are passed over, and chains
            that only translate addresses.
        hook: ``prerouting``, ``input``, ``forward``, ``output`` or ``postrouting``.
        packet: What arrives there.

    Returns:
        A dropping or rejecting rule or policy, or None where nothing that was read drops it.
    """
    entries = sorted(
        (
            (c, t)
            for t in tables
            for c in t.chains
            if t.family in _IPV4 and c.hook == hook and c.kind != "nat"
        ),
        key=lambda entry: entry[0].priority,
    )
    found: list[Met] = []
    for chain, table in entries:
        walk = _Walk(table, packet)
        walk.through(chain)
        found += walk.found
    return next((m for m in found if m.certain), found[0] if found else None)


def surely_dropped(tables: Iterable[RuleTable], hooks: Iterable[str], packet: Packet) -> Met | None:
    """Return what drops such a packet for sure, at the first of some hooks where that is so.

    Args:
        tables: All tables of a node.
        hooks: In the order in which the packet meets them.
        packet: What arrives there.
    """
    read = tuple(tables)
    hits = (dropped(read, hook, packet) for hook in hooks)
    return next((m for m in hits if m and m.certain), None)


def keeps_source(tables: Iterable[RuleTable], packet: Packet) -> bool:
    """Say whether a packet surely leaves with the source that it has: no rule may translate it.

    Args:
        tables: All tables of a node.
        packet: What is about to leave.
    """
    return not any(
        not t.whole or _Translation(t, packet).may(c)
        for t in tables
        for c in t.chains
        if t.family in _IPV4 and c.hook == "postrouting" and c.kind == "nat"
    )


class _Translation:
    """A packet's way through the rules of one table that translate sources."""

    def __init__(self, table: RuleTable, packet: Packet) -> None:
        """Stand before the table."""
        self._chains: Mapping[str, Chain] = {c.name: c for c in table.chains}
        self._packet = packet
        self._marked = False
        self._steps = 0

    def may(self, chain: Chain, depth: int = 0) -> bool:
        """Say whether a rule of a chain may translate it; what is not understood may."""
        for rule in chain.rules:
            self._steps += 1
            matches = _matches(rule, self._packet, marked=self._marked)
            if matches is False or rule.action is Action.NONE:
                continue
            target = self._chains.get(rule.target)
            self._marked = self._marked or rule.action is Action.MARK
            if rule.action in _JUMPS and target and depth < _DEEPEST and self._steps < _STEPS:
                if self.may(target, depth + 1):
                    return True
            elif rule.action in _ENDS:
                if matches:
                    return False
            elif rule.action is not Action.MARK:
                return True
        return False


class _Walk:
    """A packet's way through one table from one hook."""

    def __init__(self, table: RuleTable, packet: Packet) -> None:
        """Stand before the table."""
        self._table = table
        self._chains: Mapping[str, Chain] = {c.name: c for c in table.chains}
        self._packet = packet
        self._marked = False
        self._steps = 0
        self.found: list[Met] = []

    def through(self, chain: Chain) -> None:
        """Walk from a hook's chain to its policy."""
        ended, clean = self._enter(chain, sure=True, depth=0)
        if not ended:
            self._meet(chain.policy, chain, None, certain=clean)

    def _meet(self, action: Action, chain: Chain, rule: Rule | None, *, certain: bool) -> None:
        """Write down what drops it, or may; of a table that was cut, nothing is certain."""
        if action in _DROPS:
            certain = certain and self._table.whole
            self.found.append(Met(action, self._table, chain.name, rule, certain))

    def _enter(self, chain: Chain, *, sure: bool, depth: int) -> tuple[bool, bool]:
        """Try a chain's rules.

        Args:
            chain: The chain.
            sure: Whether the packet is here for sure.
            depth: How many jumps led here.

        Returns:
            Whether nothing that enters goes on after this chain; and whether nothing in it may let
            a packet through to the next hook.
        """
        here, clean, left = sure, True, False
        for rule in chain.rules:
            self._steps += 1
            if self._steps > _STEPS:
                return False, False
            matches = _matches(rule, self._packet, marked=self._marked)
            if matches is False or rule.action is Action.NONE:
                continue
            ended, safe, leaves = self._apply(
                rule, chain, certain=here and matches is True, depth=depth
            )
            clean = clean and safe
            if matches is True and (ended or leaves):
                return ended and not left, clean
            left = left or leaves
            here = here and safe and not leaves
        return False, clean

    def _apply(
        self, rule: Rule, chain: Chain, *, certain: bool, depth: int
    ) -> tuple[bool, bool, bool]:
        """Do what a rule says.

        Returns:
            Whether what it matches ends here; whether nothing of that may be let through here;
            whether what does not end leaves the chain.
        """
        match rule.action:
            case Action.MARK:
                self._marked = True
                return False, True, False
            case Action.RETURN:
                return False, True, True
            case Action.JUMP | Action.GOTO:
                target = self._chains.get(rule.target)
                if target is None or depth >= _DEEPEST:
                    return False, False, rule.action is Action.GOTO
                ended, clean = self._enter(target, sure=certain, depth=depth + 1)
                return ended, clean, rule.action is Action.GOTO
            case Action.UNKNOWN:
                return False, False, False
            case _:
                self._meet(rule.action, chain, rule, certain=certain)
                return True, rule.action in _DROPS, False


def _matches(rule: Rule, packet: Packet, *, marked: bool) -> bool | None:
    """Say whether a rule matches a packet; None where that is not known."""
    mark = _mark(rule, None if marked else packet.mark)
    seen = (
        ("protocols", _among(rule.protocols, packet.protocol)),
        ("ports", _in_ranges(rule.ports, packet.port)),
        ("source_ports", None if rule.source_ports else True),
        ("sources", _in_networks(rule.sources, packet.source)),
        ("destinations", _in_networks(rule.destinations, packet.destination)),
        ("inputs", _by_device(rule.inputs, packet.input)),
        ("outputs", _by_device(rule.outputs, packet.output)),
        ("states", _among(rule.states, packet.state)),
        ("mark", mark),
    )
    results = [(not met if n in rule.inverted else met) if met is not None else None
               for n, met in seen]  # fmt: skip
    if False in results:
        return False
    return None if None in results or rule.other else True


def _among(wanted: tuple[str, ...], actual: str) -> bool | None:
    """Compare a word."""
    if not wanted:
        return True
    return actual in wanted if actual else None


def _in_ranges(wanted: Ports, actual: int | None) -> bool | None:
    """Compare a port."""
    if not wanted:
        return True
    return None if actual is None else any(a <= actual <= b for a, b in wanted)


def _mark(rule: Rule, actual: int | None) -> bool | None:
    """Compare a mark."""
    if rule.mark is None:
        return True
    value, mask = rule.mark
    return None if actual is None else actual & mask == value


def _by_device(wanted: tuple[str, ...], actual: str) -> bool | None:
    """Compare a device's name with names and patterns."""
    if not wanted:
        return True
    if not actual:
        return None
    return any(actual.startswith(w[:-1]) if w.endswith("*") else actual == w for w in wanted)


def _in_networks(wanted: tuple[str, ...], actual: str) -> bool | None:
    """Compare an address, or a prefix of which the packet's address is one, with networks."""
    if not wanted:
        return True
    own = _span(actual)
    if own is None:
        return None
    spans = [_span(w) for w in wanted]
    if any(s is not None and s[0] <= own[0] and own[1] <= s[1] for s in spans):
        return True
    apart = all(s is not None and (own[1] < s[0] or s[1] < own[0]) for s in spans)
    return False if apart else None


def _span(text: str) -> tuple[int, int] | None:
    """Read an IPv4 address, prefix or range as its first and last address."""
    first, _, last = text.partition("-")
    try:
        if last:
            return int(IPv4Address(first)), int(IPv4Address(last))
        network = ip_network(first, strict=False)
    except ValueError:
        return None
    if not isinstance(network, IPv4Network):
        return None
    return int(network.network_address), int(network.broadcast_address)
