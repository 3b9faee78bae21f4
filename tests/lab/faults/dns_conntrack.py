"""A client whose queries are led to where CoreDNS was before."""

import sys
from typing import Final

from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.traffic import dns
from tests.lab.lab import Lab
from tests.lab.node import Node

STALE: Final = "dns-stale-udp-conntrack"
_PORT: Final = 40053
_PID: Final = "/run/asks-from-one-port.pid"
# it asks twice a second from one port, as a resolver does that keeps its socket
_ASK: Final = """\
import os, socket, struct, sys, time
server, port, name, place = sys.argv[1:]
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">HH", 1, 1)
open(place, "w").write(str(os.getpid()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.bind(("", int(port)))
    link.connect((server, 53))
    while True:
        try:
            link.send(query)
        except OSError:
            pass
        time.sleep(0.5)
"""
_START: Final = (
    "import subprocess, sys\n"
    "nothing = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)\n"
    "words = [sys.executable, '-I', '-c', *sys.argv[1:]]\n"
    "subprocess.Popen(words, start_new_session=True, **nothing)\n"
)


def _home(lab: Lab) -> Node:
    """The node that the client runs on: a worker."""
    return next(node for node in lab.nodes.values() if not node.control_plane)


def _server(lab: Lab) -> str:
    where = ("service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}")
    return lab.kubectl("get", *where)


def _gone(lab: Lab) -> str:
    """An address of a pod of the control plane's that no pod has: they begin with small numbers."""
    node = lab.control_plane.fqdn
    network = lab.kubectl("get", "node", node, "-o", "jsonpath={.spec.podCIDR}")
    return f"{network.rpartition('.')[0]}.253"


def _entry(lab: Lab) -> tuple[str, ...]:
    """What is tracked of the client's queries, as options of conntrack."""
    client = ("-p", "udp", "-s", _home(lab).address, "-d", _server(lab))
    return (*client, "--sport", str(_PORT), "--dport", "53")


def _tracked(lab: Lab) -> bool:
    """Whether the client's queries are still led to nobody."""
    listed = _home(lab).run("conntrack", "-L", *_entry(lab), check=False).stdout
    return f"src={_gone(lab)} " in listed


def _stop(lab: Lab) -> None:
    """End the client, and forget what is tracked of it."""
    node = _home(lab)
    node.run("sh", "-c", f"[ -e {_PID} ] && kill $(cat {_PID}); rm -f {_PID}", check=False)
    node.run("conntrack", "-D", *_entry(lab), check=False)


def _inject(lab: Lab) -> None:
    """Leave behind what is left where kube-proxy deletes too early, or not at all.

    The one of today looks for such entries itself when endpoints change, so the entry is written.
    """
    _stop(lab)
    node = _home(lab)
    node.run("conntrack", "-I", *_entry(lab), "--dst-nat", _gone(lab), "-t", "30")
    name = f"kubernetes.default.svc.{lab.shape.cluster_domain}"
    words = (_ASK, _server(lab), str(_PORT), name, _PID)
    node.run(sys.executable, "-I", "-c", _START, *words)


def _settled(lab: Lab) -> bool:
    """Whether the entry lives, while whoever asks anew on that node is answered."""
    return _tracked(lab) and dns(lab, _home(lab).name, _server(lab), "udp") == "answer"


FAULTS: Final = (
    Fault(
        name=STALE,
        link="dns",
        story=(
            "A program that asks from one port all the time is still led to a replica of CoreDNS"
            " that is gone, while whatever starts anew gets answers."
        ),
        expected=frozenset({"DNS_CONNTRACK_STALE"}),
        names=lambda lab: (_home(lab).fqdn, _home(lab).address, str(_PORT)),
        forbidden=all_but("DNS_") | others("DNS_CONNTRACK_STALE"),
        lookalikes=(
            "kube-proxy-hung",
            "kube-proxy-backends-mixed",
            "kube-proxy-rules-flushed",
            "dns-one-replica-bad-node",
        ),
        fits=has_workers,
        inject=_inject,
        settled=_settled,
        heal=_stop,
    ),
)
