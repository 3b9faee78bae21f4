"""What a visitor sees: the name, the certificate, the answer."""

from collections.abc import Iterator

from checks.common import and_list, ids
from checks.host_proxy.shared import GATEWAY, OURS, hop_of, mend, plain, said, unrouted
from doctor.contract import check
from doctor.model.evidence import Nodes, TargetFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Role, Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.link import Link

__all__ = [
    "URL_CERTIFICATE_EXPIRED",
    "URL_CERTIFICATE_UNTRUSTED",
    "URL_CERTIFICATE_WRONG_NAME",
    "URL_NAME_UNRESOLVED",
    "URL_NOT_SERVED",
    "certificate",
    "url",
]

URL_NOT_SERVED = Code(
    "URL_NOT_SERVED",
    Link.HOST_PROXY,
    "A visitor's request for the URL is not served.",
    Role.SYMPTOM,
)
URL_NAME_UNRESOLVED = Code(
    "URL_NAME_UNRESOLVED", Link.HOST_PROXY, "The name of the URL does not resolve on this machine."
)
URL_CERTIFICATE_EXPIRED = Code(
    "URL_CERTIFICATE_EXPIRED", Link.HOST_PROXY, "A URL's certificate is not valid at this time."
)
URL_CERTIFICATE_WRONG_NAME = Code(
    "URL_CERTIFICATE_WRONG_NAME", Link.HOST_PROXY, "A URL's certificate is for other names."
)
URL_CERTIFICATE_UNTRUSTED = Code(
    "URL_CERTIFICATE_UNTRUSTED",
    Link.HOST_PROXY,
    "A URL's certificate is signed by nobody whom this machine trusts.",
)

_UNNAMED = (Failure.DNS_NXDOMAIN, Failure.DNS_NO_ANSWER)
_UNASKED = (Failure.TIMEOUT, Failure.DNS_SERVFAIL, Failure.DNS_REFUSED)


@check(
    id="host-proxy.url",
    title="Each URL is served to a visitor",
    codes=(URL_NOT_SERVED, URL_NAME_UNRESOLVED),
)
def url(targets: TargetFlows, nodes: Nodes | None = None) -> Iterator[Finding]:
    """Do what a visitor does, from this machine.

    What it looks at:
        Each URL: its name is resolved, and the page is asked for at each address that it has.

    Why it matters:
        This is what the visitor sees; all other checks say why.

    What proves it:
        The name resolves to nothing; or no answer comes, or one with status 404 or 5xx, or
        a redirect that leads back to what was asked before. All but the first are symptoms, whose
        cause lies further down the path.

    Look-alikes:
        Redirects that lead on, also such as set a cookie first, and requests for credentials are
        answers. Without --url, this machine need not
        know the name nor have a way to the load balancer's address, and the application need
        not have a page at the path of its rule: then silence and 404 are no findings.

    Remediation:
        Mend the cause that another check names; add the name to DNS or to /etc/hosts.

    Sources:
        Kubernetes: Ingress. nginx: Beginner's Guide.
    """
    served = {o.flow.subject for o in targets.of(Purpose.TARGET) if o.served and o.status}
    for o in targets.of(Purpose.TARGET):
        if o.flow.kind is FlowKind.RESOLVE:
            failed = o.failure in (*_UNNAMED, *_UNASKED) and o.flow.subject not in served
            if failed and not targets.derived:
                yield _unresolved(o, targets)
        elif not o.served and o.failure not in OURS and not _excused(o, targets):
            yield _not_served(o, targets, nodes)


@check(
    id="host-proxy.certificate",
    title="Each https URL shows a certificate that visitors accept",
    codes=(URL_CERTIFICATE_EXPIRED, URL_CERTIFICATE_WRONG_NAME, URL_CERTIFICATE_UNTRUSTED),
    essential=False,
)
def certificate(targets: TargetFlows) -> Iterator[Finding]:
    """Each https URL shows a certificate that visitors accept.

    What it looks at:
        A TLS handshake with each https URL from this machine, verified against the authorities
        that this machine trusts.

    Why it matters:
        A browser shows a warning in place of the site, although the site answers.

    What proves it:
        The handshake fails by the certificate's dates, its names, or its signer, and is completed
        when nothing is verified.

    Look-alikes:
        A port that speaks no TLS, or a handshake that gets no answer, is no matter of
        certificates: the URL's own check says it. An authority of the house may be trusted by its
        visitors and not by this machine: then this is a warning.

    Remediation:
        Renew the certificate, or have the proxy or the ingress controller show the one that is for
        this name; the controller's own self-signed one stands for a Secret that is missing.

    Sources:
        RFC 5280 and RFC 6125. Kubernetes: Ingress, "TLS". ingress-nginx: TLS/HTTPS, "Default SSL
        Certificate".
    """
    for o in targets.of(Purpose.TARGET_TLS):
        found = _CERTIFICATES.get(o.failure) if o.failure else None
        if found:
            yield _certificate(o, *found)


