"""What several checks say in the same way."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from doctor.model.address import specific_network
from doctor.model.evidence import Nodes
from doctor.model.failure import Failure
from doctor.model.filtering import Met
from doctor.model.finding import Confidence, Finding, Severity
from doctor.model.flow import Observation
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.netfilter import Action, Origin, Rule
from doctor.model.node import NodeNetwork

__all__ = [
    "KUBE_FIREWALL",
    "and_list",
    "by_chance",
    "drops_all",
    "everywhere",
    "ids",
    "node_hops",
    "removal",
    "security_group_rules",
    "sharing",
    "shortened",
    "told",
    "told_instead",
    "written",
]

KUBE_FIREWALL = "KUBE-FIREWALL"
"""The kubelet's chain, which INPUT and OUTPUT lead to."""


def and_list(words: Iterable[str], most: int = 4) -> str:
    """Join words as prose: ``a, b and c``; beyond ``most`` the rest is counted."""
    listed = sorted(set(words))
    if len(listed) > most:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    *first, last = listed or [""]
    return f"{', '.join(first)} and {last}" if first else last


def security_group_rules(address: str, *rules: str) -> tuple[str, ...]:
    """Write the commands that add rules to the security group of the node with an address.

    Args:
        address: The node's; without one there is no group to be found, and there are no commands.
        rules: Options of each rule; ``{group}`` in them is that group.
    """
    if not address:
        return ()
    group = '"$SECURITY_GROUP"'
    port = f'"$(openstack port list --fixed-ip ip-address={address} -f value -c ID)"'
    show = f"openstack port show {port} -f value -c security_group_ids"
    return (
        f"SECURITY_GROUP=$({show} | grep -oE '[0-9a-f-]{{36}}' | head -n 1)",
        *(
            f"openstack security group rule create {rule.format(group=group)} {group}"
            for rule in rules
        ),
    )


def ids(observations: Iterable[Observation]) -> tuple[str, ...]:
    """List the evidence ids of observations."""
    return tuple(o.flow.id for o in observations)


def sharing(nodes: Nodes | None, names: Iterable[str]) -> tuple[Hop, ...]:
    """List the pod networks of those nodes whose pods share addresses with another node's.

    Others can only know one of the two, and lead to the wrong pod, which refuses what it does not serve.

    Args:
        nodes: All nodes; None where they are not known.
        names: Those that are asked about.
    """
    items = nodes.items if nodes else ()
    known = {n.name: c for n in items if (c := specific_network(n.pod_cidr))}
    return tuple(
        Hop(HopKind.POD_NETWORK, name)
        for name in dict.fromkeys(names)
        if (own := known.get(name)) and any(o != name and c.overlaps(own) for o, c in known.items())
    )


def node_hops(
    kind: HopKind, nodes: Nodes, names: list[str]
) -> Iterator[tuple[Hop, tuple[Hop, ...]]]:
    """Give one hop for all Linux nodes, else one per node: the first explains the others."""
    if len(names) > 1 and set(names) == set(nodes.linux):
        yield Hop(kind, ANY), ()
        return
    first = (Hop(kind, names[0]),)
    for name in names:
        down = (Hop(HopKind.NODE, name),) if nodes.down(name) else ()
        yield Hop(kind, name), down + (first if name != names[0] else ())


def everywhere(nodes: Nodes, needed: Iterable[str]) -> str:
    """Write the patch that lets a DaemonSet run on some nodes, and draws no virtual one in."""
    apart = {n.name for n in nodes.items if n.apart}
    at = '{"op":"add","path":"/spec/template/spec'
    affinity = "{}"
    if apart and apart.isdisjoint(needed):
        virtual = '{"key":"type","operator":"NotIn","values":["virtual-kubelet"]}'
        edge = '{"key":"node-role.kubernetes.io/edge","operator":"DoesNotExist"}'
        terms = f'[{{"matchExpressions":[{virtual},{edge}]}}]'
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        affinity = f'{{"nodeAffinity":{{"{required}":{{"nodeSelectorTerms":{terms}}}}}}}'
    return (
        f'[{at}/affinity","value":{affinity}}},'
        f'{at}/nodeSelector","value":{{"kubernetes.io/os":"linux"}}}},'
        f'{at}/tolerations","value":[{{"operator":"Exists"}}]}}]'
    )


