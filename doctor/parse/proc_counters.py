"""Counters from /proc/net: those of devices, and those of protocols."""

import re
from itertools import pairwise

import msgspec

__all__ = ["DeviceCounters", "parse_devices", "parse_protocols"]

_DEVICE = re.compile(r"\s*([^\s:]{1,32}):\s*(\d[\d\s]{0,400})", re.ASCII)
_NUMBERS = 16
_DIGITS = 20


class DeviceCounters(msgspec.Struct, frozen=True):
    """What a device has counted: packets, and those that it could not take or send."""

    received: int = 0
    not_taken: int = 0
    sent: int = 0
    not_sent: int = 0


def parse_devices(text: str) -> dict[str, DeviceCounters]:
    """Read /proc/net/dev; lines that are not understood are passed over."""
    found: dict[str, DeviceCounters] = {}
    for line in text.split("\n"):
        if match := _DEVICE.fullmatch(line):
            n = [int(word) for word in match[2].split() if len(word) <= _DIGITS]
            if len(n) != _NUMBERS:
                continue
            found[match[1]] = DeviceCounters(n[1], n[2] + n[3], n[9], n[10] + n[11] + n[14])
    return found


def parse_protocols(text: str) -> dict[str, int]:
    """Read /proc/net/snmp and netstat, a line of names and one of numbers each: ``Udp.NoPorts``."""
    found: dict[str, int] = {}
    for names, numbers in pairwise(text.split("\n")):
        kind, *words = names.split() or [""]
        again, *values = numbers.split() or [""]
        if kind == again and kind.endswith(":") and len(words) == len(values):
            for word, value in zip(words, values, strict=True):
                if (
                    value.removeprefix("-").isdecimal()
                    and value.isascii()
                    and len(value) <= _DIGITS
                ):
                    found[f"{kind}{word}".replace(":", ".", 1)] = int(value)
    return found
