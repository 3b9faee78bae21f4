"""What connection tracking remembers of queries to the DNS Service, as the node's script reduces it."""

import math
import re

from doctor.model.address import is_ipv4
from doctor.model.node_state import TrackedQueries, TrackedQuery

__all__ = ["parse_tracked_queries"]

_MOST = 256
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_AT = re.compile(r"at (\d{1,12}(?:\.\d{1,6})?)", re.ASCII)
_WORDS = 4


def parse_tracked_queries(text: str) -> TrackedQueries | None:
    """Read a line ``at UPTIME``, and one for each entry: ``CLIENT PORT REPLIER SECONDS``.

    None where the first line is another; lines that are not understood are left out.
    """
    head, *lines = text.split("\n")
    said = _AT.fullmatch(head.strip())
    if said is None or not math.isfinite(float(said[1])):
        return None
    found = []
    for line in lines[: 2 * _MOST]:
        words = line.split()
        if len(words) != _WORDS or not (is_ipv4(words[0]) and is_ipv4(words[2])):
            continue
        if _NUMBER.fullmatch(words[1]) and _NUMBER.fullmatch(words[3]):
            found.append(TrackedQuery(words[0], int(words[1]), words[2], int(words[3])))
    return TrackedQueries(float(said[1]), tuple(found[:_MOST]))
