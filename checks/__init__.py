"""The checks that ship with the doctor, in the order in which the path is walked."""

from checks import (
    dns,
    egress,
    flannel,
    host_proxy,
    ingress,
    kube_proxy,
    metallb,
    node,
    overlay,
    service,
    webhook,
)

__all__ = ["CHAIN"]

CHAIN = (
    *node.CHECKS,
    *flannel.CHECKS,
    *overlay.CHECKS,
    *dns.CHECKS,
    *webhook.CHECKS,
    *kube_proxy.CHECKS,
    *service.CHECKS,
    *metallb.CHECKS,
    *ingress.CHECKS,
    *host_proxy.CHECKS,
    *egress.CHECKS,
)
