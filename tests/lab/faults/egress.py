"""The way out of the cluster, to the databases."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.pods import app_pods, delete
from tests.lab.faults.traffic import TIMED_OUT, curl
from tests.lab.lab import Lab
from tests.lab.shape import DATABASE_PORTS, DATABASES
from tests.lab.topology import ROUTER

DB_PORT: Final = "db-port-closed"
PORT: Final = DATABASE_PORTS["mongo.example.net"]
_RULES: Final = f"""\
table ip {DB_PORT}
delete table ip {DB_PORT}
table ip {DB_PORT} {{
    chain forward {{
        type filter hook forward priority 0; policy accept;
        tcp dport {PORT} counter drop
    }}
}}
"""


def _inject(lab: Lab) -> None:
    lab.at(ROUTER, "nft", "-f", "-", input=_RULES)
    # the site dials its databases when it starts
    delete(lab, app_pods(lab))


def _settled(lab: Lab) -> bool:
    pods = app_pods(lab)
    crashed = bool(pods) and all(pod.restarts and not pod.ready for pod in pods)
    database = f"http://{DATABASES}:{PORT}/"
    return crashed and curl(lab, lab.control_plane.name, database, seconds=1) == TIMED_OUT


def _heal(lab: Lab) -> None:
    lab.at(ROUTER, "nft", "delete", "table", "ip", DB_PORT, check=False)
    delete(lab, [pod for pod in app_pods(lab) if not pod.ready])


FAULTS: Final = (
    Fault(
        name=DB_PORT,
        link="egress",
        story="A router on the way out drops the database's port, so the site crash-loops.",
        expected=frozenset({"EGRESS_TCP_FILTERED"}),
        names=lambda _: (str(PORT),),
        forbidden=all_but("EGRESS_"),
        lookalikes=("app-unready", "udp53-dropped", "coredns-at-zero", "flannel-not-on-node"),
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
