"""Checks of the cluster's DNS: that it runs, that it answers from everywhere, and each time."""

from checks.dns.answers import udp_and_tcp
from checks.dns.running import running
from checks.dns.steady import steady

__all__ = ["CHECKS"]

CHECKS = (running, udp_and_tcp, steady)
