"""What translates the addresses of pods on their way out of the cluster."""

from typing import Final

from tests.lab.faults.flannel import daemons
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Json, edit, restore
from tests.lab.faults.pods import app_pods, delete
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import RESOLVER
from tests.lab.shell import poll

MISSING: Final = "eg-masquerade-missing"
_OPTION: Final = "--ip-masq"
_CHAIN: Final = "FLANNEL-POSTRTG"
# what an older flannel, or a reboot, leaves of it: nothing
_CLEAR: Final = (
    f"iptables -w -t nat -S POSTROUTING | grep {_CHAIN} | sed 's/^-A/-D/' |"
    ' while read -r rule; do eval iptables -w -t nat "$rule"; done;'
    f" iptables -w -t nat -F {_CHAIN}; iptables -w -t nat -X {_CHAIN}; true"
)


def _translates(node: Node) -> bool:
    """Whether flannel's rules about pods' addresses are on a node."""
    return _CHAIN in node.run("iptables", "-w", "-t", "nat", "-S", "POSTROUTING").stdout


def _roll_out(lab: Lab) -> None:
    lab.kubectl("rollout", "status", *daemons(lab).arguments, "--timeout=90s")


def _inject(lab: Lab) -> None:
    def change(found: Json) -> None:
        container = found["spec"]["template"]["spec"]["containers"][0]
        container["args"] = [a for a in container["args"] if not a.startswith(_OPTION)]

    edit(lab, MISSING, daemons(lab), change)
    _roll_out(lab)
    for node in lab.nodes.values():
        node.run("sh", "-c", _CLEAR)
    # the site dials its databases when it starts
    delete(lab, app_pods(lab))


def _settled(lab: Lab) -> bool:
    pods = app_pods(lab)
    crashed = bool(pods) and all(pod.restarts and not pod.ready for pod in pods)
    gone = not any(_translates(node) for node in lab.nodes.values())
    return gone and crashed and dns(lab, lab.control_plane.name, RESOLVER, "udp") == "answer"


def _heal(lab: Lab) -> None:
    restore(lab, MISSING)
    _roll_out(lab)
    poll(
        lambda: all(_translates(node) for node in lab.nodes.values()),
        seconds=60,
        what="flannel's rules",
    )
    delete(lab, [pod for pod in app_pods(lab) if not pod.ready])


FAULTS: Final = (
    Fault(
        name=MISSING,
        link="egress",
        story=(
            "Flannel runs without --ip-masq, so what pods send out of the cluster keeps their"
            " addresses, which nobody out there knows."
        ),
        expected=frozenset({"EGRESS_MASQUERADE_MISSING"}),
        names=lambda _: (_OPTION,),
        forbidden=all_but("EGRESS_") | {"EGRESS_POD_ONLY", "EGRESS_NAME_*", "EGRESS_TCP_*"},
        lookalikes=(
            *("db-port-closed", "dns-upstream-pods-filtered", "node-forward-policy-drop"),
            "dns-upstream-unreachable",
        ),
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
