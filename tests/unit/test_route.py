"""Which addresses are this machine's own."""

import pytest

from doctor.probe.route import is_local


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("192.0.2.77", False),
        ("2001:db8::77", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("shop.example", False),
        ("", False),
    ],
)
def test_which_addresses_are_local(address: str, *, own: bool) -> None:
    assert is_local(address) is own
