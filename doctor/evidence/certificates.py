"""Builder of what webhooks show: who answers the API server's node, and with which certificate."""

import datetime as dt
from collections.abc import Iterable, Iterator

from doctor.evidence.states import webhooks
from doctor.evidence.world import World
from doctor.model.evidence import (
    Backend,
    WebhookBackend,
    WebhookCertificate,
    WebhookCertificates,
    WebhookFlows,
)
from doctor.model.flow import Observation
from doctor.model.verdict import Gap
from doctor.parse.certificate import parse_certificate, vouched_for

__all__ = ["webhook_certificates", "webhook_flows"]


def webhook_flows(world: World, seen: tuple[Observation, ...]) -> WebhookFlows:
    """Build the table of connections to webhooks.

    Args:
        world: The cluster.
        seen: The connections.
    """
    called = [w for w in webhooks(world).items if w.backend.ready]
    plane = any(n.control_plane for n in world.nodes)
    gaps = world.table_gaps("WebhookFlows")
    if called and not plane and not world.gaps("nodes"):
        reason = "no node of the control plane is visible, and elsewhere other paths are taken"
        gaps = (*gaps, Gap("connections to webhooks from where the API server runs", reason))
    return WebhookFlows(observations=seen, gaps=gaps)


def webhook_certificates(world: World, seen: tuple[Observation, ...]) -> WebhookCertificates:
    """Build the table of certificates.

    Args:
        world: The cluster.
        seen: The handshakes with webhooks.
    """
    table = webhooks(world)
    gaps = (*table.gaps, *world.table_gaps("WebhookCertificates"))
    if table.absent:
        return WebhookCertificates(gaps=gaps, absent=table.absent)
    items = tuple(_items(world, table.items, seen))
    backends = {(w.backend.key, w.backend.asked_port): w.backend for w in table.items}
    unseen = [
        g for b in backends.values() for g in _unseen(b, seen, told=any(g.essential for g in gaps))
    ]
    return WebhookCertificates(gaps=(*gaps, *unseen, *_unjudged(items)), items=items)


def _towards(backend: Backend, seen: Iterable[Observation]) -> list[Observation]:
    """Select the handshakes with the endpoints of one port of a Service."""
    ends = {(e.address, e.port) for e in backend.endpoints}
    return [
        o for o in seen if o.flow.subject == backend.key and (o.flow.address, o.flow.port) in ends
    ]


def _items(
    world: World, called: Iterable[WebhookBackend], seen: tuple[Observation, ...]
) -> Iterator[WebhookCertificate]:
    """Join webhooks with what their endpoints showed, each certificate once for a webhook."""
    at = dt.datetime.fromisoformat(world.bundle.created).timestamp()
    for webhook in called:
        shown: set[str] = set()
        for one in (o for o in _towards(webhook.backend, seen) if o.certificates):
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


def _unseen(backend: Backend, seen: Iterable[Observation], *, told: bool) -> Iterator[Gap]:
    """Say which endpoints showed no certificate, and why; or why none was asked, if it was not told."""
    needs = f"the certificate of webhook Service {backend.key}"
    tried: dict[str, list[Observation]] = {}
    for one in _towards(backend, seen):
        tried.setdefault(f"{one.flow.address}:{one.flow.port}", []).append(one)
    if not tried and not (told and backend.ready):
        yield Gap(needs, _unasked(backend))
    for address, found in tried.items():
        if not any(o.certificates and parse_certificate(o.certificates[0]) for o in found):
            silent = all(o.failure and o.failure.unanswered for o in found)
            flows = tuple(o.flow.id for o in found) if silent else ()
            yield Gap(f"{needs} at {address}", _unshown(found[0]), flows=flows)


def _unasked(backend: Backend) -> str:
    """Say why no endpoint was asked."""
    if backend.service is None:
        return "there is no such Service"
    if backend.port is None:
        return f"it has no port {backend.asked_port}"
    return "no handshake was seen" if backend.ready else "it has no ready endpoint"


def _unshown(one: Observation) -> str:
    """Say how a handshake ended without a certificate that is of use."""
    if one.certificates:
        return "what it shows cannot be read"
    why = ": ".join(w for w in ((one.failure or "").replace("_", " "), one.detail) if w)
    if "protocol_version" in one.detail:
        why += " (TLS 1.3 alone, which hides it from the doctor, or something older than 1.2)"
    return f"it showed none to {one.flow.vantage}: {why}"


def _unjudged(items: Iterable[WebhookCertificate]) -> Iterator[Gap]:
    """Say what of a certificate that was shown could not be judged."""
    for item in items:
        configuration = f"{item.webhook.kind} {item.webhook.configuration}"
        of = f"certificate of webhook Service {item.webhook.backend.key}"
        if item.vouching.trusted is None:
            what = "cannot be read" if item.webhook.ca_bundle else "is empty"
            yield Gap(f"who signed the {of}", f"the caBundle of {configuration} {what}")
        if item.certificate.covers(item.name) is None:
            yield Gap(f"the names of the {of}", "they cannot all be read")
