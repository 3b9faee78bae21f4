"""Checks of the visitor's own way: the reverse proxy, the name, the certificate, the answer."""

from checks.host_proxy.node_port import node_port
from checks.host_proxy.proxy import forwards
from checks.host_proxy.url import certificate, url

__all__ = ["CHECKS"]

CHECKS = (node_port, forwards, url, certificate)
