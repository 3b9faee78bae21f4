"""Whether anything of a lab leads out of it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from tests.lab.lab import Lab
from tests.lab.places import NETNS
from tests.lab.shape import INTERNET, INTERNET_GATEWAY
from tests.lab.shell import run
from tests.lab.topology import FABRIC, OUTSIDE, PROXY, ROUTER

Link = dict[str, Any]
ROOT: Final = "the machine's own namespace"
# kinds of link that end where they begin, or in a peer that is looked for
_KINDS: Final = frozenset({"veth", "bridge", "vxlan", "dummy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A network namespace: its name, how to run a command in it, and its links."""

    name: str
    inside: tuple[str, ...]
    links: tuple[Link, ...]

    def routes(self) -> list[dict[str, Any]]:
        """Its IPv4 routes."""
        return _listed(run(*self.inside, "ip", "-4", "-j", "route", "show", "table", "all").stdout)


def _listed(text: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(text or "[]")
    return [item for item in parsed if item]


def _space(name: str, *inside: str) -> Space:
    links = tuple(_listed(run(*inside, "ip", "-d", "-j", "link").stdout))
    return Space(name=name, inside=inside, links=links)


def machine() -> Space:
    """The namespace that the lab must have nothing to do with."""
    return _space(ROOT)


def _pod_spaces(lab: Lab) -> Iterator[Space]:
    for node in lab.nodes.values():
        for name in node.run("ls", "/run/netns").stdout.split():
            yield _space(f"pod {name}", *node.entering("ip", "netns", "exec", name))


def spaces(lab: Lab) -> list[Space]:
    """Every namespace of a lab: machines, and pods on them."""
    names = sorted(path.name for path in NETNS.glob(f"{lab.places.prefix}-*"))
    own = [_space(name, "ip", "netns", "exec", name) for name in names]
    return [*own, *_pod_spaces(lab)]


def _ends(space: Space) -> set[tuple[int, int]]:
    """Both indexes of each veth: its own and its peer's."""
    return {
        (link["ifindex"], link["link_index"])
        for link in space.links
        if "link_index" in link and link.get("linkinfo", {}).get("info_kind") == "veth"
    }


def open_cables(inside: Iterable[Space], outside: Space) -> list[str]:
    """Links of the lab that do not end in the lab."""
    listed = list(inside)
    found = []
    for space in listed:
        for link in space.links:
            kind = link.get("linkinfo", {}).get("info_kind", link["link_type"])
            if kind not in _KINDS | {"loopback"}:
                found.append(f"{space.name} has {link['ifname']}, which is {kind}")
        for own, peer in _ends(space):
            others = [other for other in listed if other is not space]
            here = any((peer, own) in _ends(other) for other in (space, *others))
            if not here or (peer, own) in _ends(outside):
                name = next(link["ifname"] for link in space.links if link["ifindex"] == own)
                found.append(f"{space.name}: the other end of {name} is not in the lab")
    return found


def networks(lab: Lab) -> list[IPv4Network]:
    """All networks of a lab."""
    shape = lab.shape
    own = (shape.node_network, shape.provider_network, shape.pod_network, shape.service_network)
    return [IPv4Network(network) for network in (*own, INTERNET)]


def stray_routes(lab: Lab) -> list[str]:
    """Routes of the lab's machines that lead to a gateway which is not the lab's."""
    gateways = {
        **dict.fromkeys((lab.places.netns(name) for name in lab.nodes), lab.shape.gateway),
        lab.places.netns(PROXY): lab.shape.provider_gateway,
        lab.places.netns(OUTSIDE): INTERNET_GATEWAY,
        lab.places.netns(ROUTER): None,
        lab.places.netns(FABRIC): None,
    }
    found = []
    for space in spaces(lab):
        for route in space.routes():
            default, gateway = route["dst"] == "default", route.get("gateway")
            allowed = gateways[space.name] if space.name in gateways else gateway
            if default and gateway != allowed:
                found.append(f"{space.name} has a default route to {gateway or route.get('dev')}")
            if gateway and not any(IPv4Address(gateway) in own for own in networks(lab)):
                found.append(f"{space.name} has a route to {gateway}")
    return found


def _network(destination: str) -> IPv4Network | None:
    return None if destination == "default" else IPv4Network(destination, strict=False)


def traces_outside(lab: Lab, outside: Space) -> list[str]:
    """Routes, rules and links of the machine itself that have to do with a lab."""
    found = []
    for route in outside.routes():
        network = _network(route["dst"])
        if network and any(network.overlaps(own) for own in networks(lab)):
            found.append(f"{outside.name} has a route to {network}")
    rules = run(*outside.inside, "nft", "list", "ruleset").stdout
    found += [
        f"{outside.name} has a packet filter with {own}"
        for own in networks(lab)
        if str(own) in rules or f" {own.network_address}" in rules
    ]
    ends = {(peer, own) for space in spaces(lab) for own, peer in _ends(space)}
    found += [f"{outside.name} has the other end of link {own}" for own, _ in _ends(outside) & ends]
    return found


def leaks(lab: Lab) -> list[str]:
    """All that is wrong about a lab's isolation."""
    outside = machine()
    cables = open_cables(spaces(lab), outside)
    return [*cables, *stray_routes(lab), *traces_outside(lab, outside)]
