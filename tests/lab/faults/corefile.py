"""CoreDNS's configuration, changed in such a way that its pods heed it at once."""

from collections.abc import Callable
from typing import Final

from tests.lab.faults.objects import Json, Ref, await_available, directory, edit, restore
from tests.lab.faults.pods import coredns_pods, delete
from tests.lab.lab import Lab

COREDNS: Final = Ref(kind="deployment", name="coredns", namespace="kube-system")
CONFIG: Final = Ref(kind="configmap", name="coredns", namespace="kube-system")
_FORWARD: Final = "forward . /etc/resolv.conf"


def rewrite(lab: Lab, fault: str, change: Callable[[str], str]) -> None:
    """Change the Corefile; the pods that run keep the old one until they are made anew."""

    def changed(found: Json) -> None:
        old: str = found["data"]["Corefile"]
        found["data"]["Corefile"] = change(old)

    edit(lab, fault, CONFIG, changed)


def forward_to(*targets: str) -> Callable[[str], str]:
    """Ask others than the nodes' resolvers."""
    return lambda text: text.replace(_FORWARD, f"forward . {' '.join(targets)}")


def make_anew(lab: Lab, *, wait: bool = True) -> None:
    """Replace the pods of CoreDNS, two at once, as an update would one by one."""
    old = {pod.name for pod in coredns_pods(lab)}
    delete(lab, [p for p in coredns_pods(lab) if p.name in old], wait=wait)
    if wait:
        await_available(lab, COREDNS)


def put_back(lab: Lab, fault: str) -> None:
    """Undo a change of CoreDNS's objects, and have all its pods heed that."""
    changed = any(directory(lab, fault).glob("*.json"))
    restore(lab, fault)
    if changed:
        make_anew(lab)
