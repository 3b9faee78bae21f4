"""Rules for Services on a node beside kube-proxy's, of another kind.

That KUBE-FIREWALL drops everything is no fault here: kube-proxy of this version writes that chain anew
with each change.
"""

from typing import Final

from tests.lab.faults.kube_proxy import GONE
from tests.lab.faults.kube_proxy_config import TWICE
from tests.lab.faults.kube_proxy_rules import FLUSHED, HUNG, first_worker, uses_iptables
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.shape import nth_address

MIXED: Final = "kube-proxy-backends-mixed"
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
)
