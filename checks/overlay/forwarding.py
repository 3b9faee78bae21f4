"""Nodes that do not forward what their pods send and are sent."""

from collections.abc import Iterable, Iterator

from checks.common import and_list, ids, written
from checks.overlay.codes import (
    OVERLAY_FORWARD_DROPPED,
    OVERLAY_FORWARD_REJECTED,
    OVERLAY_IP_FORWARD_OFF,
    VERIFY,
)
from checks.overlay.filters import forward_rules, remove
from checks.overlay.world import (
    Fault,
    World,
    all_lost,
    any_answer,
    is_lost,
    starts_on,
)
from doctor.model.failure import Failure
from doctor.model.filtering import Met
from doctor.model.finding import Confidence, Finding, Remediation, Risk
from doctor.model.flow import Observation, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.netfilter import Action
from doctor.model.node import NodeNetwork

__all__ = ["forwarding_findings", "forwards", "not_forwarding", "unexplained"]


def forwards(seen: Observation, name: str) -> bool:
    """Say whether a flow passes the FORWARD chain of a node."""
    outgoing = seen.flow.vantage.kind is VantageKind.POD and starts_on(seen) == name
    return outgoing or seen.flow.subject == name


def unexplained(flows: list[Observation], forward: Iterable[str]) -> list[Observation]:
    """Leave out the flows that pass a node which does not forward; none left: all explained."""
    left = [o for o in flows if not any(forwards(o, n) for n in forward)]
    return flows if left else []


def _forward_rule(world: World, name: str, flows: list[Observation]) -> Met | None:
    """Return the rule, or policy, of a node that fits how all these flows failed."""
    failures = {o.failure for o in flows}
    told = not failures.isdisjoint({Failure.NO_ROUTE, Failure.HOST_PROHIBITED})
    rejected = told or Failure.NETWORK_UNREACHABLE in failures
    found = forward_rules(world, name, flows)
    fitting = (m for m in found if (rejected if m.action is Action.REJECT else not told))
    return next(fitting, None)


def not_forwarding(world: World, cross: list[Observation]) -> dict[str, list[Observation]]:
    """Find the nodes that do not forward for their pods, with the flows that show it."""
    names = sorted({n for o in cross for n in (starts_on(o), o.flow.subject)})
    through = {n: [o for o in cross if forwards(o, n)] for n in names}
    lost = {n: f for n, f in through.items() if all_lost(f)}
    stated = [n for n, f in lost.items() if _states(world, n, f)]
    found: dict[str, list[Observation]] = {}
    for name, flows in lost.items():
        near = [o for o in cross if name in (starts_on(o), o.flow.subject)]
        leaves = any(o.flow.vantage.kind is VantageKind.POD and starts_on(o) == name for o in flows)
        told = name in stated and not _unexplained_any(near, stated)
        if (any_answer(near) and (leaves or name in stated)) or told:
            found[name] = flows
    return found


def _unexplained_any(flows: list[Observation], forward: list[str]) -> bool:
    """Say whether a lost flow passes none of the nodes that do not forward."""
    return any(is_lost(o) and not any(forwards(o, n) for n in forward) for o in flows)


def _states(world: World, name: str, flows: list[Observation]) -> bool:
    """Say whether what was read on a node shows that it does not forward."""
    read, rule = world.networks.of(name), _forward_rule(world, name, flows)
    off = read is not None and (read.ip_forward is False or bool(_off(read)))
    return off or (rule is not None and (rule.certain or rule.rule is not None))


def _off(read: NodeNetwork) -> tuple[str, ...]:
    """Name the devices that pods' packets come in by and that do not forward, though all others do."""
    if not read.ip_forward:
        return ()
    devices = ("cni0", *(i.name for i in read.links if i.vxlan_id or i.vxlan_port))
    settings = {d: read.sysctl(f"net.ipv4.conf.{d}.forwarding") for d in devices}
    return tuple(d for d, s in settings.items() if s and s.value == 0)


def forwarding_findings(world: World, forward: dict[str, list[Observation]]) -> Iterator[Finding]:
    """Say which nodes do not forward: each for itself, or all at once."""
    faults = {n: _forward_fault(world, n, f) for n, f in forward.items()}
    codes = {f.code.name for f in faults.values()}
    every = len(codes) == 1 and len(faults) > 1 and set(faults) == set(world.nodes.linux)
    for group in [list(faults)] if every else [[n] for n in faults]:
        flows = [o for n in group for o in forward[n]]
        first = faults[group[0]]
        likewise = f" (likewise on {and_list(group[1:])})" if every else ""
        certain = all(faults[n].confidence is Confidence.CERTAIN for n in group)
        yield Finding(
            code=first.code,
            title=first.text + likewise,
            hop=Hop(HopKind.FORWARD, ANY if every else group[0]),
            evidence=(*dict.fromkeys(ids(flows)), *(e for n in group for e in faults[n].evidence)),
            confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
            flows=() if certain else tuple(dict.fromkeys(ids(flows))),
            remediation=tuple(faults[n].remediation for n in group),
            falsifier=f"A pod on {and_list(group)} reaches a pod on another node",
        )


def _forward_fault(world: World, name: str, flows: list[Observation]) -> Fault:
    """Say why a node does not forward, as far as it was read."""
    read, rule = world.networks.of(name), _forward_rule(world, name, flows)
    evidence = (read.evidence,) if read else ()
    if read and read.ip_forward is False:
        on = "net.ipv4.ip_forward=1"
        commands = (
            f"ssh {name} sudo sysctl -w {on}",
            f'ssh {name} "echo {on} | sudo tee /etc/sysctl.d/99-kubernetes.conf"',
        )
        return Fault(
            OVERLAY_IP_FORWARD_OFF,
            f"Node {name} does not forward pod traffic: net.ipv4.ip_forward is 0",
            evidence,
            Remediation(f"Let {name} forward", commands, Risk.SAFE, VERIFY),
        )
    if read and (devices := _off(read)):
        settings = [f"net/ipv4/conf/{d}/forwarding=1" for d in devices]
        return Fault(
            OVERLAY_IP_FORWARD_OFF,
            f"Node {name} does not forward what comes in by {and_list(devices)}: "
            f"net.ipv4.conf.{devices[0]}.forwarding is 0",
            evidence,
            Remediation(
                f"Let {name} forward, and take the setting out of /etc/sysctl.d",
                tuple(f"ssh {name} sudo sysctl -w {s}" for s in settings),
                Risk.SAFE,
                VERIFY,
            ),
        )
    if rule:
        rejects = rule.action is Action.REJECT
        return Fault(
            OVERLAY_FORWARD_REJECTED if rejects else OVERLAY_FORWARD_DROPPED,
            f"Node {name} {'rejects' if rejects else 'drops'} pod traffic in its FORWARD chain: "
            f"{written(rule)}",
            evidence,
            remove(world, name, rule),
            Confidence.CERTAIN if rule.certain else Confidence.LIKELY,
        )
    look = (f"{world.flannel.enter(name)} iptables -v -n -L FORWARD",)
    told = any(o.failure is Failure.HOST_PROHIBITED for o in flows)
    return Fault(
        OVERLAY_FORWARD_REJECTED if told else OVERLAY_FORWARD_DROPPED,
        f"Node {name} {'rejects' if told else 'drops'} what it should forward for its pods: from "
        "the node itself to pods passes",
        evidence,
        Remediation(f"See which rule of {name} drops", look, Risk.SAFE, VERIFY),
        Confidence.LIKELY,
    )
