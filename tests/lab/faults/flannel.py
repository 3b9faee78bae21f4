"""flannel's daemon on a node."""

from typing import Final

from tests.lab.faults.daemons import keep_off, present
from tests.lab.faults.model import Fault, all_but, has_workers, no_names
from tests.lab.faults.objects import Ref, listed, restore
from tests.lab.faults.pods import Pod, app_pods, delete, sandbox_failures
from tests.lab.faults.scheduling import uncordon
from tests.lab.faults.stuck import last_node, lure, stuck
from tests.lab.lab import Lab
from tests.lab.shell import poll

NOT_ON_NODE: Final = "flannel-not-on-node"
OLD_EVENT: Final = "decoy-old-subnet-env"
SUBNET: Final = "/run/flannel/subnet.env"


def daemons(lab: Lab) -> Ref:
    namespace = lab.shape.flannel_namespace
    name = listed(lab, "daemonset", namespace)[0]["metadata"]["name"]
    return Ref(kind="daemonset", name=name, namespace=namespace)


def _break(lab: Lab, fault: str) -> None:
    node = last_node(lab)
    keep_off(lab, fault, daemons(lab), node)
    node.run("rm", "-f", SUBNET)
    if not stuck(lab):
        lure(lab, fault)


def _settled(lab: Lab) -> bool:
    node = last_node(lab)
    missing = node.run("test", "-e", SUBNET, check=False).returncode != 0
    told = any(SUBNET in said for pod in stuck(lab) for said in sandbox_failures(lab, pod))
    return missing and told and not present(lab, daemons(lab), node)


def _inject(lab: Lab) -> None:
    _break(lab, NOT_ON_NODE)


def _await_subnet(lab: Lab) -> None:
    written = ("test", "-s", SUBNET)

    def there() -> bool:
        return last_node(lab).run(*written, check=False).returncode == 0

    poll(there, seconds=60, what=f"{SUBNET} on {last_node(lab).name}")


def _heal(lab: Lab) -> None:
    uncordon(lab, NOT_ON_NODE)
    restore(lab, NOT_ON_NODE)
    _await_subnet(lab)
    # the kubelet would try their sandboxes again, but in its own time
    delete(lab, stuck(lab))


def _witness(lab: Lab) -> list[Pod]:
    """The pods that run in spite of an event which says that they cannot."""
    ready = [pod for pod in app_pods(lab) if pod.ready]
    return [pod for pod in ready if any(SUBNET in said for said in sandbox_failures(lab, pod))]


def _inject_old(lab: Lab) -> None:
    if _witness(lab):
        return
    _break(lab, OLD_EVENT)
    poll(lambda: _settled(lab), seconds=60, what="the event that is to grow old", every=0.2)
    restore(lab, OLD_EVENT)
    _await_subnet(lab)


def _settled_old(lab: Lab) -> bool:
    return bool(_witness(lab)) and not stuck(lab) and lab.healthy() is None


def _heal_old(lab: Lab) -> None:
    uncordon(lab, OLD_EVENT)
    restore(lab, OLD_EVENT)
    _await_subnet(lab)
    namespace = lab.shape.app_namespace
    lab.kubectl(
        "delete", "events", "-n", namespace, "--field-selector", "reason=FailedCreatePodSandBox"
    )


FAULTS: Final = (
    Fault(
        name=NOT_ON_NODE,
        link="flannel",
        story=(
            "An affinity keeps flannel off one worker, so new pods there get no sandbox, for"
            " want of /run/flannel/subnet.env."
        ),
        expected=frozenset({"FLANNEL_NOT_ON_NODE"}),
        names=lambda lab: (last_node(lab).fqdn,),
        forbidden=all_but("FLANNEL_"),
        lookalikes=("decoy-old-subnet-env", "sg-drops-8472", "app-unready", "db-port-closed"),
        fits=has_workers,
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
    Fault(
        name=OLD_EVENT,
        link="flannel",
        story=(
            "A pod had no sandbox until flannel was up and has run ever since, with an event left"
            " that tells of it."
        ),
        expected=frozenset(),
        names=no_names,
        forbidden=frozenset({"*"}),
        lookalikes=(NOT_ON_NODE,),
        fits=has_workers,
        inject=_inject_old,
        settled=_settled_old,
        heal=_heal_old,
        decoy=True,
    ),
)
