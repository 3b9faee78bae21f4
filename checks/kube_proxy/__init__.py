"""Checks of kube-proxy: that it runs on every node, and that Service addresses work there."""

from checks.kube_proxy.answers import service_ip
from checks.kube_proxy.bridge import bridge
from checks.kube_proxy.policy import internal_traffic
from checks.kube_proxy.rules import endpoints
from checks.kube_proxy.running import on_every_node

__all__ = ["CHECKS"]

CHECKS = (on_every_node, service_ip, endpoints, internal_traffic, bridge)
