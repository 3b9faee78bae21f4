"""Checks of the cluster's DNS: that it runs, that it answers from everywhere, and each time."""

from checks.dns.answers import udp_and_tcp
from checks.dns.host_network import host_network
from checks.dns.lately import unhindered
from checks.dns.policy import policies
from checks.dns.resolver import pod_resolver, search
from checks.dns.running import running
from checks.dns.steady import steady
from checks.dns.tracked import tracked
from checks.dns.upstream import upstreams

__all__ = ["CHECKS"]

CHECKS = (
    running,
    udp_and_tcp,
    steady,
    pod_resolver,
    upstreams,
    search,
    policies,
    host_network,
    tracked,
    unhindered,
)
