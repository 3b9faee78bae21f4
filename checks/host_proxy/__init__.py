"""Checks of the visitor's own way: the reverse proxy, the name, the certificate, the answer."""

from checks.host_proxy.proxy import forwards
from checks.host_proxy.url import certificate, url

__all__ = ["CHECKS"]

CHECKS = (forwards, url, certificate)
