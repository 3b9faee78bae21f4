"""Nodes on which no probe can run, or on which one should think so."""

import contextlib
import json
from functools import partial
from typing import Final

import yaml

from tests.lab.conditions.model import Condition
from tests.lab.conditions.placing import spread, vacate
from tests.lab.conditions.spaces import ELSEWHERE, pod
from tests.lab.faults.model import has_workers
from tests.lab.faults.objects import Json, Ref, edit, forget, get, listed, note, noted, restore
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import LabError, poll

NOT_READY: Final = "node-not-ready"
SILENT: Final = "kubelet-silent"
CORDONED: Final = "node-cordoned"
TAINTED: Final = "node-tainted"
EVICTING: Final = "node-tainted-noexecute"
FULL: Final = "node-full"
OUT_OF_PODS: Final = "OutOfpods"
KUBELET: Final = "kubelet"
TAINT: Final = "lab.example.net/reserved"
CONFIG: Final = "var/lib/kubelet/config.yaml"
_ORIGINAL: Final = "kubelet-config"


def last(lab: Lab) -> Node:
    """The node that all of this happens to."""
    return list(lab.nodes.values())[-1]


def _name(lab: Lab) -> tuple[str, ...]:
    return (last(lab).fqdn,)


def _node(lab: Lab) -> Json:
    return get(lab, Ref(kind="node", name=last(lab).fqdn))


def _ready(lab: Lab) -> str:
    conditions: list[Json] = _node(lab)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


def _stopped(lab: Lab) -> bool:
    return not (last(lab).home / f"{KUBELET}.pid").exists()


def _inject_stopped(lab: Lab) -> None:
    if not _stopped(lab):
        vacate(lab, last(lab))
    last(lab).stop_service(KUBELET)


def _heal_stopped(lab: Lab) -> None:
    last(lab).start_service(KUBELET)
    spread(lab)


def _settled_silent(lab: Lab) -> bool:
    return _stopped(lab) and _ready(lab) == "True"


def _settled_not_ready(lab: Lab) -> bool:
    return _stopped(lab) and _ready(lab) == "Unknown"


def _inject_cordon(lab: Lab) -> None:
    lab.kubectl("cordon", last(lab).fqdn)


def _settled_cordon(lab: Lab) -> bool:
    # the control plane adds the taint a little later
    taints: list[Json] = _node(lab)["spec"].get("taints", [])
    return any(taint["key"] == "node.kubernetes.io/unschedulable" for taint in taints)


def _heal_cordon(lab: Lab) -> None:
    lab.kubectl("uncordon", last(lab).fqdn)


def _tainted(lab: Lab, effect: str) -> bool:
    taints: list[Json] = _node(lab)["spec"].get("taints", [])
    return any(t["key"] == TAINT and t["effect"] == effect for t in taints)


def _taint(lab: Lab, effect: str) -> None:
    lab.kubectl("taint", "node", last(lab).fqdn, f"{TAINT}=yes:{effect}", "--overwrite")


def _inject_tainted(lab: Lab) -> None:
    _taint(lab, "NoSchedule")


def _settled_tainted(lab: Lab) -> bool:
    return _tainted(lab, "NoSchedule")


def _heal_tainted(lab: Lab) -> None:
    with contextlib.suppress(LabError):
        # without the taint, kubectl says that there is none
        lab.kubectl("taint", "node", last(lab).fqdn, f"{TAINT}-")


def _daemons(lab: Lab) -> list[Ref]:
    """The daemons that would not tolerate every taint by themselves."""
    return [
        Ref(kind="daemonset", name=item["metadata"]["name"], namespace=namespace)
        for namespace in (lab.shape.flannel_namespace, lab.shape.metallb_namespace)
        for item in listed(lab, "daemonset", namespace)
    ]


