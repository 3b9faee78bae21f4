"""Checks of what CoreDNS said lately, while it runs."""

from collections.abc import Iterator
from typing import NamedTuple

from checks.dns.codes import VERIFY, dns_code
from checks.dns.mending import namespace_of, restarts
from doctor.contract import check
from doctor.model.evidence import Backend, DnsService, Logs
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind

__all__ = ["DNS_FORWARD_LIMIT", "DNS_UPSTREAM_OVERFLOW", "unhindered"]

DNS_FORWARD_LIMIT = dns_code(
    "DNS_FORWARD_LIMIT",
    "CoreDNS refuses queries, as more wait for its upstream resolver than max_concurrent allows.",
)
DNS_UPSTREAM_OVERFLOW = dns_code(
    "DNS_UPSTREAM_OVERFLOW",
    "The upstream resolver sends answers over UDP that are longer than CoreDNS said it takes.",
)


class _Said(NamedTuple):
    """Words of a query that failed, and what they mean."""

    code: Code
    words: tuple[str, ...]
    meaning: str
    title: str


_WORDS = (
    _Said(
        DNS_FORWARD_LIMIT,
        ("plugin/errors", "concurrent queries exceeded maximum"),
        "refuses queries, as more wait for the upstream resolver than max_concurrent allows",
        "Raise max_concurrent, and see why the upstream resolver is slow",
    ),
    _Said(
        DNS_UPSTREAM_OVERFLOW,
        ("plugin/errors", "overflow unpacking"),
        "cannot read answers of the upstream resolver: over UDP they are longer than allowed, and "
        "not marked as cut",
        "Ask the upstream resolver over TCP, as the Corefile's forward allows (force_tcp)",
    ),
)


_LIMIT = "s|max_concurrent [0-9]*|max_concurrent 1000|"
_TCP = r"s|^\( *\)forward [^{]*{|&\n\1    force_tcp|;s|^\( *\)forward [^{]*$|& {\n\1    force_tcp\n\1}|"
"""What sed is told: another directive in the block of ``forward``, or a block of its own."""


@check(
    id="dns.unhindered",
    title="CoreDNS lately got every query through to its upstream resolver",
    codes=(DNS_FORWARD_LIMIT, DNS_UPSTREAM_OVERFLOW),
    essential=False,
)
def unhindered(dns: DnsService, logs: Logs) -> Iterator[Finding]:
    """CoreDNS lately got every query through to its upstream resolver.

    What it looks at:
        What the ready replicas of CoreDNS said in the last three minutes.

    Why it matters:
        Under load, or for long answers alone, lookups fail that work whenever somebody tries.

    What proves it:
        CoreDNS's own words of a query that it refused or could not read, minutes ago.

    Look-alikes:
        A resolver that does not answer makes CoreDNS say "i/o timeout": another check asks it. Old
        words tell nothing of now, and are not read. CoreDNS from 1.11.2 on says nothing of answers
        that are too long: it has clients ask again over TCP, where they are fine.

    Remediation:
        Raise max_concurrent; ask the resolver over TCP.

    Sources:
        CoreDNS documentation, "forward" and "errors"; coredns issues 4343 and 5998, and its
        pull request 6277.
    """
    backend = dns.backend
    for said in _WORDS if backend else ():
        for pod in backend.pods if backend else ():
            line = logs.said(pod.key, *said.words) if pod.ready else None
            if line and backend:
                yield _finding(said, backend, pod.key, line)
                break


def _finding(said: _Said, backend: Backend, pod: str, line: tuple[str, str]) -> Finding:
    """Say what a replica said."""
    text, evidence = line
    get = f"kubectl -n {namespace_of(backend)} get configmap coredns -o yaml"
    change = _LIMIT if said.code is DNS_FORWARD_LIMIT else _TCP
    mend = f"{get} | sed '{change}' | kubectl replace -f -"
    return Finding(
        code=said.code,
        title=f"CoreDNS {said.meaning} ({pod}): {text[:200].rstrip('.')}",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(evidence, f"api:pods/{pod}"),
        severity=Severity.WARN,
        confidence=Confidence.LIKELY,
        remediation=(
            Remediation(
                said.title,
                (mend, *restarts(backend)),
                Risk.SAFE,
                VERIFY,
            ),
        ),
        falsifier=f"{pod} says so no more for three minutes",
    )
