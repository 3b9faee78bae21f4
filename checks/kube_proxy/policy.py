"""Services that send traffic to endpoints of the same node only."""

from collections.abc import Iterator

from checks.common import and_list
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.evidence import Backend, KubeProxy, NodeNetworks, Nodes
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link
from doctor.model.netfilter import Action
from doctor.model.proxying import ProxiedServices

__all__ = ["SERVICE_INTERNAL_TRAFFIC_LOCAL", "internal_traffic"]

SERVICE_INTERNAL_TRAFFIC_LOCAL = Code(
    "SERVICE_INTERNAL_TRAFFIC_LOCAL",
    Link.KUBE_PROXY,
    "A Service's internalTrafficPolicy is Local, and nodes that need it hold none of its endpoints.",
)
_API_SERVER = "default/kubernetes"


@check(
    id="kube-proxy.internal-traffic",
    title="Services that keep traffic on its node have an endpoint on each",
    codes=(SERVICE_INTERNAL_TRAFFIC_LOCAL,),
    essential=False,
)
def internal_traffic(
    services: ProxiedServices,
    nodes: Nodes,
    proxy: KubeProxy | None,
    networks: NodeNetworks | None,
) -> Iterator[Finding]:
    """Services that keep traffic on its node have an endpoint on each.

    What it looks at:
        internalTrafficPolicy of the DNS Service, of the API server's, and of the Services of
        webhooks; and on which nodes their ready endpoints are.

    Why it matters:
        With Local, kube-proxy sends what comes from a node to endpoints of that node only, and
        drops it where there are none: connections hang, although the Service has ready endpoints.
        DNS is needed on every node, a webhook on the nodes of the control plane.

    What proves it:
        The Service's policy, a ready endpoint elsewhere and none on a node that needs it. The rule
        that drops, where kube-proxy's rules were read there.

    Look-alikes:
        A Service without any ready endpoint refuses at once, and on every node. A filter between
        nodes drops what is sent to pods, too; here pods answer when they are asked themselves.

    Remediation:
        Set the policy to Cluster, or run an endpoint on every node.

    Sources:
        Kubernetes documentation, "Service Internal Traffic Policy". kubernetes issue 121371.
    """
    if services.lacks("services", "endpointslices") or (proxy and proxy.absent):
        return
    said: set[str] = set()
    for backend in services.items:
        policy = backend.service.spec.internal_traffic_policy if backend.service else ""
        if policy != "Local" or backend.key in said or not backend.ready:
            continue
        served = {e.node for e in backend.ready}
        lacking = [n for n in _callers(backend, services, nodes) if n not in served]
        if lacking and "" not in served:
            said.add(backend.key)
            yield _finding(backend, lacking, sorted(served), networks)


def _callers(backend: Backend, services: ProxiedServices, nodes: Nodes) -> list[str]:
    """List the nodes that need a Service."""
    linux = [n for n in nodes.items if n.linux]
    if backend.key in (services.dns, _API_SERVER):
        return [n.name for n in linux]
    planes = [n.name for n in linux if n.control_plane]
    return planes if backend.key in services.webhooks else []


def _finding(
    backend: Backend, lacking: list[str], served: list[str], networks: NodeNetworks | None
) -> Finding:
    """Say which nodes get nothing from a Service."""
    namespace, _, name = backend.key.partition("/")
    read = [r for n in lacking if networks and (r := networks.of(n))]
    port, spec = backend.port, backend.service.spec if backend.service else None
    drops = [
        r
        for r in read
        if port
        and spec
        and (e := r.service(spec.ipv4, port.protocol.lower(), port.port))
        and (e.refusal is Action.DROP or not e.endpoints)
    ]
    return Finding(
        code=SERVICE_INTERNAL_TRAFFIC_LOCAL,
        title=(
            f"Service {backend.key} keeps traffic on its node (internalTrafficPolicy Local), and "
            f"{and_list(lacking)} has none of its ready endpoints: what is sent to it from there "
            f"is dropped; they are on {and_list(served)}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(f"api:services/{backend.key}", *(r.evidence for r in drops)),
        confidence=Confidence.CERTAIN if drops else Confidence.LIKELY,
        remediation=(
            Remediation(
                title=f"Let {backend.key} send traffic to endpoints of every node",
                commands=(
                    (
                        f"kubectl -n {namespace} patch service {name} --type=merge "
                        '-p \'{"spec":{"internalTrafficPolicy":"Cluster"}}\''
                    ),
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{and_list(lacking)} holds a ready endpoint of {backend.key}",
    )
