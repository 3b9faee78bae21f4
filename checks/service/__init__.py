"""Checks of Services on the way: that they have endpoints, and that those answer."""

from checks.service.endpoints import endpoints
from checks.service.objects import backends
from checks.service.protocol import protocol

__all__ = ["CHECKS"]

CHECKS = (backends, protocol, endpoints)
