"""CoreDNS itself: kept off all nodes, crashing, without rights; and its Service."""

import sys
from functools import partial
from typing import Final

from tests.lab.faults.corefile import COREDNS, make_anew, put_back, rewrite
from tests.lab.faults.dns import ALL
from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import (
    Json,
    Ref,
    await_available,
    edit,
    restore,
)
from tests.lab.faults.pods import coredns_pods, delete, ready_endpoints
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.shell import poll

TAINTS: Final = "dns-coredns-pending-taints"
INVALID: Final = "dns-corefile-invalid"
LOOP: Final = "dns-coredns-loop"
RBAC: Final = "dns-coredns-rbac-endpointslices"
OOM: Final = "dns-coredns-oom"
SELECTOR: Final = "dns-svc-selector"
TARGET_PORT: Final = "dns-svc-target-port"
NO_TCP: Final = "dns-svc-without-tcp"
LIMIT: Final = "dns-forward-max-concurrent"
_ALL: Final = (TAINTS, INVALID, LOOP, RBAC, OOM, SELECTOR, TARGET_PORT, NO_TCP)
_TAINT: Final = "node.cloudprovider.kubernetes.io/uninitialized"
_SERVICE: Final = Ref(kind="service", name="kube-dns", namespace="kube-system")
_ROLE: Final = Ref(kind="clusterrole", name="system:coredns")
_WRONG_PORT: Final = 5353
# two hundred queries in one go, for names that nobody has: no cache answers
_BURST: Final = """\
import os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.connect((sys.argv[1], 53))
    for n in range(200):
        label = os.urandom(8).hex().encode()
        name = bytes([len(label)]) + label + b"\\7example\\3net\\0"
        link.send(struct.pack(">HHHHHH", n, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1))
"""


def _replaced(lab: Lab) -> None:
    """Delete the pods of CoreDNS; those that follow need not become ready."""
    delete(lab, coredns_pods(lab))


def _crashing(lab: Lab) -> bool:
    """Whether all of CoreDNS's pods ended at least once more, and none serves."""
    pods = coredns_pods(lab)
    ended = all(p.restarts and not p.ready for p in pods)
    return bool(pods) and ended and not ready_endpoints(lab, "kube-system", "kube-dns")


def _inject_taints(lab: Lab) -> None:
    names = [node.fqdn for node in lab.nodes.values()]
    lab.kubectl("taint", "node", "--overwrite", *names, f"{_TAINT}=true:NoSchedule")
    _replaced(lab)


def _settled_taints(lab: Lab) -> bool:
    pods = coredns_pods(lab)
    return bool(pods) and not any(p.node for p in pods)


def _heal_taints(lab: Lab) -> None:
    names = [node.fqdn for node in lab.nodes.values()]
    lab.kubectl("taint", "node", *names, f"{_TAINT}-", check=False)
    await_available(lab, COREDNS)


def _misspell(text: str) -> str:
    return text.replace("    forward . ", "    forwrd . ")


def _to_itself(text: str) -> str:
    return text.replace("forward . /etc/resolv.conf", "forward . 127.0.0.1")


def _inject_corefile(fault: str, lab: Lab) -> None:
    rewrite(lab, fault, {INVALID: _misspell, LOOP: _to_itself}[fault])
    _replaced(lab)


def _heal_objects(fault: str, lab: Lab) -> None:
    put_back(lab, fault)
    await_available(lab, COREDNS)


def _without_slices(found: Json) -> None:
    found["rules"] = [r for r in found["rules"] if "endpointslices" not in r["resources"]]


def _inject_rbac(lab: Lab) -> None:
    edit(lab, RBAC, _ROLE, _without_slices)
    _replaced(lab)


def _settled_rbac(lab: Lab) -> bool:
    pods = coredns_pods(lab)
    waiting = bool(pods) and all(p.node and p.address and not p.ready for p in pods)
    said = [lab.kubectl("logs", "-n", p.namespace, p.name, check=False) for p in pods]
    return waiting and all("forbidden" in text for text in said)


def _limit(found: Json) -> None:
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"memory": "8Mi"}, "requests": {"memory": "8Mi"}}
    found["spec"]["strategy"] = {"type": "Recreate"}


def _inject_oom(lab: Lab) -> None:
    edit(lab, OOM, COREDNS, _limit)


def _settled_oom(lab: Lab) -> bool:
    path = "jsonpath={.items[*].status.containerStatuses[*].lastState.terminated.reason}"
    select = ("-n", "kube-system", "-l", "k8s-app=kube-dns")
    return _crashing(lab) and "OOMKilled" in lab.kubectl("get", "pods", *select, "-o", path)


def _heal_oom(lab: Lab) -> None:
    restore(lab, OOM)
    await_available(lab, COREDNS)


def _select_nothing(found: Json) -> None:
    found["spec"]["selector"] = {"k8s-app": "coredns"}


def _other_port(found: Json) -> None:
    for port in found["spec"]["ports"]:
        if port["port"] == 53:
            port["targetPort"] = _WRONG_PORT


def _udp_only(found: Json) -> None:
    found["spec"]["ports"] = [p for p in found["spec"]["ports"] if p["name"] != "dns-tcp"]


_CHANGES: Final = {SELECTOR: _select_nothing, TARGET_PORT: _other_port, NO_TCP: _udp_only}


