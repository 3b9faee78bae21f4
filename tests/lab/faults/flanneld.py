"""What flannel's daemon ends with when it starts: its rights, its configuration, its kernel."""

from typing import Final

from tests.lab.faults.flannel import daemons
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, Ref, edit, get, keep, listed, restore
from tests.lab.faults.stuck import last_node
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shell import poll

DENIED: Final = "flannel-rbac-denied"
MALFORMED: Final = "flannel-netconf-malformed"
MISMATCH: Final = "flannel-netconf-cidr-mismatch"
NO_MODULE: Final = "flannel-br-netfilter-missing"
_BINDING: Final = Ref(kind="clusterrolebinding", name="flannel")
_MASK: Final = "mount -t tmpfs none /proc/sys/net/bridge && exec"


def flannel_pods(lab: Lab, node: Node) -> list[Json]:
    """Flannel's pods on a node that nobody has deleted yet."""
    namespace = lab.shape.flannel_namespace
    labels: dict[str, str] = get(lab, daemons(lab))["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    there = ("-l", selector, "--field-selector", f"spec.nodeName={node.fqdn}")
    found = listed(lab, "pods", namespace, *there)
    return [p for p in found if "deletionTimestamp" not in p["metadata"]]


def delete_flannel(lab: Lab, node: Node) -> None:
    """Have flannel's pod on a node made anew."""
    for pod in flannel_pods(lab, node):
        name = ("-n", pod["metadata"]["namespace"], pod["metadata"]["name"])
        lab.kubectl("delete", "pod", *name, "--ignore-not-found")


def ready(lab: Lab, node: Node) -> bool:
    """Whether flannel is ready on a node."""
    return any(
        c.get("ready")
        for pod in flannel_pods(lab, node)
        for c in pod["status"].get("containerStatuses", [])
    )


def await_flannel(lab: Lab, node: Node) -> None:
    """Wait until flannel is ready on a node again."""
    poll(lambda: ready(lab, node), seconds=60, what=f"flannel on {node.name}")


def crashed(lab: Lab, node: Node, words: str) -> bool:
    """Whether flannel's pod on a node has ended, and says these words."""
    for pod in flannel_pods(lab, node):
        states = pod["status"].get("containerStatuses", [])
        ended = any(s["restartCount"] or "terminated" in s["state"] for s in states)
        name = ("-n", pod["metadata"]["namespace"], pod["metadata"]["name"])
        container = pod["spec"]["containers"][0]["name"]
        said = lab.kubectl("logs", *name, "-c", container, "--tail=50", check=False)
        said += lab.kubectl("logs", *name, "-c", container, "--previous", check=False)
        if ended and words in said and not any(s["ready"] for s in states):
            return True
    return False


def _config(lab: Lab) -> Ref:
    return Ref(kind="configmap", name="kube-flannel-cfg", namespace=lab.shape.flannel_namespace)


def _heal_pod(lab: Lab, fault: str) -> None:
    restore(lab, fault)
    if not ready(lab, last_node(lab)):
        delete_flannel(lab, last_node(lab))
    await_flannel(lab, last_node(lab))


def _inject_denied(lab: Lab) -> None:
    keep(lab, DENIED, _BINDING)
    lab.kubectl("delete", *_BINDING.arguments)
    delete_flannel(lab, last_node(lab))


def _inject_malformed(lab: Lab) -> None:
    def change(found: Json) -> None:
        conf: str = found["data"]["net-conf.json"]
        found["data"]["net-conf.json"] = conf.rstrip().removesuffix("}") + ",}\n"

    edit(lab, MALFORMED, _config(lab), change)
    delete_flannel(lab, last_node(lab))


def _other_network(lab: Lab) -> str:
    first, second, *_ = lab.shape.pod_network.split(".")
    return f"{first}.{int(second) + 1}.0.0/16"


def _inject_mismatch(lab: Lab) -> None:
    def change(found: Json) -> None:
        conf: str = found["data"]["net-conf.json"]
        found["data"]["net-conf.json"] = conf.replace(lab.shape.pod_network, _other_network(lab))

    edit(lab, MISMATCH, _config(lab), change)
    delete_flannel(lab, last_node(lab))


def _settled_mismatch(lab: Lab) -> bool:
    node = last_node(lab)
    env = node.run("cat", "/run/flannel/subnet.env", check=False).stdout
    new = f"FLANNEL_NETWORK={_other_network(lab)}" in env
    return (new and ready(lab, node)) or crashed(lab, node, "")


def _inject_no_module(lab: Lab) -> None:
    def change(found: Json) -> None:
        pod = found["spec"]["template"]["spec"]
        container = pod["containers"][0]
        program = [*container.pop("command"), *container.pop("args", [])]
        container["command"] = ["/bin/sh", "-c", f"{_MASK} {' '.join(program)}"]
        container["securityContext"] = {"privileged": True}
        found["spec"]["updateStrategy"] = {"type": "OnDelete"}

    edit(lab, NO_MODULE, daemons(lab), change)
    delete_flannel(lab, last_node(lab))


def _heal_no_module(lab: Lab) -> None:
    restore(lab, NO_MODULE)
    if not ready(lab, last_node(lab)):
        delete_flannel(lab, last_node(lab))
    await_flannel(lab, last_node(lab))


_ALL: Final = (DENIED, MALFORMED, NO_MODULE)


def _alike(name: str) -> tuple[str, ...]:
    return (*(n for n in _ALL if n != name), "flannel-not-on-node")


def _only(*codes: str) -> frozenset[str]:
    """Forbid all codes but these: look-alikes', and echoes."""
    deep = {
        "FLANNEL_NOT_READY",
        "FLANNEL_NOT_ON_NODE",
        "FLANNEL_RBAC_DENIED",
        "FLANNEL_NETCONF_INVALID",
        "FLANNEL_BR_NETFILTER_MISSING",
        "FLANNEL_PODCIDR_*",
        "FLANNEL_API_UNREACHABLE",
        "FLANNEL_SUBNET_*",
    }
    return all_but("FLANNEL_") | (deep - set(codes))


def _named(lab: Lab) -> tuple[str, ...]:
    return (last_node(lab).fqdn,)


# An API server that flannel does not reach is kube-proxy-gone with flannel started anew: the cause is
# kube-proxy, and FLANNEL_API_UNREACHABLE an echo of it, which tests/rules sees folded.
FAULTS: Final = (
    Fault(
        name=DENIED,
        link="flannel",
        story=(
            "The ClusterRoleBinding of flannel's service account is gone, so flannel ends on the"
            " node where it started last."
        ),
        expected=frozenset({"FLANNEL_RBAC_DENIED"}),
        names=_named,
        forbidden=_only("FLANNEL_RBAC_DENIED"),
        lookalikes=_alike(DENIED),
        fits=has_workers,
        inject=_inject_denied,
        settled=lambda lab: crashed(lab, last_node(lab), "forbidden"),
        heal=lambda lab: _heal_pod(lab, DENIED),
    ),
    Fault(
        name=MALFORMED,
        link="flannel",
        story="A comma too many in net-conf.json: flannel ends where it started last.",
        expected=frozenset({"FLANNEL_NETCONF_INVALID"}),
        names=_named,
        forbidden=_only("FLANNEL_NETCONF_INVALID"),
        lookalikes=_alike(MALFORMED),
        fits=has_workers,
        inject=_inject_malformed,
        settled=lambda lab: crashed(lab, last_node(lab), "net"),
        heal=lambda lab: _heal_pod(lab, MALFORMED),
    ),
    Fault(
        name=MISMATCH,
        link="flannel",
        story="The network of net-conf.json is not the one that podCIDRs come from.",
        expected=frozenset({"FLANNEL_SUBNET_MISMATCH"}),
        names=lambda lab: (_other_network(lab),),
        forbidden=_only("FLANNEL_SUBNET_*") | {"FLANNEL_SUBNET_ENV_MISSING"},
        lookalikes=_alike(MISMATCH),
        fits=has_workers,
        inject=_inject_mismatch,
        settled=_settled_mismatch,
        heal=lambda lab: _heal_pod(lab, MISMATCH),
    ),
    Fault(
        name=NO_MODULE,
        link="flannel",
        story=(
            "Flannel finds no br_netfilter in the kernel of a worker: here its container hides"
            " what the kernel, shared by all nodes, has loaded."
        ),
        expected=frozenset({"FLANNEL_BR_NETFILTER_MISSING"}),
        names=_named,
        forbidden=_only("FLANNEL_BR_NETFILTER_MISSING"),
        lookalikes=_alike(NO_MODULE),
        fits=has_workers,
        inject=_inject_no_module,
        settled=lambda lab: crashed(lab, last_node(lab), "br_netfilter"),
        heal=_heal_no_module,
    ),
)
