"""What can be broken in the lab, and how: one module for each link of the chain."""

from typing import Final

from tests.lab.faults import (
    bridge,
    cni,
    dns,
    egress,
    flannel,
    flanneld,
    host_proxy,
    ingress,
    kube_proxy,
    kube_proxy_bridge,
    kube_proxy_rules,
    metallb,
    node,
    overlay,
    public_ip,
    registration,
    service,
    service_ports,
    webhook,
)
from tests.lab.faults.model import Fault, Link
from tests.lab.faults.runner import mend, put_in

__all__ = ["FAULTS", "Fault", "Link", "mend", "put_in"]

_LINKS: Final = (
    node,
    flannel,
    cni,
    bridge,
    flanneld,
    registration,
    overlay,
    public_ip,
    dns,
    webhook,
    kube_proxy,
    kube_proxy_rules,
    kube_proxy_bridge,
    service,
    service_ports,
    metallb,
    ingress,
    host_proxy,
    egress,
)

FAULTS: Final[dict[str, Fault]] = {fault.name: fault for link in _LINKS for fault in link.FAULTS}
