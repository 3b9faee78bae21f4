"""Nodes that register with another podCIDR than their own, or with none."""

import json
import re
from ipaddress import IPv4Network
from typing import Final

from tests.lab.faults.flannel import SUBNET
from tests.lab.faults.flanneld import await_flannel, crashed, delete_flannel
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, forget, note, noted
from tests.lab.faults.stuck import last_node
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

UNASSIGNED: Final = "flannel-podcidr-unassigned"
EXHAUSTED: Final = "flannel-podcidr-exhausted"
DUPLICATE: Final = "podcidr-duplicate"
KUBELET: Final = "kubelet"
_MANIFEST: Final = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
_FLANNELS: Final = "flannel.alpha.coreos.com/"
_ALLOCATE: Final = "--allocate-node-cidrs=true"


def _node_object(lab: Lab, node: Node) -> Json:
    found: Json = json.loads(lab.kubectl("get", "node", node.fqdn, "-o", "json"))
    return found


def _exists(lab: Lab, node: Node) -> bool:
    return bool(lab.kubectl("get", "node", node.fqdn, "--ignore-not-found", "-o", "name").strip())


def register(lab: Lab, fault: str, node: Node, cidr: str) -> None:
    """Have a node register anew with a podCIDR of ours; with an empty one, it waits for one.

    Its pods live on: their node is back before anybody misses it.
    """
    text = note(lab, fault, "node", json.dumps(_node_object(lab, node)))
    was: Json = json.loads(text)
    kept = {k: was["metadata"].get(k, {}) for k in ("name", "labels", "annotations")}
    # a node that has just joined has none of flannel's: with the same ones again, no other node's
    # flannel would take note of it
    told = kept["annotations"].items()
    kept["annotations"] = {k: v for k, v in told if not k.startswith(_FLANNELS)}
    spec = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
    new = {"apiVersion": "v1", "kind": "Node", "metadata": kept, "spec": spec}
    node.stop_service(KUBELET)
    if _exists(lab, node):
        lab.kubectl("delete", "node", node.fqdn)
    lab.kubectl("create", "-f", "-", input=json.dumps(new))
    node.start_service(KUBELET)


