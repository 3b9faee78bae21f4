"""The relay's script, run by a real shell against servers on loopback; and its reader."""

import shutil
import socket
import subprocess
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.probe import relay
from doctor.probe.relay import Frame, read_frames, read_observations, script
from tests.unit.loopback import Talk, closed_port, hanging_up, saying, serving

BUSYBOX = shutil.which("busybox")
needs_busybox = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed here")
TOOLS = ("nc", "nslookup", "timeout", "base64", "head", "tr", "mktemp", "mkfifo", "cut", "cat")
MORE = ("rm", "true", "arping")
SHELL = "/bin/dash" if Path("/bin/dash").exists() else "/bin/sh"
NAME = "kubernetes.default.svc.cluster.local."


def flow(kind: FlowKind, port: int = 80, name: str = NAME, path: str = "/") -> Flow:
    """Ask loopback."""
    vantage = Vantage(VantageKind.POD, "n0")
    return Flow(f"{kind}:{port}{path}", Purpose.MESH, vantage, kind, "127.0.0.1", port, name, path)


def bench(folder: Path, *without: str) -> dict[str, str]:
    """Make an environment in which busybox's applets are all there is.

    Where one is left out, ``timeout`` is a script: busybox's own would still find the applet.
    """
    assert BUSYBOX is not None
    tools = folder / "tools"
    tools.mkdir()
    for name in {*TOOLS, *MORE} - set(without):
        (tools / name).symlink_to(BUSYBOX)
    if without and "timeout" not in without:
        (tools / "timeout").unlink()
        (tools / "timeout").write_text(f'#!{SHELL}\nshift; exec "$@"\n')
        (tools / "timeout").chmod(0o700)
    (folder / "tmp").mkdir()
    return {"PATH": str(tools), "TMPDIR": str(folder / "tmp")}