def told(seen: Observation) -> str:
    """Say what came back from others than the one asked; empty where nothing did.

    Of a filter that rejects, Linux says what it says of a host or a network that is not there: only
    the ICMP error tells, where it was seen.
    """
    words = {
        Failure.NO_ROUTE: "no route to host",
        Failure.NETWORK_UNREACHABLE: "network unreachable",
        Failure.HOST_PROHIBITED: "a filter rejects it",
    }
    found = words.get(seen.failure, "") if seen.failure else ""
    open_ = found and seen.failure is not Failure.HOST_PROHIBITED and seen.icmp is None
    return f"{found}, or a filter that rejects" if open_ else found


def told_instead(seen: Iterable[Observation]) -> str:
    """Write what others told in place of an answer in brackets; empty where nobody did."""
    words = sorted({told(o) for o in seen} - {""})
    return f" ({'; '.join(words)})" if words else ""


def by_chance(made: Finding, lost: Sequence[Observation]) -> Finding:
    """Make a warning of a finding that rests on one question which was asked once.

    A machine that is busy for a moment leaves one of some hundred connections without an answer. What
    is broken is met from more than one place, or by more than one protocol.

    Args:
        made: The finding; nothing that was read of a node says why.
        lost: The flows that it rests on.
    """
    alone = len(lost) == 1 and lost[0].flow.samples <= 1
    if not alone or not lost[0].failure or not lost[0].failure.unanswered:
        return made
    return msgspec.structs.replace(made, severity=Severity.WARN, confidence=Confidence.POSSIBLE)


def shortened(text: str, most: int) -> str:
    """Cut a text that is longer after a word, and show that it is cut."""
    if len(text) <= most:
        return text.rstrip(". ")
    return f"{text[:most].rpartition(' ')[0] or text[:most]} …"


def written(met: Met) -> str:
    """Write a rule or policy as it is printed."""
    if met.rule:
        return met.rule.text
    if met.table.origin is Origin.NFT:
        return f"the policy of {met.table.family} {met.table.name} {met.chain}"
    return f"-P {met.chain} {met.action.value.upper()}"


def removal(enter: str, met: Met) -> str:
    """Write the command that takes a rule out, or has a policy accept.

    Args:
        enter: The start of a command that runs in the node's network.
        met: The rule or policy.
    """
    table = met.table
    if table.origin is Origin.NFT:
        place = f"{table.family} {table.name} {met.chain}"
        if met.rule:
            return f"{enter} nft delete rule {place} handle {met.rule.handle}"
        return f"{enter} nft chain {place} '{{ policy accept ; }}'"
    tool = "iptables-legacy" if table.origin is Origin.IPTABLES_LEGACY else "iptables"
    tool += "" if table.name == "filter" else f" -t {table.name}"
    if met.rule:
        return f"{enter} {tool} -D{met.rule.text.removeprefix('-A')}"
    return f"{enter} {tool} -P {met.chain} {Action.ACCEPT.value.upper()}"


def drops_all(read: NodeNetwork) -> Rule | None:
    """Return the rule of a node's chain KUBE-FIREWALL that drops every packet, if there is one."""
    chain = read.chain("filter", KUBE_FIREWALL)
    rules = (r for r in (chain.rules if chain else ()) if r.action is Action.DROP)
    return next((r for r in rules if _unconditional(r)), None)


def _unconditional(rule: Rule) -> bool:
    """Say whether a rule matches every packet."""
    named = (
        rule.protocols, rule.ports, rule.source_ports, rule.sources, rule.destinations,
        rule.inputs, rule.outputs, rule.states, rule.mark, rule.inverted, rule.other,
    )  # fmt: skip
    return not any(named)
