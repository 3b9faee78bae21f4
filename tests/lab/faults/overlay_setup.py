"""Nodes that disagree about the tunnel: flannel was configured anew, and restarted on one only."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Json, edit, restore
from tests.lab.faults.tunnel import (
    DEVICE,
    KERNEL_PORT,
    annotation,
    configuration,
    device,
    ends,
    lonely,
    port,
    restart_flannel,
    tunnelled,
    whole,
)
from tests.lab.lab import Lab
from tests.lab.shape import Shape
from tests.lab.shell import poll

PORT_MISMATCH: Final = "vxlan-port-mismatch"
PORT_IN_USE: Final = "vxlan-port-in-use"
VNI_MISMATCH: Final = "vxlan-vni-mismatch"
BACKEND_MISMATCH: Final = "vxlan-backend-type-mismatch"
OTHER_PORT: Final = 4789
OTHER_VNI: Final = 2
_CODES: Final = {
    PORT_MISMATCH: "OVERLAY_PORT_MISMATCH",
    PORT_IN_USE: "OVERLAY_PORT_IN_USE",
    VNI_MISMATCH: "OVERLAY_VNI_MISMATCH",
    BACKEND_MISMATCH: "OVERLAY_BACKEND_MISMATCH",
}
_ALIKE: Final = (*_CODES, "vxlan-fdb-missing", "flannel-vtep-mac-drift", "sg-drops-8472")
# it holds a port and says nothing, as a program does that was started by mistake
_HOLD: Final = (
    "import os, socket, sys, time\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.bind(('0.0.0.0', int(sys.argv[1])))\n"
    "open(sys.argv[2], 'w').write(str(os.getpid()))\n"
    "time.sleep(100000)\n"
)
_START: Final = (
    "import subprocess, sys\n"
    "nothing = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)\n"
    "words = [sys.executable, '-I', '-c', *sys.argv[1:]]\n"
    "subprocess.Popen(words, start_new_session=True, **nothing)\n"
)
_PID: Final = "/run/holds-the-port.pid"


def _forbidden(name: str) -> frozenset[str]:
    """All other links' codes, and those of what looks alike."""
    others = {code for other, code in _CODES.items() if other != name}
    more = {
        "OVERLAY_UDP_FILTERED",
        "OVERLAY_PATH_BROKEN",
        "OVERLAY_DEVICE_BROKEN",
        "OVERLAY_FDB_WRONG",
        "OVERLAY_VTEP_MAC_CHANGED",
    }
    return all_but("OVERLAY_") | others | more


def _last_named(lab: Lab) -> tuple[str, ...]:
    return (ends(lab)[1].fqdn,)


def _other_port(shape: Shape) -> int:
    return KERNEL_PORT if port(shape) == OTHER_PORT else OTHER_PORT


def _reconfigured(
    lab: Lab, fault: str, change: Callable[[Json], None], done: Callable[[], bool]
) -> None:
    """Restart flannel on the last node under another configuration, and put that back."""
    if done():
        return

    def rewrite(found: Json) -> None:
        conf = json.loads(found["data"]["net-conf.json"])
        change(conf["Backend"])
        found["data"]["net-conf.json"] = json.dumps(conf)

    edit(lab, fault, configuration(lab), rewrite)
    restart_flannel(lab, ends(lab)[1])
    poll(done, seconds=30, what=f"{fault} on {ends(lab)[1].name}", every=0.3)
    restore(lab, fault)


def _mended(lab: Lab, fault: str) -> None:
    """Restart flannel on the last node under the right configuration."""
    restore(lab, fault)
    last = ends(lab)[1]
    if not whole(lab) or annotation(lab, last, "backend-type") != lab.shape.backend:
        restart_flannel(lab, last)
        # where the configuration names no port, flannel keeps a device with any; it makes a new one
        # without its routes
        if device(last).get("port") != port(lab.shape):
            last.run("ip", "link", "del", DEVICE, check=False)
            restart_flannel(lab, last)
    last.run("ip", "link", "del", f"flannel.{OTHER_VNI}", check=False)
    poll(lambda: whole(lab), seconds=60, what="a whole tunnel", every=0.3)


def _inject_port(lab: Lab) -> None:
    other = _other_port(lab.shape)
    _reconfigured(
        lab,
        PORT_MISMATCH,
        lambda backend: backend.update(Port=other),
        lambda: device(ends(lab)[1]).get("port") == other,
    )


