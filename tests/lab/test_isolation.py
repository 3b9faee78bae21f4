"""Nothing of the lab leads out of it."""

from collections.abc import Iterator

import pytest

from tests.lab import isolation
from tests.lab.lab import Lab
from tests.lab.shell import run
from tests.lab.topology import PROXY, ROUTER

pytestmark = pytest.mark.lab

# a namespace beside the lab stands for the machine's own, which must never be cabled to it
BESIDE = "beside-the-lab"


@pytest.fixture
def leak(lab: Lab) -> Iterator[str]:
    """A cable from the lab's router to a namespace that is not the lab's."""
    run("ip", "netns", "add", BESIDE)
    try:
        inner = ("leak0", "netns", lab.places.netns(ROUTER))
        run("ip", "link", "add", *inner, "type", "veth", "peer", "name", "leak1", "netns", BESIDE)
        yield "leak0"
        lab.at(ROUTER, "ip", "link", "del", "leak0", check=False)
    finally:
        run("ip", "netns", "del", BESIDE)


def test_nothing_leads_out_of_the_lab(lab: Lab) -> None:
    assert isolation.leaks(lab) == []


def test_a_cable_that_leads_out_is_found(lab: Lab, leak: str) -> None:
    router = lab.places.netns(ROUTER)
    assert isolation.leaks(lab) == [f"{router}: the other end of {leak} is not in the lab"]


def test_a_default_route_of_the_router_is_found(lab: Lab) -> None:
    lab.at(ROUTER, "ip", "route", "add", "default", "via", lab.shape.proxy_address)
    try:
        found = isolation.leaks(lab)
    finally:
        lab.at(ROUTER, "ip", "route", "del", "default")
    assert found == [f"{lab.places.netns(ROUTER)} has a default route to {lab.shape.proxy_address}"]


def test_a_link_of_another_kind_is_found(lab: Lab) -> None:
    lab.at(PROXY, "ip", "link", "add", "link", "eth0", "name", "mac0", "type", "macvlan")
    try:
        found = isolation.leaks(lab)
    finally:
        lab.at(PROXY, "ip", "link", "del", "mac0")
    assert found == [f"{lab.places.netns(PROXY)} has mac0, which is macvlan"]


def test_no_packet_finds_a_way_out(lab: Lab) -> None:
    # the router has no route for an address that is in none of the lab's networks
    first = next(iter(lab.nodes))
    said = lab.at(ROUTER, "ip", "route", "get", "198.51.100.1", check=False)
    assert "unreachable" in said.stderr
    assert lab.shape.gateway in lab.at(first, "ip", "route", "get", "198.51.100.1").stdout
