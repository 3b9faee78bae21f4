"""Plain text, safe to print: names, labels and messages come from the cluster and are not ours."""

import re
import unicodedata

__all__ = ["HIDDEN", "cells", "count", "inert"]

# Whatever moves the cursor, reorders or hides text: C0, DEL and C1, surrogates, marks of direction,
# everything without a width of its own, and the fillers that look like nothing. Written out because
# a walk over all of Unicode at import would cost more than `--help` may take.
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")


def inert(text: str, *, ascii_only: bool = False) -> str:
    r"""Make text harmless on a terminal.

    Args:
        text: Any text; one line comes back.
        ascii_only: Also write every other character outside ASCII as an escape.

    Returns:
        The text with hidden characters made visible as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.
    """
    return (_BEYOND_ASCII if ascii_only else HIDDEN).sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    """Write one character as its number."""
    number = ord(match[0])
    if number <= 0xFF:  # noqa: PLR2004
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004


def cells(text: str) -> int:
    """Count the columns that inert text takes, without the terminal library."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    """Count one character's columns: wide ones take two, combining marks none."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def count(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 check``, ``3 checks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
