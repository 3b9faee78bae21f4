"""A node's addresses and networks, whichever family of IP comes first."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.kube import PUBLIC_IP, Address, Meta, Node, NodeSpec, NodeStatus


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"podCIDR": "10.244.1.0/24"}, "10.244.1.0/24"),
        ({"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]}, "10.244.1.0/24"),
        ({"podCIDR": "fd00::/64", "podCIDRs": ["fd00::/64", "10.244.1.0/24"]}, "10.244.1.0/24"),
        ({"podCIDR": "fd00::/64", "podCIDRs": None}, ""),
        ({"podCIDR": "10.244.0.0/33"}, ""),
        ({}, ""),
    ],
)
def test_the_pod_network_of_ipv4(spec: dict[str, object], expected: str) -> None:
    assert msgspec.convert({"spec": spec}, Node).pod_cidr == expected


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("InternalIP 192.0.2.7",), "192.0.2.7"),
        (("InternalIP fd00::7", "InternalIP 192.0.2.7"), "192.0.2.7"),
        (("Hostname x", "ExternalIP 198.51.100.7", "InternalIP 192.0.2.7"), "192.0.2.7"),
        (("InternalIP fd00::7",), "fd00::7"),
        ((), ""),
    ],
)
def test_the_address_of_ipv4_is_preferred(addresses: tuple[str, ...], expected: str) -> None:
    listed = tuple(Address(*a.split()) for a in addresses)
    assert Node(status=NodeStatus(addresses=listed)).address == expected


@given(st.text(), st.text())
def test_nonsense_raises_nothing(cidr: str, address: str) -> None:
    status = NodeStatus(addresses=(Address("InternalIP", address),))
    made = Node(spec=NodeSpec(pod_cidr=cidr, pod_cidrs=(address,)), status=status)
    assert made.pod_cidr in (cidr, address, "")
    assert made.address == address
    assert made.addresses in ((), (address,))


def test_all_addresses_are_known() -> None:
    listed = [("Hostname", "x"), ("InternalIP", "fd00::7"), ("ExternalIP", "198.51.100.7")]
    made = Node(
        metadata=Meta(annotations={PUBLIC_IP: "192.0.2.7"}),
        status=NodeStatus(addresses=tuple(Address(*a) for a in listed)),
    )
    assert made.addresses == ("fd00::7", "198.51.100.7", "192.0.2.7")
