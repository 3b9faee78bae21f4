"""Entries of Services in the rules that kube-proxy writes in nftables mode."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from doctor.model.netfilter import Action, Rule, ServiceEntry
from doctor.parse.kube_chains import Graph, merged
from doctor.parse.nft_json import NftTable
from doctor.parse.nft_rule import comment_of, parts_of, read_rules, verdict_of

__all__ = ["nft_services"]

_MAPS = ("service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports")
_REFUSALS = (Action.DROP, Action.REJECT)
_PROTOCOLS: dict[object, str] = {6: "tcp", 17: "udp", 132: "sctp"}
"""nft prints numbers where there is no /etc/protocols, as in flannel's image."""


def nft_services(tables: Iterable[NftTable]) -> tuple[ServiceEntry, ...] | None:
    """Read where each address and port of a Service leads; None without kube-proxy's table."""
    own = [t for t in tables if (t.family, t.name) == ("ip", "kube-proxy")]
    return merged(e for t in own for e in _entries(t)) if own else None


def _entries(table: NftTable) -> Iterator[ServiceEntry]:
    """Read the maps, and the chains that they lead to."""
    jumps: dict[str, list[str]] = defaultdict(list)
    addresses: dict[str, list[str]] = defaultdict(list)
    for chain, rules in table.rules.items():
        for rule in (found for r in rules for found in read_rules(r.expr, table.elements)):
            if rule.action is Action.DNAT:
                addresses[chain].append(rule.target)
            elif rule.action in (Action.GOTO, Action.JUMP) and not _short_cut(chain, rule):
                jumps[chain].append(rule.target)
    graph = Graph(jumps, addresses)
    for name in _MAPS:
        for element in table.elements.named.get(name, ()):
            if entry := _entry(element, graph):
                yield entry


def _short_cut(chain: str, rule: Rule) -> bool:
    """Say whether a rule is for the node's own and its pods' traffic to an external address."""
    return chain.startswith("external-") and bool(rule.sources or rule.other)


def _entry(element: object, graph: Graph) -> ServiceEntry | None:
    """Reduce one element of a map; None for one of another form."""
    match element:
        case [key, verdict]:
            action, chain = verdict_of(verdict)
            parts = parts_of(key)[1]
        case _:
            return None
    match parts:
        case [*address, str() | int() as number, int(port)] if all(
            isinstance(a, str) for a in address[:1]
        ):
            protocol = _PROTOCOLS.get(number, str(number))
            refusal = Action.REJECT if chain == "reject-chain" else action
            leads = refusal in (Action.GOTO, Action.JUMP)
            return ServiceEntry(
                address=str(address[0]) if address else "",
                protocol=protocol,
                port=port,
                name=_name(chain) if leads else comment_of(key),
                chain=chain if leads else "",
                endpoints=graph.endpoints(chain) if leads else (),
                refusal=refusal if refusal in _REFUSALS else None,
            )
    return None


def _name(chain: str) -> str:
    """Read the Service's name out of ``service-ULMVA6XW-namespace/name/tcp/port``."""
    namespace, _, rest = chain.partition("-")[2].partition("-")[2].partition("/")
    name, _, port = rest.partition("/")
    port = port.partition("/")[2]
    return f"{namespace}/{name}:{port}" if port else f"{namespace}/{name}"
