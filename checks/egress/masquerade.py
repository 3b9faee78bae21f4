"""What becomes of pods' addresses where their packets leave the cluster."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import NamedTuple

import msgspec

from checks.common import and_list, ids
from doctor.contract import check
from doctor.model.address import is_ipv4, network_of
from doctor.model.evidence import (
    DnsService,
    EgressFlows,
    Flannel,
    NodeNetworks,
    Nodes,
    ProbePods,
    Upstreams,
)
from doctor.model.failure import Failure
from doctor.model.filtering import Packet, keeps_source
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.flow import Observation, Purpose, VantageKind
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import DaemonSet
from doctor.model.link import Link

__all__ = ["EGRESS_MASQUERADE_MISSING", "masquerade"]

EGRESS_MASQUERADE_MISSING = Code(
    "EGRESS_MASQUERADE_MISSING",
    Link.EGRESS,
    "No rule of a node translates its pods' addresses, and what they send out gets no answer.",
)
_VERIFY = "wwwm-doctor check egress"
_OPTION = "--ip-masq"
_OFF = ("=false", "=0", "=f")
_ANSWERS = (
    Failure.DNS_NXDOMAIN,
    Failure.DNS_SERVFAIL,
    Failure.DNS_REFUSED,
    Failure.DNS_NO_ANSWER,
    Failure.CONNECTION_REFUSED,
)


class _Lost(NamedTuple):
    """What a pod sent out in vain, though its node gets an answer, and the pod's address."""

    node: str
    source: str
    seen: Observation
    control: Observation


@check(
    id="egress.masquerade",
    title="Nodes translate the addresses of pods that send something out of the cluster",
    codes=(EGRESS_MASQUERADE_MISSING,),
    essential=False,
)
def masquerade(  # noqa: PLR0913, PLR0917 - what leaves the cluster is seen in several tables
    networks: NodeNetworks,
    upstreams: Upstreams | None,
    flows: EgressFlows | None,
    dns: DnsService | None,
    probes: ProbePods | None,
    flannel: Flannel | None,
    nodes: Nodes | None,
) -> Iterator[Finding]:
    """Nodes translate the addresses of pods that send something out of the cluster.

    What it looks at:
        Which rules of a node translate the source of what a pod sends out: the probe pod that asked
        a resolver or dialled a dependency in vain, or the replica of CoreDNS that handed on a
        question in vain.

    Why it matters:
        Outside nobody knows where pods' addresses are, so answers to them go nowhere. Where CoreDNS
        is among these pods, no name outside the cluster resolves anywhere.

    What proves it:
        The node gets an answer from the same place, the pod gets none, and no rule that was read on
        the node translates that pod's address. Where routers know the pods' network, nothing is lost
        and nothing is said.

    Look-alikes:
        A filter that drops what pods send leaves the rules as they are. A filter outside drops what
        nodes send, too. Flannel's network plugin translates by itself for pods that start while
        flannel does not: then new pods get answers, and old ones do not.

    Remediation:
        Let flannel run with --ip-masq; have it write its rules anew.

    Sources:
        Flannel documentation, "Configuration" (--ip-masq), and its CNI plugin's ("ipMasq").
        flannel-io/flannel issues 1450, 1506. kubernetes/kubernetes issue 56318.
    """
    lost = [
        *_asked_by_pods(upstreams, flows, probes),
        *_handed_on(upstreams, dns),
    ]
    kept = [case for case in lost if _keeps(networks, nodes, case)]
    if kept:
        made = _missing(networks, flannel or Flannel(), kept)
        yield msgspec.structs.replace(made, consequence_of=_strays(nodes or Nodes(), kept))


def _answered(seen: Observation) -> bool:
    """Say whether anybody answered: an error as well."""
    return seen.ok or seen.failure in _ANSWERS


def _asked_by_pods(
    upstreams: Upstreams | None, flows: EgressFlows | None, probes: ProbePods | None
) -> Iterator[_Lost]:
    """Yield what probe pods asked outside in vain, and their nodes did not."""
    addresses = {p.node: p.address for p in (probes.items if probes else ()) if p.address}
    seen = [
        *(upstreams.of(Purpose.RESOLVER) if upstreams else ()),
        *(flows.of(Purpose.EGRESS) if flows else ()),
    ]
    for lost in seen:
        where = lost.flow.vantage
        silent = lost.failure is not None and lost.failure.unanswered
        if silent and where.kind is VantageKind.POD and where.node in addresses:
            control = _control(seen, where.node, lost)
            if control:
                yield _Lost(where.node, addresses[where.node], lost, control)


def _control(seen: Iterable[Observation], node: str, lost: Observation) -> Observation | None:
    """Return what a node was answered by the one that its pod asked in vain."""
    return next(
        (
            o
            for o in seen
            if o.flow.vantage.kind is VantageKind.NODE
            and o.flow.vantage.node == node
            and (o.flow.address, o.flow.port, o.flow.kind)
            == (lost.flow.address, lost.flow.port, lost.flow.kind)
            and _answered(o)
        ),
        None,
    )


