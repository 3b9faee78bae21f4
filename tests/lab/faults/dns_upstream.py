"""Whom CoreDNS asks in turn: the resolvers of the nodes, and those of single zones."""

from functools import partial
from typing import Final

from tests.lab.faults.corefile import COREDNS, forward_to, make_anew, put_back, rewrite
from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but, anywhere
from tests.lab.faults.objects import await_available
from tests.lab.faults.pods import coredns_pods, node_of
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import RESOLVER
from tests.lab.topology import ROUTER

UNREACHABLE: Final = "dns-upstream-unreachable"
POD_ONLY: Final = "dns-upstream-pods-filtered"
ONE_OF_N: Final = "dns-upstream-one-of-n-dead"
STUB: Final = "dns-stubdomain-wrong"
OUTSIDE_NAME: Final = "mongo.example.net"
_SILENT: Final = "203.0.113.54"
_STUB_SERVER: Final = "203.0.113.55"
_STUB_ZONE: Final = "corp.test"
_DROPS: Final = """\
table ip {name}
delete table ip {name}
table ip {name} {{
    chain forward {{
        type filter hook forward priority 0; policy accept;
        ip saddr {network} ip daddr {address} meta l4proto {{ tcp, udp }} th dport 53 counter drop
    }}
}}
"""


def _table(fault: str) -> str:
    return fault.replace("-", "_")


def _router_drops(lab: Lab, fault: str, address: str) -> None:
    rules = _DROPS.format(name=_table(fault), network=lab.shape.node_network, address=address)
    lab.at(ROUTER, "nft", "-f", "-", input=rules)


def _router_heals(lab: Lab, fault: str) -> None:
    lab.at(ROUTER, "nft", "delete", "table", "ip", _table(fault), check=False)


def _silent_to(lab: Lab, nodes: list[Node], address: str) -> bool:
    return all(dns(lab, n.name, address, "udp") == "timeout" for n in nodes)


def _homes(lab: Lab) -> list[Node]:
    """The nodes that CoreDNS runs on."""
    return list({pod.node: node_of(lab, pod) for pod in coredns_pods(lab)}.values())


def _inject_unreachable(lab: Lab) -> None:
    _router_drops(lab, UNREACHABLE, RESOLVER)


def _settled_unreachable(lab: Lab) -> bool:
    return bool(_homes(lab)) and _silent_to(lab, _homes(lab), RESOLVER)


def _rule(lab: Lab) -> tuple[str, ...]:
    filtered = ("-s", lab.shape.pod_network, "-d", f"{RESOLVER}/32")
    return ("FORWARD", *filtered, "-p", "udp", "--dport", "53", "-j", "DROP")


def _filters(lab: Lab, node: Node) -> bool:
    return node.run("iptables", "-w", "-C", *_rule(lab), check=False).returncode == 0


def _inject_pod_only(lab: Lab) -> None:
    for node in lab.nodes.values():
        if not _filters(lab, node):
            chain, *rule = _rule(lab)
            node.run("iptables", "-w", "-I", chain, "1", *rule)


def _settled_pod_only(lab: Lab) -> bool:
    return all(
        _filters(lab, node) and dns(lab, node.name, RESOLVER, "udp") == "answer"
        for node in _homes(lab)
    )


def _heal_pod_only(lab: Lab) -> None:
    for node in lab.nodes.values():
        while _filters(lab, node):
            node.run("iptables", "-w", "-D", *_rule(lab))


def _inject_one_of_n(lab: Lab) -> None:
    _router_drops(lab, ONE_OF_N, _SILENT)
    rewrite(lab, ONE_OF_N, forward_to(RESOLVER, _SILENT))
    make_anew(lab)


def _inject_stub(lab: Lab) -> None:
    _router_drops(lab, STUB, _STUB_SERVER)
    block = f"{_STUB_ZONE}:53 {{\n    errors\n    forward . {_STUB_SERVER}\n}}\n"
    rewrite(lab, STUB, lambda text: text if _STUB_ZONE in text else text + block)
    make_anew(lab)


def _settled_silent(address: str, lab: Lab) -> bool:
    return bool(_homes(lab)) and _silent_to(lab, _homes(lab), address)


def _heal(fault: str, lab: Lab) -> None:
    _router_heals(lab, fault)
    put_back(lab, fault)
    await_available(lab, COREDNS)


FAULTS: Final = (
    Fault(
        name=UNREACHABLE,
        link="dns",
        story="A router drops what the nodes ask their resolver, so no outside name resolves.",
        expected=frozenset({"DNS_UPSTREAM_DEAD"}),
        names=lambda _: (RESOLVER,),
        forbidden=all_but("DNS_") | others("DNS_UPSTREAM_DEAD"),
        lookalikes=(POD_ONLY, ONE_OF_N, STUB),
        fits=anywhere,
        inject=_inject_unreachable,
        settled=_settled_unreachable,
        heal=partial(_heal, UNREACHABLE),
    ),
    Fault(
        name=POD_ONLY,
        link="dns",
        story="Nodes drop what pods ask the resolver outside, while they reach it themselves.",
        expected=frozenset({"DNS_UPSTREAM_POD_ONLY"}),
        names=lambda _: (RESOLVER,),
        forbidden=all_but("DNS_") | others("DNS_UPSTREAM_POD_ONLY"),
        lookalikes=(UNREACHABLE, ONE_OF_N, STUB),
        fits=anywhere,
        inject=_inject_pod_only,
        settled=_settled_pod_only,
        heal=_heal_pod_only,
    ),
    Fault(
        name=ONE_OF_N,
        link="dns",
        story="Of the two resolvers that the Corefile names, one answers nobody.",
        expected=frozenset({"DNS_UPSTREAM_PARTLY_DEAD"}),
        names=lambda _: (_SILENT,),
        forbidden=all_but("DNS_") | others("DNS_UPSTREAM_PARTLY_DEAD"),
        lookalikes=(UNREACHABLE, POD_ONLY, STUB),
        fits=anywhere,
        inject=_inject_one_of_n,
        settled=partial(_settled_silent, _SILENT),
        heal=partial(_heal, ONE_OF_N),
        warns=True,
    ),
    Fault(
        name=STUB,
        link="dns",
        story="The Corefile sends one private zone to a server that is gone.",
        expected=frozenset({"DNS_STUB_DEAD"}),
        names=lambda _: (_STUB_SERVER, _STUB_ZONE),
        forbidden=all_but("DNS_") | others("DNS_STUB_DEAD"),
        lookalikes=(UNREACHABLE, ONE_OF_N),
        fits=anywhere,
        inject=_inject_stub,
        settled=partial(_settled_silent, _STUB_SERVER),
        heal=partial(_heal, STUB),
    ),
)
