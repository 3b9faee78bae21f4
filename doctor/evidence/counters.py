"""Builder of what was counted around bursts between nodes."""

from collections.abc import Iterable, Iterator

import msgspec

from doctor.bundle.schema import NodeRecord
from doctor.evidence.world import World
from doctor.model.counters import COUNTED, Burst, Hit
from doctor.model.evidence import Counters
from doctor.model.flow import Observation
from doctor.model.netfilter import Action
from doctor.parse.iptables_save import read_saved, rule_tables
from doctor.parse.proc_counters import DeviceCounters, parse_devices, parse_protocols

__all__ = ["counters"]

_VXLAN = "flannel."
_ENDS_IT = (Action.DROP, Action.REJECT)


class _Reading(msgspec.Struct, frozen=True):
    """The counters of one node at one moment."""

    device: DeviceCounters | None = None
    protocols: dict[str, int] = {}
    rules: dict[tuple[str, str], int] = {}


def counters(world: World, bursts: Iterable[Observation]) -> Counters:
    """Build the table.

    Args:
        world: The cluster.
        bursts: What came of the bursts.
    """
    sent = tuple(bursts)
    read = _readings(world)
    items = tuple(_burst(o, sent, read) for o in sent)
    return Counters(items=items, observations=sent, gaps=world.table_gaps("Counters"))


def _readings(world: World) -> dict[tuple[str, int], _Reading]:
    """Parse all readings, by node and by how many rounds were over."""
    texts: dict[tuple[str, int], dict[str, str]] = {}
    for record in world.of(NodeRecord):
        for output in record.outputs:
            kind, _, rest = output.name.partition(" ")
            number, _, what = rest.partition(" ")
            if kind == COUNTED and number.isdecimal() and not output.truncated:
                texts.setdefault((record.node, int(number)), {})[what] = output.stdout
    return {place: _reading(text) for place, text in texts.items()}


def _reading(text: dict[str, str]) -> _Reading:
    """Parse one reading: of several VXLAN devices, the sum is taken."""
    devices = [c for n, c in parse_devices(text.get("devices", "")).items() if n.startswith(_VXLAN)]
    total = DeviceCounters(
        received=sum(d.received for d in devices),
        not_taken=sum(d.not_taken for d in devices),
        sent=sum(d.sent for d in devices),
        not_sent=sum(d.not_sent for d in devices),
    )
    return _Reading(
        device=total if devices else None,
        protocols=parse_protocols(text.get("protocols", "")),
        rules=dict(_rules(text.get("rules", ""))),
    )


def _rules(text: str) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield what rules that end a packet's way have counted."""
    for table in rule_tables(read_saved(text)):
        for chain in table.chains:
            for rule in chain.rules:
                if rule.action in _ENDS_IT and rule.packets is not None:
                    yield (f"{table.name} {chain.name}", rule.text), rule.packets


def _burst(
    seen: Observation, all_: tuple[Observation, ...], read: dict[tuple[str, int], _Reading]
) -> Burst:
    """Compare the readings before a burst and after it."""
    sender, receiver = seen.flow.vantage.node, seen.flow.subject
    number = int(seen.flow.name) if seen.flow.name.isdecimal() else 0
    none = _Reading()
    ends = {n: (read.get((n, number), none), read.get((n, number + 1), none))
            for n in (sender, receiver)}  # fmt: skip
    back = {n: _answers_to(n, seen.flow.name, all_) for n in (sender, receiver)}
    taken = {n: _grown(*_pick(ends[n], "received"), back[n]) for n in (sender, receiver)}
    return Burst(
        sender=sender,
        receiver=receiver,
        sent=seen.sent,
        answered=seen.sent - seen.lost,
        # whatever a node is asked it answers
        left=_grown(*_pick(ends[sender], "sent"), taken[sender] or 0),
        unsent=_grown(*_pick(ends[sender], "not_sent")),
        arrived=_counted(
            ends[receiver], "Udp.InDatagrams", _grown(*_pick(ends[receiver], "received")) or 0
        ),
        closed=_counted(ends[receiver], "Udp.NoPorts"),
        damaged=_counted(ends[receiver], "Udp.InCsumErrors"),
        taken=taken[receiver],
        refused=_grown(*_pick(ends[receiver], "not_taken")),
        wrong_way=_counted(ends[receiver], "TcpExt.IPReversePathFilter"),
        hits=tuple(h for n in ends for h in _hits(n, *ends[n]) if h.packets * 2 >= seen.sent),
        evidence=(seen.flow.id, *(f"node:{n}" for n in ends)),
    )


def _counted(ends: tuple[_Reading, _Reading], name: str, less: int = 0) -> int | None:
    """Return by how much a protocol's counter has grown."""
    return _grown(ends[0].protocols.get(name), ends[1].protocols.get(name), less)


def _pick(ends: tuple[_Reading, _Reading], name: str) -> tuple[int | None, int | None]:
    """Return one counter of a node's VXLAN device, before and after."""
    before, after = (getattr(e.device, name) if e.device else None for e in ends)
    return before, after


def _grown(before: int | None, after: int | None, less: int = 0) -> int | None:
    """Return by how much a counter has grown; None where it was not read, or began anew."""
    if before is None or after is None or after < before:
        return None
    return max(0, after - before - less)


def _answers_to(node: str, number: str, all_: Iterable[Observation]) -> int:
    """Count the answers that a node had to its own burst of the same round."""
    return sum(
        o.sent - o.lost for o in all_ if o.flow.name == number and o.flow.vantage.node == node
    )


def _hits(node: str, before: _Reading, after: _Reading) -> Iterator[Hit]:
    """Yield the rules of a node that have counted more."""
    for (chain, text), packets in after.rules.items():
        more = packets - before.rules.get((chain, text), packets)
        if more > 0:
            yield Hit(node, chain, text, more)
