"""What iproute2's ``bridge -json fdb show`` prints, for several devices in turn."""

import msgspec

from doctor.model.node import FdbEntry
from doctor.parse.ip_json import decode

__all__ = ["parse_fdb"]

_DEVICE = "dev "
_MULTICAST = ("33:33:", "01:00:5e:")


class _Entry(msgspec.Struct):
    """An entry, as iproute2 prints it."""

    mac: str = ""
    ifname: str = ""
    dst: str = ""
    master: str = ""
    state: str = ""


def parse_fdb(text: str) -> tuple[FdbEntry, ...]:
    """Read the entries of several devices.

    Multicast addresses, which every device has of its own, are left out.

    Args:
        text: For each device a line ``dev name`` and one with its entries: asked for one device,
            ``bridge`` does not name it.

    Raises:
        msgspec.DecodeError: The text is not what iproute2 prints.
    """
    found: list[FdbEntry] = []
    device = ""
    for line in text.split("\n"):
        if line.startswith(_DEVICE):
            device = line.removeprefix(_DEVICE)
        elif line.strip():
            found += [
                FdbEntry(e.mac, e.ifname or device, e.dst, e.master, e.state)
                for e in decode(line, list[_Entry])
                if e.mac and not e.mac.startswith(_MULTICAST)
            ]
    return tuple(found)
