"""A stand-in for the `openstack` command over the rules of the lab's switches.

There is no OpenStack API in the lab. Its security groups and its port security are rules that drop on
the tenant switch; what this understands of the command line takes away the rules that the real thing
would no longer apply, and nothing else. All nodes are in one security group.

Usage: python -m tests.lab.remedy.openstack PREFIX ARGUMENT…
"""

import json
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from tests.lab.lab import Lab
from tests.lab.topology import FABRIC

__all__ = ["Allowed", "Drop", "allowed", "covered", "drops_of", "group_id", "port_id"]

_SPACE: Final = uuid.UUID("6f1f1c3e-7a52-4d6b-9a3c-6a0a52f3a0de")
_USAGE: Final = 2
_PORTS: Final = 2**16


def port_id(tap: str) -> str:
    """The id of the port behind a tap."""
    return str(uuid.uuid5(_SPACE, tap))


def group_id() -> str:
    """The id of the nodes' security group."""
    return str(uuid.uuid5(_SPACE, "nodes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A rule of the switch that drops.

    Attributes:
        table: Its table.
        chain: Its chain.
        handle: Its number in there.
        tap: The port that packets come in by; empty for several.
        protocol: `tcp` or `udp`; empty where it does not look.
        ports: The destination ports that it looks for; empty where it does not look.
        source: The source addresses that it looks for, by IP or by ARP.
    """

    table: str
    chain: str
    handle: int
    tap: str = ""
    protocol: str = ""
    ports: frozenset[int] = frozenset()
    source: IPv4Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a command line lets pass: a protocol and ports, or a source address at a port."""

    protocol: str = ""
    ports: range = range(0)
    port: str = ""
    source: IPv4Network | None = None


def drops_of(ruleset: dict[str, Any]) -> Iterator[Drop]:
    """Read the rules that drop from `nft -j list ruleset`; those that look elsewhere are left out."""
    for item in ruleset.get("nftables", []):
        rule = item.get("rule")
        if rule and rule["family"] == "bridge" and any("drop" in e for e in rule["expr"]):
            read = _read(rule)
            if read is not None:
                yield read


def _read(rule: dict[str, Any]) -> Drop | None:
    """Read one rule; None where it looks at something that a security group does not know."""
    found: dict[str, Any] = {}
    for match in (e["match"] for e in rule["expr"] if "match" in e):
        left, right = match["left"], match["right"]
        payload = left.get("payload", {})
        match payload.get("protocol"), payload.get("field"):
            case ("tcp" | "udp") as protocol, "dport":
                found |= {"protocol": protocol, "ports": frozenset(_numbers(right))}
            case "ip" | "arp", "saddr" | "saddr ip":
                found["source"] = _network(right)
            case None, None if left.get("meta", {}).get("key") == "iifname":
                found["tap"] = "" if "*" in str(right) else str(right)
            case None, None if left.get("meta", {}).get("key") in {
                "protocol",
                "l4proto",
                "oifname",
            }:
                # whoever it is on the way to is in the one group of all
                pass
            case "ether", "type":
                pass
            case _:
                return None
    return Drop(table=rule["table"], chain=rule["chain"], handle=rule["handle"], **found)


def _numbers(right: Any) -> Iterator[int]:
    """List the ports of a match."""
    if isinstance(right, int):
        yield right
    elif isinstance(right, dict) and "range" in right:
        first, last = right["range"]
        yield from range(first, last + 1)
    elif isinstance(right, dict) and "set" in right:
        for item in right["set"]:
            yield from _numbers(item)


def _network(right: Any) -> IPv4Network:
    """Read an address or a prefix of a match."""
    if isinstance(right, dict):
        return IPv4Network((right["prefix"]["addr"], right["prefix"]["len"]))
    return IPv4Network(right)


def allowed(arguments: Sequence[str], ports: Iterable[str]) -> Allowed | None:
    """Understand a command line that lets something pass; None for any other.

    Args:
        arguments: The command line.
        ports: The ids of the ports that there are.
    """
    match list(arguments):
        case ["security", "group", "rule", "create", *options, group] if group == group_id():
            protocol = _option(options, "--protocol") or "any"
            wanted = _option(options, "--dst-port")
            first, _, last = wanted.partition(":")
            span = range(int(first), int(last or first) + 1) if first else range(_PORTS)
            return Allowed(protocol=protocol, ports=span)
        case ["port", "set", *options, port] if port in set(ports):
            fields = _option(options, "--allowed-address").split(",")
            addresses = [f.partition("=")[2] for f in fields if f.startswith("ip-address=")]
            return Allowed(port=port, source=IPv4Network(addresses[0])) if addresses else None
    return None


def _option(options: Sequence[str], name: str) -> str:
    """The value of an option; empty where it is not given."""
    for given, value in zip(options, (*options[1:], ""), strict=True):
        if given == name:
            return value
        if given.startswith(f"{name}="):
            return given.partition("=")[2]
    return ""


def covered(drop: Drop, by: Allowed) -> bool:
    """Whether all that a rule drops is let pass."""
    if by.port:
        mine = drop.tap and port_id(drop.tap) == by.port
        return bool(mine and drop.source and by.source and drop.source.subnet_of(by.source))
    if drop.source or by.protocol not in {"any", drop.protocol}:
        return False
    return bool(drop.ports) and all(p in by.ports for p in drop.ports)


def _let(lab: Lab, by: Allowed) -> None:
    """Take away the rules that no longer apply."""
    ruleset = json.loads(lab.at(FABRIC, "nft", "-j", "list", "ruleset").stdout)
    for drop in drops_of(ruleset):
        if covered(drop, by):
            place = ("bridge", drop.table, drop.chain, "handle", str(drop.handle))
            lab.at(FABRIC, "nft", "delete", "rule", *place)


def _looked_up(lab: Lab, arguments: Sequence[str]) -> str | None:
    """Answer what is only asked; None for what is not understood."""
    ports = {node.address: port_id(node.tap) for node in lab.nodes.values()}
    match list(arguments):
        case ["port", "list", *options]:
            address = re.search(r"ip-address=([0-9.]+)", _option(options, "--fixed-ip"))
            return ports.get(address[1], "") if address else "\n".join(ports.values())
        case ["port", "show", port, *_] if port in ports.values():
            return f"['{group_id()}']"
    return None


def main() -> None:
    """Do what the command line says, or say that it is not understood."""
    prefix, *arguments = sys.argv[1:]
    lab = Lab.attach(prefix)
    by = allowed(arguments, [port_id(node.tap) for node in lab.nodes.values()])
    if by is not None:
        _let(lab, by)
        return
    said = _looked_up(lab, arguments)
    if said is None:
        sys.stderr.write(f"openstack: not understood in the lab: {' '.join(arguments)}\n")
        sys.exit(_USAGE)
    sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main()
