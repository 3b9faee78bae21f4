"""What resolvers are told: resolv.conf of pods and nodes, and CoreDNS's Corefile."""

import msgspec

__all__ = [
    "DNS_PORT",
    "ROOT",
    "Corefile",
    "Plugin",
    "ResolvConf",
    "ServerBlock",
    "is_within",
]

DNS_PORT = 53
ROOT = "."
_NDOTS = 1
_MOST_DOTS = 15


class ResolvConf(msgspec.Struct, frozen=True):
    """A resolv.conf.

    Args:
        nameservers: The addresses asked, in order; the C library heeds the first three.
        search: Domains that are tried after a name with few dots.
        options: ``ndots:5`` and others, as written.
    """

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def ndots(self) -> int:
        """So many dots a name must have to be asked as it is first."""
        said = [o.partition(":")[2] for o in self.options if o.startswith("ndots:")]
        words = [w for w in said if w.isascii() and w.isdecimal() and len(w) <= len("99")]
        return min(int(words[-1]), _MOST_DOTS) if words else _NDOTS


class Plugin(msgspec.Struct, frozen=True):
    """One directive of a server block.

    Args:
        name: ``forward``.
        args: What follows on its line.
        lines: What stands between its braces, a tuple of words for each line.
    """

    name: str
    args: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()

    def values(self, name: str) -> tuple[str, ...] | None:
        """Return the words after an option; None where it is not given."""
        return next((line[1:] for line in self.lines if line and line[0] == name), None)


class ServerBlock(msgspec.Struct, frozen=True):
    """One server block.

    Args:
        zones: What it answers for, in lower case without a dot at the end; ``.`` for all.
        port: The port it listens on.
        plugins: Its directives.
    """

    zones: tuple[str, ...]
    port: int = 53
    plugins: tuple[Plugin, ...] = ()

    def plugin(self, name: str) -> Plugin | None:
        """Return the first directive of that name."""
        return next((p for p in self.plugins if p.name == name), None)


class Corefile(msgspec.Struct, frozen=True):
    """A Corefile.

    Args:
        blocks: Its server blocks.
        whole: Whether all of it was understood: braces match, nothing is imported, and nothing
            stands in the environment.
    """

    blocks: tuple[ServerBlock, ...] = ()
    whole: bool = True

    @property
    def cluster_zones(self) -> tuple[str, ...]:
        """The zones of its ``kubernetes`` directives that are for names, not for addresses."""
        return tuple(
            dict.fromkeys(
                zone
                for block in self.blocks
                for plugin in block.plugins
                if plugin.name == "kubernetes"
                for zone in [_zone(a) for a in plugin.args] or list(block.zones)
                if not zone.endswith("arpa") and zone != ROOT and "{" not in zone
            )
        )

    @property
    def forwarded(self) -> tuple[str, ...]:
        """Whom its ``forward`` directives send queries to, as written."""
        return tuple(
            dict.fromkeys(
                target
                for block in self.blocks
                for plugin in block.plugins
                if plugin.name == "forward"
                for target in plugin.args[1:]
            )
        )

    def block_for(self, name: str) -> ServerBlock | None:
        """Return the block of port 53 that answers for a name: that of the longest zone."""
        fitting = [
            (len(zone), -n, block)
            for n, block in enumerate(self.blocks)
            if block.port == DNS_PORT
            for zone in block.zones
            if is_within(name, zone)
        ]
        return max(fitting, key=lambda f: f[:2])[2] if fitting else None


def _zone(word: str) -> str:
    """Write a zone as blocks have it."""
    return word.lower().rstrip(".") or ROOT


def is_within(name: str, zone: str) -> bool:
    """Say whether a name is a zone's, or below it."""
    name, zone = _zone(name), _zone(zone)
    return zone in (ROOT, name) or name.endswith(f".{zone}")
