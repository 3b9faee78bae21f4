"""Numbers of connection tracking: /proc/net/stat/nf_conntrack, and ``conntrack -S``."""

import re

from doctor.model.node_state import Conntrack

__all__ = ["parse_conntrack_proc", "parse_conntrack_tool"]

_FIELDS = ("insert_failed", "drop", "early_drop", "invalid")
_HEX = re.compile(r"[0-9a-fA-F]{1,16}")
_PAIR = re.compile(r"(\w{1,32})=(\d{1,18})", re.ASCII)


def parse_conntrack_proc(text: str) -> Conntrack | None:
    """Read a head of names, and a line of hexadecimal numbers for each processor.

    ``entries`` is the same on every line, the others are summed. None where the text is another.
    """
    head, *lines = [line.split() for line in text.split("\n") if line.strip()] or [[]]
    rows = [
        dict(zip(head, (int(w, 16) for w in words), strict=True))
        for words in lines
        if len(words) == len(head) and all(_HEX.fullmatch(w) for w in words)
    ]
    if not rows or "entries" not in head or "insert_failed" not in head:
        return None
    return _sum(rows, rows[0]["entries"])


def parse_conntrack_tool(text: str) -> Conntrack | None:
    """Read a line of ``name=number`` for each processor; None where the text is another."""
    rows = [
        {name: int(number) for name, number in _PAIR.findall(line)}
        for line in text.split("\n")
        if line.startswith("cpu=")
    ]
    known = [r for r in rows if "insert_failed" in r]
    return _sum(known, None) if known else None


def _sum(rows: list[dict[str, int]], entries: int | None) -> Conntrack:
    """Add up what each processor counted."""
    sums = {field: sum(row.get(field, 0) for row in rows) for field in _FIELDS}
    return Conntrack(entries=entries, **sums)
