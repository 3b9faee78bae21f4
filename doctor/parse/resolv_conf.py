"""resolv.conf, as the C library reads it."""

from doctor.model.address import is_address
from doctor.model.resolver import ResolvConf

__all__ = ["parse_resolv_conf"]

_MOST_LINES = 200
_MOST_WORDS = 64


def parse_resolv_conf(text: str) -> ResolvConf:
    """Read it: of several ``search`` or ``domain`` lines the last counts; options add up.

    Lines that are not understood are passed over, as the C library does.
    """
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.split("\n")[:_MOST_LINES]:
        key, *words = line.split()[:_MOST_WORDS] or [""]
        if key == "nameserver" and words and is_address(words[0].partition("%")[0]):
            servers.append(words[0])
        elif key in ("search", "domain") and words:
            kept = words if key == "search" else words[:1]
            search = tuple(w.lower().rstrip(".") or "." for w in kept)
        elif key == "options":
            options += words
    return ResolvConf(tuple(servers[:_MOST_WORDS]), search, tuple(options[:_MOST_WORDS]))
