"""What the checks of the visitor's way have in common."""

from doctor.model.failure import Failure
from doctor.model.finding import Remediation, Risk
from doctor.model.flow import Observation
from doctor.model.hop import Hop, HopKind

__all__ = ["GATEWAY", "OURS", "hop_of", "mend", "plain", "said"]

GATEWAY = (502, 503, 504)
OURS = (Failure.UNKNOWN, Failure.PERMISSION_DENIED)
_VERIFY = "wwwm-doctor check host-proxy"


def plain(name: str) -> str:
    """Write a host as it is compared: without port and trailing dot, in lower case."""
    return name.partition(":")[0].rstrip(".").lower()


def hop_of(o: Observation) -> Hop:
    """Name the place that a visitor connects to."""
    return Hop(HopKind.HOST_PROXY, o.flow.address, o.flow.protocol)


def said(o: Observation) -> str:
    """Put into words what came back."""
    words = {
        Failure.TIMEOUT: "no answer",
        Failure.NO_ROUTE: "no route to host",
        Failure.CONNECTION_REFUSED: "connection refused",
        Failure.CONNECTION_RESET: "connection reset",
        Failure.NETWORK_UNREACHABLE: "network unreachable",
    }
    if o.failure:
        return words.get(o.failure, o.failure.value.replace("_", " "))
    if o.looping:
        return f"status {o.status}, a redirect that leads round in circles, to {o.location}"
    return f"status {o.status}"


def mend(title: str, *commands: str) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=Risk.SAFE, verify=_VERIFY)