def _registered_ready(lab: Lab, node: Node) -> bool:
    conditions = _node_object(lab, node)["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _was(lab: Lab, fault: str) -> str:
    """The podCIDR that the node had before."""
    text = noted(lab, fault, "node")
    cidr: str = json.loads(text)["spec"]["podCIDR"] if text else ""
    return cidr


def _cidr(lab: Lab, node: Node) -> str:
    cidr: str = _node_object(lab, node)["spec"].get("podCIDR", "")
    return cidr


def _manager(lab: Lab, fault: str, old: str, new: str) -> None:
    """Change the arguments of the controller manager, and wait until it runs with them."""
    path = lab.control_plane.disk / _MANIFEST.lstrip("/")
    text = note(lab, fault, "manifest", path.read_text())
    changed = re.sub(old, new, text)
    if path.read_text() != changed:
        path.write_text(changed)
    _await_manager(lab, changed)


def _await_manager(lab: Lab, manifest: str) -> None:
    """Wait until the controller manager runs with just the arguments of a manifest."""
    about = re.compile(r"--(?:allocate-node-cidrs|cluster-cidr|node-cidr-mask-size)=\S+")
    wanted = sorted(about.findall(manifest))

    def runs() -> bool:
        found = lab.control_plane.run("pgrep", "-af", "^kube-controller-manager", check=False)
        lines = found.stdout.splitlines()
        return bool(lines) and all(sorted(about.findall(line)) == wanted for line in lines)

    poll(runs, seconds=90, what="the controller manager with those arguments")


def _manager_back(lab: Lab, fault: str) -> None:
    text = noted(lab, fault, "manifest")
    if text is None:
        return
    path = lab.control_plane.disk / _MANIFEST.lstrip("/")
    if path.read_text() != text:
        path.write_text(text)
    _await_manager(lab, text)
    forget(lab, fault, "manifest")


def _heal_registration(lab: Lab, fault: str) -> None:
    node, cidr = last_node(lab), _was(lab, fault)
    if cidr and (not _exists(lab, node) or _cidr(lab, node) != cidr):
        register(lab, fault, node, cidr)
    node.start_service(KUBELET)
    poll(lambda: _exists(lab, node), seconds=60, what=f"the registration of {node.name}")
    _manager_back(lab, fault)
    if cidr:
        # who lost the node for a moment has taken away the way to its pods
        restart_flannel(lab)
        _renew(lab)
    forget(lab, fault, "node")


def restart_flannel(lab: Lab) -> None:
    """Have flannel's pods made anew on all nodes."""
    for node in lab.nodes.values():
        delete_flannel(lab, node)
    for node in lab.nodes.values():
        await_flannel(lab, node)


def _clear(lab: Lab) -> None:
    """Leave nothing of the last node's pod network, as on a node that has just joined."""
    node = last_node(lab)
    node.run("rm", "-f", SUBNET)
    node.run("ip", "link", "delete", "cni0", check=False)
    there = ("get", "pods", "-A", "-o", "json", "--field-selector", f"spec.nodeName={node.fqdn}")
    for pod in json.loads(lab.kubectl(*there))["items"]:
        if not pod["spec"].get("hostNetwork"):
            name = ("-n", pod["metadata"]["namespace"], pod["metadata"]["name"])
            lab.kubectl("delete", "pod", *name, "--wait=false", "--ignore-not-found")


def _renew(lab: Lab) -> None:
    """Have the pod network of the last node made anew."""
    node = last_node(lab)
    _clear(lab)
    delete_flannel(lab, node)
    await_flannel(lab, node)


def _inject_unassigned(lab: Lab) -> None:
    _manager(lab, UNASSIGNED, _ALLOCATE, "--allocate-node-cidrs=false")
    if _cidr(lab, last_node(lab)):
        register(lab, UNASSIGNED, last_node(lab), "")
        _clear(lab)
    delete_flannel(lab, last_node(lab))


def _narrow(lab: Lab) -> IPv4Network:
    """The smallest network that holds the podCIDRs of all nodes but the last."""
    others = [IPv4Network(_cidr(lab, n)) for n in lab.nodes.values() if n != last_node(lab)]
    found = others[0]
    while not all(other.subnet_of(found) for other in others):
        found = found.supernet()
    return found


def _inject_exhausted(lab: Lab) -> None:
    node, span = last_node(lab), _narrow(lab)
    if _cidr(lab, node) and noted(lab, EXHAUSTED, "node") is None:
        register(lab, EXHAUSTED, node, "")
    # both halves of it hold a podCIDR, so that there is none left that is as wide as a half
    halves = f"--node-cidr-mask-size={span.prefixlen + 1}"
    asked = f"--cluster-cidr={span}\n    - {halves}"
    _manager(lab, EXHAUSTED, r"--cluster-cidr=\S+", asked)
    if _cidr(lab, node):
        # it was assigned one while the controller manager still had the wider network
        register(lab, EXHAUSTED, node, "")
    _clear(lab)
    delete_flannel(lab, node)


def _settled_unassigned(lab: Lab) -> bool:
    node = last_node(lab)
    return not _cidr(lab, node) and crashed(lab, node, "pod cidr not assigned")


def _other(lab: Lab) -> Node:
    return list(lab.nodes.values())[-2]


def _inject_duplicate(lab: Lab) -> None:
    cidr = _cidr(lab, _other(lab))
    if _cidr(lab, last_node(lab)) != cidr:
        register(lab, DUPLICATE, last_node(lab), cidr)
        _renew(lab)


def _settled_duplicate(lab: Lab) -> bool:
    node = last_node(lab)
    return _cidr(lab, node) == _cidr(lab, _other(lab)) and _registered_ready(lab, node)


def _named(lab: Lab) -> tuple[str, ...]:
    return (last_node(lab).fqdn,)


def _only(*codes: str) -> frozenset[str]:
    """Forbid the codes of look-alikes, and echoes."""
    deep = {
        "FLANNEL_NOT_*",
        "FLANNEL_RBAC_DENIED",
        "FLANNEL_NETCONF_INVALID",
        "FLANNEL_PODCIDR_UNASSIGNED",
        "FLANNEL_PODCIDR_EXHAUSTED",
        "FLANNEL_PODCIDR_OVERLAP",
        "FLANNEL_SUBNET_*",
    }
    return all_but("FLANNEL_") | (deep - set(codes))


FAULTS: Final = (
    Fault(
        name=UNASSIGNED,
        link="flannel",
        story=(
            "The controller manager is told to assign no podCIDRs, and a worker that registered"
            " anew has none, so flannel ends there."
        ),
        expected=frozenset({"FLANNEL_PODCIDR_UNASSIGNED"}),
        names=_named,
        forbidden=_only("FLANNEL_PODCIDR_UNASSIGNED"),
        lookalikes=(EXHAUSTED, "flannel-rbac-denied", "flannel-not-on-node"),
        fits=has_workers,
        inject=_inject_unassigned,
        settled=_settled_unassigned,
        heal=lambda lab: _heal_registration(lab, UNASSIGNED),
    ),
    Fault(
        name=EXHAUSTED,
        link="flannel",
        story=(
            "The network for podCIDRs is too narrow for all nodes, so the worker that registered"
            " last has none."
        ),
        expected=frozenset({"FLANNEL_PODCIDR_EXHAUSTED"}),
        names=_named,
        forbidden=_only("FLANNEL_PODCIDR_EXHAUSTED"),
        lookalikes=(UNASSIGNED, "flannel-rbac-denied", "flannel-not-on-node"),
        fits=lambda shape: len(shape.nodes) > 2,
        inject=_inject_exhausted,
        settled=_settled_unassigned,
        heal=lambda lab: _heal_registration(lab, EXHAUSTED),
    ),
    Fault(
        name=DUPLICATE,
        link="flannel",
        story="A worker registered with the podCIDR of another one.",
        expected=frozenset({"FLANNEL_PODCIDR_OVERLAP"}),
        names=lambda lab: (*_named(lab), _other(lab).fqdn),
        forbidden=_only("FLANNEL_PODCIDR_OVERLAP"),
        lookalikes=("cni-stale-conflist", "sg-drops-8472"),
        fits=lambda shape: len(shape.nodes) > 2,
        inject=_inject_duplicate,
        settled=_settled_duplicate,
        heal=lambda lab: _heal_registration(lab, DUPLICATE),
    ),
)
