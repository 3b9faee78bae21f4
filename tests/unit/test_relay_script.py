"""The script's text: its order, its size, and that nothing in it is taken for shell."""

import subprocess
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.model.flow import Flow, FlowKind
from doctor.probe.relay_script import Refusal, _escaped, job_of, order, script
from tests.unit.relay_bench import BUSYBOX, NAME, flow

SHELLS = [("/bin/dash",), ("/bin/bash",), *([(BUSYBOX, "ash")] if BUSYBOX else [])]


def test_each_flow_s_first_sample_comes_before_any_second() -> None:
    asked = (
        flow(FlowKind.TCP, 1, samples=3),
        flow(FlowKind.TCP, 2, address="no address", samples=3),
        flow(FlowKind.PING, 0, samples=5),
        flow(FlowKind.DNS_UDP, 4, samples=2),
        flow(FlowKind.TCP, 5, samples=0),
    )
    assert order(asked) == ((0, 2, 3, 4, 0, 3, 0), (4, 6))
    text = script(asked)
    assert "0|4|6) connect 127.0.0.1 1;;\n" in text
    assert "1) pings 127.0.0.1 5 '';;\n" in text
    assert " J=7 W=7 R='4 6'\n" in text
    assert order(()) == ((), ())


def test_a_payload_is_written_once() -> None:
    asked = [flow(FlowKind.DNS_TCP, 53, address=f"192.0.2.{n}") for n in range(40)]
    assert script(asked).count("kubernetes") == 1
    assert script(asked[:1]).count("kubernetes") == 1


def test_only_what_is_needed_is_looked_for() -> None:
    text = script([flow(FlowKind.PING, 0)])
    assert not any(name in text for name in ("nslookup -", "arping -", "nc -h", "talk()"))
    assert "ping -h" in text


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (flow(FlowKind.TCP, address="$(reboot)"), "'$(reboot)' is no IPv4 address"),
        (flow(FlowKind.TCP, address="::1"), "'::1' is no IPv4 address"),
        (flow(FlowKind.TCP, address="-h"), "'-h' is no IPv4 address"),
        (flow(FlowKind.TCP, 0), "0 is no port"),
        (flow(FlowKind.HTTP, 65536), "65536 is no port"),
        (flow(FlowKind.DNS_UDP, name="a..b"), "no DNS name: 'a..b'"),
        (flow(FlowKind.DNS_UDP, name="-debug"), "no DNS name: '-debug'"),
        (flow(FlowKind.DNS_TCP, name="a" * 64), f"no DNS name: '{'a' * 64}'"),
        (flow(FlowKind.HTTP, name="x\r\nX-Y: z"), "the host or the path holds characters"),
        (flow(FlowKind.HTTP, path="/\x00"), "the host or the path holds characters"),
        (flow(FlowKind.TLS, name="a" * 64), ""),
        (flow(FlowKind.PING, 0, size=27), "no ping has 27 bytes"),
        (flow(FlowKind.PING, 0, size=65536), "no ping has 65536 bytes"),
        (flow(FlowKind.RESOLVE), "a relay does not ask resolve"),
        (flow(FlowKind.TRACE), "a relay does not ask trace"),
    ],
)
def test_what_cannot_be_asked(asked: Flow, reason: str) -> None:
    job = job_of(asked)
    assert isinstance(job, Refusal)
    assert job.reason.startswith(reason)
    assert job.reason


BYTES = st.binary(max_size=40) | st.sampled_from(
    [
        b"%s%%\\n\\045'\"$(id)`id`\n;",
        b"\x00\n\r\t",
        b"\x012\n7\xff8",
        b"-n",
        b"\\",
        b"1234",
        bytes(range(256)),
    ]
)


@settings(max_examples=25)
@given(st.lists(BYTES, min_size=1, max_size=20))
def test_what_is_sent_reaches_the_file_as_it_is(bodies: list[bytes]) -> None:
    text = "".join(f"printf '{_escaped(b)}' | od -An -v -tx1; echo .\n" for b in bodies)
    for shell in SHELLS:
        done = subprocess.run([*shell, "-c", text], capture_output=True, text=True, check=True)
        assert [bytes.fromhex("".join(p.split())) for p in done.stdout.split(".")[:-1]] == bodies


@settings(max_examples=60)
@given(
    name=st.sampled_from(["';id;'", "$(id)", "a b", "*", "a;id.x"]) | st.text(max_size=20),
    path=st.text(max_size=20),
    kind=st.sampled_from([FlowKind.ARP, FlowKind.DNS_UDP, FlowKind.HTTP, FlowKind.TLS]),
    address=st.sampled_from(["127.0.0.1", "127.0.0.2", "';id;'"]),
)
def test_no_text_is_taken_for_shell(name: str, path: str, kind: FlowKind, address: str) -> None:
    asked = flow(kind, 80, name.replace("\x00", ""), path, address=address)
    job = job_of(asked)
    if isinstance(job, Refusal):
        return
    # The words as the shell sees them, instead of what they would do.
    text = script([asked])
    table = text[text.index("run() {") : text.index("read -r u _ </proc/uptime\nB=")]
    show = "talk() { printf '%s\\0' talk \"$@\"; }\n"
    for function in ("connect", "udpdns", "pings", "arp"):
        show += show.splitlines()[0].replace("talk", function) + "\n"
    done = subprocess.run(
        ["/bin/dash", "-c", f"d=D\n{show}{table}run 0"], capture_output=True, check=True
    )
    words = done.stdout.decode().split("\0")[:-1]
    assert words == ["D/p0" if w is None else w for w in job.words]


def _typical() -> tuple[Flow, ...]:
    """What a node of a large cluster is asked, sixty flows of all kinds."""
    dns = [
        flow(k, 53, NAME, address=f"10.244.1.{n}")
        for n in range(10)
        for k in (FlowKind.DNS_UDP, FlowKind.DNS_TCP)
    ]
    tcp = [flow(FlowKind.TCP, 10250, address=f"192.168.100.{n}") for n in range(20)]
    http = [flow(FlowKind.HTTP, 80, f"shop-{n}.example", address="10.96.0.9") for n in range(10)]
    tls = [flow(FlowKind.TLS, 443, f"hook-{n}.shop.svc", address="10.96.0.7") for n in range(4)]
    ping = [flow(FlowKind.PING, 0, address=f"10.244.2.{n}", size=1450) for n in range(4)]
    arp = [flow(FlowKind.ARP, 0, "eth0", address=f"10.9.0.{n}") for n in range(2)]
    return (*dns, *tcp, *http, *tls, *ping, *arp)


def test_the_script_is_short_enough_for_a_url() -> None:
    asked = _typical()
    assert len(asked) == 60
    # An exec's script travels in the query of a URL, past proxies that allow it 32 KiB.
    assert len(urlencode({"command": script(asked)})) < 24_000
