"""The certificates that webhooks show to the API server."""

import datetime as dt
from collections.abc import Iterator
from typing import NamedTuple

from checks.common import and_list
from checks.webhook.service import VERIFY
from doctor.contract import check
from doctor.model.certificate import SKEW
from doctor.model.evidence import WebhookCertificate, WebhookCertificates
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link

__all__ = [
    "WEBHOOK_CERTIFICATE_EXPIRED",
    "WEBHOOK_CERTIFICATE_EXPIRES_SOON",
    "WEBHOOK_CERTIFICATE_UNTRUSTED",
    "WEBHOOK_CERTIFICATE_WRONG_NAME",
    "certificate",
]

WEBHOOK_CERTIFICATE_UNTRUSTED = Code(
    "WEBHOOK_CERTIFICATE_UNTRUSTED",
    Link.WEBHOOK,
    "A webhook's certificate is signed by no authority of its configuration's caBundle.",
)
WEBHOOK_CERTIFICATE_EXPIRED = Code(
    "WEBHOOK_CERTIFICATE_EXPIRED",
    Link.WEBHOOK,
    "A webhook's certificate is not valid at this time.",
)
WEBHOOK_CERTIFICATE_EXPIRES_SOON = Code(
    "WEBHOOK_CERTIFICATE_EXPIRES_SOON",
    Link.WEBHOOK,
    "A webhook's certificate is near its end, and was not renewed.",
)
WEBHOOK_CERTIFICATE_WRONG_NAME = Code(
    "WEBHOOK_CERTIFICATE_WRONG_NAME",
    Link.WEBHOOK,
    "A webhook's certificate is not for the name of the Service that the API server calls.",
)

_DAY = 86400
_SOON_DAYS = 14
_SOON_SHARE = 0.1


class _Fault(NamedTuple):
    """What is wrong with a certificate, and what shows that it is not."""

    code: Code
    text: str
    falsifier: str
    severity: Severity


@check(
    id="webhook.certificate",
    title="Each webhook's certificate is one that the API server accepts",
    codes=(
        WEBHOOK_CERTIFICATE_UNTRUSTED,
        WEBHOOK_CERTIFICATE_EXPIRED,
        WEBHOOK_CERTIFICATE_WRONG_NAME,
        WEBHOOK_CERTIFICATE_EXPIRES_SOON,
    ),
    essential=False,
)
def certificate(table: WebhookCertificates) -> Iterator[Finding]:
    """Each webhook's certificate is one that the API server accepts.

    What it looks at:
        The certificates that each webhook's endpoints show in a handshake with a control-plane
        node, or with another where none can be entered; the caBundle of the configuration, and
        the name SERVICE.NAMESPACE.svc.

    Why it matters:
        The API server calls a webhook over TLS alone. A certificate that it does not accept fails
        every request that is intercepted, although pods, Service and network are in order.

    What proves it:
        The certificate itself: its dates, its names, and the signatures from it up to an authority
        of the caBundle. Blocks of the caBundle that cannot be read are passed over, and issuers
        have to be authorities that are valid at the time, as for the API server.

    Look-alikes:
        "connection refused" and "context deadline exceeded" come before any certificate is shown:
        those are the endpoints' and the path's. A server that speaks TLS 1.3 alone hides its
        certificate, and is none the worse for it: it is not judged. A caBundle that is empty is filled in by an
        injector, and nothing is concluded from it.

    Remediation:
        Let what manages the certificate (cert-manager, the controller itself, a job of the chart)
        issue it again and write the caBundle. Do not delete the configuration.

    Sources:
        Kubernetes: Dynamic Admission Control, "Contacting the webhook". cert-manager: The
        Definitive Debugging Guide for the cert-manager Webhook Pod. RFC 6125.
    """
    seen: dict[tuple[str, str], list[WebhookCertificate]] = {}
    faults: dict[tuple[str, str], _Fault] = {}
    # one that may fail the request speaks for all that are called at a Service
    for item in sorted(table.items, key=lambda i: i.webhook.failure_policy == "Ignore"):
        fault = _fault(item)
        if fault:
            key = (item.webhook.backend.key, fault.code.name)
            seen.setdefault(key, []).append(item)
            faults.setdefault(key, fault)
    for key, items in seen.items():
        yield _finding(faults[key], items)


