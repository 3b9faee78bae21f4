"""Classes of hops: what a fault at a place is met by."""

import pytest

from doctor.model.hop import Hop, HopKind

U, F = HopKind.UNDERLAY, HopKind.FORWARD
VXLAN = "udp/8472"


@pytest.mark.parametrize(
    ("fault", "crossed", "expected"),
    [
        (Hop(U, "a>b", VXLAN), Hop(U, "a>b", VXLAN), True),
        (Hop(U, "a>b", VXLAN), Hop(U, "b>a", VXLAN), False),
        (Hop(U, "a>b", VXLAN), Hop(U, "c>b", VXLAN), False),
        (Hop(U, "*>*", VXLAN), Hop(U, "a>b", VXLAN), True),
        (Hop(U, "*>b", VXLAN), Hop(U, "a>b", VXLAN), True),
        (Hop(U, "*>b", VXLAN), Hop(U, "b>a", VXLAN), False),
        (Hop(U, "*>*", VXLAN), Hop(U, "a>b", "udp/4789"), False),
        (Hop(U, "*>*"), Hop(U, "a>b", VXLAN), True),
        (Hop(U, "a>b", VXLAN), Hop(U, "a>b"), False),
        (Hop(F, "*", "udp/53"), Hop(F, "a", "udp/53"), True),
        (Hop(F, "*", "udp/53"), Hop(F, "a", "tcp/53"), False),
        (Hop(F, "*"), Hop(U, "a>b"), False),
        (Hop(F, "a,b"), Hop(F, "b"), True),
        (Hop(F, "a,b"), Hop(F, "c"), False),
        (Hop(U, "a,b>*", VXLAN), Hop(U, "b>c", VXLAN), True),
        (Hop(F, "a", "udp+tcp/53"), Hop(F, "a", "tcp/53"), True),
        (Hop(F, "a", "udp+tcp/53"), Hop(F, "a", "tcp/54"), False),
        (Hop(U, "*>*"), Hop(U, "a"), False),
        (Hop(F, "a"), Hop(F, "*"), False),
        (Hop(F, "*"), Hop(F, "*"), True),
    ],
    ids=str,
)
def test_a_class_covers_its_members(fault: Hop, crossed: Hop, expected: bool) -> None:  # noqa: FBT001
    assert fault.covers(crossed) is expected


def test_a_hop_is_written_without_empty_parts() -> None:
    assert str(Hop(U, "*>*", VXLAN)) == "underlay:*>*:udp/8472"
    assert str(Hop(F, "a")) == "forward:a"
