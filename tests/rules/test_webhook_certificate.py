"""Certificates that the API server does not accept, and ones that it does."""

import msgspec
import pytest

from checks.webhook.certificate import certificate
from doctor.model.certificate import Certificate, Vouching
from doctor.model.evidence import Backend, WebhookBackend, WebhookCertificate, WebhookCertificates
from doctor.model.finding import Severity
from tests.rules.factories import findings, said

DAY = 86400
NOW = 1_800_000_000.0
NAME = "policy.guard.svc"
GOOD = Certificate(
    "CN=policy", "CN=own ca", (NAME, f"{NAME}.cluster.local"), NOW - DAY, NOW + 364 * DAY
)
WEBHOOK = WebhookBackend(
    configuration="site-policy",
    kind="ValidatingWebhookConfiguration",
    webhook="policy.example.net",
    failure_policy="Fail",
    intercepts=("CREATE ingresses",),
    backend=Backend(key="guard/policy", service=None, port=None),
)


def table(
    shown: Certificate = GOOD,
    *,
    trusted: bool | None = True,
    flaw: str = "",
    policy: str = "Fail",
    addresses: tuple[str, ...] = ("10.244.1.5:8443",),
) -> WebhookCertificates:
    """Show a certificate at each address."""
    webhook = msgspec.structs.replace(WEBHOOK, failure_policy=policy)
    return WebhookCertificates(
        items=tuple(
            WebhookCertificate(
                webhook, a, NAME, shown, Vouching(trusted, flaw), NOW, (f"webhook-tls:{a}",)
            )
            for a in addresses
        )
    )


def dated(begins: float, ends: float) -> Certificate:
    """Make a certificate that is valid for these days from now."""
    return msgspec.structs.replace(GOOD, begins=NOW + begins * DAY, ends=NOW + ends * DAY)


def named(*names: str) -> Certificate:
    """Make a certificate for these names."""
    return msgspec.structs.replace(GOOD, names=names)


@pytest.mark.parametrize(
    "accepted",
    [
        table(),
        table(trusted=None),
        table(named("*.guard.svc")),
        table(named(NAME.upper())),
        # not all of its names are known
        table(msgspec.structs.replace(GOOD, names=None)),
        # issued a moment ago, by a clock that is a little ahead of ours
        table(msgspec.structs.replace(GOOD, begins=NOW + 60)),
        # renewed every day by whatever manages it
        table(dated(-0.5, 0.5)),
        table(dated(-300, 15)),
        WebhookCertificates(),
    ],
)
def test_what_the_api_server_accepts(accepted: WebhookCertificates) -> None:
    assert findings(certificate, accepted) == []


@pytest.mark.parametrize(
    ("refused", "code", "words"),
    [
        (table(trusted=False), "WEBHOOK_CERTIFICATE_UNTRUSTED", "CN=own ca"),
        (
            table(trusted=False, flaw="the certificate of CN=own ca expired on 2026-01-01"),
            "WEBHOOK_CERTIFICATE_UNTRUSTED",
            "CN=own ca, and the certificate of CN=own ca expired on 2026-01-01: CREATE",
        ),
        (table(dated(-366, -1)), "WEBHOOK_CERTIFICATE_EXPIRED", "expired on 2027-01-14"),
        (table(dated(1, 300)), "WEBHOOK_CERTIFICATE_EXPIRED", "not valid before"),
        (table(named("policy.old.svc")), "WEBHOOK_CERTIFICATE_WRONG_NAME", "policy.old.svc"),
        (table(named("*.svc")), "WEBHOOK_CERTIFICATE_WRONG_NAME", NAME),
        (table(named()), "WEBHOOK_CERTIFICATE_WRONG_NAME", "no name at all"),
        # of two faults, the one that is met first
        (table(dated(-9, -1), trusted=False), "WEBHOOK_CERTIFICATE_UNTRUSTED", "caBundle"),
    ],
)
def test_what_it_refuses(refused: WebhookCertificates, code: str, words: str) -> None:
    (found,) = findings(certificate, refused)
    assert said([found]) == {(code, "webhook:site-policy")}
    assert words in found.title
    assert "CREATE ingresses fails" in found.title
    assert found.severity is Severity.FAIL


def test_a_webhook_that_may_fail_stops_nothing() -> None:
    (found,) = findings(certificate, table(trusted=False, policy="Ignore"))
    assert found.severity is Severity.WARN
    assert "goes on unchecked" in found.title


def test_an_end_that_is_near_is_a_warning() -> None:
    (found,) = findings(certificate, table(dated(-300, 13)))
    assert found.code.name == "WEBHOOK_CERTIFICATE_EXPIRES_SOON"
    assert found.severity is Severity.WARN


def test_replicas_with_one_fault_give_one_finding() -> None:
    (found,) = findings(certificate, table(trusted=False, addresses=("a:1", "b:1")))
    assert found.evidence == ("webhook-tls:a:1", "webhook-tls:b:1")


@pytest.mark.parametrize("policies", [("Ignore", "Fail"), ("Fail", "Ignore")])
def test_who_may_fail_the_request_speaks_for_all_at_a_service(policies: tuple[str, ...]) -> None:
    items = tuple(i for p in policies for i in table(trusted=False, policy=p).items)
    (found,) = findings(certificate, WebhookCertificates(items=items))
    assert found.severity is Severity.FAIL
