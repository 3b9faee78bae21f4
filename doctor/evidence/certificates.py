"""Builder of the certificates that webhooks show to where the API server calls them from."""

import datetime as dt
from collections.abc import Iterator

from doctor.evidence.states import webhooks
from doctor.evidence.world import World
from doctor.model.evidence import WebhookCertificate, WebhookCertificates
from doctor.model.flow import Observation
from doctor.parse.certificate import parse_certificate, vouched_for

__all__ = ["webhook_certificates"]


def webhook_certificates(world: World, seen: tuple[Observation, ...]) -> WebhookCertificates:
    """Build the table.

    Args:
        world: The cluster.
        seen: The handshakes with webhooks.
    """
    gaps = (*webhooks(world).gaps, *world.table_gaps("WebhookCertificates"))
    return WebhookCertificates(gaps=gaps, items=tuple(_items(world, seen)))


def _items(world: World, seen: tuple[Observation, ...]) -> Iterator[WebhookCertificate]:
    """Join webhooks with what their endpoints showed, each certificate once for a webhook."""
    at = dt.datetime.fromisoformat(world.bundle.created).timestamp()
    for webhook in webhooks(world).items:
        shown: set[str] = set()
        for one in (o for o in seen if o.flow.subject == webhook.backend.key and o.certificates):
            certificate = parse_certificate(one.certificates[0])
            if certificate is None or one.certificates[0] in shown:
                continue
            shown.add(one.certificates[0])
            yield WebhookCertificate(
                webhook=webhook,
                address=f"{one.flow.address}:{one.flow.port}",
                name=one.flow.name,
                certificate=certificate,
                vouching=vouched_for(one.certificates, webhook.ca_bundle, at),
                at=at,
                evidence=(one.flow.id, f"api:{webhook.kind.lower()}s/{webhook.configuration}"),
            )
