"""Checks of the way between pods: that it is there, and that it carries all of it."""

from checks.overlay.own_node import own_node
from checks.overlay.quality import quality
from checks.overlay.reach import pod_to_pod

__all__ = ["CHECKS"]

CHECKS = (pod_to_pod, quality, own_node)
