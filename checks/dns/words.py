"""What CoreDNS's last words say of why it does not run."""

from typing import NamedTuple

import msgspec

from checks.common import and_list, shortened
from checks.dns.codes import VERIFY, dns_code
from checks.dns.mending import kubelets, namespace_of, restarts
from doctor.model.evidence import Backend, Logs
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.resolver import Corefile

__all__ = [
    "DNS_API_UNREACHABLE",
    "DNS_COREFILE_INVALID",
    "DNS_FORWARDING_LOOP",
    "DNS_RBAC_FORBIDDEN",
    "SAID",
    "by_words",
    "by_words_of_config",
]

DNS_FORWARDING_LOOP = dns_code(
    "DNS_FORWARDING_LOOP", "CoreDNS is told to ask itself for names outside the cluster, and ends."
)
DNS_COREFILE_INVALID = dns_code(
    "DNS_COREFILE_INVALID", "CoreDNS does not start, as its Corefile has a mistake."
)
DNS_RBAC_FORBIDDEN = dns_code(
    "DNS_RBAC_FORBIDDEN",
    "CoreDNS may not read what it answers from: a right is missing in its role.",
)
DNS_API_UNREACHABLE = dns_code(
    "DNS_API_UNREACHABLE", "CoreDNS does not get through to the API server, and is not ready."
)


