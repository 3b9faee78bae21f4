"""What several checks say in the same way."""

from collections.abc import Iterable

from doctor.model.flow import Observation

__all__ = ["and_list", "ids", "security_group"]


def and_list(words: Iterable[str], most: int = 4) -> str:
    """Join words as prose: ``a, b and c``; beyond ``most`` the rest is counted."""
    listed = sorted(set(words))
    if len(listed) > most:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    *first, last = listed or [""]
    return f"{', '.join(first)} and {last}" if first else last


def security_group(address: str) -> str:
    """Write the command that looks up the security group of the node with an address."""
    port = f'"$(openstack port list --fixed-ip ip-address={address} -f value -c ID)"'
    show = f"openstack port show {port} -f value -c security_group_ids"
    return f"SECURITY_GROUP=$({show} | grep -oE '[0-9a-f-]{{36}}' | head -n 1)"


def ids(observations: Iterable[Observation]) -> tuple[str, ...]:
    """List the evidence ids of observations."""
    return tuple(o.flow.id for o in observations)
