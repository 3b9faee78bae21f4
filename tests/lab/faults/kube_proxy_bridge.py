"""The bridge of pods, as far as Service addresses depend on it."""

from typing import Final

from tests.lab.faults.kube_proxy import GONE
from tests.lab.faults.kube_proxy_rules import first_worker
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import forget, note, noted
from tests.lab.faults.pods import Pod, app_pods, coredns_pods
from tests.lab.lab import Lab
from tests.lab.node import Node

BYPASSED: Final = "bridge-nf-call-off"
HAIRPIN: Final = "hairpin-off"
_SYSCTL: Final = "net.bridge.bridge-nf-call-iptables"
_EACH_PORT: Final = (
    'for port in $(ls /sys/class/net/cni0/brif); do bridge link set dev "$port" hairpin '
)


def _with_pod(lab: Lab, fault: str, serving: list[Pod]) -> Node:
    """The node that was chosen, or would be: a worker with a pod that a Service leads to."""
    named = noted(lab, fault, "node")
    there = {pod.node for pod in serving}
    workers = [n for n in lab.nodes.values() if not n.control_plane and n.fqdn in there]
    return lab.nodes[named] if named else (workers or [first_worker(lab)])[0]


def _set(node: Node, value: int) -> None:
    node.run("sysctl", "-q", "-w", f"{_SYSCTL}={value}")


def _bypassed_node(lab: Lab) -> Node:
    return _with_pod(lab, BYPASSED, coredns_pods(lab))


def _inject_bypass(lab: Lab) -> None:
    _set(lab.nodes[note(lab, BYPASSED, "node", _bypassed_node(lab).name)], 0)


def _settled_bypass(lab: Lab) -> bool:
    return _bypassed_node(lab).run("sysctl", "-n", _SYSCTL).stdout.strip() == "0"


def _heal_bypass(lab: Lab) -> None:
    _set(_bypassed_node(lab), 1)
    forget(lab, BYPASSED, "node")


def _hairpin_node(lab: Lab) -> Node:
    return _with_pod(lab, HAIRPIN, app_pods(lab))


def _inject_hairpin(lab: Lab) -> None:
    node = lab.nodes[note(lab, HAIRPIN, "node", _hairpin_node(lab).name)]
    node.run("sh", "-c", f"{_EACH_PORT} off; done")


def _settled_hairpin(lab: Lab) -> bool:
    said = _hairpin_node(lab).run("bridge", "-d", "link", "show").stdout
    return "hairpin off" in said and "hairpin on" not in said


def _heal_hairpin(lab: Lab) -> None:
    # a pod may have gone together with its port
    _hairpin_node(lab).run("sh", "-c", f"{_EACH_PORT} on; done", check=False)
    forget(lab, HAIRPIN, "node")


FAULTS: Final = (
    Fault(
        name=BYPASSED,
        link="kube-proxy",
        story=(
            "A worker's bridge does not show iptables what it carries, so a pod there gets no"
            " answer by a Service from an endpoint beside it."
        ),
        expected=frozenset({"KUBE_PROXY_BRIDGE_BYPASSED"}),
        names=lambda lab: (_bypassed_node(lab).fqdn,),
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_HAIRPIN_OFF", "KUBE_PROXY_RULES_MISSING"},
        lookalikes=(HAIRPIN, GONE, "udp53-dropped"),
        fits=has_workers,
        inject=_inject_bypass,
        settled=_settled_bypass,
        heal=_heal_bypass,
    ),
    Fault(
        name=HAIRPIN,
        link="kube-proxy",
        story=(
            "The ports of a worker's bridge send nothing back where it came from, so a pod there"
            " cannot reach itself by its Service."
        ),
        expected=frozenset({"KUBE_PROXY_HAIRPIN_OFF"}),
        names=lambda lab: (_hairpin_node(lab).fqdn,),
        forbidden=all_but("KUBE_PROXY_") | {"KUBE_PROXY_BRIDGE_BYPASSED"},
        lookalikes=(BYPASSED,),
        fits=has_workers,
        inject=_inject_hairpin,
        settled=_settled_hairpin,
        heal=_heal_hairpin,
        warns=True,
    ),
)
