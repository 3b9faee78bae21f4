"""What the kubelet's own chain, and connection tracking, drop on a node."""

from collections.abc import Iterator

from checks.common import KUBE_FIREWALL, drops_all
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.evidence import NodeNetworks
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Severity
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.link import Link
from doctor.model.netfilter import Rule
from doctor.model.node import NodeNetwork

__all__ = ["KUBE_FIREWALL_DROPS_ALL", "NODE_CONNTRACK_FULL", "conntrack", "kubelet_chain"]

KUBE_FIREWALL_DROPS_ALL = Code(
    "KUBE_FIREWALL_DROPS_ALL",
    Link.KUBE_PROXY,
    "The kubelet's chain KUBE-FIREWALL drops every packet of a node, for its rule lost its mark.",
)
NODE_CONNTRACK_FULL = Code(
    "NODE_CONNTRACK_FULL",
    Link.KUBE_PROXY,
    "A node's table of connections is full, so packets of new ones are dropped.",
)
_FULL = 0.95
_PRESSED = 0.8


@check(
    id="kube-proxy.kubelet-chain",
    title="The chain KUBE-FIREWALL lets ordinary packets through",
    codes=(KUBE_FIREWALL_DROPS_ALL,),
    essential=False,
)
def kubelet_chain(networks: NodeNetworks) -> Iterator[Finding]:
    """The chain KUBE-FIREWALL lets ordinary packets through.

    What it looks at:
        The rules of the chain KUBE-FIREWALL, which the kubelet hangs into INPUT and OUTPUT.

    Why it matters:
        Its one old rule drops packets that carry a mark. Where two versions of iptables write to the
        same tables, one reads the other's rule without its mark and writes it back so: from then on
        every packet into and out of the node is dropped.

    What proves it:
        A rule of the chain that drops, without a mark or any other condition.

    Look-alikes:
        The rule about packets from elsewhere to 127.0.0.0/8 has conditions, and belongs there.
        A filter in front of the node drops, too, and leaves its chains as they were.

    Remediation:
        Delete the rule. Bring the iptables of the system and of the images to one version.

    Sources:
        kubernetes/kubernetes issue 112477. iptables 1.8.8's release notes.
    """
    for read in networks.items:
        if rule := drops_all(read):
            yield _drops_all(read, rule)


def _drops_all(read: NodeNetwork, rule: Rule) -> Finding:
    """Say that everything of a node is dropped."""
    return Finding(
        code=KUBE_FIREWALL_DROPS_ALL,
        title=(
            f"The chain {KUBE_FIREWALL} on {read.node} drops every packet: its rule has no mark to match "
            f"({rule.text})"
        ),
        hop=Hop(HopKind.UNDERLAY, f"{ANY}>{read.node}"),
        evidence=(read.evidence,),
        remediation=(
            Remediation(
                title=f"Delete the rule on {read.node}, and bring iptables there to one version",
                commands=(f"ssh {read.node} sudo iptables -D {KUBE_FIREWALL} -j DROP",),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"Every rule of {KUBE_FIREWALL} on {read.node} that drops has a condition",
    )


@check(
    id="kube-proxy.conntrack",
    title="Tables of connections have room on every node",
    codes=(NODE_CONNTRACK_FULL,),
    essential=False,
)
def conntrack(networks: NodeNetworks) -> Iterator[Finding]:
    """Tables of connections have room on every node.

    What it looks at:
        How many connections each node tracks, how many it may (net.netfilter.nf_conntrack_max), and
        how many packets it dropped because it could not track them.

    Why it matters:
        Whatever goes to a Service is tracked. When the table is full, packets of new connections are
        dropped at random while those that stand go on: it looks like a fault that comes and goes.

    What proves it:
        The table is full to 95 %, and packets were dropped for want of room. Where it is full to 80 %,
        and some were dropped since the node started, it may be full again: a warning.

    Look-alikes:
        Packets that race for one entry are counted as insert_failed, with room enough. A filter
        drops the same packets each time.

    Remediation:
        Allow more entries, now and in kube-proxy's configuration; look for what opens so many.

    Sources:
        Kubernetes documentation, "kube-proxy Configuration" (conntrack). Linux documentation,
        "nf_conntrack-sysctl". kubernetes/kubernetes issues 18604, 71261.
    """
    for read in networks.items:
        setting = read.sysctl("net.netfilter.nf_conntrack_max")
        most = setting.value if setting else None
        seen = read.conntrack
        if not most or seen is None or seen.entries is None:
            continue
        share = seen.entries / most
        lost = bool(seen.drop or seen.early_drop)
        if share >= _FULL or (lost and share >= _PRESSED):
            dropping = lost and share >= _FULL
            yield _full(read, seen.entries, most, seen.drop, dropping=dropping)


def _full(read: NodeNetwork, entries: int, most: int, lost: int, *, dropping: bool) -> Finding:
    """Say that a node's table of connections is full."""
    more = 2 * most
    return Finding(
        code=NODE_CONNTRACK_FULL,
        title=(
            f"{read.node} tracks {entries} connections of {most} that it may"
            + (f", and dropped {lost} packets for want of room" if lost else "")
            + (
                ": packets of new connections are dropped"
                if dropping
                else ": when there are more, packets of new connections are dropped"
            )
        ),
        hop=Hop(HopKind.UNDERLAY, f"{ANY}>{read.node}"),
        evidence=(read.evidence,),
        severity=Severity.FAIL if dropping else Severity.WARN,
        confidence=Confidence.CERTAIN if dropping else Confidence.LIKELY,
        remediation=(
            Remediation(
                title=f"Allow {read.node} to track more, and see who opens so many connections",
                commands=(
                    f"ssh {read.node} sudo sysctl -w net.netfilter.nf_conntrack_max={more}",
                    (
                        f"ssh {read.node} 'echo net.netfilter.nf_conntrack_max = {more} | "
                        "sudo tee /etc/sysctl.d/99-conntrack.conf'"
                    ),
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{read.node} tracks less than {round(_PRESSED * most)} connections",
    )
