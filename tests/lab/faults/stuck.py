"""Pods that get no network on the last node of a lab."""

from tests.lab.faults.pods import Pod, app_pods, delete, sandbox_failures
from tests.lab.faults.scheduling import cordoned, uncordon
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll


def last_node(lab: Lab) -> Node:
    """The last node, on which most faults of flannel and of the pod network are put."""
    return list(lab.nodes.values())[-1]


def stuck(lab: Lab) -> list[Pod]:
    """The site's pods on the last node that wait for a network."""
    pods = app_pods(lab)
    return [pod for pod in pods if pod.node == last_node(lab).fqdn and not pod.address]


def lure(lab: Lab, fault: str, *, wait: bool = True) -> None:
    """Have a new pod of the site put on the last node.

    Where a plugin is missing, the old pod cannot end: nobody is to wait for that.
    """
    others = [n for n in lab.nodes.values() if not n.control_plane and n != last_node(lab)]
    pods = app_pods(lab)
    there = [pod for pod in pods if pod.node == last_node(lab).fqdn]
    with cordoned(lab, fault, others):
        delete(lab, there or pods[:1], wait=wait)
        poll(lambda: stuck(lab), seconds=60, what="a pod without a network")


def populate(lab: Lab, fault: str) -> None:
    """Have a ready pod of the site on the last node, if there is none yet."""

    def there() -> bool:
        return any(p.node == last_node(lab).fqdn and p.ready for p in app_pods(lab))

    if there():
        return
    others = [n for n in lab.nodes.values() if not n.control_plane and n != last_node(lab)]
    with cordoned(lab, fault, others):
        delete(lab, app_pods(lab)[:1], wait=False)
        poll(there, seconds=60, what=f"a pod on {last_node(lab).name}")


def told(lab: Lab, words: str) -> bool:
    """Whether an event of a pod that waits for a network has these words."""
    return any(words in said for pod in stuck(lab) for said in sandbox_failures(lab, pod))


def free(lab: Lab, fault: str) -> None:
    """Have pods that wait made anew: the kubelet would try again, but in its own time."""
    uncordon(lab, fault)
    delete(lab, stuck(lab))
