"""Nodes that nothing reaches: neither their kubelet nor a ping is answered, and nobody can enter them."""

from collections.abc import Container, Iterator

from checks.common import and_list, ids
from checks.overlay.codes import UNDERLAY_UNREACHABLE, VERIFY
from checks.overlay.world import World, all_lost, starts_on
from doctor.model.finding import Confidence, Finding, Remediation, Risk
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import ANY, Hop, HopKind

__all__ = ["unreachable_nodes"]

_SURE = 2
"""Seen from one place alone, that place's own link may be the one that is down."""


def unreachable_nodes(world: World, known: Container[str]) -> Iterator[Finding]:
    """Say which nodes nothing reaches.

    Args:
        world: What is judged.
        known: Nodes whose pods were tried by others: what is broken there is told by pairs.
    """
    for name in world.nodes.linux:
        asked = list(world.mesh.of(Purpose.UNDERLAY, subject=name))
        pings = list(world.mesh.of(Purpose.UNDERLAY_SIZE, subject=name))
        if name in known or not all_lost(asked) or any(o.lost < o.sent for o in pings):
            continue
        if not any(starts_on(o) == name for o in world.mesh.observations):
            yield _unreachable(world, name, [*asked, *pings])


def _unreachable(world: World, name: str, lost: list[Observation]) -> Finding:
    """Say that nothing reaches a node."""
    places = sorted({starts_on(o) for o in lost})
    address = lost[0].flow.address
    pinged = any(o.flow.purpose is Purpose.UNDERLAY_SIZE for o in lost)
    what = "neither TCP 10250 nor a ping" if pinged else "no TCP 10250"
    unheard = [p for p in places if _unheard(world, p, address)]
    arp = f", and ARP gets no answer on {and_list(unheard)}" if unheard else ""
    return Finding(
        code=UNDERLAY_UNREACHABLE,
        title=(
            f"Nothing reaches node {name}: {what} of its own address {address} is answered from "
            f"{and_list(places)}{arp}; its link is down, or the machine is"
        ),
        hop=Hop(HopKind.UNDERLAY, f"{ANY}>{name}"),
        evidence=(
            *ids(lost),
            *(r.evidence for p in unheard if (r := world.networks.of(p))),
            f"api:nodes/{name}",
        ),
        confidence=Confidence.CERTAIN if len(places) >= _SURE and pinged else Confidence.LIKELY,
        remediation=(
            Remediation(
                title=f"See whether {name} runs, and whether its port and cable are up",
                commands=(
                    f"ssh {places[0]} ping -c 3 {address}",
                    f"ssh {places[0]} ip neigh show {address}",
                    f"openstack server list --ip '^{address}$'",
                    f"openstack port list --fixed-ip ip-address={address}",
                ),
                risk=Risk.SAFE,
                verify=VERIFY,
            ),
        ),
        falsifier=f"{address} answers a ping from {places[0]}",
    )


def _unheard(world: World, at: str, address: str) -> bool:
    """Say whether a node has asked for an address by ARP in vain."""
    read = world.networks.of(at)
    known = read.neighbours if read else None
    return any(n.address == address and n.state in {"FAILED", "INCOMPLETE"} for n in known or ())
