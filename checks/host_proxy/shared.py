"""What the checks of the visitor's way have in common."""

from collections.abc import Iterable

from checks.common import told
from doctor.model.evidence import Nodes
from doctor.model.failure import Failure
from doctor.model.finding import Remediation, Risk
from doctor.model.flow import Observation
from doctor.model.hop import Hop, HopKind

__all__ = ["GATEWAY", "OURS", "hop_of", "mend", "plain", "said", "unrouted"]

GATEWAY = (502, 503, 504)
OURS = (Failure.UNKNOWN, Failure.PERMISSION_DENIED)
_VERIFY = "wwwm-doctor check host-proxy"


def plain(name: str) -> str:
    """Write a host as it is compared: without port and trailing dot, in lower case."""
    return name.partition(":")[0].rstrip(".").lower()


def hop_of(o: Observation) -> Hop:
    """Name the place that a visitor connects to."""
    return Hop(HopKind.HOST_PROXY, o.flow.address, o.flow.protocol)


def unrouted(lost: Iterable[Observation], nodes: Nodes | None) -> tuple[Hop, ...]:
    """List flannel on those of the nodes that forward what is lost where it has never run.

    Without a podCIDR it sets no route: such a node takes what comes for a load balancer's address, and
    cannot hand it on. Flannel that ran and ends now has left its routes, and is not to blame.
    """
    where = {h.where for o in lost for h in o.hops if h.kind is HopKind.FORWARD}
    bare = {n.name for n in nodes.items if not n.pod_cidr} if nodes else set[str]()
    return tuple(Hop(HopKind.FLANNEL, n) for n in sorted(where & bare))


def said(o: Observation) -> str:
    """Put into words what came back."""
    if o.failure is Failure.TIMEOUT:
        return "no answer"
    if o.failure is Failure.CONNECTION_REFUSED and o.icmp:
        return "connection refused by a packet filter"
    if o.failure:
        return told(o) or o.failure.value.replace("_", " ")
    if o.looping:
        return f"status {o.status}, a redirect that leads round in circles, to {o.location}"
    return f"status {o.status}"


def mend(title: str, *commands: str) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=Risk.SAFE, verify=_VERIFY)
