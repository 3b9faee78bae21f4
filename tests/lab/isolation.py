"""Whether anything of a lab leads out of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.places import NETNS
from tests.lab.shape import INTERNET, INTERNET_GATEWAY
from tests.lab.shell import LabError, run
from tests.lab.topology import DESK, FABRIC, OUTSIDE, PROXY, ROUTER

Link = dict[str, Any]
ROOT: Final = "the machine's own namespace"
# kinds of link that end where they begin, or in a peer that is looked for
_KINDS: Final = frozenset({"veth", "bridge", "vxlan", "loopback"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A network namespace: its links, how to run a command in it, and who its neighbours are."""

    name: str
    inside: tuple[str, ...]
    links: tuple[Link, ...]
    neighbours: dict[int, str]

    def routes(self) -> list[dict[str, Any]]:
        """Its IPv4 routes."""
        return _listed(run(*self.inside, "ip", "-4", "-j", "route", "show", "table", "all").stdout)

    def cables(self) -> list[Link]:
        """Its links that have their other end somewhere else."""
        return [link for link in self.links if _kind(link) == "veth"]


def _kind(link: Link) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", link["link_type"]))


def _listed(text: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(text or "[]")
    return [item for item in parsed if item]


def _named_ids(*inside: str) -> dict[int, str]:
    """Names of the namespaces that a namespace knows by number, as far as they have names there."""
    listed = _listed(run(*inside, "ip", "-j", "netns", "list-id").stdout)
    return {item["nsid"]: item["name"] for item in listed if "name" in item}


def _space(name: str, *inside: str) -> Space:
    links = tuple(_listed(run(*inside, "ip", "-d", "-j", "link").stdout))
    return Space(name=name, inside=inside, links=links, neighbours=_named_ids(*inside))


def machine() -> Space:
    """The namespace that the lab must have nothing to do with."""
    return _space(ROOT)


def _pod_spaces(lab: Lab) -> Iterator[Space]:
    for node in lab.nodes.values():
        for name in _pods_of(node):
            try:
                yield _space(name, *node.entering("ip", "netns", "exec", name))
            except LabError:
                # a pod may end while we look
                if name in _pods_of(node):
                    raise


def _pods_of(node: Node) -> list[str]:
    return node.run("ls", "/run/netns").stdout.split()


def _with_pods(space: Space, lab: Lab) -> Space:
    """A node's namespace that knows the names of its pods', which are named on the node only."""
    for node in lab.nodes.values():
        if space.name == lab.places.netns(node.name):
            known = space.neighbours | _named_ids(*node.entering())
            return replace(space, neighbours=known)
    return space


def spaces(lab: Lab) -> list[Space]:
    """Every namespace of a lab: machines, and pods on them."""
    names = sorted(path.name for path in NETNS.glob(f"{lab.places.prefix}-*"))
    own = [_with_pods(_space(name, "ip", "netns", "exec", name), lab) for name in names]
    return [*own, *_pod_spaces(lab)]


def open_cables(inside: list[Space]) -> list[str]:
    """Links of the lab that do not end in the lab."""
    names = {space.name for space in inside}
    known: set[tuple[str, int | None]] = set()
    found: list[str] = []
    for space in inside:
        found += [
            f"{space.name} has {link['ifname']}, which is {_kind(link)}"
            for link in space.links
            if _kind(link) not in _KINDS
        ]
        for link in space.cables():
            neighbour = space.neighbours.get(link.get("link_netnsid", -1))
            if neighbour in names:
                # a pod does not know its node by name: that this end is known will have to do
                known |= {(space.name, link["ifindex"]), (neighbour, link.get("link_index"))}
    found += [
        f"{space.name}: the other end of {link['ifname']} is not in the lab"
        for space in inside
        for link in space.cables()
        if (space.name, link["ifindex"]) not in known
    ]
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
        lab.places.netns(DESK): lab.shape.provider_gateway,
        lab.places.netns(OUTSIDE): INTERNET_GATEWAY,
        lab.places.netns(ROUTER): None,
        lab.places.netns(FABRIC): None,
    }
    found = []
    for space in spaces(lab):
        for route in space.routes():
            default, gateway = route["dst"] == "default", route.get("gateway")
            allowed = gateways.get(space.name, gateway)
            if default and gateway != allowed:
                found.append(f"{space.name} has a default route to {gateway or route.get('dev')}")
            if gateway and not any(IPv4Address(gateway) in own for own in networks(lab)):
                found.append(f"{space.name} has a route to {gateway}")
    return found


def _network(destination: str) -> IPv4Network | None:
    return None if destination == "default" else IPv4Network(destination, strict=False)


def traces_outside(lab: Lab, outside: Space) -> list[str]:
    """Routes and rules of the machine itself that have to do with a lab."""
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
    return found


def leaks(lab: Lab) -> list[str]:
    """All that is wrong about a lab's isolation."""
    return [*open_cables(spaces(lab)), *stray_routes(lab), *traces_outside(lab, machine())]