def _on_node(lab: Lab, daemons: Ref) -> list[Json]:
    labels: dict[str, str] = get(lab, daemons)["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    there = ("-l", selector, "--field-selector", f"spec.nodeName={last(lab).fqdn}")
    return listed(lab, "pods", daemons.namespace, *there)


_ALL: Final[Json] = {"operator": "Exists"}


def _tolerate(found: Json) -> None:
    tolerations: list[Json] = found["spec"]["template"]["spec"].setdefault("tolerations", [])
    if _ALL not in tolerations:
        tolerations.append(_ALL)
    # a pod may be given a toleration while it runs: none has to be replaced
    found["spec"]["updateStrategy"] = {"type": "OnDelete"}


def _inject_evicting(lab: Lab) -> None:
    vacate(lab, last(lab))
    add = json.dumps([{"op": "add", "path": "/spec/tolerations/-", "value": _ALL}])
    for daemons in _daemons(lab):
        edit(lab, EVICTING, daemons, _tolerate)
        for found in _on_node(lab, daemons):
            if _ALL not in found["spec"]["tolerations"]:
                place = ("pod", found["metadata"]["name"], "-n", daemons.namespace)
                lab.kubectl("patch", *place, "--type=json", "-p", add)
    _taint(lab, "NoExecute")


def _settled_evicting(lab: Lab) -> bool:
    return _tainted(lab, "NoExecute") and all(_on_node(lab, ref) for ref in _daemons(lab))


def _heal_evicting(lab: Lab) -> None:
    _heal_tainted(lab)
    restore(lab, EVICTING)
    for daemons in _daemons(lab):
        for found in _on_node(lab, daemons):
            if _ALL in found["spec"]["tolerations"]:
                # it cannot be taken from a pod that has it
                name = found["metadata"]["name"]
                lab.kubectl("delete", "pod", name, "-n", daemons.namespace)
    spread(lab)


def _pods_there(lab: Lab) -> int:
    """How many pods the node counts against its limit."""
    on = ("--field-selector", f"spec.nodeName={last(lab).fqdn}", "-o", "json")
    items: list[Json] = json.loads(lab.kubectl("get", "pods", "-A", *on))["items"]
    return sum(item["status"]["phase"] not in {"Succeeded", "Failed"} for item in items)


def _rewrite_config(lab: Lab, text: str) -> None:
    node = last(lab)
    (node.disk / CONFIG).write_text(text)
    node.stop_service(KUBELET)
    node.start_service(KUBELET)


def _inject_full(lab: Lab) -> None:
    vacate(lab, last(lab))
    original = note(lab, FULL, _ORIGINAL, (last(lab).disk / CONFIG).read_text())
    limited = {**yaml.safe_load(original), "maxPods": _pods_there(lab)}
    _rewrite_config(lab, yaml.safe_dump(limited))
    # a kubelet that has just begun takes its time for the first pod that it refuses
    lab.apply(json.dumps(pod(FULL, ELSEWHERE, last(lab).fqdn)))
    poll(lambda: _refused(lab), seconds=60, what=f"{OUT_OF_PODS} on {last(lab).name}")
    _forget_pod(lab)


def _refused(lab: Lab) -> bool:
    reason = ("-n", ELSEWHERE, "-o", "jsonpath={.status.reason}")
    return lab.kubectl("get", "pod", FULL, *reason, check=False) == OUT_OF_PODS


def _forget_pod(lab: Lab) -> None:
    lab.kubectl("delete", "pod", FULL, "-n", ELSEWHERE, "--ignore-not-found")


def _settled_full(lab: Lab) -> bool:
    room = int(_node(lab)["status"]["allocatable"]["pods"])
    return not _stopped(lab) and room == _pods_there(lab) and _ready(lab) == "True"


def _heal_full(lab: Lab) -> None:
    _forget_pod(lab)
    if original := noted(lab, FULL, _ORIGINAL):
        _rewrite_config(lab, original)
        forget(lab, FULL, _ORIGINAL)
    spread(lab)


_on_worker = partial(Condition, fits=has_workers)

CONDITIONS: Final = (
    _on_worker(
        name=SILENT,
        story="The kubelet of a worker ended a moment ago, and nobody has noticed yet.",
        says=_name,
        inject=_inject_stopped,
        settled=_settled_silent,
        heal=_heal_stopped,
    ),
    _on_worker(
        name=NOT_READY,
        story="The kubelet of a worker is silent, and the control plane has given the node up.",
        finds=frozenset({"NODE_NOT_READY"}),
        # not that a pod there did not start: none is tried, so none is waited for
        says=lambda lab: (last(lab).fqdn, "the node is not Ready"),
        inject=_inject_stopped,
        settled=_settled_not_ready,
        heal=_heal_stopped,
    ),
    _on_worker(
        name=CORDONED,
        story="A worker is cordoned, and serves as before.",
        complete=True,
        inject=_inject_cordon,
        settled=_settled_cordon,
        heal=_heal_cordon,
    ),
    _on_worker(
        name=TAINTED,
        story="A worker has a taint that keeps the scheduler from putting pods there.",
        complete=True,
        inject=_inject_tainted,
        settled=_settled_tainted,
        heal=_heal_tainted,
    ),
    _on_worker(
        name=EVICTING,
        story="A worker has a taint that evicts all pods but daemons, which tolerate everything.",
        complete=True,
        inject=_inject_evicting,
        settled=_settled_evicting,
        heal=_heal_evicting,
    ),
    _on_worker(
        name=FULL,
        story="The kubelet of a worker has as many pods as it may have.",
        says=lambda lab: (last(lab).fqdn, OUT_OF_PODS),
        inject=_inject_full,
        settled=_settled_full,
        heal=_heal_full,
    ),
)
