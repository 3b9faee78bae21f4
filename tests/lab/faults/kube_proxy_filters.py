"""Packet filters on a node beside kube-proxy's: the kubelet's chain, and rules of another kind."""

from typing import Final

from tests.lab.faults.kube_proxy import GONE
from tests.lab.faults.kube_proxy_config import TWICE
from tests.lab.faults.kube_proxy_rules import FLUSHED, HUNG, first_worker, uses_iptables
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.pods import APP_PORT, app_pods
from tests.lab.faults.traffic import curl, dns
from tests.lab.lab import Lab
from tests.lab.shape import Shape, nth_address

MIXED: Final = "kube-proxy-backends-mixed"
DROPS_ALL: Final = "kube-firewall-drops-all"
_DNS_HOST: Final = 10
_NOBODY: Final = 250
_CHAINS: Final = ("KUBE-SERVICES", "KUBE-SVC-TCOU7JCQXEZGVUNU", "KUBE-SEP-AAAAAAAAAAAAAAAA")
# what an administrator has open to mend a node by, and what the API server needs to reach the kubelet
_OPEN: Final = (
    "INPUT -m conntrack --ctstate RELATED,ESTABLISHED",
    "OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED",
    "INPUT -p tcp --dport 10250",
    "OUTPUT -p tcp --dport 6443",
    "INPUT -i lo",
    "OUTPUT -o lo",
)
_COMMENT: Final = "-m comment --comment way-in"


def _dns_address(lab: Lab) -> str:
    return nth_address(lab.shape.service_network, _DNS_HOST)


def _keeps_the_chain(shape: Shape) -> bool:
    """Whether nobody writes the kubelet's chain anew: kube-proxy in iptables mode does, each time."""
    return has_workers(shape) and shape.kube_proxy_mode == "nftables"


def _inject_mix(lab: Lab) -> None:
    services, service, endpoint = _CHAINS
    dead = nth_address(lab.shape.pod_network, _NOBODY)
    to_dns = f"-d {_dns_address(lab)}/32 -p udp -m udp --dport 53"
    rules = "\n".join(
        (
            "*nat",
            *(f":{chain} - [0:0]" for chain in _CHAINS),
            f"-A PREROUTING -j {services}",
            f"-A OUTPUT -j {services}",
            f"-A {services} {to_dns} -j {service}",
            f"-A {service} -j {endpoint}",
            f"-A {endpoint} -p udp -m udp -j DNAT --to-destination {dead}:53",
            "COMMIT\n",
        )
    )
    _heal_mix(lab)
    first_worker(lab).run("iptables-legacy-restore", "--noflush", input=rules)


def _settled_mix(lab: Lab) -> bool:
    return dns(lab, first_worker(lab).name, _dns_address(lab), "udp") != "answer"


def _heal_mix(lab: Lab) -> None:
    script = "iptables-legacy -t nat -F; iptables-legacy -t nat -X"
    first_worker(lab).run("sh", "-c", script)


def _inject_drop(lab: Lab) -> None:
    node = first_worker(lab)
    _heal_drop(lab)
    for rule in _OPEN:
        node.run("sh", "-c", f"iptables -I {rule} {_COMMENT} -j ACCEPT")
    node.run("iptables", "-A", "KUBE-FIREWALL", "-j", "DROP")


def _settled_drop(lab: Lab) -> bool:
    """No other node gets a word from a pod there, and the node resolves nothing."""
    lost = first_worker(lab)
    urls = [f"http://{p.address}:{APP_PORT}/" for p in app_pods(lab) if p.node == lost.fqdn]
    others = [node for node in lab.nodes.values() if node != lost]
    return dns(lab, lost.name, _dns_address(lab), "udp") != "answer" and not any(
        curl(lab, node.name, url, seconds=1) == 0 for url in urls for node in others
    )


def _heal_drop(lab: Lab) -> None:
    node = first_worker(lab)
    node.run("sh", "-c", "while iptables -D KUBE-FIREWALL -j DROP 2>/dev/null; do :; done")
    for rule in _OPEN:
        script = f"while iptables -D {rule} {_COMMENT} -j ACCEPT 2>/dev/null; do :; done"
        node.run("sh", "-c", script)


FAULTS: Final = (
    Fault(
        name=MIXED,
        link="kube-proxy",
        story=(
            "iptables-legacy on a worker still holds rules for Services from before an upgrade,"
            " which lead to a pod that is long gone."
        ),
        expected=frozenset({"KUBE_PROXY_BACKENDS_MIXED"}),
        names=lambda lab: (first_worker(lab).fqdn, "iptables-legacy"),
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_RULES_STALE", "KUBE_PROXY_RULES_MISSING"}
        | {"KUBE_PROXY_DUPLICATE"},
        lookalikes=(HUNG, GONE, FLUSHED, TWICE),
        fits=uses_iptables,
        inject=_inject_mix,
        settled=_settled_mix,
        heal=_heal_mix,
    ),
    Fault(
        name=DROPS_ALL,
        link="kube-proxy",
        story=(
            "The kubelet's chain of a worker drops every packet, as another version of iptables"
            " has lost the mark in its rule; only what an administrator let in before still passes."
        ),
        expected=frozenset({"KUBE_FIREWALL_DROPS_ALL"}),
        names=lambda lab: (first_worker(lab).fqdn, "KUBE-FIREWALL"),
        forbidden=all_but("KUBE_PROXY_") | {"KUBE_PROXY_*"},
        lookalikes=("sg-drops-8472", GONE),
        fits=_keeps_the_chain,
        inject=_inject_drop,
        settled=_settled_drop,
        heal=_heal_drop,
    ),
)
