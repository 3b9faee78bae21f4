"""Settings of the kernel, one a line: a file below /proc/sys/net, and what stands in it."""

from doctor.model.node_state import Sysctl

__all__ = ["parse_sysctls"]

_DIGITS = 18


def parse_sysctls(text: str) -> tuple[Sysctl, ...]:
    """Read ``ipv4/ip_forward:1``; a file without a value is a setting that is absent.

    Lines of another form, and values that are no whole numbers, are passed over.
    """
    found: list[Sysctl] = []
    for line in text.split("\n"):
        path, colon, value = line.strip().rpartition(":")
        if colon and path and (not value or _whole(value.removeprefix("-"))):
            name = f"net.{path.replace('/', '.')}"
            found.append(Sysctl(name=name, value=int(value) if value else None))
    return tuple(found)


def _whole(digits: str) -> bool:
    """Say whether a word is a number of a size that the kernel uses."""
    return digits.isdecimal() and len(digits) <= _DIGITS
