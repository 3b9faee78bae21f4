"""What the checks of kube-proxy have in common."""

from checks.common import and_list
from doctor.model.evidence import KubeProxy
from doctor.model.finding import Remediation, Risk

__all__ = ["VERIFY", "write_anew"]

VERIFY = "wwwm-doctor check kube-proxy"


def write_anew(proxy: KubeProxy | None, names: list[str]) -> Remediation:
    """Say how to let kube-proxy write its rules anew."""
    pods = [p for n in names if proxy and (p := proxy.on(n))]
    restart = [f"kubectl -n {p.namespace} delete pod {p.name}" for p in pods]
    look = [f"kubectl get pods -A -o wide --field-selector spec.nodeName={n}" for n in names]
    title = f"Let kube-proxy on {and_list(names)} write its rules anew"
    return Remediation(title, tuple(restart or look), Risk.SAFE, VERIFY)
