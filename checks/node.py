"""Checks of the nodes themselves."""

from collections.abc import Iterable, Iterator

from doctor.contract import check
from doctor.model.evidence import Nodes
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Condition, Node
from doctor.model.link import Link

__all__ = ["CHECKS", "NODE_NETWORK_UNAVAILABLE", "NODE_NOT_READY", "network_available", "ready"]

NODE_NOT_READY = Code(
    "NODE_NOT_READY",
    Link.NODE,
    "The kubelet of a node, or the control plane for want of its reports, says it is not ready.",
)


NODE_NETWORK_UNAVAILABLE = Code(
    "NODE_NETWORK_UNAVAILABLE",
    Link.NODE,
    "A node has the condition NetworkUnavailable: it is kept free of new pods and announces nothing.",
)


@check(id="node.ready", title="Every Linux node is ready", codes=(NODE_NOT_READY,))
def ready(nodes: Nodes) -> Iterator[Finding]:
    """Every Linux node is ready.

    What it looks at:
        The Ready condition of every Linux node, with the kubelet's reason and message.

    Why it matters:
        Endpoints on a node that is not ready are taken out of Services, and no new pod starts there.

    What proves it:
        The condition is False (the kubelet says why) or Unknown (its reports no longer arrive).

    Look-alikes:
        A cordoned node is ready and serves: no finding. A node that only waits for its pod network
        is explained by flannel. A node that nothing reaches cannot report: explained by the overlay's
        underlay. A silent kubelet does not stop the packets of running pods, so no
        flow is blamed on this alone.

    Remediation:
        Read what the kubelet says, restart it, and see the condition turn.

    Sources:
        Kubernetes documentation, "Node Status" and "Troubleshooting Clusters".
    """
    planes = [n.name for n in nodes.items if n.control_plane]
    for node in nodes.items:
        for condition in node.status.conditions or ():
            if node.linux and condition.type == "Ready" and condition.status != "True":
                waits = (Hop(HopKind.FLANNEL, node.name),) if not nodes.down(node.name) else ()
                unheard = condition.status == "Unknown"
                yield _not_ready(
                    node, condition, *waits, *(_reports(node, planes) if unheard else ())
                )


def _reports(node: Node, planes: Iterable[str]) -> Iterator[Hop]:
    """Yield what the reports of a kubelet cross: the answers to them come by there."""
    for plane in planes:
        if plane != node.name:
            yield Hop(HopKind.UNDERLAY, f"{plane}>{node.name}", "tcp/6443")


def _not_ready(node: Node, condition: Condition, *after: Hop) -> Finding:
    """Say why a node is not ready, and what may have brought that about."""
    why = " ".join((condition.message or "no reason is given").split())[:160].rstrip(". ")
    reason = f" ({condition.reason})" if condition.reason else ""
    return Finding(
        code=NODE_NOT_READY,
        title=f"Node {node.name} is not ready: {why}{reason}",
        hop=Hop(HopKind.NODE, node.name),
        evidence=(f"api:nodes/{node.name}",),
        consequence_of=after,
        remediation=(
            Remediation(
                title=f"Read why, then restart the kubelet of {node.name}",
                commands=(
                    f"kubectl describe node {node.name}",
                    f"ssh {node.name} sudo journalctl -u kubelet -n 50 --no-pager",
                    f"ssh {node.name} sudo systemctl restart kubelet",
                ),
                risk=Risk.SAFE,
                verify="wwwm-doctor check node",
            ),
        ),
        falsifier=f"The Ready condition of {node.name} is True",
    )


@check(
    id="node.network-available",
    title="Every Linux node says that its network is available",
    codes=(NODE_NETWORK_UNAVAILABLE,),
)
def network_available(nodes: Nodes) -> Iterator[Finding]:
    """Every Linux node says that its network is available.

    What it looks at:
        The NetworkUnavailable condition of every Linux node.

    Why it matters:
        Where it is True, the node is tainted: no pod is scheduled there that does not tolerate it,
        MetalLB announces nothing from there, and load balancers leave the node out.

    What proves it:
        The condition is True. It is flannel's to clear, once, when it starts.

    Look-alikes:
        A node where flannel does not run: explained by that. A node that is not ready, or that was
        cordoned, has other conditions and taints.

    Remediation:
        Start flannel's pod on the node again, which clears the condition.

    Sources:
        Kubernetes documentation, "Node Status" and "Taints and Tolerations"; MetalLB
        documentation, "Troubleshooting".
    """
    for node in nodes.items:
        for condition in node.status.conditions or ():
            if node.linux and condition.type == "NetworkUnavailable" and condition.status == "True":
                yield _unavailable(node, condition)


def _unavailable(node: Node, condition: Condition) -> Finding:
    """Say that a node's network is said to be unavailable."""
    why = " ".join((condition.message or condition.reason or "no reason is given").split())[:160]
    again = f"kubectl delete pods -A -l app=flannel --field-selector spec.nodeName={node.name}"
    turned = "kubectl wait --for=condition=NetworkUnavailable=False --timeout=90s node"
    return Finding(
        code=NODE_NETWORK_UNAVAILABLE,
        title=f"Node {node.name} has the condition NetworkUnavailable ({why.rstrip('. ')}): no new "
        "pod is scheduled there, and MetalLB announces nothing from it",
        hop=Hop(HopKind.NODE, node.name),
        evidence=(f"api:nodes/{node.name}",),
        consequence_of=(Hop(HopKind.FLANNEL, node.name),),
        remediation=(
            Remediation(
                title=f"Start the network's pod on {node.name} again, which clears the condition",
                commands=(again, f"{turned} {node.name}"),
                risk=Risk.SAFE,
                verify="wwwm-doctor check node",
            ),
        ),
        falsifier=f"The NetworkUnavailable condition of {node.name} is False, or absent",
    )


CHECKS = (ready, network_available)
