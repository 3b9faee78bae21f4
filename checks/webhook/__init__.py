"""Checks of admission webhooks: their Services, the way to them, their certificates."""

from checks.webhook.certificate import certificate
from checks.webhook.service import endpoints, reachable

__all__ = ["CHECKS"]

CHECKS = (endpoints, reachable, certificate)
