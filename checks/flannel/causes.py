"""Why a pod of flannel is not ready: by what it said last, and by what objects say of its node."""

import re

import msgspec

from checks.common import shortened
from checks.flannel.codes import (
    FLANNEL_API_UNREACHABLE,
    FLANNEL_BR_NETFILTER_MISSING,
    FLANNEL_NETCONF_INVALID,
    FLANNEL_NOT_READY,
    FLANNEL_PODCIDR_EXHAUSTED,
    FLANNEL_PODCIDR_UNASSIGNED,
    FLANNEL_RBAC_DENIED,
    pod_cidr,
)
from doctor.model.address import network_of
from doctor.model.evidence import Flannel, Logs, Nodes
from doctor.model.finding import Code
from doctor.model.kube import ContainerStatus, Pod

__all__ = ["Cause", "cause_of", "used_up"]

_SAID = (
    (FLANNEL_BR_NETFILTER_MISSING, re.compile(r"Failed to check br_netfilter")),
    (FLANNEL_PODCIDR_UNASSIGNED, re.compile(r"pod cidr not assigned")),
    (
        FLANNEL_NETCONF_INVALID,
        re.compile(r"failed to read net conf|error parsing (subnet|flannel) config"),
    ),
    (FLANNEL_RBAC_DENIED, re.compile(r"is forbidden|does not allow access to the requested")),
    (
        FLANNEL_API_UNREACHABLE,
        re.compile(
            r"dial tcp \S+ (i/o timeout|connect: )|TLS handshake timeout"
            r"|[Tt]imed out waiting for node controller"
        ),
    ),
)
"""What the last words tell, the most certain first."""

_LOG_HEAD = re.compile(r"^[IWEF]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ")
_LONGEST_QUOTE = 180
_USUAL_SIZE = 24
_LONGEST_PREFIX = 32


class Cause(msgspec.Struct, frozen=True):
    """Why a pod of flannel is not ready.

    Args:
        code: Its code; FLANNEL_NOT_READY where nothing deeper is known.
        why: In words, the same for all pods with the same cause.
        evidence: Ids of what tells.
    """

    code: Code
    why: str
    evidence: tuple[str, ...] = ()


def cause_of(nodes: Nodes, flannel: Flannel, logs: Logs, pod: Pod) -> Cause:
    """Find out why a pod is not ready."""
    found = _by_node(nodes, flannel, pod) or _by_words(logs, pod)
    if found is None and flannel.problem:
        return _netconf(flannel)
    if found is not None and found.code is FLANNEL_NETCONF_INVALID and flannel.problem:
        told = _netconf(flannel)
        return msgspec.structs.replace(told, evidence=told.evidence + found.evidence)
    return found or Cause(FLANNEL_NOT_READY, _state(pod))


def _netconf(flannel: Flannel) -> Cause:
    """Say that the ConfigMap itself shows that it cannot be read."""
    why = f"net-conf.json in ConfigMap {flannel.config} cannot be used: {flannel.problem}"
    return Cause(FLANNEL_NETCONF_INVALID, why, (f"api:configmaps/{flannel.config}",))


def _by_node(nodes: Nodes, flannel: Flannel, pod: Pod) -> Cause | None:
    """See whether the pod's node has a podCIDR, and if not, whether any was left."""
    node = nodes.named(pod.node)
    if node is None or node.spec.pod_cidr:
        return None
    span = used_up(nodes, flannel)
    if span:
        why = f"the controller manager has no podCIDR of {span} left for it"
        return Cause(FLANNEL_PODCIDR_EXHAUSTED, why, (f"api:nodes/{pod.node}",))
    told = " ".join(flannel.assigner)
    off = "--allocate-node-cidrs=false" in told or (told and "--allocate-node-cidrs" not in told)
    why = "the node has no podCIDR" + (
        ", and the controller manager is told to assign none" if off else ""
    )
    return Cause(FLANNEL_PODCIDR_UNASSIGNED, why, (f"api:nodes/{pod.node}",))


def used_up(nodes: Nodes, flannel: Flannel) -> str:
    """Name the network that podCIDRs are taken from, where all of it is taken; else nothing."""
    words = (a.lstrip("-").partition("=") for a in flannel.assigner)
    told = {name: value for name, _, value in words}
    span = network_of(told.get("cluster-cidr", ""))
    size = told.get("node-cidr-mask-size", str(_USUAL_SIZE))
    if span is None or not size.isdecimal() or told.get("allocate-node-cidrs") == "false":
        return ""
    mask = int(size)
    if not span.prefixlen <= mask <= _LONGEST_PREFIX:
        return ""
    taken = [c for n in nodes.items if (c := pod_cidr(nodes, n.name)) and c.overlaps(span)]
    blocks = {c.supernet(new_prefix=mask) for c in taken if c.prefixlen >= mask}
    wider = sum(2 ** (mask - max(c.prefixlen, span.prefixlen)) for c in taken if c.prefixlen < mask)
    return str(span) if len(blocks) + wider >= 2 ** (mask - span.prefixlen) else ""


def _by_words(logs: Logs, pod: Pod) -> Cause | None:
    """Read the pod's last words."""
    lines = [(line.text, x.evidence) for x in logs.of(pod.key) for line in x.lines]
    for code, words in _SAID:
        told = next(((t, e) for t, e in reversed(lines) if words.search(t)), None)
        if told:
            return Cause(code, _quoted(told[0]), (told[1],))
    return None


def _quoted(line: str) -> str:
    """Quote a line, without what differs from one run to the next."""
    text = _LOG_HEAD.sub("", line)
    text = re.sub(r"(?:[\w.-]+/)*kube-flannel-ds-\w+", "its pod", text)
    text = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+->", "", text)
    return f"it says “{shortened(text, _LONGEST_QUOTE)}”"


def _state(pod: Pod) -> str:
    """Say what the kubelet says of a pod."""
    statuses: tuple[ContainerStatus, ...] = (
        *(pod.status.init_container_statuses or ()),
        *(pod.status.container_statuses or ()),
    )
    ends = [s.last_state.terminated or s.state.terminated for s in statuses]
    code = next((f" (exit code {e.exit_code})" for e in ends if e and e.exit_code), "")
    waits = next((s.state.waiting.reason for s in statuses if s.state.waiting), "")
    why = waits or pod.status.reason or f"{pod.status.phase or 'Unknown'} and not ready"
    return f"{why}{code}"
