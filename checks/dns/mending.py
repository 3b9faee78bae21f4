"""Commands that several checks of DNS print: to start CoreDNS anew, and to have kubelets told anew."""

from checks.dns.codes import VERIFY
from doctor.model.evidence import Backend
from doctor.model.finding import Remediation, Risk

__all__ = ["KUBELET_CONFIG", "kubelets", "namespace_of", "restarts"]

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"


def namespace_of(backend: Backend | None) -> str:
    """Name the namespace of the DNS server."""
    return backend.key.partition("/")[0] if backend else "kube-system"


def restarts(backend: Backend | None) -> tuple[str, ...]:
    """Write the commands that start the DNS server anew: what runs it, by its own name."""
    made = (
        *(("deployment", w.namespace, w.name) for w in (backend.workloads if backend else ())),
        *(("daemonset", d.namespace, d.name) for d in (backend.daemonsets if backend else ())),
    )
    return tuple(
        f"kubectl -n {namespace} rollout restart {kind} {name}"
        for kind, namespace, name in made or (("deployment", namespace_of(backend), "coredns"),)
    )


def kubelets(line: str, nodes: list[str], title: str) -> Remediation:
    """Write a line into kubelets' configuration, and have it heeded."""
    key, _, _ = line.partition(":")
    # it crosses two shells: what is in double quotes is left to the second one
    change = f"/^{key}:/,/^[^- ]/{{/^{key}:/d;/^ *- /d}};\\$a {line}"
    commands = [
        command
        for n in nodes
        for command in (
            f"ssh {n} \"sudo sed -i '{change}' {KUBELET_CONFIG}\"",
            f"ssh {n} sudo systemctl restart kubelet",
        )
    ]
    return Remediation(
        f"{title}; pods there keep the old one until they are made anew",
        tuple(commands),
        Risk.DISRUPTIVE,
        VERIFY,
    )