def _certificate(o: Observation, code: Code, words: str, severity: Severity) -> Finding:
    """Say what a visitor's browser says."""
    name = plain(o.flow.name)
    place = f"{o.flow.address}:{o.flow.port}"
    show = f"openssl s_client -connect {place} -servername {name} </dev/null 2>/dev/null"
    return Finding(
        code=code,
        title=f"The certificate of {o.flow.subject} at {place} {words}"
        + (f": {o.detail}" if o.detail else ""),
        hop=hop_of(o),
        evidence=ids([o]),
        severity=severity,
        remediation=(
            mend(
                "Look at what is shown, then renew or replace it where it is configured",
                f"{show} | openssl x509 -noout -subject -issuer -dates -ext subjectAltName",
            ),
        ),
        falsifier=f"curl -sv -o /dev/null {o.flow.subject} completes the handshake",
    )


_CERTIFICATES = {
    Failure.TLS_EXPIRED: (
        URL_CERTIFICATE_EXPIRED, "is not valid at this time", Severity.FAIL,
    ),
    Failure.TLS_NAME_MISMATCH: (
        URL_CERTIFICATE_WRONG_NAME, "is for other names", Severity.FAIL,
    ),
    Failure.TLS_UNKNOWN_AUTHORITY: (
        URL_CERTIFICATE_UNTRUSTED, "is signed by nobody whom this machine trusts", Severity.WARN,
    ),
}  # fmt: skip


def _excused(o: Observation, targets: TargetFlows) -> bool:
    """Say whether a failure means nothing, as nobody asked for this URL."""
    silent = o.failure is not None and o.failure.unanswered
    answered = o.ok and o.status not in GATEWAY and not o.looping
    return targets.derived and (silent or answered)


def _not_served(o: Observation, targets: TargetFlows, nodes: Nodes | None) -> Finding:
    """Say what came back in place of the page, and how far packets got."""
    way = [
        w
        for w in targets.of(Purpose.TRACE, address=o.flow.address)
        if w.flow.port in (0, o.flow.port)
    ]
    flow = o.flow
    place = f" at {flow.address}:{flow.port}" if flow.address else ""
    by = f" from {o.server}" if o.server else ""
    others = [
        w for w in targets.of(Purpose.TARGET, kind=FlowKind.HTTP, subject=flow.subject) if w.served
    ]
    return Finding(
        code=URL_NOT_SERVED,
        title=f"{flow.subject} is not served to this machine: {said(o)}{by}{place}"
        + _elsewhere(others)
        + _way(way),
        hop=hop_of(o),
        evidence=ids([o, *others, *way]),
        flows=ids([o]),
        consequence_of=unrouted([o], nodes) if not o.status or o.status in GATEWAY else (),
        remediation=(
            mend(
                "See what comes back, and walk the path",
                f"curl -sv -o /dev/null {flow.subject}",
                f"wwwm-doctor run --url {flow.subject}",
            ),
        ),
        falsifier=f"{flow.subject} is served",
    )


def _elsewhere(others: list[Observation]) -> str:
    """Say at which other addresses of the same name the URL is served."""
    places = and_list(f"{o.flow.address}:{o.flow.port}" for o in others)
    return f", while {places} serves it" if places else ""


def _way(traces: list[Observation]) -> str:
    """Say who was the last to answer on the way, and what packets are too large for it."""
    words: list[str] = []
    for seen in traces:
        last = next((h for h in reversed(seen.trace) if h.source), None)
        if last and last.icmp and last.answer == "icmp":
            kind = f"{last.icmp.type}/{last.icmp.code}"
            words.append(f"the last to answer on the way is {last.source} (ICMP {kind})")
        elif last and last.source != seen.flow.address:
            words.append(f"the last to answer on the way is {last.source}")
        if seen.flow.size and seen.failure in (Failure.TOO_BIG, Failure.TIMEOUT):
            by = f" ({seen.icmp.source} says so)" if seen.icmp else ""
            words.append(f"packets of {seen.flow.size} bytes do not pass{by}")
    return "".join(f"; {w}" for w in dict.fromkeys(words))


def _unresolved(o: Observation, targets: TargetFlows) -> Finding:
    """Say that the name does not resolve, and what each resolver says of it."""
    asked = targets.of(Purpose.NAME, subject=o.flow.subject)
    answers = and_list(f"{a.flow.address} says {said(a)}" for a in asked if not a.ok)
    named = o.failure in _UNNAMED
    why = "it has no address" if named else f"the resolver fails ({said(o)})"
    return Finding(
        code=URL_NAME_UNRESOLVED,
        title=f"The name {o.flow.name} of {o.flow.subject} does not resolve here: {why}"
        + (f" ({answers})" if answers else ""),
        hop=Hop(HopKind.DNS_NAME, plain(o.flow.name)),
        evidence=ids([o, *asked]),
        confidence=Confidence.CERTAIN if named else Confidence.LIKELY,
        remediation=(
            mend(
                "Give the name an address in its zone, or in /etc/hosts of the visitors",
                f"getent ahostsv4 {o.flow.name}",
                "cat /etc/resolv.conf",
            ),
        ),
        falsifier=f"getent ahostsv4 {o.flow.name} prints an address",
    )
