"""What the checks of DNS have in common."""

from doctor.model.finding import Code, Role
from doctor.model.link import Link

__all__ = ["VERIFY", "dns_code"]

VERIFY = "wwwm-doctor check dns"


def dns_code(name: str, meaning: str, role: Role = Role.CAUSE) -> Code:
    """Make a code of this link."""
    return Code(name, Link.DNS, meaning, role)