def _fault(item: WebhookCertificate) -> _Fault | None:
    """Say what is wrong with a certificate, the worst first."""
    shown = item.certificate
    stops = item.webhook.failure_policy != "Ignore"
    fail = Severity.FAIL if stops else Severity.WARN
    if item.vouching.trusted is False:
        text = f"is signed by {shown.issuer or 'an unknown authority'}, "
        flaw = item.vouching.flaw
        text += f"and {flaw}" if flaw else "which is not in the caBundle"
        what = "the caBundle holds its issuer, which is a valid authority"
        return _Fault(WEBHOOK_CERTIFICATE_UNTRUSTED, text, what, fail)
    if not shown.begins - SKEW <= item.at <= shown.ends:
        when = f"expired on {_date(shown.ends)}"
        if item.at < shown.begins:
            when = f"is not valid before {_date(shown.begins)}"
        return _Fault(WEBHOOK_CERTIFICATE_EXPIRED, when, "its dates include today", fail)
    if shown.covers(item.name) is False:
        names = and_list(shown.names or ()) or "no name at all"
        text = f"is for {names}, not for {item.name}"
        return _Fault(WEBHOOK_CERTIFICATE_WRONG_NAME, text, f"it lists {item.name}", fail)
    left, life = shown.ends - item.at, shown.ends - shown.begins
    if left < min(_SOON_DAYS * _DAY, _SOON_SHARE * life):
        text = f"expires on {_date(shown.ends)}"
        what = "it is renewed before that day"
        return _Fault(WEBHOOK_CERTIFICATE_EXPIRES_SOON, text, what, Severity.WARN)
    return None


def _date(seconds: float) -> str:
    """Write a moment as a date and time in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _finding(fault: _Fault, items: list[WebhookCertificate]) -> Finding:
    """Say what is wrong with the certificate of a webhook's endpoints."""
    first = items[0].webhook
    names = and_list(f"{i.webhook.kind} {i.webhook.configuration}" for i in items)
    effect = "fails" if first.failure_policy != "Ignore" else "goes on unchecked"
    what = and_list(w for i in items for w in i.webhook.intercepts) or "what it intercepts"
    soon = fault.code is WEBHOOK_CERTIFICATE_EXPIRES_SOON
    return Finding(
        code=fault.code,
        title=f"The certificate of webhook Service {first.backend.key} of {names} {fault.text}: "
        f"{what} {'will fail then' if soon else effect}",
        hop=Hop(HopKind.WEBHOOK, first.configuration),
        evidence=tuple(dict.fromkeys(e for i in items for e in i.evidence)),
        severity=fault.severity,
        remediation=(_issue_again(first.backend.key, items[0]),),
        falsifier=f"The certificate is shown again, and {fault.falsifier}",
    )


def _issue_again(key: str, item: WebhookCertificate) -> Remediation:
    """Have the certificate and the caBundle written again by what manages them."""
    namespace, _, name = key.partition("/")
    kind, configuration = item.webhook.kind.lower(), item.webhook.configuration
    restart = tuple(
        f"kubectl -n {w.namespace} rollout restart deployment {w.name}"
        for w in item.webhook.backend.workloads
    )
    return Remediation(
        title="Let what manages the certificate issue it and the caBundle again; never delete the "
        "configuration",
        commands=(
            f"kubectl get {kind} {configuration} -o yaml | grep -iE 'cert-manager|helm|inject'",
            f"kubectl -n {namespace} get secrets,certificates 2>/dev/null | grep -E 'NAME|{name}|tls'",
            *restart,
        ),
        risk=Risk.SAFE,
        verify=VERIFY,
    )
