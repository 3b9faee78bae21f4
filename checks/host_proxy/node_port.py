"""Node ports that a visitor, or the reverse proxy in front, goes through."""

from collections.abc import Iterator
from typing import NamedTuple

from checks.common import ids, security_group_rules
from checks.host_proxy.shared import OURS, hop_of, mend
from doctor.contract import check
from doctor.model.evidence import Backend, BackendFlows, Backends, Nodes, Proxy, TargetFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.kube import Service, ServicePort
from doctor.model.link import Link

__all__ = ["NODE_PORT_FILTERED", "SERVICE_EXTERNAL_TRAFFIC_LOCAL", "node_port"]

NODE_PORT_FILTERED = Code(
    "NODE_PORT_FILTERED",
    Link.HOST_PROXY,
    "A node port that the site is reached by answers on its node, and not from outside.",
)
SERVICE_EXTERNAL_TRAFFIC_LOCAL = Code(
    "SERVICE_EXTERNAL_TRAFFIC_LOCAL",
    Link.HOST_PROXY,
    "A Service's externalTrafficPolicy is Local, and the node that it is reached at holds none of "
    "its endpoints.",
)
_DROPPED = (Failure.TIMEOUT, Failure.HOST_PROHIBITED, Failure.NO_ROUTE)


class _Port(NamedTuple):
    """A node port that did not answer: the Service behind it, and its node."""

    seen: Observation
    backend: Backend
    service: Service
    port: ServicePort
    node: str


@check(
    id="host-proxy.node-port",
    title="Node ports on the way answer from outside",
    codes=(NODE_PORT_FILTERED, SERVICE_EXTERNAL_TRAFFIC_LOCAL),
    essential=False,
)
def node_port(
    targets: TargetFlows,
    proxy: Proxy | None,
    backends: Backends,
    nodes: Nodes,
    inside: BackendFlows | None,
) -> Iterator[Finding]:
    """Node ports on the way answer from outside.

    What it looks at:
        Where the proxy's upstream, or the URL itself, is a node's address with the node port of a
        Service: that connection, the same port asked on the node itself, the Service's
        externalTrafficPolicy, and on which nodes its ready endpoints are.

    Why it matters:
        With externalTrafficPolicy Local a node sends what comes from outside to endpoints of its own
        only, and drops it where it has none: the site fails whenever its pods move. Node ports, from
        30000 to 32767 by default, are rarely open in firewalls that know of 80 and 443.

    What proves it:
        The connection fails, and the Service is Local without a ready endpoint on that node; or it
        gets no answer while the same port of the same node answers on the node itself.

    Look-alikes:
        A Service without any endpoint refuses, on the node as well. On the node itself Local makes no
        difference: asking there proves nothing of it. A proxy that may not connect by SELinux fails
        while its machine reaches the port.

    Remediation:
        Set the policy to Cluster, point the proxy at nodes with an endpoint, or run one on each. Open
        the port in the security group or the firewall before the node.

    Sources:
        Kubernetes documentation, "Service", "Preserving the client source IP". ingress-nginx:
        "Bare-metal considerations". kubernetes/kubernetes issues 66354, 92761.
    """
    for through in targets.of(Purpose.TARGET, kind=FlowKind.HTTP):
        if through.served or through.failure in OURS:
            continue
        past = proxy.of(Purpose.UPSTREAM, subject=through.flow.subject) if proxy else ()
        for seen in (through, *past):
            found = _node_port(seen, backends, nodes) if _fails(seen) else None
            if found and (said := _judge(found, through, inside)):
                yield said
                break


def _fails(seen: Observation) -> bool:
    """Say whether a connection failed, and not by our own doing."""
    return seen.failure is not None and seen.failure not in OURS


def _node_port(seen: Observation, backends: Backends, nodes: Nodes) -> _Port | None:
    """Find the Service behind a node's address and port; None where it is no node port."""
    node = next((n.name for n in nodes.items if n.address == seen.flow.address), "")
    for backend in backends.items if node else ():
        service, port = backend.service, backend.port
        if service and port and port.node_port == seen.flow.port:
            return _Port(seen, backend, service, port, node)
    return None


def _judge(found: _Port, through: Observation, inside: BackendFlows | None) -> Finding | None:
    """Say why a node port does not answer, as far as that is known."""
    ready = found.backend.ready
    near = any(e.node == found.node for e in ready)
    if found.service.spec.external_traffic_policy == "Local" and ready and not near:
        return _local(found, through)
    own = inside.of(Purpose.NODE_PORT, address=found.seen.flow.address) if inside else ()
    control = [o for o in own if o.flow.port == found.seen.flow.port and o.ok]
    return (
        _filtered(found, through, control) if found.seen.failure in _DROPPED and control else None
    )


def _local(found: _Port, through: Observation) -> Finding:
    """Say that a node drops what comes from outside, for want of an endpoint of its own."""
    namespace, _, name = found.backend.key.partition("/")
    where = sorted({e.node for e in found.backend.ready if e.node})
    return Finding(
        code=SERVICE_EXTERNAL_TRAFFIC_LOCAL,
        title=(
            f"Service {found.backend.key} keeps what comes from outside on its node "
            f"(externalTrafficPolicy Local), and {found.node} has none of its ready endpoints: node "
            f"port {found.port.node_port} there drops it; they are on {', '.join(where[:4])}"
        ),
        hop=hop_of(through),
        evidence=(f"api:services/{found.backend.key}", *ids([found.seen, through])),
        remediation=(
            mend(
                f"Let {found.backend.key} send what comes from outside to endpoints of every node",
                (
                    f"kubectl -n {namespace} patch service {name} --type=merge "
                    '-p \'{"spec":{"externalTrafficPolicy":"Cluster"}}\''
                ),
            ),
        ),
        falsifier=f"{found.node} holds a ready endpoint of {found.backend.key}",
    )


def _filtered(found: _Port, through: Observation, control: list[Observation]) -> Finding:
    """Say that a node port is dropped between this machine and the node."""
    port, address = found.port.node_port, found.seen.flow.address
    return Finding(
        code=NODE_PORT_FILTERED,
        title=(
            f"Node port {port} of {found.node} ({address}), by which {found.backend.key} is reached, "
            f"answers on {found.node} and not {found.seen.flow.vantage}: something before the node "
            "drops it"
        ),
        hop=hop_of(through),
        evidence=ids([found.seen, *control, through]),
        confidence=Confidence.LIKELY,
        remediation=(
            mend(
                f"Let TCP {port} in at {found.node}, in its security group and in firewalls before it",
                *security_group_rules(address, f"--protocol tcp --dst-port {port}"),
            ),
        ),
        falsifier=f"{address}:{port} answers from outside the cluster",
    )
