"""What a node takes of its own pods."""

from typing import Final

from tests.lab.faults.model import Fault, all_but, anywhere
from tests.lab.lab import Lab

INPUT_DROPS: Final = "node-input-drops-pod-to-host"
_RULE: Final = (
    *("INPUT", "-i", "cni0", "-m", "conntrack", "--ctstate", "NEW"),
    *("-j", "DROP"),
)


def _there(lab: Lab) -> bool:
    done = lab.control_plane.run("iptables", "-w", "-C", *_RULE, check=False)
    return done.returncode == 0


def _inject(lab: Lab) -> None:
    if not _there(lab):
        lab.control_plane.run("iptables", "-w", "-A", *_RULE)


def _heal(lab: Lab) -> None:
    while _there(lab):
        lab.control_plane.run("iptables", "-w", "-D", *_RULE)


FAULTS: Final = (
    Fault(
        name=INPUT_DROPS,
        link="overlay",
        story=(
            "A firewall on the control plane's node takes no new connection from the bridge of pods,"
            " so pods there do not reach the API server beside them."
        ),
        expected=frozenset({"NODE_INPUT_DROPS_PODS"}),
        names=lambda lab: (lab.control_plane.fqdn, "-i cni0"),
        forbidden=all_but("OVERLAY_") | {"OVERLAY_*", "POD_NETWORK_BROKEN", "UNDERLAY_UNREACHABLE"},
        lookalikes=("kube-proxy-rules-flushed", "node-forward-policy-drop", "node-underlay-down"),
        fits=anywhere,
        inject=_inject,
        settled=_there,
        heal=_heal,
    ),
)
