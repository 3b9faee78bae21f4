"""Rules on a node that drop what carries pods' packets between nodes."""

from checks.common import written
from checks.overlay.codes import OVERLAY_HOST_FIREWALL, VERIFY
from checks.overlay.filters import outer_rule, remove
from checks.overlay.world import Fault, World
from doctor.model.filtering import Met
from doctor.model.finding import Remediation, Risk
from doctor.model.netfilter import Origin

__all__ = ["firewall_fault"]


def firewall_fault(world: World, at: str, to: str) -> Fault | None:
    """Look for a rule on a node that drops the overlay's port, from another node or to it."""
    arriving = outer_rule(world, at, to, arriving=True)
    met = arriving or outer_rule(world, at, to, arriving=False)
    if met is None:
        return None
    protocol, _, port = world.mesh.overlay.partition("/")
    return Fault(
        OVERLAY_HOST_FIREWALL,
        f"A firewall rule of node {at} drops {protocol.upper()} {port}, which carries pod traffic "
        f"between nodes: {written(met)}",
        (f"node:{at}",),
        remove(world, at, met) if met.rule and met.rule.ports else _let_in(world, at, met),
        to="" if arriving else to,
    )


def _let_in(world: World, at: str, met: Met) -> Remediation:
    """Say how to let the port pass a rule or a policy that is for all."""
    protocol, _, port = world.mesh.overlay.partition("/")
    table = met.table
    if table.origin is Origin.NFT:
        place = f"{table.family} {table.name} {met.chain}"
        accept = f"nft insert rule {place} {protocol} dport {port} accept"
    else:
        tool = "iptables-legacy" if table.origin is Origin.IPTABLES_LEGACY else "iptables"
        tool += "" if table.name == "filter" else f" -t {table.name}"
        accept = f"{tool} -I {met.chain} -p {protocol} --dport {port} -j ACCEPT"
    return Remediation(
        f"Let node {at} pass {protocol.upper()} {port}, and tell its firewall to keep it",
        (f"{world.flannel.enter(at)} {accept}",),
        Risk.SAFE,
        VERIFY,
    )
