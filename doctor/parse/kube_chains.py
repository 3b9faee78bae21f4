"""From the chains of kube-proxy to the endpoints that they lead to."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from doctor.model.netfilter import ServiceEntry

__all__ = ["Graph", "merged"]

_MOST = 10_000


class Graph:
    """Which chain leads to which, and which address a chain writes into packets."""

    def __init__(
        self, jumps: Mapping[str, Sequence[str]], addresses: Mapping[str, Sequence[str]]
    ) -> None:
        """Take the chains.

        Args:
            jumps: Per chain, the chains that it leads to, in order.
            addresses: Per chain, the addresses with port that it translates to.
        """
        self._jumps = jumps
        self._addresses = addresses
        self._seen: dict[str, tuple[str, ...]] = {}

    def endpoints(self, chain: str) -> tuple[str, ...]:
        """Return what a chain leads to in the end, each address once; loops end by themselves."""
        if chain not in self._seen:
            found: dict[str, None] = {}
            waiting, done = [chain], set[str]()
            while waiting and len(done) < _MOST:
                name = waiting.pop()
                if name not in done:
                    done.add(name)
                    found.update(dict.fromkeys(self._addresses.get(name, ())))
                    waiting.extend(reversed(self._jumps.get(name, ())))
            self._seen[chain] = tuple(found)
        return self._seen[chain]


def merged(entries: Iterable[ServiceEntry]) -> tuple[ServiceEntry, ...]:
    """Join what leads somewhere and what refuses, where both are said of one address and port."""
    found: dict[tuple[str, str, int], ServiceEntry] = {}
    for entry in entries:
        key = (entry.address, entry.protocol, entry.port)
        first = found.setdefault(key, entry)
        if first is not entry:
            found[key] = msgspec.structs.replace(
                first,
                name=first.name or entry.name,
                chain=first.chain or entry.chain,
                endpoints=first.endpoints or entry.endpoints,
                refusal=first.refusal or entry.refusal,
            )
    return tuple(found.values())
