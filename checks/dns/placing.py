"""Why no node takes CoreDNS's pods."""

from collections.abc import Iterable

from checks.common import and_list
from checks.dns.codes import VERIFY, dns_code
from doctor.model.evidence import Backend
from doctor.model.finding import Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Node, Pod, Taint

__all__ = ["DNS_UNSCHEDULABLE", "unschedulable"]

DNS_UNSCHEDULABLE = dns_code(
    "DNS_UNSCHEDULABLE",
    "No node takes the DNS server's pods: each has a taint they do not tolerate.",
)


def _untolerated(node: Node, pod: Pod) -> list[Taint]:
    """List the taints of a node that keep a pod off it."""
    return [
        t
        for t in node.spec.taints or ()
        if t.effect in ("NoSchedule", "NoExecute")
        and not any(
            o.key in ("", t.key)
            and o.effect in ("", t.effect)
            and (o.operator == "Exists" or o.value == t.value)
            for o in pod.spec.tolerations or ()
        )
    ]


_CORDON = "node.kubernetes.io/unschedulable"
_WAITS_FOR_NODE = (
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
)
_RELIEF = {
    "node.kubernetes.io/disk-pressure": "sudo crictl rmi --prune",
    "node.kubernetes.io/memory-pressure": "ps -eo rss,pid,comm --sort=-rss | head",
    "node.kubernetes.io/pid-pressure": "ps -eo nlwp,pid,comm --sort=-nlwp | head",
}
"""What a taint tells that the node is short of, and what sets room free there or shows who takes it."""
_UNINITIALISED = "node.cloudprovider.kubernetes.io/uninitialized"


def unschedulable(backend: Backend, nodes: Iterable[Node]) -> Finding | None:
    """Say which taints keep the pods off every node; None where some node would take them."""
    waiting = [p for p in backend.pods if not p.node]
    known = [n for n in nodes if n.linux]
    if not known or not waiting or len(waiting) < len(backend.pods):
        return None
    kept = {n.name: _untolerated(n, waiting[0]) for n in known}
    if not all(kept.values()):
        return None
    keys = sorted({t.key for taints in kept.values() for t in taints})
    own = [n for n, taints in kept.items() if any(t.key in _WAITS_FOR_NODE for t in taints)]
    removals = tuple(
        f"kubectl uncordon {n}"
        if t.key == _CORDON
        else f"kubectl taint node {n} {t.key}:{t.effect}-"
        for n, taints in kept.items()
        for t in taints
        if t.key not in (*_WAITS_FOR_NODE, *_RELIEF) and "control-plane" not in t.key
    )
    short = {n: _short(taints) for n, taints in kept.items()}
    relief = tuple(f'ssh {n} "{_RELIEF[k]}"' for n, keys in short.items() for k in keys)
    title = (
        f"No node takes the pods of the DNS server: {and_list(p.key for p in waiting)} "
        f"tolerate{'s' if len(waiting) == 1 else ''} none of the taints {and_list(keys)}"
    )
    what = "Remove the taints" if removals or not relief else _relieve(short)
    if _UNINITIALISED in keys:
        what += "; the cloud controller manager does so once it runs, and nothing else ever does"
    look = tuple(f"kubectl describe node {n}" for n in kept)
    return Finding(
        code=DNS_UNSCHEDULABLE,
        title=title,
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(
            f"api:services/{backend.key}",
            *(f"api:pods/{p.key}" for p in waiting),
            *(f"api:nodes/{n}" for n in kept),
        ),
        consequence_of=tuple(Hop(k, n) for k in (HopKind.NODE, HopKind.FLANNEL) for n in own),
        remediation=(Remediation(what, removals or relief or look, Risk.SAFE, VERIFY),),
        falsifier=f"Service {backend.key} has a ready endpoint",
    )


def _short(taints: Iterable[Taint]) -> list[str]:
    """List the taints that the node's controller sets while the node is short of something."""
    return [t.key for t in taints if t.key in _RELIEF]


def _relieve(short: dict[str, list[str]]) -> str:
    """Say what nodes are short of: their kubelets take these taints away by themselves."""
    of = {k.partition("/")[2].removesuffix("-pressure") for keys in short.values() for k in keys}
    words = {"disk": "disk", "memory": "memory", "pid": "process ids"}
    return (
        f"Free {and_list(words[k] for k in of)} on {and_list(n for n, keys in short.items() if keys)}; "
        "the taints go as soon as the kubelet sees it, and come back if they are removed before"
    )
