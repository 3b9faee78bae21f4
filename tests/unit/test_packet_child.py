"""The packet child as a process: what it refuses by itself, and how its runner bears any child."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.probe import packet_child
from doctor.probe.packet_child import observe_packets

NOWHERE = str(IPv4Address(0))
REAL = packet_child._CHILD
TRACE = {"kind": "trace", "address": "127.0.0.1", "port": 9, "hops": 3}
ARP = {"kind": "arp", "address": "127.0.0.1", "interface": "lo", "samples": 1}
FLOWS = (
    Flow("a", Purpose.TRACE, Vantage(VantageKind.MACHINE), FlowKind.TRACE, "127.0.0.1", 9),
    Flow("b", Purpose.TRACE, Vantage(VantageKind.MACHINE), FlowKind.PING, "127.0.0.1"),
)
GOOD = (
    '{"answers": [{"seconds": 0.1, "hops": []}, {"seconds": 0.1, "sizes": [{"size": 84, "sent": 1, '
    '"replies": 1, "seconds": 0.1, "errno": 0, "icmp": null}]}]}'
)


def speak(document: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run the real child."""
    return subprocess.run(
        [sys.executable, "-I", str(REAL)],
        input=document,
        capture_output=True,
        timeout=30,
        check=False,
    )


def document(*requests: Any, seconds: Any = 3) -> bytes:
    """Write a document."""
    return json.dumps({"seconds": seconds, "requests": requests}).encode()


WRONG = [
    b"",
    b"no json",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b'{"seconds": 3}',
    b"[" * 60_000,
    b" " * 70_000,
    document(seconds="3"),
    document(seconds=True),
    document(seconds=0),
    document(seconds=61),
    document(seconds=float("nan")),
    b'{"seconds": 3, "requests": {}}',
    document(*[TRACE] * 257),
    document(7),
    document({"kind": "size"}),
    document({"kind": ["trace"]}),
    document({"kind": "reboot", "address": "127.0.0.1"}),
    document(TRACE | {"more": 1}),
    document({k: v for k, v in TRACE.items() if k != "hops"}),
    document(TRACE | {"address": "localhost"}),
    document(TRACE | {"address": "224.0.0.1"}),
    document(TRACE | {"address": "255.255.255.255"}),
    document(TRACE | {"address": NOWHERE}),
    document(TRACE | {"address": 2130706433}),
    document(TRACE | {"port": 0}),
    document(TRACE | {"port": True}),
    document(TRACE | {"port": "80"}),
    document(TRACE | {"hops": 65}),
    document(ARP | {"interface": "../lo"}),
    document(ARP | {"samples": 21}),
    document({"kind": "size", "address": "127.0.0.1", "sizes": [], "samples": 1}),
    document({"kind": "size", "address": "127.0.0.1", "sizes": [27], "samples": 1}),
    document({"kind": "size", "address": "127.0.0.1", "sizes": [99] * 17, "samples": 1}),
    document({"kind": "dns", "address": "127.0.0.1", "port": 53, "name": "a b", "samples": 1}),
]


@pytest.mark.parametrize("text", WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_a_document_that_is_not_understood(text: bytes) -> None:
    done = speak(text)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"not understood: ")
    assert done.stderr.count(b"\n") == 1
    assert len(done.stderr) < 400


def test_nothing_to_ask_needs_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "c"), "SUDO_UID": "0"}
    done = subprocess.run(
        [sys.executable, "-I", str(REAL)],
        input=document(),
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"answers": []}', b"")
    assert list(tmp_path.rglob("*")) == [home]


def test_without_scapy(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    # An environment of its own, in which nothing is installed.
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=60
    )
    done = subprocess.run(
        [str(bare / "bin" / "python"), "-I", str(REAL)],
        input=document(TRACE),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr == b"scapy cannot be imported: No module named 'scapy'\n"


def children() -> set[str]:
    """List the processes that this one has, dead ones too."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put another program in the place of the child; none may be left of it."""
    path = tmp_path / "packets.py"
    monkeypatch.setattr(packet_child, "_CHILD", path)
    monkeypatch.setattr(packet_child, "_may_send", lambda: True)
    monkeypatch.setattr(packet_child, "_REAP_SECONDS", 10.0)
    before = children()
    yield path
    assert children() <= before


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('{\"answers\": []}')", "the packet child printed what is not understood"),
        ("print('no json')", "the packet child printed what is not understood"),
        ("pass", "the packet child printed what is not understood"),
        ("raise SystemExit(7)", "the packet child failed with 7"),
        ("import sys; sys.exit('a\\n\\n' + 'scapy is not installed: x' + '\\n')", "scapy is not installed: x"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('x' * 5000)", "x" * 200),
        ("import os; os.kill(os.getpid(), 11)", "the packet child was ended by signal 11"),
        ("while True: print('x' * 9999)", "the packet child printed too much"),
        ("import sys\nwhile True: sys.stderr.write('x' * 9999)", "the packet child printed too much"),
    ],
)  # fmt: skip
def test_a_child_that_is_no_good(child: Path, program: str, reason: str) -> None:
    child.write_text(program)
    seen, unseen = observe_packets(FLOWS, sudo=False, seconds=30)
    assert (seen, unseen) == ([], [(f, reason) for f in FLOWS])


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True); time.sleep(60)",
    ],
)  # fmt: skip
def test_a_child_that_hangs(child: Path, program: str) -> None:
    child.write_text(program)
    started = time.monotonic()
    seen, unseen = observe_packets(FLOWS, sudo=False, seconds=1)
    assert (seen, unseen) == ([], [(f, "the packet child did not end in time") for f in FLOWS])
    assert time.monotonic() - started < 10


