"""Rules on a node that others than kube-proxy wrote: for Services, of another kind, or into its chains."""

from typing import Final

from tests.lab.faults.host_filter import HOST_FIREWALL
from tests.lab.faults.kube_proxy import GONE
from tests.lab.faults.kube_proxy_config import TWICE
from tests.lab.faults.kube_proxy_rules import FLUSHED, HUNG, first_worker, uses_iptables
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.traffic import dns
from tests.lab.faults.tunnel import sees
from tests.lab.faults.underlay import DOWN
from tests.lab.lab import Lab
from tests.lab.shape import nth_address

MIXED: Final = "kube-proxy-backends-mixed"
DROPS_ALL: Final = "kp-kube-firewall-drop-all"
_BARE: Final = ("KUBE-FIREWALL", "-j", "DROP")
_DNS_HOST: Final = 10
_NOBODY: Final = 250
_CHAINS: Final = ("KUBE-SERVICES", "KUBE-SVC-TCOU7JCQXEZGVUNU", "KUBE-SEP-AAAAAAAAAAAAAAAA")


def _dns_address(lab: Lab) -> str:
    return nth_address(lab.shape.service_network, _DNS_HOST)


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


def _let_in(lab: Lab) -> tuple[str, ...]:
    """What somebody has let pass who wants to get in and mend it, and the node's own pods.

    Were the kubelet not to reach its pods, their endpoints would change, and with each change kube-proxy
    of this version writes the chain anew.
    """
    plane = lab.control_plane.address
    return (
        *(f"INPUT -i {device} -j ACCEPT" for device in ("lo", "cni0")),
        *(f"OUTPUT -o {device} -j ACCEPT" for device in ("lo", "cni0")),
        "INPUT -p tcp --dport 10250 -j ACCEPT",
        "OUTPUT -p tcp --sport 10250 -j ACCEPT",
        f"INPUT -s {plane} -p tcp --sport 6443 -j ACCEPT",
        f"OUTPUT -d {plane} -p tcp --dport 6443 -j ACCEPT",
    )


def _drops_all(lab: Lab) -> bool:
    done = first_worker(lab).run("iptables", "-w", "-C", *_BARE, check=False)
    return done.returncode == 0


def _inject_drops(lab: Lab) -> None:
    _heal_drops(lab)
    for rule in _let_in(lab):
        first_worker(lab).run("iptables", "-w", "-I", *rule.split())
    first_worker(lab).run("iptables", "-w", "-A", *_BARE)


def _settled_drops(lab: Lab) -> bool:
    worker = first_worker(lab)
    others = [node for node in lab.nodes.values() if node != worker]
    return _drops_all(lab) and not any(sees(node, worker) for node in others)


def _heal_drops(lab: Lab) -> None:
    worker = first_worker(lab)
    while _drops_all(lab):
        worker.run("iptables", "-w", "-D", *_BARE)
    for rule in _let_in(lab):
        while worker.run("iptables", "-w", "-C", *rule.split(), check=False).returncode == 0:
            worker.run("iptables", "-w", "-D", *rule.split())


FAULTS: Final = (
    Fault(
        name=DROPS_ALL,
        link="kube-proxy",
        story=(
            "Two versions of iptables have made the kubelet's rule about marked packets one about"
            " all, so a worker drops whatever was not let pass before."
        ),
        expected=frozenset({"KUBE_FIREWALL_DROPS_ALL"}),
        names=lambda lab: (first_worker(lab).fqdn, "KUBE-FIREWALL"),
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_*", "POD_NETWORK_BROKEN", "UNDERLAY_UNREACHABLE", "NODE_NOT_READY"},
        lookalikes=(FLUSHED, HOST_FIREWALL, DOWN),
        fits=uses_iptables,
        inject=_inject_drops,
        settled=_settled_drops,
        heal=_heal_drops,
    ),
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
)
