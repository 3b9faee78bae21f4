"""What flannel set up on a node, bent in one place: each gives its own code, and no other's."""

from typing import Any

import msgspec
import pytest

from checks.overlay.reach import pod_to_pod
from doctor.model.evidence import NodeNetworks, Nodes
from doctor.model.finding import Confidence
from doctor.model.kube import NodeSpec
from doctor.model.node import FdbEntry, Link, Neighbour, NodeNetwork, Route
from doctor.model.node_state import Socket
from tests.rules.factories import (
    ADDRESSES,
    CIDRS,
    MASTER,
    NAMES,
    ONE,
    TWO,
    findings,
    flannel,
    node,
    nodes,
    said,
)
from tests.rules.factories import network as bare
from tests.rules.test_overlay import around, between, everything, judge, mesh, nothing

MACS = {n: f"aa:00:00:00:00:0{i}" for i, n in enumerate(NAMES)}
INNER = {n: CIDRS[n].removesuffix("/24") for n in NAMES}
DEVICE = "flannel.1"
PAIR = (ONE, TWO)
WAY = f"underlay:{ONE}>{TWO}:udp/8472"
ROUND = f"underlay:*>{ONE}:udp/8472"


def device(of: str, **changes: object) -> Link:
    """Make a node's VXLAN device."""
    made = Link(DEVICE, vxlan_id=1, vxlan_port=8472, mac=MACS[of])
    return msgspec.structs.replace(made, **changes)


def told(name: str, backend: str = "vxlan", vni: int = 1) -> Nodes:
    """Make the nodes with what flannel publishes of them; one may differ."""
    made = [
        node(
            n,
            public_ip=ADDRESSES[n],
            backend_type=backend if n == name else "vxlan",
            backend_data=f'{{"VNI":{vni if n == name else 1},"VtepMAC":"{MACS[n]}"}}',
        )
        for n in NAMES
    ]
    return nodes(*made)


def read(name: str, **changes: object) -> NodeNetwork:
    """Make what is read inside a node that flannel has set up whole."""
    others = [n for n in NAMES if n != name]
    made = msgspec.structs.replace(
        bare(name, device=device(name)),
        routes=(
            Route("default", "eth0", "172.20.112.1"),
            Route(CIDRS[name], "cni0"),
            *(Route(CIDRS[n], DEVICE, INNER[n], onlink=True) for n in others),
        ),
        neighbours=tuple(Neighbour(INNER[n], DEVICE, MACS[n], "PERMANENT") for n in others),
        fdb=tuple(FdbEntry(MACS[n], DEVICE, ADDRESSES[n], state="permanent") for n in others),
    )
    return msgspec.structs.replace(made, **changes)


def whole(*changed: NodeNetwork) -> NodeNetworks:
    """Make what is read of all nodes, some of them changed."""
    by_name = {n: read(n) for n in NAMES} | {n.node: n for n in changed}
    return NodeNetworks(items=tuple(by_name.values()))


def without(kept: tuple[object, ...], *gone: object) -> tuple[object, ...]:
    """Leave out what names one of these."""
    return tuple(k for k in kept if not any(str(g) in str(k) for g in gone))


