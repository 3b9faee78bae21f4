"""The check that pods get a network where they start: what the runtime says where they do not."""

import re
from collections.abc import Iterator

import msgspec

from checks.flannel.codes import (
    CNI_ADDRESSES_EXHAUSTED,
    CNI_CONFIG_MISSING,
    CNI_PLUGIN_MISSING,
    VERIFY,
)
from doctor.contract import check
from doctor.model.evidence import Flannel, Nodes, ProbePods
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import Hop, HopKind

__all__ = ["sandboxes"]

_PLUGIN = re.compile(r'failed to find plugin \\?"([\w.-]{1,64})\\?" in path \[([^\]]{1,200})\]')
_FULL = re.compile(r"no IP addresses available in range set: ([\da-f.:-]{1,80})")
_NO_CONFIG = re.compile(r"cni (config|plugin) (uninitialized|not initialized)")
_LEASES = "/var/lib/cni/networks/cbr0"
_FULL_SHARE = 0.8
_ADDRESSES = 253


class _Said(msgspec.Struct, frozen=True):
    """What somebody said of a node's sandboxes."""

    node: str
    text: str
    evidence: str


@check(
    id="flannel.sandboxes",
    title="Pods get a network on every node where flannel runs",
    codes=(CNI_PLUGIN_MISSING, CNI_ADDRESSES_EXHAUSTED, CNI_CONFIG_MISSING),
)
def sandboxes(nodes: Nodes, flannel: Flannel, probes: ProbePods | None) -> Iterator[Finding]:
    """Pods get a network on every node where flannel runs.

    What it looks at:
        What the kubelet says of pods that wait for a network now, our probe pods among them, and
        of nodes that are not ready.

    Why it matters:
        Pods stay in ContainerCreating although flannel runs on the node.

    What proves it:
        The runtime's own words about a pod that still has no address: a plugin that is not there, a
        range without a free address; or a node that is not ready because its runtime has no CNI
        configuration, while flannel's pod there is ready.

    Look-alikes:
        An event of a pod that has an address by now, or is gone: no finding. A missing subnet.env is
        flannel's, and said by the other checks. A bridge with a former address: said by
        flannel.bridge.

    Remediation:
        Let flannel's pod put its plugin and its configuration in place again, install the plugins
        that every node needs, or free what no pod holds any more.

    Sources:
        Flannel documentation, "Kubernetes"; CNI documentation, "host-local plugin"; Kubernetes
        documentation, "Network Plugins".
    """
    if not flannel.daemonsets:
        return
    said = [_Said(s.node, s.message, s.evidence) for s in flannel.stuck]
    said += (
        [_Said(p.node, p.reason, p.evidence) for p in probes.items if p.reason] if probes else []
    )
    for name in nodes.linux:
        own = [s for s in said if s.node == name]
        yield from _plugins(flannel, name, own)
        yield from _full(flannel, name, own)
        yield from _config(nodes, flannel, name, own)


def _told(own: list[_Said], words: re.Pattern[str]) -> tuple[re.Match[str], list[_Said]] | None:
    """Find who says something, and what the first of them says."""
    hits = [(m, s) for s in own if (m := words.search(s.text))]
    return (hits[0][0], [s for _, s in hits]) if hits else None


def _plugins(flannel: Flannel, name: str, own: list[_Said]) -> Iterator[Finding]:
    """Say which plugins' programs are absent."""
    found = _told(own, _PLUGIN)
    if not found:
        return
    plugin, path = found[0][1], found[0][2].split()[0]
    again = _again(flannel, name)
    install = (
        f"ssh {name} ls -l {path}",
        *(again if plugin == "flannel" else ()),
        *(
            ()
            if plugin == "flannel"
            else (f"ssh {name} sudo apt-get install --reinstall kubernetes-cni",)
        ),
    )
    who = (
        "flannel's pod puts it there when it starts" if plugin == "flannel" else "CNI's own plugins"
    )
    yield _finding(
        CNI_PLUGIN_MISSING,
        name,
        f"The CNI plugin {plugin} is absent from {path} on {name}: new pods there get no network",
        found[1],
        Remediation(f"Put the plugin {plugin} back in place ({who})", install, Risk.SAFE, VERIFY),
        f"{path}/{plugin} exists on {name}, or a new pod starts there",
    )


