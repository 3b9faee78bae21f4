"""CoreDNS, and the port it is asked on."""

from functools import partial
from typing import Final

from tests.lab.faults.model import Fault, all_but, anywhere, has_workers
from tests.lab.faults.objects import Ref, await_available, restore, scale_to_zero
from tests.lab.faults.pods import Pod, coredns_pods, delete, node_of
from tests.lab.faults.scheduling import cordoned, uncordon
from tests.lab.faults.traffic import Transport, dns, drops
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import Shape
from tests.lab.shell import poll

SG_53: Final = "sg-drops-53"
UDP_53: Final = "udp53-dropped"
TCP_53: Final = "tcp53-dropped"
AT_ZERO: Final = "coredns-at-zero"
COREDNS: Final = Ref(kind="deployment", name="coredns", namespace="kube-system")
PORT: Final = 53
ALL: Final[tuple[Transport, ...]] = ("udp", "tcp")


def _routed(shape: Shape) -> bool:
    return shape.backend == "host-gw" and len(shape.nodes) > 1


def _switch_drops(lab: Lab, fault: str, transports: tuple[Transport, ...]) -> None:
    # a security group is the nodes': what the proxy host asks of its resolver is none of its
    matches = [f'iifname "tap-*" {transport} dport {PORT}' for transport in transports]
    lab.fabric_rules(fault, drops(matches))


def _drop_rule(transport: Transport) -> tuple[str, ...]:
    return ("FORWARD", "-p", transport, "--dport", str(PORT), "-j", "DROP")


def _filters(node: Node, transport: Transport) -> bool:
    return node.run("iptables", "-w", "-C", *_drop_rule(transport), check=False).returncode == 0


def _node_drops(lab: Lab, transport: Transport) -> None:
    """Drop the port where CoreDNS runs; bridged packets pass that chain, too (br_netfilter)."""
    for node in {node_of(lab, pod).name: node_of(lab, pod) for pod in coredns_pods(lab)}.values():
        if not _filters(node, transport):
            chain, *rule = _drop_rule(transport)
            # first of all, for flannel appends its own rules again and again
            node.run("iptables", "-w", "-I", chain, "1", *rule)


def _inject_one(fault: str, transport: Transport, lab: Lab) -> None:
    if lab.shape.backend == "host-gw":
        _switch_drops(lab, fault, (transport,))
    else:
        _node_drops(lab, transport)


def _heal_one(fault: str, transport: Transport, lab: Lab) -> None:
    lab.fabric_rules(fault, None)
    # on every node, for CoreDNS may have moved since
    for node in lab.nodes.values():
        while _filters(node, transport):
            node.run("iptables", "-w", "-D", *_drop_rule(transport))


def _elsewhere(lab: Lab, pod: Pod) -> str:
    """The vantage of a node that a pod does not run on."""
    return next(node.name for node in lab.nodes.values() if node.fqdn != pod.node)


def _silent(dropped: tuple[Transport, ...], lab: Lab) -> bool:
    """Over what is dropped no replica answers another node; over the rest, each one does."""
    replicas = coredns_pods(lab)
    return bool(replicas) and all(
        dns(lab, _elsewhere(lab, pod), pod.address, transport)
        == ("timeout" if transport in dropped else "answer")
        for pod in replicas
        for transport in ALL
    )


def _unserved(lab: Lab) -> list[Node]:
    """The workers without a replica."""
    served = {pod.node for pod in coredns_pods(lab)}
    return [node for node in lab.nodes.values() if not (node.control_plane or node.fqdn in served)]


def _vacate(lab: Lab, node: Node) -> None:
    """Move the replicas of a node elsewhere, as a drain would."""

    def moved() -> bool:
        return all(pod.ready and pod.node != node.fqdn for pod in coredns_pods(lab))

    with cordoned(lab, SG_53, [node]):
        delete(lab, [pod for pod in coredns_pods(lab) if pod.node == node.fqdn])
        poll(moved, seconds=60, what=f"CoreDNS to have left {node.name}")


