"""How a rule that drops is written, and how it is taken out of a node's filter."""

from doctor.model.filtering import Met
from doctor.model.netfilter import Action, Origin

__all__ = ["removal", "written"]


def written(met: Met) -> str:
    """Write a rule or policy as it is printed."""
    if met.rule:
        return met.rule.text
    if met.table.origin is Origin.NFT:
        return f"the policy of {met.table.family} {met.table.name} {met.chain}"
    return f"-P {met.chain} {met.action.value.upper()}"


def removal(enter: str, met: Met) -> str:
    """Write the command that takes a rule out, or has a policy accept.

    Args:
        enter: The start of a command that runs in the node's network.
        met: The rule or policy.
    """
    table = met.table
    if table.origin is Origin.NFT:
        place = f"{table.family} {table.name} {met.chain}"
        if met.rule:
            return f"{enter} nft delete rule {place} handle {met.rule.handle}"
        return f"{enter} nft chain {place} '{{ policy accept ; }}'"
    tool = "iptables-legacy" if table.origin is Origin.IPTABLES_LEGACY else "iptables"
    tool += "" if table.name == "filter" else f" -t {table.name}"
    if met.rule:
        return f"{enter} {tool} -D{met.rule.text.removeprefix('-A')}"
    return f"{enter} {tool} -P {met.chain} {Action.ACCEPT.value.upper()}"
