"""CoreDNS on a node that loses what goes to it, or what it sends to the API server."""

from functools import partial
from typing import Final

from tests.lab.faults.corefile import make_anew
from tests.lab.faults.dns import ALL
from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import forget, note, noted
from tests.lab.faults.pods import Pod, coredns_pods, delete, ready_endpoints
from tests.lab.faults.scheduling import cordoned, uncordon
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

NO_API: Final = "dns-coredns-api-unreachable"
ONE_REPLICA: Final = "dns-one-replica-bad-node"
_TABLE: Final = "fence"
_MOVED: Final = "moved"
_FENCE: Final = """\
table inet {name}
delete table inet {name}
table inet {name} {{
    chain forward {{
        type filter hook forward priority -10; policy accept;
        iifname != "cni0" ip daddr {address} udp dport 53 counter drop
        iifname != "cni0" ip daddr {address} tcp dport 53 counter drop
    }}
}}
"""


def _home(lab: Lab) -> Node:
    """The node that CoreDNS, or one of its replicas, is to run on: a worker."""
    return next(node for node in lab.nodes.values() if not node.control_plane)


def _there(lab: Lab) -> list[Pod]:
    return [pod for pod in coredns_pods(lab) if pod.node == _home(lab).fqdn]


def _elsewhere(lab: Lab) -> list[Node]:
    return [node for node in lab.nodes.values() if node.fqdn != _home(lab).fqdn]


def _api_rule(lab: Lab) -> tuple[str, ...]:
    """What keeps the pods of one node from the API server, as a policy engine would."""
    network = lab.kubectl("get", "node", _home(lab).fqdn, "-o", "jsonpath={.spec.podCIDR}")
    address = lab.control_plane.address
    matched = ("-s", network, "-d", f"{address}/32", "-p", "tcp", "--dport", "6443")
    return ("FORWARD", *matched, "-j", "DROP")


def _filters(lab: Lab) -> bool:
    done = _home(lab).run("iptables", "-w", "-C", *_api_rule(lab), check=False)
    return done.returncode == 0


def _inject_no_api(lab: Lab) -> None:
    note(lab, NO_API, _MOVED, "yes")
    if not _filters(lab):
        chain, *rule = _api_rule(lab)
        _home(lab).run("iptables", "-w", "-I", chain, "1", *rule)

    def moved() -> bool:
        pods = coredns_pods(lab)
        return bool(pods) and all(p.node == _home(lab).fqdn and p.address for p in pods)

    with cordoned(lab, NO_API, _elsewhere(lab)):
        delete(lab, coredns_pods(lab))
        poll(moved, seconds=60, what=f"CoreDNS on {_home(lab).name}")


def _settled_no_api(lab: Lab) -> bool:
    """Whether no replica serves, and each says what it waits for."""
    said = [lab.kubectl("logs", "-n", p.namespace, p.name, check=False) for p in coredns_pods(lab)]
    waits = bool(said) and all("waiting for Kubernetes API" in text for text in said)
    return waits and _filters(lab) and not ready_endpoints(lab, "kube-system", "kube-dns")


def _heal_no_api(lab: Lab) -> None:
    uncordon(lab, NO_API)
    while _filters(lab):
        _home(lab).run("iptables", "-w", "-D", *_api_rule(lab))
    _spread(lab, NO_API)


def _spread(lab: Lab, fault: str) -> None:
    """Let the scheduler choose anew where CoreDNS runs."""
    if noted(lab, fault, _MOVED):
        make_anew(lab)
        forget(lab, fault, _MOVED)


def _part(lab: Lab) -> None:
    """Have one replica run on a node, and another one elsewhere."""
    here, away = _there(lab), [p for p in coredns_pods(lab) if p not in _there(lab)]
    if here and away:
        return
    note(lab, ONE_REPLICA, _MOVED, "yes")

    def parted() -> bool:
        pods = coredns_pods(lab)
        return all(p.ready for p in pods) and 0 < len(_there(lab)) < len(pods)

    with cordoned(lab, ONE_REPLICA, [_home(lab)] if here else _elsewhere(lab)):
        delete(lab, (here or away)[:1])
        poll(parted, seconds=60, what=f"one replica of CoreDNS on {_home(lab).name}")


def _inject_fence(lab: Lab) -> None:
    _part(lab)
    rules = _FENCE.format(name=_TABLE, address=_there(lab)[0].address)
    _home(lab).run("nft", "-f", "-", input=rules)


def _settled_fence(lab: Lab) -> bool:
    """Whether all other nodes get nothing from that replica, and its own node an answer."""
    here, away = _there(lab), [p for p in coredns_pods(lab) if p not in _there(lab)]
    if len(here) != 1 or not away:
        return False
    ask = partial(dns, lab)
    return all(
        ask(node.name, here[0].address, t) == "timeout"
        and ask(node.name, away[0].address, t) == "answer"
        and ask(_home(lab).name, here[0].address, t) == "answer"
        for node in _elsewhere(lab)
        for t in ALL
    )


def _heal_fence(lab: Lab) -> None:
    uncordon(lab, ONE_REPLICA)
    _home(lab).run("nft", "delete", "table", "inet", _TABLE, check=False)
    _spread(lab, ONE_REPLICA)


FAULTS: Final = (
    Fault(
        name=NO_API,
        link="dns",
        story=(
            "A filter on the node that CoreDNS runs on keeps its pods from the API server, so"
            " CoreDNS runs, and never becomes ready."
        ),
        expected=frozenset({"DNS_API_UNREACHABLE"}),
        names=lambda lab: (_home(lab).fqdn, f"{lab.control_plane.address}:6443"),
        forbidden=all_but("DNS_") | others("DNS_API_UNREACHABLE"),
        lookalikes=(
            "kube-proxy-gone",
            "node-forward-policy-drop",
            "dns-coredns-rbac-endpointslices",
        ),
        fits=has_workers,
        inject=_inject_no_api,
        settled=_settled_no_api,
        heal=_heal_no_api,
    ),
    Fault(
        name=ONE_REPLICA,
        link="dns",
        story=(
            "The firewall of a node lets no query from outside in to the replica of CoreDNS there,"
            " so about every second lookup fails, wherever it comes from."
        ),
        expected=frozenset({"DNS_PORT_FILTERED"}),
        names=lambda lab: ("53", _home(lab).fqdn, _TABLE),
        forbidden=all_but("DNS_") | others("DNS_PORT_FILTERED"),
        lookalikes=("bridge-nf-call-off", "hairpin-off", "udp53-dropped"),
        fits=has_workers,
        inject=_inject_fence,
        settled=_settled_fence,
        heal=_heal_fence,
    ),
)
