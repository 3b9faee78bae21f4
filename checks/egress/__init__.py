"""The way out of the cluster: what failing workloads depend on, and what pods' addresses become."""

from checks.egress.connections import reachable
from checks.egress.masquerade import masquerade
from doctor.contract import Check

__all__ = ["CHECKS", "masquerade", "reachable"]

CHECKS: tuple[Check, ...] = (masquerade, reachable)
