"""kube-proxy on a node."""

from typing import Final

from tests.lab.faults.daemons import keep_off, present
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Ref, forget, note, noted, restore
from tests.lab.faults.pods import ingress_pods
from tests.lab.faults.traffic import curl
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import nth_address
from tests.lab.shell import poll

GONE: Final = "kube-proxy-gone"
DAEMONS: Final = Ref(kind="daemonset", name="kube-proxy", namespace="kube-system")
TABLE: Final = "kube-proxy"
# what a reboot would do to the rules, which outlive the process that wrote them
_FLUSH: Final = """\
for tables in iptables ip6tables; do
    for table in nat filter mangle; do
        $tables-save -t $table | grep -v KUBE- | $tables-restore -w -T $table
    done
done
"""


def _choose(lab: Lab) -> Node:
    """The worker that the ingress controller runs on, or else the first worker."""
    workers = {node.fqdn: node for node in lab.nodes.values() if not node.control_plane}
    serving = [workers[pod.node] for pod in ingress_pods(lab) if pod.node in workers]
    return (serving or list(workers.values()))[0]


def _node(lab: Lab) -> Node:
    """The node that was chosen, or would be."""
    return lab.nodes[noted(lab, GONE, "node") or _choose(lab).name]


def _inject(lab: Lab) -> None:
    node = lab.nodes[note(lab, GONE, "node", _choose(lab).name)]
    keep_off(lab, GONE, DAEMONS, node)
    if lab.shape.kube_proxy_mode == "nftables":
        for family in ("ip", "ip6"):
            node.run("nft", "delete", "table", family, TABLE, check=False)
    else:
        node.run("sh", "-c", _FLUSH)


def _reaches_api(lab: Lab, vantage: str) -> bool:
    """Whether a node reaches the API server by the address of its service."""
    address = nth_address(lab.shape.service_network, 1)
    return curl(lab, vantage, f"https://{address}/version", seconds=1) == 0


def _settled(lab: Lab) -> bool:
    lost = _node(lab)
    others = [node.name for node in lab.nodes.values() if node != lost]
    return (
        not present(lab, DAEMONS, lost)
        and not _reaches_api(lab, lost.name)
        and all(_reaches_api(lab, name) for name in others)
    )


def _heal(lab: Lab) -> None:
    lost = _node(lab)
    restore(lab, GONE)
    poll(lambda: _reaches_api(lab, lost.name), seconds=60, what=f"the rules on {lost.name}")
    forget(lab, GONE, "node")


FAULTS: Final = (
    Fault(
        name=GONE,
        link="kube-proxy",
        story=(
            "An affinity keeps kube-proxy off one worker, so nothing there reaches the address of"
            " any service."
        ),
        expected=frozenset({"KUBE_PROXY_NOT_ON_NODE"}),
        names=lambda lab: (_node(lab).fqdn,),
        forbidden=all_but("KUBE_PROXY_"),
        lookalikes=("sg-drops-8472", "sg-drops-53", "udp53-dropped", "coredns-at-zero"),
        fits=has_workers,
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
