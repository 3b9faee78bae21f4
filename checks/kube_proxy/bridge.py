"""The bridge of pods, as far as Service addresses depend on it."""

from collections.abc import Iterator

from checks.common import and_list, node_hops
from checks.kube_proxy.shared import VERIFY
from doctor.contract import check
from doctor.model.evidence import NodeNetworks, Nodes
from doctor.model.finding import Code, Finding, Remediation, Risk, Severity
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.link import Link
from doctor.model.node import NodeNetwork
from doctor.model.proxying import ProxiedServices

__all__ = ["KUBE_PROXY_BRIDGE_BYPASSED", "KUBE_PROXY_HAIRPIN_OFF", "bridge"]

KUBE_PROXY_BRIDGE_BYPASSED = Code(
    "KUBE_PROXY_BRIDGE_BYPASSED",
    Link.KUBE_PROXY,
    "What a node's bridge carries between its pods passes by iptables: answers through a Service "
    "come from the pod's own address.",
)
KUBE_PROXY_HAIRPIN_OFF = Code(
    "KUBE_PROXY_HAIRPIN_OFF",
    Link.KUBE_PROXY,
    "A node's bridge sends nothing back where it came from: a pod cannot reach itself by its "
    "Service.",
)
_SYSCTL = "net.bridge.bridge-nf-call-iptables"
_BRIDGE = "cni0"


@check(
    id="kube-proxy.bridge",
    title="Pods reach Services whose endpoints are on their own node",
    codes=(KUBE_PROXY_BRIDGE_BYPASSED, KUBE_PROXY_HAIRPIN_OFF),
    essential=False,
)
def bridge(
    networks: NodeNetworks, nodes: Nodes | None, services: ProxiedServices | None
) -> Iterator[Finding]:
    """Pods reach Services whose endpoints are on their own node.

    What it looks at:
        Where pods are joined by a bridge: whether frames between its ports go through iptables
        (net.bridge.bridge-nf-call-iptables), and whether its ports may send back where a frame
        came from (hairpin).

    Why it matters:
        An answer from a pod of the same node never leaves the bridge. Only if the bridge shows it to
        iptables is the Service's address put back into it; else the client gets an answer from a
        stranger, and drops it. It looks like a fault that comes and goes: endpoints on other nodes
        answer well. A pod that its own Service sends back to itself needs the port's hairpin mode.

    What proves it:
        The setting is 0, or absent as the module br_netfilter is, on a node with a bridge of pods.
        A port of the bridge without hairpin mode, on a node with ready endpoints.

    Look-alikes:
        One bad replica of CoreDNS fails for all nodes; here it is only clients beside it that fail.
        A race in connection tracking hits pairs of queries at random, wherever the endpoint is.

    Remediation:
        Load br_netfilter and set the sysctl, now and at boot. Turn hairpin mode on, and let CNI's
        configuration say so.

    Sources:
        Kubernetes documentation, "Container Runtimes", "Debug Services", "Edge case: A Pod fails to
        reach itself via the Service IP". kubernetes/kubernetes issues 33798, 13375, 20475.
    """
    known = nodes or Nodes()
    bypassed = [r.node for r in networks.items if _bridged(r) and _off(r)]
    for hop, after in node_hops(HopKind.KUBE_PROXY, known, bypassed) if bypassed else ():
        here = [n for n in bypassed if hop.where in (ANY, n)]
        yield _bypassed(networks, hop, after, here)
    serving = {e.node for b in (services.items if services else ()) for e in b.ready}
    for read in networks.items:
        ports = _stiff(read)
        if ports and read.node in serving:
            yield _hairpin(read, ports, services)


def _bridged(read: NodeNetwork) -> bool:
    """Say whether pods of a node are joined by the bridge that flannel's delegate makes."""
    return any(i.master == _BRIDGE for i in read.links)


def _off(read: NodeNetwork) -> bool:
    """Say whether the bridge is known not to show iptables what it carries."""
    setting = read.sysctl(_SYSCTL)
    return setting is not None and setting.value in (0, None)


def _bypassed(
    networks: NodeNetworks,
    hop: Hop,
    after: tuple[Hop, ...],
    names: list[str],
) -> Finding:
    """Say that a bridge does not show iptables what it carries."""
    read = [r for n in names if (r := networks.of(n))]
    absent = any((s := r.sysctl(_SYSCTL)) and s.value is None for r in read)
    why = "the module br_netfilter is not loaded" if absent else f"{_SYSCTL} is 0"
    return Finding(
        code=KUBE_PROXY_BRIDGE_BYPASSED,
        title=(
            f"On {and_list(names)} iptables does not see what the bridge {_BRIDGE} carries, for "
            f"{why}: pods there get no proper answer from Service endpoints on their own node"
        ),
        hop=hop,
        evidence=tuple(r.evidence for r in read),
        consequence_of=after,
        remediation=(
            Remediation(
                title=f"Let iptables see bridged packets on {and_list(names)}, now and at boot",
                commands=tuple(
                    line
                    for name in names
                    for line in (
                        f"ssh {name} sudo modprobe br_netfilter",
                        f"ssh {name} sudo sysctl -w {_SYSCTL}=1",
                        (
                            f"ssh {name} 'echo br_netfilter | "
                            "sudo tee /etc/modules-load.d/br_netfilter.conf'"
                        ),
                        (
                            f"ssh {name} 'echo {_SYSCTL} = 1 | "
                            "sudo tee /etc/sysctl.d/99-kubernetes-bridge.conf'"
                        ),
                    )
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{_SYSCTL} is 1 on {and_list(names)}",
    )


def _stiff(read: NodeNetwork) -> tuple[str, ...]:
    """List the ports of the bridge without hairpin mode, where its pods are meant to have it.

    Where CNI's configuration says otherwise, the bridge may be promiscuous in its stead.
    """
    meant = read.cni.confs is None or not any(c.hairpin is False for c in read.cni.confs[:1])
    ports = (i.name for i in read.links if i.master == _BRIDGE and i.hairpin is False)
    return tuple(ports) if meant else ()


def _hairpin(
    read: NodeNetwork, ports: tuple[str, ...], services: ProxiedServices | None
) -> Finding:
    """Say that ports of a bridge do not send back where a frame came from."""
    pods = (
        [e.pod or e.address for b in services.items for e in b.ready if e.node == read.node]
        if (services)
        else []
    )
    return Finding(
        code=KUBE_PROXY_HAIRPIN_OFF,
        title=(
            f"Hairpin mode is off at {len(ports)} of the ports of {_BRIDGE} on {read.node} "
            f"({and_list(ports)}): a pod there, such as {and_list(pods, most=1)}, cannot reach "
            "itself by its Service"
        ),
        hop=Hop(HopKind.POD_NETWORK, read.node, "hairpin"),
        evidence=(read.evidence,),
        severity=Severity.WARN,
        remediation=(
            Remediation(
                title=f"Turn hairpin mode on at the ports of {_BRIDGE} on {read.node}",
                commands=tuple(
                    f"ssh {read.node} sudo bridge link set dev {p} hairpin on" for p in ports
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"The ports of {_BRIDGE} on {read.node} say hairpin on",
    )
