"""What the checks of kube-proxy have in common."""

from collections.abc import Iterator

from checks.common import and_list
from doctor.model.evidence import KubeProxy, Nodes
from doctor.model.finding import Remediation, Risk
from doctor.model.hop import ANY, Hop, HopKind

__all__ = ["VERIFY", "node_hops", "write_anew"]

VERIFY = "wwwm-doctor check kube-proxy"


def node_hops(nodes: Nodes, names: list[str]) -> Iterator[tuple[Hop, tuple[Hop, ...]]]:
    """Give one hop for all Linux nodes, else one per node: the first explains the others."""
    if len(names) > 1 and set(names) == set(nodes.linux):
        yield Hop(HopKind.KUBE_PROXY, ANY), ()
        return
    first = (Hop(HopKind.KUBE_PROXY, names[0]),)
    for name in names:
        down = (Hop(HopKind.NODE, name),) if nodes.down(name) else ()
        yield Hop(HopKind.KUBE_PROXY, name), down + (first if name != names[0] else ())


def write_anew(proxy: KubeProxy | None, names: list[str]) -> Remediation:
    """Say how to let kube-proxy write its rules anew."""
    pods = [p for n in names if proxy and (p := proxy.on(n))]
    restart = [f"kubectl -n {p.namespace} delete pod {p.name}" for p in pods]
    look = [f"kubectl get pods -A -o wide --field-selector spec.nodeName={n}" for n in names]
    title = f"Let kube-proxy on {and_list(names)} write its rules anew"
    return Remediation(title, tuple(restart or look), Risk.SAFE, VERIFY)