_RESOLV_CONF = "/etc/resolv.conf"
_RESOLVED = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved writes whom it asks itself."""

_LONGEST_QUOTE = 220

SAID = (DNS_FORWARDING_LOOP, DNS_COREFILE_INVALID, DNS_RBAC_FORBIDDEN, DNS_API_UNREACHABLE)


class _Said(NamedTuple):
    """Words that tell a cause, all on one line."""

    code: Code
    words: tuple[str, ...]


_WORDS = (
    _Said(DNS_FORWARDING_LOOP, ("plugin/loop", "Loop (")),
    _Said(DNS_COREFILE_INVALID, ("Error during parsing",)),
    _Said(DNS_COREFILE_INVALID, ("Corefile:", " - Error")),
    _Said(DNS_COREFILE_INVALID, ("plugin/", "Corefile:")),
    _Said(DNS_RBAC_FORBIDDEN, (" is forbidden: User ", "cannot ")),
    _Said(DNS_API_UNREACHABLE, ("dial tcp ", "i/o timeout")),
    _Said(DNS_API_UNREACHABLE, ("dial tcp ", "connect: ")),
)
"""The surest first."""


def by_words(
    backend: Backend, pods: tuple[Pod, ...], logs: Logs | None, corefile: Corefile | None = None
) -> Finding | None:
    """Say why pods are not ready, where one of them said so itself; None where none did.

    Args:
        backend: The DNS Service.
        pods: Its pods that are not ready.
        logs: What was read of them.
        corefile: What they are told; None where it was not read.
    """
    for said in _WORDS:
        for pod in pods:
            line = logs.said(pod.key, *said.words) if logs else None
            if line:
                return _finding(said.code, backend, pods, line, corefile)
    return None


def by_words_of_config(
    backend: Backend, pods: tuple[Pod, ...], logs: Logs | None, corefile: Corefile | None = None
) -> Finding | None:
    """Say the same of what every replica is told alike; not of a way that one of them lacks."""
    found = by_words(backend, pods, logs, corefile)
    return None if found is None or found.code is DNS_API_UNREACHABLE else found


def _finding(
    code: Code,
    backend: Backend,
    pods: tuple[Pod, ...],
    line: tuple[str, str],
    corefile: Corefile | None,
) -> Finding:
    """Say what the words mean."""
    text, evidence = line
    severity = Severity.WARN if backend.ready else Severity.FAIL
    nodes = sorted({p.node for p in pods if p.node})
    kinds = (
        HopKind.KUBE_PROXY,
        HopKind.FORWARD,
        HopKind.POD_NETWORK,
        HopKind.FLANNEL,
        HopKind.NODE,
    )
    below = code is DNS_API_UNREACHABLE
    meaning = {
        DNS_FORWARDING_LOOP: "CoreDNS forwards to itself, and ends as its loop plugin sees it",
        DNS_COREFILE_INVALID: "CoreDNS does not start, as the Corefile has a mistake",
        DNS_RBAC_FORBIDDEN: "CoreDNS may not read what it answers from",
        DNS_API_UNREACHABLE: "CoreDNS gets no answer from the API server",
    }[code]
    return Finding(
        code=code,
        title=f"{meaning} ({and_list(p.key for p in pods)}): {shortened(text, _LONGEST_QUOTE)}",
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(evidence, f"api:services/{backend.key}", *(f"api:pods/{p.key}" for p in pods)),
        severity=severity,
        consequence_of=tuple(Hop(k, n) for k in kinds for n in nodes) if below else (),
        remediation=_mend(code, backend, pods, corefile),
        falsifier=f"{pods[0].key} becomes ready",
    )


def _mend(
    code: Code, backend: Backend, pods: tuple[Pod, ...], corefile: Corefile | None
) -> tuple[Remediation, ...]:
    """Say how to mend it."""
    namespace = namespace_of(backend)
    if code is DNS_RBAC_FORBIDDEN:
        needs = {"discovery.k8s.io": ["endpointslices"], "": ["services", "pods", "namespaces"]}
        rules = [
            {"apiGroups": [group], "resources": names, "verbs": ["list", "watch"]}
            for group, names in needs.items()
        ]
        adds = [{"op": "add", "path": "/rules/-", "value": rule} for rule in rules]
        change = msgspec.json.encode(adds).decode()
        patch = f"kubectl patch clusterrole system:coredns --type=json -p '{change}'"
        title = "Give CoreDNS's role the rights that it needs"
        return (Remediation(title, (patch, *restarts(backend)), Risk.SAFE, VERIFY),)
    if code is DNS_COREFILE_INVALID:
        edit = f"kubectl -n {namespace} edit configmap coredns"
        title = "Correct the line of the Corefile that is named"
        return (Remediation(title, (edit, *restarts(backend)), Risk.SAFE, VERIFY),)
    if code is DNS_FORWARDING_LOOP:
        return (_unloop(backend, pods, corefile),)
    looks = tuple(f"kubectl -n {namespace} logs {p.name} --tail=20" for p in pods[:2])
    return (
        Remediation(
            "See what lies between these pods and the API server", looks, Risk.SAFE, VERIFY
        ),
    )


def _unloop(backend: Backend, pods: tuple[Pod, ...], corefile: Corefile | None) -> Remediation:
    """Say how to have CoreDNS ask others: where it is told of itself, is told of them instead."""
    if itself := _leads_back(corefile):
        get = f"kubectl -n {namespace_of(backend)} get configmap coredns -o yaml"
        changes = (f"/forward /s|{_literally(t)}|{_RESOLV_CONF}|" for t in itself)
        return Remediation(
            f"Forward to the resolvers of {_RESOLV_CONF}, not to {and_list(itself)}, which "
            "leads back to CoreDNS",
            (f"{get} | sed '{';'.join(changes)}' | kubectl replace -f -", *restarts(backend)),
            Risk.SAFE,
            VERIFY,
        )
    nodes = sorted({p.node for p in pods if p.node})
    mend = kubelets(
        f"resolvConf: {_RESOLVED}",
        nodes,
        "Have the kubelets hand on a resolv.conf that names no address of the node itself, as "
        "systemd-resolved's stub at 127.0.0.53 is",
    )
    return msgspec.structs.replace(mend, commands=(*mend.commands, *restarts(backend)))


def _leads_back(corefile: Corefile | None) -> list[str]:
    """List whom the Corefile sends queries to that come back; empty where a resolv.conf says it."""
    told = corefile.forwarded if corefile else ()
    itself = [t for t in told if _is_loopback(t)]
    return itself or ([] if any(t.startswith("/") for t in told) else list(told))


def _literally(word: str) -> str:
    """Write a word so that sed takes each of its letters for itself."""
    return "".join(f"[{c}]" if c in ".[*" else c for c in word)


def _is_loopback(target: str) -> bool:
    """Say whether ``forward`` sends a query to the pod itself."""
    place = target.rpartition("://")[2]
    return place.startswith(("127.", "[::1]")) or place in {"::1", "localhost"}