def _handed_on(upstreams: Upstreams | None, dns: DnsService | None) -> Iterator[_Lost]:
    """Yield what replicas of CoreDNS asked outside in vain, though their nodes get an answer."""
    replicas = dns.backend.ready if dns and dns.backend else ()
    homes = {e.address: e.node for e in replicas if e.node}
    if upstreams is None:
        return
    asked = upstreams.of(Purpose.RESOLVER, vantage=VantageKind.NODE)
    for lost in upstreams.of(Purpose.FORWARDED):
        node = homes.get(lost.flow.address, "")
        if not node or not lost.failure or not lost.failure.unanswered:
            continue
        own = [o for o in asked if o.flow.vantage.node == node]
        if own and all(_answered(o) for o in own):
            yield _Lost(node, lost.flow.address, lost, own[0])


def _keeps(networks: NodeNetworks, nodes: Nodes | None, case: _Lost) -> bool:
    """Say whether a pod's address surely stays in what leaves its node."""
    read = networks.of(case.node)
    if read is None or not read.tools or not any(t.name == "nat" for t in read.tables):
        return False
    known = nodes.named(case.node) if nodes else None
    uplink = read.device(known.address if known else "")
    flow = case.control.flow
    protocol = "udp" if "udp" in flow.kind else "tcp"
    packet = Packet(protocol, flow.port or None, case.source, flow.address, output=uplink)
    return keeps_source(read.tables, packet)


def _missing(networks: NodeNetworks, flannel: Flannel, kept: list[_Lost]) -> Finding:
    """Say that pods' addresses are not translated."""
    names = sorted({c.node for c in kept})
    read = [r for n in names if (r := networks.of(n))]
    off = _told_not_to(flannel)
    replicas = all(c.seen.flow.purpose is Purpose.FORWARDED for c in kept)
    why = f": flannel runs without {_OPTION}" if off else ""
    places = and_list({f"{c.control.flow.address}:{c.control.flow.port}" for c in kept})
    return Finding(
        code=EGRESS_MASQUERADE_MISSING,
        title=(
            f"No rule on {and_list(names)} translates the address of pods such as "
            f"{and_list({c.source for c in kept})}, so {places} answers these nodes and not the "
            f"pods there{why}"
        ),
        hop=Hop(HopKind.MASQUERADE, ANY if off else ",".join(names), "dns" if replicas else ""),
        evidence=tuple(
            dict.fromkeys(
                (
                    *ids(c.seen for c in kept),
                    *ids(c.control for c in kept),
                    *(r.evidence for r in read),
                )
            )
        ),
        remediation=(_restore(flannel, names, off=off),),
        falsifier=f"A rule of the chain POSTROUTING on {and_list(names)} translates that address",
    )


def _strays(nodes: Nodes, kept: list[_Lost]) -> tuple[Hop, ...]:
    """List the pod networks to blame where each of the pods has an address that is not flannel's.

    What another network's configuration gave is translated by nobody.
    """
    for case in kept:
        node = nodes.named(case.node)
        cidr = network_of(node.pod_cidr) if node else None
        if cidr is None or not is_ipv4(case.source) or IPv4Address(case.source) in cidr:
            return ()
    return tuple(Hop(HopKind.POD_NETWORK, n) for n in dict.fromkeys(c.node for c in kept))


def _told_not_to(flannel: Flannel) -> bool:
    """Say whether flannel is started without the option, or with one that switches it off."""
    arguments = [
        a
        for d in flannel.daemonsets
        for c in d.spec.template.spec.containers
        for a in (*(c.command or ()), *(c.args or ()))
        if a.lstrip("-").startswith(_OPTION.lstrip("-"))
    ]
    return bool(flannel.daemonsets) and all(a.endswith(_OFF) for a in arguments)


def _restore(flannel: Flannel, names: list[str], *, off: bool) -> Remediation:
    """Have flannel write its rules."""
    commands: list[str] = []
    for daemons in flannel.daemonsets:
        place = f"-n {daemons.metadata.namespace}"
        commands += [
            f"kubectl {place} patch daemonset {daemons.name} --type=json -p '{_add(daemons)}'"
            if off
            else f"kubectl {place} rollout restart daemonset {daemons.name}",
            f"kubectl {place} rollout status daemonset {daemons.name} --timeout=120s",
        ]
    if commands:
        title = f"Start flannel with {_OPTION}" if off else "Have flannel write its rules anew"
        return Remediation(title, tuple(commands), Risk.DISRUPTIVE, _VERIFY)
    return Remediation(
        "See what is to translate pods' addresses there, and start it",
        tuple(f"ssh {n} sudo iptables-save -t nat" for n in names[:2]),
        Risk.SAFE,
        _VERIFY,
    )


def _add(daemons: DaemonSet) -> str:
    """Write the patch that gives flannel the option: of two that contradict, the last one holds."""
    containers = daemons.spec.template.spec.containers
    number = next((n for n, c in enumerate(containers) if "flannel" in c.image + c.name), 0)
    absent = number < len(containers) and containers[number].args is None
    path = f"/spec/template/spec/containers/{number}/{'command' if absent else 'args'}/-"
    return f'[{{"op":"add","path":"{path}","value":"{_OPTION}"}}]'
