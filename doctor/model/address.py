"""Whether a text is an address or a network, and which. Nothing in here raises."""

from ipaddress import IPv4Network, ip_address, ip_network

__all__ = ["is_address", "is_ipv4", "network_of", "specific_network"]


def is_address(text: str) -> bool:
    """Say whether a text is an address of IP."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_ipv4(text: str) -> bool:
    """Say whether a text is an IPv4 address."""
    return is_address(text) and ":" not in text


def network_of(text: str) -> IPv4Network | None:
    """Read an IPv4 network; None for anything else."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def specific_network(text: str) -> IPv4Network | None:
    """Read an IPv4 network that is not all there is; None for anything else, as a default route."""
    network = network_of(text)
    return network if network and network.prefixlen else None