def test_an_interrupt_leaves_no_child(child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packet_child, "_talk", interrupted)
    child.write_text("import time; time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        observe_packets(FLOWS, sudo=False, seconds=30)


def test_a_child_that_reads_nothing_is_heard(child: Path) -> None:
    child.write_text(f"import os; os.close(0); print({GOOD!r})")
    many = tuple(
        Flow(str(n), Purpose.TRACE, FLOWS[0].vantage, FlowKind.TRACE, "127.0.0.1", n)
        for n in range(1, 257)
    )
    seen, unseen = observe_packets(FLOWS, sudo=False, seconds=30)
    assert ([o.flow for o in seen], unseen) == (list(FLOWS), [])
    seen, unseen = observe_packets(many, sudo=False, seconds=30)
    assert len(unseen) == 256


def test_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert packet_child._feed(writing, b"x") == b""
    finally:
        os.close(writing)


def test_the_command_and_the_document(child: Path) -> None:
    child.write_text(
        "import json, sys\n"
        "asked = json.load(sys.stdin)\n"
        "assert sys.flags.isolated and asked['seconds'] == 29.5, asked\n"
        "assert [r['kind'] for r in asked['requests']] == ['trace', 'size']\n"
        f"print({GOOD!r})\n"
    )
    seen, unseen = observe_packets(FLOWS, sudo=False, seconds=30)
    assert ([o.flow for o in seen], unseen) == (list(FLOWS), [])


def test_nothing_is_started_for_nothing(child: Path) -> None:
    wrong = Flow("w", Purpose.TRACE, FLOWS[0].vantage, FlowKind.TRACE, "shop.example", 9)
    seen, ((unseen, reason),) = observe_packets((wrong,), sudo=False, seconds=5)
    assert (seen, unseen) == ([], wrong)
    assert "shop.example" in reason
    assert not child.exists()


def test_without_the_capability_it_says_how_to_grant_it(
    child: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_child, "_may_send", lambda: False)
    _, unseen = observe_packets(FLOWS, sudo=False, seconds=5)
    assert {reason for _, reason in unseen} == {packet_child._HOW_TO_GRANT}
    assert not child.exists()


def test_sudo(child: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_child, "_may_send", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    _, unseen = observe_packets(FLOWS, sudo=True, seconds=30)
    assert {reason for _, reason in unseen} == {"sudo could not be run: No such file or directory"}

    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho sudo: a password is required >&2\nexit 1\n")
    sudo.chmod(stat.S_IRWXU)
    _, unseen = observe_packets(FLOWS, sudo=True, seconds=30)
    assert {reason for _, reason in unseen} == {"sudo: a password is required"}

    sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] && shift 2 && exec "$@"\n')
    child.write_text(f"print({GOOD!r})")
    seen, unseen = observe_packets(FLOWS, sudo=True, seconds=30)
    assert ([o.flow for o in seen], unseen) == (list(FLOWS), [])


def test_what_is_not_ours_to_kill_is_waited_for(
    child: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(subprocess.Popen, "kill", refused)
    child.write_text("import signal, time; signal.alarm(2); time.sleep(60)")
    _, unseen = observe_packets(FLOWS, sudo=False, seconds=0.5)
    assert unseen[0][1] == "the packet child did not end in time"


def test_the_child_ends_by_itself() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", str(REAL)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as hanging:
        try:
            assert hanging.wait(20) == -14  # its alarm: nobody ever wrote to it
        finally:
            hanging.kill()


def test_whether_this_process_holds_the_capability() -> None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        assert not packet_child._may_send()
    else:
        assert packet_child._may_send()
