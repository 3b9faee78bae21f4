"""kube-proxy's rules on a node: flushed, or left as they were while endpoints moved."""

from typing import Final

from tests.lab.faults import processes
from tests.lab.faults.kube_proxy import DAEMONS, GONE
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import forget, note, noted
from tests.lab.faults.pods import Pod, coredns_pods, delete, pods
from tests.lab.faults.traffic import curl, dns
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import Shape, nth_address
from tests.lab.shell import poll

FLUSHED: Final = "kube-proxy-rules-flushed"
HUNG: Final = "kube-proxy-hung"
PROGRAM: Final = "kube-proxy"
_DNS_HOST: Final = 10
# the hooks alone: what they led to stays, and so kube-proxy sees nothing amiss until its next full sync
_FLUSH: Final = "iptables -t nat -F PREROUTING; iptables -t nat -F OUTPUT"


def uses_iptables(shape: Shape) -> bool:
    """Whether kube-proxy writes rules of iptables, which firewalls flush."""
    return has_workers(shape) and shape.kube_proxy_mode == "iptables"


def first_worker(lab: Lab) -> Node:
    """The first node that is no control plane."""
    return next(node for node in lab.nodes.values() if not node.control_plane)


def proxy_on(lab: Lab, node: Node) -> list[Pod]:
    """kube-proxy's pod on a node."""
    found = pods(lab, DAEMONS.namespace, "k8s-app=kube-proxy")
    return [pod for pod in found if pod.node == node.fqdn]


def reaches_api(lab: Lab, node: Node) -> bool:
    """Whether a node reaches the API server by the address of its service."""
    address = nth_address(lab.shape.service_network, 1)
    return curl(lab, node.name, f"https://{address}/version", seconds=1) == 0


def start_anew(lab: Lab, node: Node) -> None:
    """Let kube-proxy on a node write all its rules, as it does when it starts."""
    delete(lab, proxy_on(lab, node))
    poll(
        lambda: any(pod.ready for pod in proxy_on(lab, node)) and reaches_api(lab, node),
        seconds=60,
        what=f"the rules on {node.name}",
    )


def _node_name(lab: Lab) -> tuple[str, ...]:
    return (first_worker(lab).fqdn,)


def _inject_flush(lab: Lab) -> None:
    first_worker(lab).run("sh", "-c", _FLUSH)


def _settled_flush(lab: Lab) -> bool:
    lost = first_worker(lab)
    others = [node for node in lab.nodes.values() if node != lost]
    ready = all(pod.ready for pod in proxy_on(lab, lost))
    return ready and not reaches_api(lab, lost) and all(reaches_api(lab, node) for node in others)


def _heal_flush(lab: Lab) -> None:
    if not reaches_api(lab, first_worker(lab)):
        start_anew(lab, first_worker(lab))


def _dns_address(lab: Lab) -> str:
    return nth_address(lab.shape.service_network, _DNS_HOST)


def _inject_hang(lab: Lab) -> None:
    lost = first_worker(lab)
    old = [pod for pod in coredns_pods(lab) if pod.address]
    known = note(lab, HUNG, "addresses", " ".join(pod.address for pod in old)).split()
    processes.freeze(lost, PROGRAM)
    delete(lab, [pod for pod in coredns_pods(lab) if pod.address in known])


def _settled_hang(lab: Lab) -> bool:
    lost = first_worker(lab)
    gone = (noted(lab, HUNG, "addresses") or "").split()
    ready = [pod for pod in coredns_pods(lab) if pod.ready and pod.address not in gone]
    others = [node for node in lab.nodes.values() if node != lost]
    return (
        len(ready) >= len(gone)
        and processes.frozen(lost, PROGRAM)
        and dns(lab, lost.name, _dns_address(lab), "udp") != "answer"
        and all(dns(lab, node.name, _dns_address(lab), "udp") == "answer" for node in others)
    )


def _heal_hang(lab: Lab) -> None:
    processes.thaw(first_worker(lab), PROGRAM)
    forget(lab, HUNG, "addresses")


FAULTS: Final = (
    Fault(
        name=FLUSHED,
        link="kube-proxy",
        story=(
            "A firewall's reload emptied the chains of a worker's nat table that lead to"
            " kube-proxy's, which runs on and will not look after them for an hour."
        ),
        expected=frozenset({"KUBE_PROXY_RULES_MISSING"}),
        names=_node_name,
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_RULES_STALE", "KUBE_PROXY_BACKENDS_MIXED"},
        lookalikes=(GONE, HUNG, "sg-drops-8472"),
        fits=uses_iptables,
        inject=_inject_flush,
        settled=_settled_flush,
        heal=_heal_flush,
    ),
    Fault(
        name=HUNG,
        link="kube-proxy",
        story=(
            "kube-proxy on a worker hangs, and CoreDNS has moved since, so queries from there go"
            " to addresses that no pod has any more."
        ),
        expected=frozenset({"KUBE_PROXY_RULES_STALE"}),
        names=_node_name,
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_RULES_MISSING", "KUBE_PROXY_BACKENDS_MIXED"},
        lookalikes=(GONE, FLUSHED, "udp53-dropped", "coredns-at-zero"),
        fits=has_workers,
        inject=_inject_hang,
        settled=_settled_hang,
        heal=_heal_hang,
    ),
)