def run(environment: dict[str, str], *flows: Flow) -> list[Observation]:
    """Run the script as it is run in a pod, and read it."""
    done = subprocess.run(
        [SHELL, "-c", script(flows)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    frames = read_frames(done.stdout)
    assert frames is not None, done.stderr
    assert sorted(frames) == list(range(len(flows)))
    assert list(Path(environment["TMPDIR"]).iterdir()) == []
    return read_observations(flows, frames)


def dns_talk(rcode: dns.rcode.Rcode, *addresses: str) -> Talk:
    """Answer a query over TCP, in two pieces."""

    def talk(connection: socket.socket) -> None:
        query = dns.message.from_wire(connection.recv(65536)[2:])
        answer = dns.message.make_response(query)
        answer.set_rcode(rcode)
        if addresses:
            answer.answer.append(dns.rrset.from_text(NAME, 5, "IN", "A", *addresses))
        wire = answer.to_wire()
        connection.sendall(len(wire).to_bytes(2, "big") + wire[:5])
        connection.sendall(wire[5:])

    return talk


NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nServer: test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
)
MOVED = b"HTTP/1.1 302 Found\r\nLocation: https://shop.example/\r\n\r\n"


@needs_busybox
def test_each_kind_of_question_over_loopback(tmp_path: Path) -> None:
    requests: list[bytes] = []

    def recording(connection: socket.socket) -> None:
        requests.append(connection.recv(65536))
        connection.sendall(NOT_FOUND)

    with (
        serving(hanging_up) as open_port,
        serving(recording) as web,
        serving(saying(MOVED)) as moved,
        serving(saying(b"SSH-2.0-x\r\n")) as other,
        serving(hanging_up) as closing,
        serving(dns_talk(dns.rcode.NOERROR, "10.96.0.2", "10.96.0.1")) as good,
        serving(dns_talk(dns.rcode.NXDOMAIN)) as absent,
        serving(dns_talk(dns.rcode.SERVFAIL)) as failing,
        serving(saying(b"\x00\x05hello")) as garbage,
    ):
        asked = (
            flow(FlowKind.TCP, open_port),
            flow(FlowKind.TCP, closed_port()),
            flow(FlowKind.HTTP, web, "shop.example", "/a?b='$(exit 9)'"),
            flow(FlowKind.HTTP, moved, "shop.example"),
            flow(FlowKind.HTTP, other, "shop.example"),
            flow(FlowKind.HTTP, closing, "shop.example"),
            flow(FlowKind.HTTP, closed_port(), "shop.example"),
            flow(FlowKind.DNS_TCP, good),
            flow(FlowKind.DNS_TCP, absent),
            flow(FlowKind.DNS_TCP, failing),
            flow(FlowKind.DNS_TCP, garbage),
            flow(FlowKind.DNS_TCP, closed_port()),
        )
        seen = run(bench(tmp_path), *asked)
    assert [o.flow for o in seen] == list(asked)
    assert [(o.failure, o.status, o.answers) for o in seen] == [
        (None, 0, ()),
        (Failure.CONNECTION_REFUSED, 0, ()),
        (None, 404, ()),
        (None, 302, ()),
        (Failure.HTTP_MALFORMED, 0, ()),
        (Failure.CONNECTION_RESET, 0, ()),
        (Failure.CONNECTION_REFUSED, 0, ()),
        (None, 0, ("10.96.0.1", "10.96.0.2")),
        (Failure.DNS_NXDOMAIN, 0, ()),
        (Failure.DNS_SERVFAIL, 0, ()),
        (Failure.DNS_NO_ANSWER, 0, ()),
        (Failure.CONNECTION_REFUSED, 0, ()),
    ]
    assert (seen[2].server, seen[3].location) == ("test", "https://shop.example/")
    head = requests[0].split(b"\r\n")
    assert head[0] == b"GET /a?b='$(exit 9)' HTTP/1.1"
    assert {b"Host: shop.example", b"Connection: close"} < set(head)


@needs_busybox
def test_silence_is_cut_and_is_a_timeout(tmp_path: Path) -> None:
    text = script([flow(FlowKind.HTTP)])
    assert f"timeout {relay.HTTP_SECONDS} nc" in text
    with serving(None) as port, pytest.MonkeyPatch.context() as patch:
        # The waits are written into the script's head: shortened here, where nothing is far away.
        short = relay._PRELUDE.replace(f"timeout {relay.HTTP_SECONDS} nc", "timeout 1 nc")
        short = short.replace(f"timeout {relay.DNS_SECONDS + 2} nc", "timeout 1 nc")
        assert short.count("timeout 1 nc") == 3
        patch.setattr(relay, "_PRELUDE", short)
        patch.setattr(relay, "CONNECT_SECONDS", 1.5)
        seen = run(
            bench(tmp_path),
            flow(FlowKind.HTTP, port, "shop.example"),
            flow(FlowKind.DNS_TCP, port),
        )
    assert [o.failure for o in seen] == [Failure.TIMEOUT] * 2
    assert all(0.5 < o.seconds < 4 for o in seen)


@needs_busybox
@pytest.mark.parametrize("tool", ["nc", "timeout", "base64"])
def test_a_missing_tool_is_no_outcome_of_the_network(tmp_path: Path, tool: str) -> None:
    with serving(saying(NOT_FOUND)) as port:
        asked = [
            flow(FlowKind.TCP, port),
            flow(FlowKind.TCP, closed_port()),
            flow(FlowKind.HTTP, port, "shop.example"),
            flow(FlowKind.DNS_TCP, port),
        ]
        seen = run(bench(tmp_path, tool), *asked[2 if tool == "base64" else 0 :])
    assert seen == []


@needs_busybox
def test_a_missing_nslookup_and_arping_too(tmp_path: Path) -> None:
    environment = bench(tmp_path, "nslookup", "arping")
    assert run(environment, flow(FlowKind.DNS_UDP, 53), flow(FlowKind.ARP, 0, "lo")) == []


@needs_busybox
def test_nothing_to_ask(tmp_path: Path) -> None:
    done = subprocess.run(
        [SHELL, "-c", script(())],
        env=bench(tmp_path),
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert read_frames(done.stdout) == {}


WHOLE = "@@ 0 1 10.00 12.50\nout @\nmore\n@- 0\nrefused\n@@ 1 0 1.0 0.5\n\n@- 1\n\n@@ end\n"


def test_frames() -> None:
    assert read_frames(WHOLE) == {
        0: Frame(1, 2.5, "out @\nmore", "refused"),
        1: Frame(0, 0.0, "", ""),
    }


@pytest.mark.parametrize("cut", range(len(WHOLE) - 1))
def test_a_text_that_was_cut_off_gives_nothing(cut: int) -> None:
    assert read_frames(WHOLE[:cut]) is None


@pytest.mark.parametrize(
    "head", ["0 x 1 2", "0 1 a b", "٣ 1 1 2", "0 1 nan 1", "9" * 5000 + " 1 1 1", "0 1 1", ""]
)
def test_a_frame_whose_head_is_odd_is_left_out(head: str) -> None:
    assert read_frames(f"@@ {head}\nout\n@- 0\n@@ end\n") == {}


PIECES = st.sampled_from(
    [
        "@@ 0 1 1.0 2.0\n",
        "@@ 1 x 1 1\n",
        "@@ 2 1 1 y\n",
        "@@ ",
        "@- ",
        "@@ end",
        "0",
        "1",
        " ",
        "\n",
        "1.5",
        "-",
        "nan",
        "٣",
        "x",
    ]
)


@given(st.lists(PIECES | st.text(max_size=3)).map("".join))
def test_any_text_is_read(text: str) -> None:
    frames = read_frames(text)
    asked = tuple(flow(k, 80) for k in FlowKind)
    read_observations(asked, frames or {})


@given(st.sampled_from(FlowKind), st.integers(0, 255), st.text(), st.text())
def test_whatever_a_job_prints_is_read(kind: FlowKind, status: int, out: str, err: str) -> None:
    for found in read_observations((flow(kind),), {0: Frame(status, 0.1, out, err)}):
        assert found.flow.kind is kind


SERVER = "Server:\t10.96.0.10\nAddress:\t10.96.0.10:53\n\n"
REPLY = "Unicast reply from 192.0.2.1 [{}] 0.5ms\n"
NC = "nc: can't connect to remote host (192.0.2.1): "


@pytest.mark.parametrize(
    ("kind", "frame", "failure", "answers"),
    [
        (FlowKind.TCP, Frame(1, 3.1, "", f"{NC}No route to host"), Failure.NO_ROUTE, ()),
        (FlowKind.TCP, Frame(1, 3.1, "", f"{NC}Host is unreachable"), Failure.NO_ROUTE, ()),
        (
            FlowKind.TCP,
            Frame(1, 0, "", f"{NC}Network is unreachable"),
            Failure.NETWORK_UNREACHABLE,
            (),
        ),
        (
            FlowKind.TCP,
            Frame(1, 0, "", f"{NC}Operation not permitted"),
            Failure.PERMISSION_DENIED,
            (),
        ),
        (FlowKind.TCP, Frame(1, 4, "", "nc: timed out"), Failure.TIMEOUT, ()),
        (FlowKind.TCP, Frame(143, 5, "", "Terminated"), Failure.TIMEOUT, ()),
        (
            FlowKind.DNS_UDP,
            Frame(0, 0, f"{SERVER}Name:\tk\nAddress: 10.96.0.2\nAddress: 10.96.0.1\n", ""),
            None,
            ("10.96.0.1", "10.96.0.2"),
        ),
        (
            FlowKind.DNS_UDP,
            Frame(1, 0, f"{SERVER}** server can't find k: NXDOMAIN", ""),
            Failure.DNS_NXDOMAIN,
            (),
        ),
        (FlowKind.DNS_UDP, Frame(1, 0, f"{SERVER}** k: REFUSED", ""), Failure.DNS_REFUSED, ()),
        (
            FlowKind.DNS_UDP,
            Frame(1, 0, "", ";; connection timed out; no servers could be reached"),
            Failure.TIMEOUT,
            (),
        ),
        (
            FlowKind.DNS_UDP,
            Frame(1, 0, "", "nslookup: read: Connection refused"),
            Failure.CONNECTION_REFUSED,
            (),
        ),
        (FlowKind.DNS_UDP, Frame(143, 3, "", ""), Failure.TIMEOUT, ()),
        (
            FlowKind.ARP,
            Frame(0, 0, "Sent\n" + REPLY.format("AA:BB:CC:0:1:2") + REPLY.format("aa:0"), ""),
            None,
            ("aa:0", "aa:bb:cc:0:1:2"),
        ),
        (FlowKind.ARP, Frame(1, 1, "Sent 1 probe(s)\n", ""), Failure.ARP_UNANSWERED, ()),
        (FlowKind.HTTP, Frame(0, 0.1, "", ""), Failure.CONNECTION_RESET, ()),
        (FlowKind.HTTP, Frame(0, 5.9, "", ""), Failure.TIMEOUT, ()),
    ],
)
def test_what_the_tools_say(
    kind: FlowKind, frame: Frame, failure: Failure | None, answers: tuple[str, ...]
) -> None:
    (seen,) = read_observations((flow(kind),), {0: frame})
    assert (seen.failure, seen.answers) == (failure, answers)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        (FlowKind.TCP, Frame(127, 0, "", "sh: nc: not found")),
        (FlowKind.TCP, Frame(1, 0, "", "nc: bad address 'None'")),
        (FlowKind.DNS_UDP, Frame(127, 0, "", "sh: nslookup: not found")),
        (FlowKind.DNS_UDP, Frame(0, 0, SERVER, "")),
        (FlowKind.ARP, Frame(1, 0, "", "arping: socket(AF_PACKET): Operation not permitted")),
        (FlowKind.HTTP, Frame(0, 0, "no base64!", "")),
        (FlowKind.HTTP, Frame(1, 0, "", "sh: mkfifo: not found")),
    ],
)
def test_what_says_nothing_of_the_network_is_left_out(kind: FlowKind, frame: Frame) -> None:
    seen = read_observations((flow(kind),), {0: frame})
    assert seen == [] or kind is FlowKind.HTTP
    assert all(o.failure is Failure.CONNECTION_RESET for o in seen)
