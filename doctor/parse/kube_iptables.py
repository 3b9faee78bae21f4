"""Entries of Services in the rules that kube-proxy writes in iptables mode."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from doctor.model.netfilter import Action, Rule, ServiceEntry
from doctor.parse.iptables_rule import read_rule
from doctor.parse.iptables_save import Saved
from doctor.parse.kube_chains import Graph, merged

__all__ = ["iptables_services"]

_NEXT = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-")
_CHAINS = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS")
_NAMED = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?", re.ASCII)
_HOST = "/32"
_REFUSALS = (Action.DROP, Action.REJECT)


def iptables_services(saved: Iterable[Saved]) -> tuple[ServiceEntry, ...] | None:
    """Read where each address and port of a Service leads.

    Args:
        saved: Tables of one or both kinds; those of the filter table refuse what has no endpoint.

    Returns:
        The entries; None where kube-proxy's chains are not there, or the output was cut.
    """
    tables = [s for s in saved if any(c.name in _CHAINS for c in s.chains)]
    if not any(s.name == "nat" for s in tables) or not all(s.whole for s in tables):
        return None
    return merged(entry for s in tables for entry in _entries(s))


def _entries(saved: Saved) -> Iterator[ServiceEntry]:
    """Read one table's entries."""
    names = frozenset(c.name for c in saved.chains)
    jumps: dict[str, list[str]] = defaultdict(list)
    addresses: dict[str, list[str]] = defaultdict(list)
    entries: list[Rule] = []
    for found in saved.rules:
        if not found.chain.startswith(
            ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", *_CHAINS)
        ):
            continue
        rule = read_rule(found.words, names)
        if found.chain in _CHAINS:
            entries.append(rule)
        elif rule.action is Action.DNAT:
            addresses[found.chain].append(rule.target)
        elif rule.target.startswith(_NEXT) and not _short_cut(found.chain, rule):
            jumps[found.chain].append(rule.target)
    graph = Graph(jumps, addresses)
    for rule in entries:
        if entry := _entry(rule, graph):
            yield entry


def _short_cut(chain: str, rule: Rule) -> bool:
    """Say whether a rule is for the node's own and its pods' traffic to an external address."""
    return chain.startswith("KUBE-EXT-") and bool(rule.sources or rule.other)


def _entry(rule: Rule, graph: Graph) -> ServiceEntry | None:
    """Reduce one rule that names a port; None for one that leads to no Service."""
    leads = rule.target.startswith(_NEXT)
    host = not rule.destinations or rule.destinations[0].endswith(_HOST)
    if not (rule.ports and rule.protocols and host and (leads or rule.action in _REFUSALS)):
        return None
    named = _NAMED.match(rule.comment)
    return ServiceEntry(
        address=rule.destinations[0].removesuffix(_HOST) if rule.destinations else "",
        protocol=rule.protocols[0],
        port=rule.ports[0][0],
        name=named.group() if named else "",
        chain=rule.target if leads else "",
        endpoints=graph.endpoints(rule.target) if leads else (),
        refusal=None if leads else rule.action,
    )
