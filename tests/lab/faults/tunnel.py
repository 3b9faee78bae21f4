"""What faults of the tunnel between nodes have in common: its two ends, and whether it carries."""

import json
from typing import Final

from tests.lab.faults.objects import Ref, listed
from tests.lab.faults.pods import delete, pods
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import Shape
from tests.lab.shell import poll

KERNEL_PORT: Final = 8472
DEVICE: Final = "flannel.1"
_SUBNET: Final = "/run/flannel/subnet.env"
_LABEL: Final = "app=flannel"


def tunnelled(shape: Shape) -> bool:
    """Fit shapes where pods' packets travel in VXLAN."""
    return shape.backend == "vxlan" and len(shape.nodes) > 1


def port(shape: Shape) -> int:
    """The UDP port of the tunnel."""
    return shape.vxlan_port or KERNEL_PORT


def ends(lab: Lab) -> tuple[Node, Node]:
    """The two nodes whose tunnel a fault breaks."""
    first, second = list(lab.nodes.values())[-2:]
    return first, second


def network(node: Node) -> str:
    """The pod network of a node, as flannel wrote it down there."""
    text = node.run("cat", _SUBNET).stdout
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    address, _, length = values["FLANNEL_SUBNET"].partition("/")
    return f"{address.rpartition('.')[0]}.0/{length}"


def inner(node: Node) -> str:
    """The address of a node's VXLAN device."""
    return network(node).partition("/")[0]


def carries(one: Node, other: Node, *options: str) -> bool:
    """Whether a ping through the tunnel is answered."""
    words = ("ping", "-c", "1", "-W", "1", *options, inner(other))
    return one.run(*words, check=False).returncode == 0


def sees(one: Node, other: Node) -> bool:
    """Whether a ping beside the tunnel is answered."""
    words = ("ping", "-c", "1", "-W", "1", other.address)
    return one.run(*words, check=False).returncode == 0


def cut(lab: Lab) -> bool:
    """Whether the two ends see each other, and the tunnel between them is dead both ways."""
    one, other = ends(lab)
    return sees(one, other) and not carries(one, other) and not carries(other, one)


def lonely(lab: Lab) -> bool:
    """Whether the last node sees all others, and its tunnel to each is dead."""
    *others, last = lab.nodes.values()
    return all(sees(last, o) and not carries(last, o) for o in others)


def whole(lab: Lab) -> bool:
    """Whether every node's tunnel to every other one carries."""
    nodes = list(lab.nodes.values())
    return all(carries(a, b) for a in nodes for b in nodes if a is not b)


def mac(node: Node, device: str = DEVICE) -> str:
    """The hardware address of a device."""
    return node.run("cat", f"/sys/class/net/{device}/address").stdout.strip()


def device(node: Node, name: str = DEVICE) -> dict[str, object]:
    """What is set up of a node's VXLAN device; empty where there is none."""
    done = node.run("ip", "-json", "-details", "link", "show", name, check=False)
    found = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return dict(found[0]["linkinfo"]["info_data"]) if found else {}


def annotation(lab: Lab, node: Node, name: str) -> str:
    """What flannel told the others of a node."""
    item = json.loads(lab.kubectl("get", "node", node.fqdn, "-o", "json"))
    return str(item["metadata"]["annotations"].get(f"flannel.alpha.coreos.com/{name}", ""))


def configuration(lab: Lab) -> Ref:
    """The ConfigMap with flannel's net-conf.json."""
    namespace = lab.shape.flannel_namespace
    found = listed(lab, "configmaps", namespace)
    name = next(c["metadata"]["name"] for c in found if "net-conf.json" in (c.get("data") or {}))
    return Ref(kind="configmap", name=name, namespace=namespace)


def restart_flannel(lab: Lab, node: Node) -> None:
    """Replace flannel's pod on a node, and wait until the new one is ready."""

    def there() -> list[str]:
        found = pods(lab, lab.shape.flannel_namespace, _LABEL)
        return [p.name for p in found if p.node == node.fqdn and p.ready]

    old = [p for p in pods(lab, lab.shape.flannel_namespace, _LABEL) if p.node == node.fqdn]
    delete(lab, old)
    gone = {p.name for p in old}
    what = f"a new pod of flannel's on {node.name}"
    poll(lambda: set(there()) - gone, seconds=60, what=what, every=0.3)
