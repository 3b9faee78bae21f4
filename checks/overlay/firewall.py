"""Rules on a node that drop what carries pods' packets between nodes."""

from checks.overlay.codes import OVERLAY_HOST_FIREWALL, VERIFY
from checks.overlay.world import Fault, World, own_networks, remove_rule
from doctor.model.finding import Confidence, Remediation, Risk

__all__ = ["firewall_fault"]


def firewall_fault(world: World, at: str, _: str) -> Fault | None:
    """Look for a rule on a node that drops the overlay's port."""
    overlay, read = world.mesh.overlay, world.networks.of(at)
    rule = world.networks.dropping(at, "INPUT", overlay, own_networks(world)) if overlay else None
    rule = rule or (
        world.networks.dropping(at, "OUTPUT", overlay, own_networks(world)) if overlay else None
    )
    if rule is None or read is None:
        return None
    named = rule.ports != (0, 65535)
    protocol, _, port = overlay.partition("/")
    accept = f"iptables -I {rule.chain} -p {protocol} --dport {port} -j ACCEPT"
    mend = Remediation(
        f"Let node {at} take {protocol.upper()} {port}",
        (f"{world.flannel.enter(at)} {accept}",),
        Risk.SAFE,
        VERIFY,
    )
    return Fault(
        OVERLAY_HOST_FIREWALL,
        f"A firewall rule of node {at} drops {protocol.upper()} {port}, which carries pod traffic "
        f"between nodes: {rule.text}",
        (read.evidence,),
        remove_rule(world, at, rule) if named else mend,
        Confidence.CERTAIN if named else Confidence.LIKELY,
    )
