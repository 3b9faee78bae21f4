"""Bursts between nodes whose pods do not reach each other, with counters read around each.

Where a packet is lost only counters tell: it leaves, arrives, is taken out of its wrapping, or is not.
Each node sends one burst in a round, and is sent one, so that what was counted has one meaning.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import msgspec

from doctor.bundle.schema import CommandOutput, FlowRecord, GapRecord, NodeRecord, Record
from doctor.collect.flow import Stage, flow
from doctor.collect.node_script import read_outputs
from doctor.collect.shells import Shell
from doctor.model.counters import COUNTED
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.verdict import Gap

__all__ = ["count", "rounds"]

PINGS = 30
_MOST_WAYS = 12
_MOST_ROUNDS = 4
_SECONDS = 6.0
_MOST_BYTES = 65536
_WORKERS = 8

_READ = r"""
r() { echo "MARK $1"; shift; "$@" 2>/dev/null | head -c MOST; echo; echo "MARK= 0"; }
rules() {
  for kind in $1-nft-save $1-legacy-save $1-save; do
    command -v $kind >/dev/null || continue
    for table in raw mangle filter; do $kind -c -t $table | grep -E '^[*:#C]|DROP|REJECT'; done
    [ $kind = $1-legacy-save ] && break
  done
}
r devices cat /proc/net/dev
r protocols cat /proc/net/snmp /proc/net/netstat
r rules rules iptables
"""
_BURST = r"""
command -v ping >/dev/null || { echo 'ping is missing in the image'; exit 1; }
i=0
while [ $i -lt PINGS ]; do
  ping -c 1 -W 1 ADDRESS >/dev/null 2>&1 && echo answered &
  i=$((i + 1))
done
wait
echo done
"""


def rounds(stage: Stage, seen: Iterable[Observation]) -> Iterator[tuple[Flow, ...]]:
    """Plan bursts both ways between nodes whose pods gave each other no answer.

    Args:
        stage: What was known when the flows were planned.
        seen: What came of them.
    """
    left = _ways(stage, seen)
    for number in range(_MOST_ROUNDS):
        chosen: list[Flow] = []
        for way in left:
            sender, receiver, address = way
            senders = {f.vantage.node for f in chosen}
            if sender not in senders and receiver not in {f.subject for f in chosen}:
                where = Vantage(VantageKind.NODE, sender)
                chosen.append(
                    flow(
                        Purpose.BURST,
                        where,
                        FlowKind.PING,
                        address,
                        name=str(number),
                        subject=receiver,
                        samples=PINGS,
                    )
                )
        if not chosen:
            return
        done = {(f.vantage.node, f.subject) for f in chosen}
        left = [w for w in left if w[:2] not in done]
        yield tuple(chosen)


def _ways(stage: Stage, seen: Iterable[Observation]) -> list[tuple[str, str, str]]:
    """List sender, receiver and the address of its VXLAN device, of pairs that are broken."""
    lost: set[tuple[str, str]] = set()
    fine: set[tuple[str, str]] = set()
    for o in seen:
        ends = (o.flow.vantage.node, o.flow.subject)
        if o.flow.purpose is Purpose.MESH and ends[0] != ends[1]:
            silent = o.failure is not None and o.failure.unanswered
            (lost if silent else fine).update({ends, ends[::-1]})
    inner = {n.name: _inner(n.pod_cidr) for n in stage.tables.world.linux}
    entered = set(stage.nodes)
    broken = sorted(w for w in lost - fine if set(w) <= entered and inner.get(w[1]))
    return [(a, b, inner[b]) for a, b in broken[:_MOST_WAYS]]


def _inner(cidr: str) -> str:
    """Return the first address of a pod network, which flannel gives to its VXLAN device."""
    try:
        return str(ipaddress.IPv4Network(cidr).network_address)
    except ValueError:
        return ""


def count(shells: dict[str, Shell], planned: Iterable[tuple[Flow, ...]]) -> Iterator[Record]:
    """Send bursts, and read counters before the first and after each.

    Args:
        shells: Where nodes can be entered.
        planned: The bursts of each round.
    """
    todo = list(planned)
    names = sorted({n for r in todo for f in r for n in (f.vantage.node, f.subject)})
    if not todo:
        return
    with ThreadPoolExecutor(_WORKERS) as pool:
        yield from _read(pool, [shells[n] for n in names], 0)
        for number, bursts in enumerate(todo, 1):
            yield from pool.map(lambda f: _burst(shells[f.vantage.node], f), bursts)
            yield from _read(pool, [shells[n] for n in names], number)


def _read(pool: Executor, shells: Iterable[Shell], number: int) -> Iterator[NodeRecord]:
    """Read the counters of some nodes."""
    yield from pool.map(lambda s: _counters(s, number), shells)


def _counters(shell: Shell, number: int) -> NodeRecord:
    """Read the counters of one node."""
    mark = f"@@{secrets.token_hex(8)}"
    script = _READ.replace("MARK", mark).replace("MOST", str(_MOST_BYTES))
    answer = shell.run(script, _SECONDS)
    outputs = read_outputs(answer.stdout, mark, _MOST_BYTES) if not answer.reason else ()
    return NodeRecord(
        node=shell.vantage.node, via=shell.via, outputs=tuple(_named(o, number) for o in outputs)
    )


def _named(output: CommandOutput, number: int) -> CommandOutput:
    """Let an output say after which burst it was read."""
    return msgspec.structs.replace(output, name=f"{COUNTED} {number} {output.name}")


def _burst(shell: Shell, asked: Flow) -> Record:
    """Send one burst."""
    script = _BURST.replace("PINGS", str(asked.samples)).replace("ADDRESS", asked.address)
    answer = shell.run(script, _SECONDS)
    lines = answer.stdout.split()
    if answer.reason or "done" not in lines:
        missing = next((line for line in answer.stdout.split("\n") if "missing" in line), "")
        reason = answer.reason or missing[:100] or "it did not come to its end"
        gap = Gap(needs=f"counting packets from {shell.vantage}", reason=reason, essential=False)
        return GapRecord(gap=gap, tables=("Counters",))
    answered = lines.count("answered")
    return FlowRecord(
        observation=Observation(
            flow=asked,
            failure=None if answered else Failure.TIMEOUT,
            seconds=0.0,
            sent=asked.samples,
            lost=asked.samples - answered,
        )
    )
