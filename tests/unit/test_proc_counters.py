"""Counters of /proc/net, as this kernel prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.parse.proc_counters import DeviceCounters, parse_devices, parse_protocols

DEVICES = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5234871   41044    0    0    0     0          0         0  5234871   41044    0    0    0     0       0          0
flannel.1:  291846    2161    1    2    0     0          0         0   182954    2012    3    8    4     0       5          0
  eth0: 9912345   81044    0    0    0     0          0         0  1234871   71044    0    0    0     0       0          0
"""
PROTOCOLS = """\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 120044
Icmp: InMsgs InErrors
Icmp: 12 0
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 4021 7 3 4100 0 0 2 0 0
TcpExt: SyncookiesSent IPReversePathFilter TCPMD5NotFound
TcpExt: 0 20 0
"""


def test_devices() -> None:
    found = parse_devices(DEVICES)
    assert set(found) == {"lo", "flannel.1", "eth0"}
    assert found["flannel.1"] == DeviceCounters(received=2161, not_taken=3, sent=2012, not_sent=16)


def test_protocols() -> None:
    found = parse_protocols(PROTOCOLS)
    assert found["Udp.InDatagrams"] == 4021
    assert found["Udp.NoPorts"] == 7
    assert found["Udp.InCsumErrors"] == 2
    assert found["TcpExt.IPReversePathFilter"] == 20
    assert found["Ip.Forwarding"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Udp: InDatagrams",
        "Udp: InDatagrams\nUdp: many",
        "Udp: InDatagrams\nUdp: 1 2",
        "Udp: InDatagrams\nTcp: 1",
        "Udp: InDatagrams\nUdp: \u0661",
    ],
)
def test_what_is_not_understood_is_passed_over(text: str) -> None:
    assert parse_protocols(text) == {}
    assert parse_devices(text) == {}


@given(st.text(alphabet=st.sampled_from("Udp: 01-\nflan.e\x00é"), max_size=200))
def test_any_text_is_read_without_complaint(text: str) -> None:
    parse_devices(text)
    parse_protocols(text)
