"""What the checks of Services have in common."""

from collections.abc import Iterable

from doctor.model.evidence import Backend
from doctor.model.finding import Remediation, Risk
from doctor.model.kube import Pod

__all__ = ["VERIFY", "edits", "look", "mend", "pod_ids", "referrer_ids"]

VERIFY = "wwwm-doctor check service"


def mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=risk, verify=VERIFY)


def look(backend: Backend, pods: tuple[Pod, ...], title: str, *, logs: bool = True) -> Remediation:
    """Make a remediation that begins with reading what a pod says."""
    namespace, _, name = backend.key.partition("/")
    if not pods:
        return mend(title, f"kubectl -n {namespace} get events --sort-by=.lastTimestamp")
    first = pods[0]
    previous = " --previous" if first.crashing else ""
    return mend(
        title,
        f"kubectl -n {namespace} describe pod {first.name}",
        *((f"kubectl -n {namespace} logs {first.name} --tail=50{previous}",) if logs else ()),
        f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}",
    )


def pod_ids(backend: Backend, pods: Iterable[Pod]) -> tuple[str, ...]:
    """Cite a Service and its pods."""
    return (f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in pods))


def referrer_ids(backend: Backend) -> tuple[str, ...]:
    """Cite the Ingresses among those who refer to a Service."""
    words = (r.split(" ", 1) for r in backend.referrers if r.startswith("Ingress "))
    return tuple(f"api:ingresses/{key}" for _, key in words)


def edits(backend: Backend) -> tuple[str, ...]:
    """Open the Ingresses that refer to a Service."""
    keys = (i.removeprefix("api:ingresses/").partition("/") for i in referrer_ids(backend))
    return tuple(f"kubectl -n {namespace} edit ingress {name}" for namespace, _, name in keys)
