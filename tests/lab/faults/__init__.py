"""What can be broken in the lab, and how: one module for each link of the chain."""

from typing import Final

from tests.lab.faults import (
    bridge,
    cni,
    dns,
    dns_coredns,
    dns_policy,
    dns_resolver,
    dns_upstream,
    egress,
    flannel,
    flanneld,
    host_filter,
    host_proxy,
    ingress,
    kube_proxy,
    kube_proxy_bridge,
    kube_proxy_config,
    kube_proxy_filters,
    kube_proxy_rules,
    masquerade,
    metallb,
    node,
    node_ports,
    overlay,
    overlay_entries,
    overlay_setup,
    overlay_sizes,
    public_ip,
    ranges,
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
    overlay_entries,
    overlay_setup,
    overlay_sizes,
    host_filter,
    dns,
    dns_coredns,
    dns_policy,
    dns_resolver,
    dns_upstream,
    webhook,
    kube_proxy,
    kube_proxy_rules,
    kube_proxy_bridge,
    kube_proxy_config,
    kube_proxy_filters,
    ranges,
    service,
    service_ports,
    metallb,
    ingress,
    host_proxy,
    node_ports,
    egress,
    masquerade,
)

FAULTS: Final[dict[str, Fault]] = {fault.name: fault for link in _LINKS for fault in link.FAULTS}
