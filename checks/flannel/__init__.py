"""Checks of flannel and of the pod network that it makes on every node."""

from checks.flannel.addresses import pod_addresses, pod_cidrs
from checks.flannel.bridge import bridge
from checks.flannel.daemon import on_every_node
from checks.flannel.sandboxes import sandboxes
from checks.flannel.subnet import subnet_env

__all__ = ["CHECKS"]

CHECKS = (on_every_node, subnet_env, pod_cidrs, pod_addresses, sandboxes, bridge)
