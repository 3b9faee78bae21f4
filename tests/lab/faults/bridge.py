"""cni0, the bridge that joins the pods of a node."""

import json
from typing import Final

from tests.lab.faults.flannel import SUBNET
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, forget, note, noted
from tests.lab.faults.scheduling import uncordon
from tests.lab.faults.stuck import free, last_node, populate
from tests.lab.lab import Lab

DOWN: Final = "cni0-down"
BARE: Final = "cni0-no-ip"
OTHER: Final = "cni0-ip-conflict"
LOOSE: Final = "veth-detached"
BRIDGE: Final = "cni0"
_FORMER: Final = "10.244.99.1/24"


def _links(lab: Lab) -> list[Json]:
    found: list[Json] = json.loads(last_node(lab).run("ip", "-d", "-json", "address").stdout)
    return found


def _bridge(lab: Lab) -> Json:
    return next((i for i in _links(lab) if i["ifname"] == BRIDGE), {})


def _addresses(lab: Lab) -> list[str]:
    known = [a for a in _bridge(lab).get("addr_info", []) if a["family"] == "inet"]
    return [f"{a['local']}/{a['prefixlen']}" for a in known]


def _subnet(lab: Lab) -> str:
    return last_node(lab).run("sh", "-c", f". {SUBNET}; echo $FLANNEL_SUBNET").stdout.strip()


def _ip(lab: Lab, *words: str, check: bool = True) -> None:
    last_node(lab).run("ip", *words, check=check)


def _up(lab: Lab) -> bool:
    return "UP" in _bridge(lab).get("flags", [])


def _inject_down(lab: Lab) -> None:
    populate(lab, DOWN)
    _ip(lab, "link", "set", BRIDGE, "down")


def _heal_down(lab: Lab) -> None:
    uncordon(lab, DOWN)
    _ip(lab, "link", "set", BRIDGE, "up", check=False)


def _inject_bare(lab: Lab) -> None:
    populate(lab, BARE)
    _ip(lab, "-4", "address", "flush", "dev", BRIDGE)


def _give_back(lab: Lab) -> None:
    """Give the bridge flannel's gateway address, and no other."""
    wanted = _subnet(lab)
    for address in _addresses(lab):
        if address != wanted:
            _ip(lab, "address", "del", address, "dev", BRIDGE)
    if wanted not in _addresses(lab) and _bridge(lab):
        _ip(lab, "address", "add", wanted, "brd", "+", "dev", BRIDGE)


def _heal_bare(lab: Lab) -> None:
    uncordon(lab, BARE)
    _give_back(lab)


def _inject_other(lab: Lab) -> None:
    populate(lab, OTHER)
    for address in _addresses(lab):
        if address != _FORMER:
            _ip(lab, "address", "del", address, "dev", BRIDGE)
    if _FORMER not in _addresses(lab):
        _ip(lab, "address", "add", _FORMER, "dev", BRIDGE)


def _heal_other(lab: Lab) -> None:
    _give_back(lab)
    free(lab, OTHER)


def _ports(lab: Lab) -> list[str]:
    return sorted(i["ifname"] for i in _links(lab) if i.get("master") == BRIDGE)


def _inject_loose(lab: Lab) -> None:
    populate(lab, LOOSE)
    chosen = note(lab, LOOSE, "port", _ports(lab)[0])
    _ip(lab, "link", "set", chosen, "nomaster")


def _settled_loose(lab: Lab) -> bool:
    chosen = noted(lab, LOOSE, "port")
    return any(i["ifname"] == chosen and "master" not in i for i in _links(lab))


def _heal_loose(lab: Lab) -> None:
    uncordon(lab, LOOSE)
    if chosen := noted(lab, LOOSE, "port"):
        _ip(lab, "link", "set", chosen, "master", BRIDGE, check=False)
        _ip(lab, "link", "set", chosen, "type", "bridge_slave", "hairpin", "on", check=False)
        forget(lab, LOOSE, "port")


def _fault_codes(own: str) -> frozenset[str]:
    codes = {
        "CNI_BRIDGE_DOWN",
        "CNI_BRIDGE_WITHOUT_ADDRESS",
        "CNI_BRIDGE_ADDRESS_CONFLICT",
        "CNI_VETH_DETACHED",
        "CNI_POD_OUTSIDE_PODCIDR",
    }
    return all_but("CNI_") | (codes - {own})


def _named(lab: Lab) -> tuple[str, ...]:
    return (last_node(lab).fqdn, BRIDGE)


FAULTS: Final = (
    Fault(
        name=DOWN,
        link="flannel",
        story="Somebody took down the bridge of a worker's pods.",
        expected=frozenset({"CNI_BRIDGE_DOWN"}),
        names=_named,
        forbidden=_fault_codes("CNI_BRIDGE_DOWN"),
        lookalikes=(BARE, OTHER, LOOSE, "sg-drops-8472"),
        fits=has_workers,
        inject=_inject_down,
        settled=lambda lab: not _up(lab),
        heal=_heal_down,
        fleeting=True,
    ),
    Fault(
        name=BARE,
        link="flannel",
        story="The bridge of a worker's pods lost its address, so they have no gateway.",
        expected=frozenset({"CNI_BRIDGE_WITHOUT_ADDRESS"}),
        names=_named,
        forbidden=_fault_codes("CNI_BRIDGE_WITHOUT_ADDRESS"),
        lookalikes=(DOWN, OTHER, LOOSE, "sg-drops-8472"),
        fits=has_workers,
        inject=_inject_bare,
        settled=lambda lab: not _addresses(lab),
        heal=_heal_bare,
        fleeting=True,
    ),
    Fault(
        name=OTHER,
        link="flannel",
        story="The bridge of a worker's pods has the address of a subnet that the node once had.",
        expected=frozenset({"CNI_BRIDGE_ADDRESS_CONFLICT"}),
        names=lambda lab: (*_named(lab), _FORMER),
        forbidden=_fault_codes("CNI_BRIDGE_ADDRESS_CONFLICT"),
        lookalikes=(DOWN, BARE, LOOSE, "cni-stale-conflist"),
        fits=has_workers,
        inject=_inject_other,
        settled=lambda lab: _addresses(lab) == [_FORMER],
        heal=_heal_other,
    ),
    Fault(
        name=LOOSE,
        link="flannel",
        story="The link of one pod was taken off the bridge of its node.",
        expected=frozenset({"CNI_VETH_DETACHED"}),
        names=_named,
        forbidden=_fault_codes("CNI_VETH_DETACHED"),
        lookalikes=(DOWN, BARE, OTHER),
        fits=has_workers,
        inject=_inject_loose,
        settled=_settled_loose,
        heal=_heal_loose,
    ),
)
