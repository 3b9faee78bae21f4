"""NetworkPolicies that keep pods from DNS: with somebody who enforces them, and without.

No engine can be built from the lab's modules: a DaemonSet stands in for one, and what it would drop is
dropped by rules for each pod's address, as engines with iptables write them.
"""

import json
from typing import Final

from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but, has_workers, no_names
from tests.lab.faults.pods import Pod, app_pods, coredns_pods, node_of
from tests.lab.faults.traffic import dns
from tests.lab.images import BUSYBOX
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

INGRESS: Final = "dns-netpol-ingress-kube-system"
EGRESS: Final = "dns-netpol-egress-deny"
DECOY: Final = "decoy-netpol-without-engine"
_ENGINE: Final = "kube-network-policies"
_CHAIN: Final = "KUBE-POD-FW-LAB"
_NAME: Final = "default-deny"
# answers to what others began pass every policy
_NEW: Final = ("-m", "conntrack", "--ctstate", "NEW")


def _policy(namespace: str, kind: str, labels: dict[str, str]) -> str:
    return json.dumps(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": _NAME, "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": [kind]},
        }
    )


def _engine() -> str:
    labels = {"k8s-app": _ENGINE}
    container = {
        "name": _ENGINE,
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sleep", "86400"],
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": _ENGINE, "namespace": "kube-system", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )


def _start_engine(lab: Lab) -> None:
    lab.apply(_engine())
    lab.kubectl("rollout", "status", "daemonset", _ENGINE, "-n", "kube-system", "--timeout=60s")


def _drops(lab: Lab, rules: list[tuple[str, ...]]) -> None:
    """Write the engine's chain anew on every node."""
    for node in lab.nodes.values():
        _forget_rules(node)
        node.run("iptables", "-w", "-N", _CHAIN)
        for rule in rules:
            node.run("iptables", "-w", "-A", _CHAIN, *rule, *_NEW, "-j", "DROP")
        node.run("iptables", "-w", "-I", "FORWARD", "1", "-j", _CHAIN)


def _forget_rules(node: Node) -> None:
    while not node.run("iptables", "-w", "-D", "FORWARD", "-j", _CHAIN, check=False).returncode:
        pass
    node.run("iptables", "-w", "-F", _CHAIN, check=False)
    node.run("iptables", "-w", "-X", _CHAIN, check=False)


def _inject_ingress(lab: Lab) -> None:
    _start_engine(lab)
    lab.apply(_policy("kube-system", "Ingress", {"k8s-app": "kube-dns"}))
    _drops(lab, [("-d", pod.address) for pod in coredns_pods(lab)])


def _elsewhere(lab: Lab, pod: Pod) -> str:
    return next(n.name for n in lab.nodes.values() if n != node_of(lab, pod))


def _settled_ingress(lab: Lab) -> bool:
    pods = coredns_pods(lab)
    lost = [dns(lab, _elsewhere(lab, p), p.address, "udp") == "timeout" for p in pods]
    return bool(pods) and all(p.ready for p in pods) and all(lost)


def _inject_egress(lab: Lab) -> None:
    _start_engine(lab)
    lab.apply(_policy(lab.shape.app_namespace, "Egress", {"app": lab.shape.app}))
    _drops(lab, [("-s", pod.address) for pod in app_pods(lab)])


def _settled_egress(lab: Lab) -> bool:
    pods = app_pods(lab)
    homes = [node_of(lab, pod) for pod in pods]
    written = (n.run("iptables", "-w", "-S", _CHAIN, check=False).stdout for n in homes)
    return bool(pods) and all(f"-s {p.address}/32" in w for p, w in zip(pods, written, strict=True))


def _inject_decoy(lab: Lab) -> None:
    lab.apply(_policy("kube-system", "Ingress", {"k8s-app": "kube-dns"}))
    lab.apply(_policy(lab.shape.app_namespace, "Egress", {"app": lab.shape.app}))


def _settled_decoy(lab: Lab) -> bool:
    found = lab.kubectl("get", "networkpolicies", "-A", "-o", "name").split()
    return len(found) == len({"kube-system", lab.shape.app_namespace})


def _heal(lab: Lab) -> None:
    for node in lab.nodes.values():
        _forget_rules(node)
    for namespace in ("kube-system", lab.shape.app_namespace):
        # a remedy adds one beside it
        names = ("networkpolicy", _NAME, "allow-dns", "-n", namespace)
        lab.kubectl("delete", *names, "--ignore-not-found")
    lab.kubectl("delete", "daemonset", _ENGINE, "-n", "kube-system", "--ignore-not-found")
    select = ("-n", "kube-system", "-l", f"k8s-app={_ENGINE}", "-o", "name")
    poll(lambda: not lab.kubectl("get", "pods", *select), seconds=60, what="no engine")


def _fault(
    name: str, story: str, code: str, *, named: str, warns: bool = False, **how: object
) -> Fault:
    return Fault(
        name=name,
        link="dns",
        story=story,
        expected=frozenset({code}),
        names=lambda _: (_NAME, named),
        forbidden=all_but("DNS_") | others(code),
        lookalikes=tuple({INGRESS, EGRESS, "udp53-dropped"} - {name}),
        fits=has_workers,
        heal=_heal,
        warns=warns,
        stands_in=True,
        **how,  # type: ignore[arg-type]
    )


FAULTS: Final = (
    _fault(
        INGRESS,
        "A default-deny policy in kube-system, which an engine enforces, shuts CoreDNS off.",
        "DNS_POLICY_DENIES_INGRESS",
        named="kube-system",
        inject=_inject_ingress,
        settled=_settled_ingress,
    ),
    _fault(
        EGRESS,
        "A default-deny policy for what the site's pods send, which an engine enforces, spares no DNS.",
        "DNS_POLICY_DENIES_EGRESS",
        named=_ENGINE,
        warns=True,
        inject=_inject_egress,
        settled=_settled_egress,
    ),
    Fault(
        name=DECOY,
        link="dns",
        story="Policies deny everything to CoreDNS and to the site, and nothing enforces them.",
        expected=frozenset(),
        names=no_names,
        forbidden=frozenset({"*"}),
        lookalikes=(INGRESS, EGRESS),
        inject=_inject_decoy,
        settled=_settled_decoy,
        heal=_heal,
        decoy=True,
    ),
)