def _inject_sg(lab: Lab) -> None:
    if not _unserved(lab):
        # a pod beside a replica gets every other answer: there has to be one that gets none
        _vacate(lab, list(lab.nodes.values())[-1])
    _switch_drops(lab, SG_53, ALL)


def _settled_sg(lab: Lab) -> bool:
    return bool(_unserved(lab)) and _silent(ALL, lab)


def _heal_sg(lab: Lab) -> None:
    lab.fabric_rules(SG_53, None)
    uncordon(lab, SG_53)


def _inject_zero(lab: Lab) -> None:
    scale_to_zero(lab, AT_ZERO, COREDNS)


def _settled_zero(lab: Lab) -> bool:
    if coredns_pods(lab):
        return False
    server = lab.kubectl(
        "get", "service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}"
    )
    # kube-proxy refuses for a service without endpoints: an answer to a dead pod would time out
    return all(dns(lab, node, server, "tcp") == "Connection refused" for node in lab.nodes)


def _heal_zero(lab: Lab) -> None:
    restore(lab, AT_ZERO)
    await_available(lab, COREDNS)


def _named_port(_: Lab) -> tuple[str, ...]:
    return (str(PORT),)


_ECHOES: Final = all_but("DNS_")


def _one_transport(fault: str, transport: Transport, story: str, wrong: frozenset[str]) -> Fault:
    return Fault(
        name=fault,
        link="dns",
        story=story,
        expected=frozenset({f"DNS_{transport.upper()}_FILTERED"}),
        names=_named_port,
        forbidden=_ECHOES | wrong | {"DNS_SCALED_TO_ZERO"},
        lookalikes=("sg-drops-8472", SG_53, AT_ZERO, TCP_53 if transport == "udp" else UDP_53),
        fits=has_workers,
        inject=partial(_inject_one, fault, transport),
        settled=partial(_silent, (transport,)),
        heal=partial(_heal_one, fault, transport),
    )


FAULTS: Final = (
    Fault(
        name=SG_53,
        link="dns",
        story=(
            "The security group of the nodes does not admit port 53, and as flannel only routes,"
            " the queries of pods to CoreDNS on another node are lost with it."
        ),
        expected=frozenset({"DNS_PORT_FILTERED"}),
        names=_named_port,
        forbidden=_ECHOES | {"DNS_UDP_FILTERED", "DNS_TCP_FILTERED", "DNS_SCALED_TO_ZERO"},
        lookalikes=(UDP_53, TCP_53, AT_ZERO, "kube-proxy-gone"),
        fits=_routed,
        inject=_inject_sg,
        settled=_settled_sg,
        heal=_heal_sg,
    ),
    _one_transport(
        UDP_53,
        "udp",
        "A filter in front of CoreDNS drops port 53 over UDP alone, so lookups of pods time out.",
        frozenset({"DNS_TCP_FILTERED", "DNS_PORT_FILTERED"}),
    ),
    _one_transport(
        TCP_53,
        "tcp",
        "A filter in front of CoreDNS drops port 53 over TCP alone, so only long answers fail.",
        frozenset({"DNS_UDP_FILTERED", "DNS_PORT_FILTERED"}),
    ),
    Fault(
        name=AT_ZERO,
        link="dns",
        story="Somebody scaled CoreDNS to zero, so every lookup of a pod is refused at once.",
        expected=frozenset({"DNS_SCALED_TO_ZERO"}),
        names=lambda _: ("coredns",),
        forbidden=_ECHOES | {"DNS_*_FILTERED"},
        lookalikes=(SG_53, UDP_53, "kube-proxy-gone"),
        fits=anywhere,
        inject=_inject_zero,
        settled=_settled_zero,
        heal=_heal_zero,
    ),
)