def _inject_service(fault: str, lab: Lab) -> None:
    edit(lab, fault, _SERVICE, _CHANGES[fault])


def _address(lab: Lab) -> str:
    return lab.kubectl("get", *_SERVICE.arguments, "-o", "jsonpath={.spec.clusterIP}")


def _settled_service(fault: str, lab: Lab) -> bool:
    """Whether every node is refused over TCP, and over UDP unless that is as before."""
    address = _address(lab)
    fine = [n for n in lab.nodes if dns(lab, n, address, "tcp") == "answer"]
    udp = {dns(lab, n, address, "udp") == "answer" for n in lab.nodes}
    return not fine and udp == {fault == NO_TCP}


def _heal_service(fault: str, lab: Lab) -> None:
    restore(lab, fault)
    address = _address(lab)

    def answers() -> bool:
        return all(dns(lab, n, address, k) == "answer" for n in lab.nodes for k in ALL)

    poll(answers, seconds=60, what="an answer from the DNS Service")


def _one_at_a_time(text: str) -> str:
    return text.replace("max_concurrent 1000", "max_concurrent 1")


def _crowd(lab: Lab) -> None:
    """Ask for many names outside at once."""
    address = _address(lab)
    name = lab.control_plane.name
    lab.at(name, sys.executable, "-I", "-c", _BURST, address)


def _inject_limit(lab: Lab) -> None:
    rewrite(lab, LIMIT, _one_at_a_time)
    make_anew(lab)
    _crowd(lab)


def _settled_limit(lab: Lab) -> bool:
    said = [lab.kubectl("logs", "-n", p.namespace, p.name, check=False) for p in coredns_pods(lab)]
    if not any("exceeded maximum 1" in text for text in said):
        _crowd(lab)
        return False
    return True


def _fault(name: str, story: str, code: str, named: str, **how: object) -> Fault:
    return Fault(
        name=name,
        link="dns",
        story=story,
        expected=frozenset({code}),
        names=lambda _: (named,),
        forbidden=all_but("DNS_") | others(code),
        lookalikes=tuple(other for other in (*_ALL, "coredns-at-zero") if other != name),
        **how,  # type: ignore[arg-type]
    )


FAULTS: Final = (
    _fault(
        TAINTS,
        "All nodes wait for a cloud controller manager that nobody installed, and CoreDNS with them.",
        "DNS_UNSCHEDULABLE",
        _TAINT,
        inject=_inject_taints,
        settled=_settled_taints,
        heal=_heal_taints,
    ),
    _fault(
        INVALID,
        "Somebody misspelt a plugin in the Corefile, and CoreDNS was started anew since.",
        "DNS_COREFILE_INVALID",
        "forwrd",
        inject=partial(_inject_corefile, INVALID),
        settled=_crashing,
        heal=partial(_heal_objects, INVALID),
    ),
    _fault(
        LOOP,
        "CoreDNS is told to forward to its own loopback address, and ends as it sees the loop.",
        "DNS_FORWARDING_LOOP",
        "127.0.0.1",
        inject=partial(_inject_corefile, LOOP),
        settled=_crashing,
        heal=partial(_heal_objects, LOOP),
    ),
    _fault(
        RBAC,
        "CoreDNS was updated, and its role still lacks the right to read EndpointSlices.",
        "DNS_RBAC_FORBIDDEN",
        "endpointslices",
        inject=_inject_rbac,
        settled=_settled_rbac,
        heal=partial(_heal_objects, RBAC),
    ),
    _fault(
        OOM,
        "CoreDNS's memory limit is so low that it is killed as soon as it has started.",
        "DNS_OUT_OF_MEMORY",
        "OOMKilled",
        inject=_inject_oom,
        settled=_settled_oom,
        heal=_heal_oom,
    ),
    _fault(
        SELECTOR,
        "The DNS Service selects a label that CoreDNS's pods do not carry.",
        "DNS_SELECTOR_MATCHES_NOTHING",
        "k8s-app=coredns",
        inject=partial(_inject_service, SELECTOR),
        settled=partial(_settled_service, SELECTOR),
        heal=partial(_heal_service, SELECTOR),
    ),
    _fault(
        TARGET_PORT,
        "The DNS Service leads to a port of CoreDNS's pods at which nothing listens.",
        "DNS_ENDPOINT_REFUSES",
        str(_WRONG_PORT),
        inject=partial(_inject_service, TARGET_PORT),
        settled=partial(_settled_service, TARGET_PORT),
        heal=partial(_heal_service, TARGET_PORT),
    ),
    _fault(
        NO_TCP,
        "The DNS Service lost its port for TCP, so only answers that fit into UDP come through.",
        "DNS_SERVICE_PORT_MISSING",
        "TCP",
        inject=partial(_inject_service, NO_TCP),
        settled=partial(_settled_service, NO_TCP),
        heal=partial(_heal_service, NO_TCP),
    ),
    _fault(
        LIMIT,
        "CoreDNS forwards one query at a time, and refuses whoever else asks meanwhile.",
        "DNS_FORWARD_LIMIT",
        "exceeded maximum 1",
        warns=True,
        inject=_inject_limit,
        settled=_settled_limit,
        heal=partial(_heal_objects, LIMIT),
    ),
)