ROUTES = read(ONE).routes
LONGER = Route(f"{INNER[TWO]}/25", "eth0", "172.20.112.1")
WRONG_MAC = (Neighbour(INNER[TWO], DEVICE, "02:00:00:00:00:99"),)
ELSEWHERE = (FdbEntry(MACS[TWO], DEVICE, "172.20.112.99"),)
ALL_FRAMES = (FdbEntry("00:00:00:00:00:00", DEVICE, ADDRESSES[TWO]),)

ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "fdb entry gone": ({"fdb": without(read(ONE).fdb or (), MACS[TWO])}, "OVERLAY_FDB_WRONG"),
    "fdb entry leads elsewhere": ({"fdb": ELSEWHERE}, "OVERLAY_FDB_WRONG"),
    "no fdb entries": ({"fdb": ()}, "OVERLAY_FDB_WRONG"),
    "neighbour gone": ({"neighbours": ()}, "OVERLAY_NEIGHBOUR_WRONG"),
    "neighbour with another mac": ({"neighbours": WRONG_MAC}, "OVERLAY_NEIGHBOUR_WRONG"),
    "route gone": ({"routes": without(ROUTES, INNER[TWO])}, "OVERLAY_ROUTE_MISSING"),
    "longer route": ({"routes": (*ROUTES, LONGER)}, "OVERLAY_ROUTE_SHADOWED"),
    "same route by another device": (
        {"routes": (*without(ROUTES, INNER[TWO]), Route(CIDRS[TWO], "docker0"))},
        "OVERLAY_ROUTE_SHADOWED",
    ),
    "route with a lower metric": (
        {
            "routes": (
                *without(ROUTES, INNER[TWO]),
                Route(CIDRS[TWO], DEVICE, INNER[TWO], metric=50),
                Route(CIDRS[TWO], "wg0", metric=10),
            )
        },
        "OVERLAY_ROUTE_SHADOWED",
    ),
    "route that leads nowhere": (
        {"other_routes": (Route(LONGER.destination, kind="unreachable"),)},
        "OVERLAY_ROUTE_SHADOWED",
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_for_one_node(name: str) -> None:
    """It is named with the way that it breaks, and breaks nothing while pods answer."""
    changes, code = ENTRIES[name]
    bent = whole(read(ONE, **changes))
    assert said(judge(mesh(between(PAIR)), bent, told(ONE))) == {(code, WAY)}
    assert judge(mesh(nothing), bent, told(ONE)) == []


WHOLE_ENTRIES: dict[str, dict[str, Any]] = {
    "as flannel made them": {},
    "an entry for all frames": {"fdb": ALL_FRAMES},
    "mac in capitals": {
        "neighbours": (Neighbour(INNER[TWO], DEVICE, MACS[TWO].upper()),),
        "fdb": (FdbEntry(MACS[TWO].upper(), DEVICE, ADDRESSES[TWO]),),
    },
    "a second forwarding entry": {"fdb": (*(read(ONE).fdb or ()), *ELSEWHERE)},
    "tables that were not read": {"neighbours": None, "fdb": None},
    "straight routes in one segment": {
        "routes": (*without(ROUTES, INNER[TWO]), Route(CIDRS[TWO], "eth0", ADDRESSES[TWO])),
        "fdb": (),
        "neighbours": (),
    },
    "a longer route for others": {"routes": (*ROUTES, Route("10.244.2.128/25", "eth0"))},
    "a shorter route elsewhere": {"routes": (*ROUTES, Route("10.244.0.0/16", "wg0"))},
    "a dead route": {"routes": (*ROUTES, msgspec.structs.replace(LONGER, dead=True))},
    "the same with a higher metric": {"routes": (*ROUTES, Route(CIDRS[TWO], "wg0", metric=10))},
    "in another table": {
        "other_routes": (Route(LONGER.destination, kind="unreachable", table="7"),)
    },
}


@pytest.mark.parametrize("name", WHOLE_ENTRIES)
def test_whole_entries_are_not_blamed_for_a_filter(name: str) -> None:
    bent = whole(read(ONE, **WHOLE_ENTRIES[name]))
    assert said(judge(mesh(between(PAIR)), bent, told(ONE))) == {("OVERLAY_UDP_FILTERED", WAY)}


SETUPS = {
    "down": (device(ONE, up=False), told(ONE), "OVERLAY_DEVICE_BROKEN"),
    "port": (device(ONE, vxlan_port=4789), told(ONE), "OVERLAY_PORT_MISMATCH"),
    "number": (device(ONE, name="flannel.2", vxlan_id=2), told(ONE, vni=2), "OVERLAY_VNI_MISMATCH"),
    "mac": (device(ONE, mac="02:00:00:00:00:99"), told(ONE), "OVERLAY_VTEP_MAC_CHANGED"),
    "backend": (device(ONE), told(ONE, backend="host-gw"), "OVERLAY_BACKEND_MISMATCH"),
}


@pytest.mark.parametrize("name", SETUPS)
def test_a_node_that_is_set_up_otherwise(name: str) -> None:
    link, published, code = SETUPS[name]
    bent = whole(read(ONE, links=(link,)))
    assert said(judge(mesh(around(ONE)), bent, published)) == {(code, ROUND)}
    assert judge(mesh(nothing), bent, published) == []


def test_a_device_that_is_down_for_want_of_its_port() -> None:
    """Its own socket is closed while it is down: one that is there is another's."""
    other = Socket("udp", ADDRESSES[ONE], 8472)
    held = read(ONE, links=(device(ONE, up=False),), sockets=(other,))
    assert said(judge(mesh(around(ONE)), whole(held), told(ONE))) == {
        ("OVERLAY_PORT_IN_USE", ROUND)
    }
    second = device(ONE, name="flannel.9", vxlan_id=9)
    both = msgspec.structs.replace(held, links=(device(ONE, up=False), second))
    assert said(judge(mesh(around(ONE)), whole(both), told(ONE))) == {
        ("OVERLAY_DEVICE_BROKEN", ROUND)
    }


def test_a_device_that_a_former_configuration_left_is_not_the_one() -> None:
    """Of two, the one counts whose number flannel published."""
    left = device(ONE, name="flannel.7", vxlan_id=7, vxlan_port=4789, up=False)
    bent = whole(read(ONE, links=(left, device(ONE))))
    assert said(judge(mesh(around(ONE)), bent, told(ONE))) == {("OVERLAY_UDP_FILTERED", ROUND)}


def test_where_all_differ_from_the_configuration_alike_they_agree() -> None:
    links = {n: (device(n, vxlan_port=4789),) for n in NAMES}
    bent = whole(*(read(n, links=links[n]) for n in NAMES))
    assert said(judge(mesh(everything), bent, told(ONE))) == {
        ("OVERLAY_UDP_FILTERED", "underlay:*>*:udp/8472")
    }


def test_without_what_flannel_published_nothing_is_compared() -> None:
    bent = whole(read(ONE, neighbours=(), fdb=()))
    broken = nodes(node(TWO, backend_data="{VNI", public_ip=ADDRESSES[TWO]))
    for items in (nodes(), broken):
        assert said(judge(mesh(between(PAIR)), bent, items)) == {("OVERLAY_UDP_FILTERED", WAY)}


def dual(items: Nodes) -> Nodes:
    """Give nodes a network of IPv6 for pods, which comes first."""
    specs = [(n, f"fd00:244:0:{i}::/64") for i, n in enumerate(items.items)]
    changed = [
        msgspec.structs.replace(
            n,
            spec=msgspec.structs.replace(n.spec, pod_cidr=v6, pod_cidrs=(v6, n.spec.pod_cidr)),
        )
        for n, v6 in specs
    ]
    return Nodes(items=tuple(changed))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_compared_where_ipv6_comes_first(name: str) -> None:
    changes, code = ENTRIES[name]
    bent = whole(read(ONE, **changes))
    assert said(judge(mesh(between(PAIR)), bent, dual(told(ONE)))) == {(code, WAY)}


def test_what_could_not_be_compared_leaves_the_filter_likely() -> None:
    def sure(bent: NodeNetworks, items: Nodes) -> bool:
        (found,) = judge(mesh(between(PAIR)), bent, items)
        assert found.code.name == "OVERLAY_UDP_FILTERED"
        return found.confidence is Confidence.CERTAIN

    assert sure(whole(), dual(told(ONE)))
    none = msgspec.structs.replace(node(TWO), spec=NodeSpec(pod_cidr="fd00::/64"))
    assert not sure(whole(), nodes(none))
    for unread in ({"routes": ()}, {"neighbours": None}, {"fdb": None}):
        assert not sure(whole(read(ONE, **unread)), told(ONE))


def test_what_one_node_lacks_for_all_others_is_one_finding() -> None:
    bent = whole(read(ONE, fdb=()))
    found = judge(mesh(around(ONE)), bent, told(ONE))
    assert said(found) == {("OVERLAY_FDB_WRONG", f"underlay:{ONE}>*:udp/8472")}
    (restart,) = found[0].remediation[:1]
    assert restart.commands == (f"kubectl -n kube-flannel delete pod kube-flannel-ds-{ONE[:12]}",)


def test_nodes_with_one_pod_network_are_not_told_of_routes() -> None:
    """Two nodes with the same pod network are another check's."""
    same = [n for n in told(ONE).items if n.name != TWO]
    two = msgspec.structs.replace(
        told(ONE).items[2], spec=msgspec.structs.replace(same[1].spec, pod_cidr=CIDRS[ONE])
    )
    found = judge(mesh(between(PAIR)), whole(), Nodes(items=(*same, two)))
    assert "OVERLAY_ROUTE_SHADOWED" not in {f.code.name for f in found}


def test_the_commands_name_what_is_wrong() -> None:
    bent = whole(read(ONE, routes=(*ROUTES, LONGER)))
    (found,) = findings(pod_to_pod, told(ONE), mesh(between(PAIR)), bent, flannel(), None)
    enter = f"kubectl -n kube-flannel exec kube-flannel-ds-{ONE[:12]} --"
    (command,) = found.remediation[0].commands
    assert command == f"{enter} ip route delete {INNER[TWO]}/25 via 172.20.112.1 dev eth0"
    assert MASTER not in found.title
