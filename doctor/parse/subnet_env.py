"""flannel's /run/flannel/subnet.env."""

from doctor.model.node import SubnetEnv

__all__ = ["parse_subnet_env"]

_DIGITS = 9


def parse_subnet_env(text: str) -> SubnetEnv:
    """Read KEY=value lines; what is missing keeps its default."""
    pairs = {
        key.strip(): value.strip()
        for key, found, value in (line.partition("=") for line in text.splitlines())
        if found
    }
    mtu = pairs.get("FLANNEL_MTU", "")
    return SubnetEnv(
        network=pairs.get("FLANNEL_NETWORK", ""),
        subnet=pairs.get("FLANNEL_SUBNET", ""),
        mtu=int(mtu) if mtu.isdecimal() and len(mtu) <= _DIGITS else 0,
        ipmasq=pairs.get("FLANNEL_IPMASQ", "") == "true",
    )