def _full(flannel: Flannel, name: str, own: list[_Said]) -> Iterator[Finding]:
    """Say that no address is left, and whether pods hold them."""
    found = _told(own, _FULL)
    if not found:
        return
    holders = [p.address for p in flannel.addressed if p.node == name]
    full = len(holders) >= _FULL_SHARE * _ADDRESSES
    title = f"No address is left for pods on {name} ({found[0][1]}), and " + (
        f"{len(holders)} pods there hold them"
        if full
        else f"only {len(holders)} pods there hold one: leases of pods that are gone were not freed"
    )
    keep = "|".join(a.replace(".", "\\.") for a in (*sorted(holders), "last_reserved_ip.0", "lock"))
    free = f"cd {_LEASES} && ls | grep -vxE '{keep}' | xargs -r rm -f"
    mend = (
        Remediation(
            "Run fewer pods on the node, or give new nodes a wider podCIDR (node-cidr-mask-size)",
            (
                f"kubectl get pods -A --field-selector spec.nodeName={name}",
                f"kubectl cordon {name}",
            ),
            Risk.SAFE,
            VERIFY,
        )
        if full
        else Remediation(
            f"Free on {name} the addresses that no pod holds",
            (f"ssh {name} ls {_LEASES}", f'ssh {name} "sudo sh -c \\"{free}\\""'),
            Risk.DISRUPTIVE,
            VERIFY,
        )
    )
    falsifier = f"A new pod on {name} gets an address"
    yield _finding(CNI_ADDRESSES_EXHAUSTED, name, title, found[1], mend, falsifier)


def _config(nodes: Nodes, flannel: Flannel, name: str, own: list[_Said]) -> Iterator[Finding]:
    """Say that the runtime has no configuration although flannel's pod has put it there."""
    pod, node = flannel.on(name), nodes.named(name)
    if not pod or not pod.ready or not node:
        return
    ready = [c for c in node.status.conditions or () if c.type == "Ready" and c.status != "True"]
    lacks = [_Said(name, c.message, f"api:nodes/{name}") for c in ready]
    found = _told([*lacks, *own], _NO_CONFIG)
    if not found:
        return
    commands = (f"ssh {name} ls -l /etc/cni/net.d", *_again(flannel, name))
    yield _finding(
        CNI_CONFIG_MISSING,
        name,
        f"The runtime of {name} has no CNI configuration ({found[0][0]}) although flannel is ready "
        "there: the node is not ready, and new pods get no network",
        found[1],
        Remediation(
            f"Let flannel's pod on {name} write /etc/cni/net.d/10-flannel.conflist anew",
            commands,
            Risk.SAFE,
            VERIFY,
        ),
        f"/etc/cni/net.d holds a configuration on {name}, and the node is Ready",
    )


def _again(flannel: Flannel, name: str) -> tuple[str, ...]:
    """Start flannel's pod on a node again: its init containers put files in place."""
    pod = flannel.on(name)
    return (f"kubectl -n {pod.namespace} delete pod {pod.name}",) if pod else ()


def _finding(
    code: Code, name: str, title: str, said: list[_Said], mend: Remediation, falsifier: str
) -> Finding:
    """Make a finding about what keeps pods of a node from starting."""
    return Finding(
        code=code,
        title=title,
        hop=Hop(HopKind.FLANNEL, name),
        evidence=tuple(dict.fromkeys((f"api:nodes/{name}", *(s.evidence for s in said)))),
        remediation=(mend,),
        falsifier=falsifier,
    )
