"""Filters and settings of a node itself, which take what pods send or what carries it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.tunnel import ends, inner, port, sees, tunnelled
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.shape import Shape

HOST_FIREWALL: Final = "vxlan-8472-blocked-host-fw"
ONE_WAY: Final = "vxlan-8472-blocked-oneway"
NFT_ALONE: Final = "vxlan-8472-blocked-nft"
FORWARD_DROP: Final = "node-forward-policy-drop"
FORWARD_PROHIBITED: Final = "node-firewalld-reject"
FORWARD_REFUSED: Final = "node-forward-reject-default"
FORWARD_OFF: Final = "node-ip-forward-off"
_CODES: Final = {
    HOST_FIREWALL: "OVERLAY_HOST_FIREWALL",
    ONE_WAY: "OVERLAY_HOST_FIREWALL",
    NFT_ALONE: "OVERLAY_HOST_FIREWALL",
    FORWARD_DROP: "OVERLAY_FORWARD_DROPPED",
    FORWARD_PROHIBITED: "OVERLAY_FORWARD_REJECTED",
    FORWARD_REFUSED: "OVERLAY_FORWARD_REJECTED",
    FORWARD_OFF: "OVERLAY_IP_FORWARD_OFF",
}
_ALIKE: Final = (*_CODES, "sg-drops-8472")
_TABLE: Final = "inet hostfw"


def _forbidden(name: str) -> frozenset[str]:
    """All other links' codes, and those of what looks alike."""
    others = set(_CODES.values()) - {_CODES[name]}
    return all_but("OVERLAY_") | others | {"OVERLAY_UDP_FILTERED", "OVERLAY_PATH_BROKEN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A rule that a fault puts first into a chain of the last node.

    Attributes:
        chain: The chain.
        words: The rule, in a lab.
        provoke: Sends something that it should hit.
    """

    chain: str
    words: Callable[[Lab], tuple[str, ...]]
    provoke: Callable[[Lab], object]

    def _there(self, lab: Lab) -> bool:
        at = ends(lab)[1]
        return (
            at.run("iptables", "-w", "-C", self.chain, *self.words(lab), check=False).returncode
            == 0
        )

    def inject(self, lab: Lab) -> None:
        """Put it in."""
        if not self._there(lab):
            ends(lab)[1].run("iptables", "-w", "-I", self.chain, "1", *self.words(lab))

    def settled(self, lab: Lab) -> bool:
        """Whether it has hit something."""
        self.provoke(lab)
        done = ends(lab)[1].run("iptables", "-w", "-nvxL", self.chain, "1")
        words = done.stdout.split()
        return bool(words) and int(words[0]) > 0

    def heal(self, lab: Lab) -> None:
        """Take it out."""
        while self._there(lab):
            ends(lab)[1].run("iptables", "-w", "-D", self.chain, *self.words(lab))


def _tunnel_ping(lab: Lab) -> None:
    """Have the last node be sent something through the tunnel."""
    one, last = ends(lab)
    one.run("ping", "-c", "1", "-W", "1", inner(last), check=False)


def _pod_ping(lab: Lab) -> None:
    """Have the last node forward something to an address of its pods', whether one has it or not."""
    one, last = ends(lab)
    one.run("ping", "-c", "1", "-W", "1", f"{inner(last).rpartition('.')[0]}.250", check=False)


def _last(lab: Lab) -> Node:
    return ends(lab)[1]


_RULES: Final = {
    HOST_FIREWALL: _Rule(
        chain="INPUT",
        words=lambda lab: ("-p", "udp", "--dport", str(port(lab.shape)), "-j", "DROP"),
        provoke=_tunnel_ping,
    ),
    ONE_WAY: _Rule(
        chain="INPUT",
        words=lambda lab: (
            *("-s", ends(lab)[0].address, "-p", "udp", "--dport", str(port(lab.shape))),
            *("-j", "DROP"),
        ),
        provoke=_tunnel_ping,
    ),
    FORWARD_DROP: _Rule(
        chain="FORWARD",
        words=lambda lab: ("-s", lab.shape.pod_network, "-j", "DROP"),
        provoke=_pod_ping,
    ),
    FORWARD_PROHIBITED: _Rule(
        chain="FORWARD",
        words=lambda _: (
            *("-i", "flannel.1", "-j", "REJECT"),
            *("--reject-with", "icmp-host-prohibited"),
        ),
        provoke=_pod_ping,
    ),
    FORWARD_REFUSED: _Rule(
        chain="FORWARD",
        words=lambda lab: ("-s", lab.shape.pod_network, "-j", "REJECT"),
        provoke=_pod_ping,
    ),
}


def _inject_nft(lab: Lab) -> None:
    drop = f"udp dport {port(lab.shape)} counter drop"
    chain = f"chain input {{\ntype filter hook input priority 10;\n{drop}\n}}\n"
    _heal_nft(lab)
    _last(lab).run("nft", "-f", "-", input=f"table {_TABLE} {{\n{chain}}}\n")


def _nft_settled(lab: Lab) -> bool:
    _tunnel_ping(lab)
    said = _last(lab).run("nft", "list", "table", *_TABLE.split()).stdout
    return "packets" in said and "packets 0 " not in said


def _heal_nft(lab: Lab) -> None:
    _last(lab).run("nft", "delete", "table", *_TABLE.split(), check=False)


def _set_forwarding(lab: Lab, value: int) -> None:
    """Set it for the devices: of all, CNI's bridge plugin sets it to 1 with every pod it adds."""
    for device in ("flannel.1", "cni0"):
        path = f"/proc/sys/net/ipv4/conf/{device}/forwarding"
        _last(lab).run("sh", "-c", f"test ! -e {path} || echo {value} > {path}")


def _forwards_nothing(lab: Lab) -> bool:
    """Whether the node is there, and says that it does not forward."""
    one, last = ends(lab)
    off = last.run("cat", "/proc/sys/net/ipv4/conf/flannel.1/forwarding").stdout.strip() == "0"
    return off and sees(one, last)


def _by_rule(
    name: str,
    story: str,
    names: Callable[[Lab], tuple[str, ...]],
    fits: Callable[[Shape], bool],
) -> Fault:
    """Make a fault of one rule."""
    rule = _RULES[name]
    return Fault(
        name=name,
        link="overlay",
        story=story,
        expected=frozenset({_CODES[name]}),
        names=names,
        forbidden=_forbidden(name),
        lookalikes=tuple(a for a in _ALIKE if a != name),
        fits=fits,
        inject=rule.inject,
        settled=rule.settled,
        heal=rule.heal,
    )


FAULTS: Final = (
    _by_rule(
        HOST_FIREWALL,
        "A firewall on a worker admits TCP alone, and drops the VXLAN port with the rest of UDP.",
        lambda lab: (f"*>{_last(lab).fqdn}", "-A INPUT"),
        tunnelled,
    ),
    _by_rule(
        ONE_WAY,
        "A firewall on a worker drops what one other worker sends to the VXLAN port.",
        lambda lab: (f"{ends(lab)[0].fqdn}>{_last(lab).fqdn}",),
        tunnelled,
    ),
    Fault(
        name=NFT_ALONE,
        link="overlay",
        story="A firewall that is written in nft alone drops the VXLAN port on a worker.",
        expected=frozenset({_CODES[NFT_ALONE]}),
        names=lambda lab: (f"*>{_last(lab).fqdn}", f"udp dport {port(lab.shape)} drop"),
        forbidden=_forbidden(NFT_ALONE),
        lookalikes=tuple(a for a in _ALIKE if a != NFT_ALONE),
        fits=tunnelled,
        inject=_inject_nft,
        settled=_nft_settled,
        heal=_heal_nft,
    ),
    _by_rule(
        FORWARD_DROP,
        "A worker drops what it should forward for pods, as a container engine or firewall left it.",
        lambda lab: (_last(lab).fqdn, "-j DROP"),
        has_workers,
    ),
    _by_rule(
        FORWARD_PROHIBITED,
        "A firewall on a worker rejects what comes for its pods as prohibited.",
        lambda lab: (_last(lab).fqdn, "icmp-host-prohibited"),
        tunnelled,
    ),
    _by_rule(
        FORWARD_REFUSED,
        "A firewall on a worker rejects what it should forward, in the words of a closed port.",
        lambda lab: (_last(lab).fqdn, "icmp-port-unreachable"),
        has_workers,
    ),
    Fault(
        name=FORWARD_OFF,
        link="overlay",
        story="A worker does not forward what comes for its pods or from them, as sysctls say.",
        expected=frozenset({_CODES[FORWARD_OFF]}),
        names=lambda lab: (_last(lab).fqdn,),
        forbidden=_forbidden(FORWARD_OFF),
        lookalikes=tuple(a for a in _ALIKE if a != FORWARD_OFF),
        fits=tunnelled,
        inject=lambda lab: _set_forwarding(lab, 0),
        settled=_forwards_nothing,
        heal=lambda lab: _set_forwarding(lab, 1),
    ),
)
