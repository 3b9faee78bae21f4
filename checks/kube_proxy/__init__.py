"""Checks of kube-proxy: that it runs on every node, and that Service addresses work there."""

from checks.kube_proxy.answers import service_ip
from checks.kube_proxy.bridge import bridge
from checks.kube_proxy.config import api_server, cluster_cidr, one_instance
from checks.kube_proxy.filters import conntrack, kubelet_chain
from checks.kube_proxy.kinds import one_kind
from checks.kube_proxy.policy import internal_traffic
from checks.kube_proxy.ranges import overlaps, room
from checks.kube_proxy.rules import endpoints
from checks.kube_proxy.running import on_every_node

__all__ = ["CHECKS"]

CHECKS = (
    kubelet_chain,
    conntrack,
    api_server,
    on_every_node,
    one_instance,
    cluster_cidr,
    service_ip,
    one_kind,
    endpoints,
    internal_traffic,
    bridge,
    overlaps,
    room,
)