def _inject_number(lab: Lab) -> None:
    _reconfigured(
        lab,
        VNI_MISMATCH,
        lambda backend: backend.update(VNI=OTHER_VNI),
        lambda: bool(device(ends(lab)[1], f"flannel.{OTHER_VNI}")),
    )


def _inject_backend(lab: Lab) -> None:
    def change(backend: Json) -> None:
        backend.clear()
        backend["Type"] = "host-gw"

    _reconfigured(
        lab,
        BACKEND_MISMATCH,
        change,
        lambda: annotation(lab, ends(lab)[1], "backend-type") == "host-gw",
    )
    # what the former backend left goes with the next reboot
    ends(lab)[1].run("ip", "link", "del", DEVICE, check=False)


def _backends_differ(lab: Lab) -> bool:
    one, last = ends(lab)
    told = [annotation(lab, n, "backend-type") for n in (one, last)]
    return told == ["vxlan", "host-gw"] and not whole(lab)


def _hold_port(lab: Lab) -> None:
    last = ends(lab)[1]
    last.run("ip", "link", "set", DEVICE, "down")
    if _holder(lab):
        return
    last.run(sys.executable, "-I", "-c", _START, _HOLD, str(port(lab.shape)), _PID)
    poll(lambda: bool(_holder(lab)), seconds=10, what="a process that holds the port")


def _holder(lab: Lab) -> str:
    """The id of the process that holds the port, in the node's own numbers; empty without one."""
    said = ends(lab)[1].run("cat", _PID, check=False).stdout.strip()
    alive = said and ends(lab)[1].run("kill", "-0", said, check=False).returncode == 0
    return said if alive else ""


def _port_held(lab: Lab) -> bool:
    up = ends(lab)[1].run("ip", "link", "set", DEVICE, "up", check=False)
    return up.returncode != 0 and lonely(lab)


def _release_port(lab: Lab) -> None:
    last = ends(lab)[1]
    if pid := _holder(lab):
        last.run("kill", "-9", pid)
        poll(lambda: not _holder(lab), seconds=10, what="the end of who holds the port")
    last.run("rm", "-f", _PID)
    last.run("ip", "link", "set", DEVICE, "up")
    _mended(lab, PORT_IN_USE)


FAULTS: Final = (
    Fault(
        name=PORT_MISMATCH,
        link="overlay",
        story=(
            "The UDP port in flannel's configuration was changed, and only one worker's flannel was"
            " restarted while it was."
        ),
        expected=frozenset({_CODES[PORT_MISMATCH]}),
        names=_last_named,
        forbidden=_forbidden(PORT_MISMATCH),
        lookalikes=tuple(a for a in _ALIKE if a != PORT_MISMATCH),
        fits=tunnelled,
        inject=_inject_port,
        settled=lonely,
        heal=partial(_mended, fault=PORT_MISMATCH),
    ),
    Fault(
        name=PORT_IN_USE,
        link="overlay",
        story=(
            "While the VXLAN device of a worker was down, another process took the UDP port that it"
            " needs."
        ),
        expected=frozenset({_CODES[PORT_IN_USE]}),
        names=_last_named,
        forbidden=_forbidden(PORT_IN_USE),
        lookalikes=tuple(a for a in _ALIKE if a != PORT_IN_USE),
        fits=tunnelled,
        inject=_hold_port,
        settled=_port_held,
        heal=_release_port,
    ),
    Fault(
        name=VNI_MISMATCH,
        link="overlay",
        story=(
            "The VNI in flannel's configuration was changed, and only one worker's flannel was"
            " restarted while it was."
        ),
        expected=frozenset({_CODES[VNI_MISMATCH]}),
        names=_last_named,
        forbidden=_forbidden(VNI_MISMATCH),
        lookalikes=tuple(a for a in _ALIKE if a != VNI_MISMATCH),
        fits=tunnelled,
        inject=_inject_number,
        settled=lonely,
        heal=partial(_mended, fault=VNI_MISMATCH),
    ),
    Fault(
        name=BACKEND_MISMATCH,
        link="overlay",
        story=(
            "The backend in flannel's configuration was changed, and only one worker's flannel was"
            " restarted while it was."
        ),
        expected=frozenset({_CODES[BACKEND_MISMATCH]}),
        names=_last_named,
        forbidden=_forbidden(BACKEND_MISMATCH),
        lookalikes=tuple(a for a in _ALIKE if a != BACKEND_MISMATCH),
        fits=tunnelled,
        inject=_inject_backend,
        settled=_backends_differ,
        heal=partial(_mended, fault=BACKEND_MISMATCH),
    ),
)
