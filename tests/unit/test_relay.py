"""The relay's script, run by real shells with real tools against servers on loopback."""

import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind
from doctor.probe import relay_script
from doctor.probe.relay import read_frames, read_observations, script
from tests.unit.dns_answers import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, dns_answer, dns_talk
from tests.unit.loopback import (
    answering,
    closed_port,
    hanging_up,
    saying,
    serving,
)
from tests.unit.relay_bench import BUSYBOX, NAME, Bench, applets, bench, flow, programs
from tests.unit.tls_servers import chain, shaking_hands

needs_busybox = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed here")

SETUPS: dict[str, Callable[[Path], Bench]] = {
    "dash, busybox": lambda at: bench(at, applets()),
    "busybox alone": lambda at: bench(at, applets(), (str(BUSYBOX), "ash")),
    "dash, no nc but bash": lambda at: bench(at, programs()),
    "bash, no nc": lambda at: bench(at, programs(), ("/bin/bash",)),
    "dash, no timeout": lambda at: bench(at, programs("timeout")),
    "bash, no timeout": lambda at: bench(at, programs("timeout"), ("/bin/bash",)),
}


FEW = ("busybox alone", "dash, no timeout", "bash, no nc")


def _place(name: str, folder: Path) -> Bench:
    """Set up a shell and its tools."""
    if "busybox" in name and BUSYBOX is None:
        pytest.skip("busybox is not installed here")
    return SETUPS[name](folder)


@pytest.fixture(params=SETUPS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Each shell with each set of tools that is here without installing anything but busybox."""
    return _place(request.param, tmp_path)


@pytest.fixture(params=FEW)
def some(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """A few of them, for what hangs less on the tools."""
    return _place(request.param, tmp_path)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound exchanges by two seconds."""
    for name in ("_UDP_DNS_SECONDS", "_TCP_DNS_SECONDS", "_HTTP_SECONDS", "_TLS_SECONDS"):
        monkeypatch.setattr(relay_script, name, 2)


NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nServer: test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
)
MOVED = b"HTTP/1.1 302 Found\r\nLocation: https://shop.example/\r\n\r\n"


def test_each_kind_of_question_over_tcp(place: Bench) -> None:
    requests: list[bytes] = []

    def recording(connection: socket.socket) -> None:
        requests.append(connection.recv(65536))
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the end of input would be the visitor's leaving
            connection.recv(1)
        connection.sendall(NOT_FOUND)

    with (
        serving(hanging_up) as open_port,
        serving(recording) as web,
        serving(saying(MOVED)) as moved,
        serving(saying(b"SSH-2.0-x\r\n")) as other,
        serving(dns_talk(NOERROR, "10.96.0.2", "10.96.0.1")) as good,
        serving(dns_talk(NXDOMAIN)) as absent,
        serving(dns_talk(SERVFAIL)) as failing,
        serving(dns_talk(REFUSED)) as refusing,
        serving(saying(b"\x00\x05hello")) as garbage,
    ):
        asked = (
            flow(FlowKind.TCP, open_port),
            flow(FlowKind.TCP, closed_port()),
            flow(FlowKind.HTTP, web, "shop.example", "/a?b='$(exit 9)'%"),
            flow(FlowKind.HTTP, moved, "shop.example"),
            flow(FlowKind.HTTP, other, "shop.example"),
            flow(FlowKind.HTTP, open_port, "shop.example"),
            flow(FlowKind.HTTP, closed_port(), "shop.example"),
            flow(FlowKind.DNS_TCP, good),
            flow(FlowKind.DNS_TCP, absent),
            flow(FlowKind.DNS_TCP, failing),
            flow(FlowKind.DNS_TCP, refusing),
            flow(FlowKind.DNS_TCP, garbage),
            flow(FlowKind.DNS_TCP, closed_port()),
        )
        reading = place.ask(*asked)
    seen = reading.observations
    assert reading.unseen == ()
    assert [o.flow for o in seen] == list(asked)
    assert [(o.failure, o.status, o.answers, o.sent, o.lost) for o in seen] == [
        (None, 0, (), 1, 0),
        (Failure.CONNECTION_REFUSED, 0, (), 1, 0),
        (None, 404, (), 1, 0),
        (None, 302, (), 1, 0),
        (Failure.HTTP_MALFORMED, 0, (), 1, 0),
        (Failure.CONNECTION_RESET, 0, (), 1, 0),
        (Failure.CONNECTION_REFUSED, 0, (), 1, 0),
        (None, 0, ("10.96.0.1", "10.96.0.2"), 1, 0),
        (Failure.DNS_NXDOMAIN, 0, (), 1, 0),
        (Failure.DNS_SERVFAIL, 0, (), 1, 0),
        (Failure.DNS_REFUSED, 0, (), 1, 0),
        (Failure.DNS_NO_ANSWER, 0, (), 1, 0),
        (Failure.CONNECTION_REFUSED, 0, (), 1, 0),
    ]
    assert (seen[2].server, seen[3].location) == ("test", "https://shop.example/")
    head = requests[0].split(b"\r\n")
    assert head[0] == b"GET /a?b='$(exit 9)'% HTTP/1.1"
    assert {b"Host: shop.example", b"Connection: close"} < set(head)


def test_what_was_printed_is_kept_but_not_all_of_it(some: Bench) -> None:
    long = b"HTTP/1.1 200 OK\r\nServer: " + b"x" * 3000 + b"\r\n\r\n"
    with serving(saying(long)) as web:
        reading = some.ask(
            flow(FlowKind.HTTP, web, "shop.example"),
            flow(FlowKind.TCP, closed_port(), samples=5),
        )
    answered, refused = (o.printed for o in reading.observations)
    assert [len(s.stdout) for s in answered] == [400]
    assert len(refused) == 3
    assert all(s.status and len(s.stderr) <= 200 for s in refused)


def test_a_dns_server_need_not_close(some: Bench) -> None:
    with serving(dns_talk(NOERROR, "10.96.0.1", keep=True)) as port:
        (seen,) = some.ask(flow(FlowKind.DNS_TCP, port)).observations
    assert seen.answers == ("10.96.0.1",)
    assert seen.seconds < relay_script._TCP_DNS_SECONDS - 1


@pytest.mark.usefixtures("short")
def test_without_od_the_length_is_not_known_but_the_answer_is(tmp_path: Path) -> None:
    with serving(dns_talk(NOERROR, "10.96.0.1", keep=True)) as port:
        place = bench(tmp_path, programs("od"))
        (seen,) = place.ask(flow(FlowKind.DNS_TCP, port)).observations
    assert seen.answers == ("10.96.0.1",)


def test_without_base64_od_prints_what_came(tmp_path: Path) -> None:
    with serving(dns_talk(NOERROR, "10.96.0.1")) as port, serving(saying(NOT_FOUND)) as web:
        place = bench(tmp_path, programs("base64"))
        asked = flow(FlowKind.DNS_TCP, port), flow(FlowKind.HTTP, web, "x.y")
        resolved, page = place.ask(*asked).observations
    assert (resolved.answers, page.status) == (("10.96.0.1",), 404)


def test_dns_over_udp_at_any_port(place: Bench) -> None:
    with (
        answering(lambda q: dns_answer(q, NOERROR, "10.96.0.2", "10.96.0.1")) as good,
        answering(lambda q: dns_answer(q, NXDOMAIN)) as absent,
        answering(lambda q: dns_answer(q, REFUSED)) as refusing,
        answering(lambda q: dns_answer(q, NOERROR)) as empty,
    ):
        asked = [flow(FlowKind.DNS_UDP, p) for p in (good, absent, refusing, empty)]
        reading = place.ask(*asked)
    assert reading.unseen == ()
    assert [(o.failure, o.answers) for o in reading.observations] == [
        (None, ("10.96.0.1", "10.96.0.2")),
        (Failure.DNS_NXDOMAIN, ()),
        (Failure.DNS_REFUSED, ()),
        (Failure.DNS_NO_ANSWER, ()),
    ]


def test_a_fixed_number_of_queries_is_sent_and_the_lost_ones_are_counted(some: Bench) -> None:
    queries: list[bytes] = []

    def lossy(query: bytes) -> bytes:
        queries.append(query)
        return b"" if len(queries) % 3 == 0 else dns_answer(query, NOERROR, "10.96.0.1")

    with answering(lossy) as port:
        (seen,) = some.ask(flow(FlowKind.DNS_UDP, port, samples=5)).observations
    assert (seen.failure, seen.sent, seen.lost, seen.degraded) == (None, 5, 1, True)
    assert seen.answers == ("10.96.0.1",)
    assert seen.detail == "of 5 samples: 4 answered, 1 timeout"
    assert len(queries) == 5


@pytest.mark.usefixtures("short")
def test_silence_is_cut_and_is_a_timeout(some: Bench) -> None:
    def beginning(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes.fromhex("160303002a020000260303") + bytes(36))
        connection.recv(65536)

    with (
        serving(None) as port,
        answering(lambda _: b"") as silent,
        serving(beginning) as beginning_port,
    ):
        reading = some.ask(
            flow(FlowKind.HTTP, port, "shop.example"),
            flow(FlowKind.DNS_TCP, port),
            flow(FlowKind.TLS, port, "shop.example"),
            flow(FlowKind.DNS_UDP, silent),
            flow(FlowKind.TLS, beginning_port, "shop.example"),
        )
    seen = reading.observations
    assert [o.failure for o in seen] == [Failure.TIMEOUT] * 5
    assert all(o.seconds >= 1.9 for o in seen)
    assert seen[4].detail == "the handshake broke off"


def test_an_icmp_error_ends_the_wait_for_a_datagram(tmp_path: Path) -> None:
    asked = flow(FlowKind.DNS_UDP, closed_port())
    (seen,) = bench(tmp_path, programs()).ask(asked).observations
    assert seen.failure is Failure.CONNECTION_REFUSED
    assert seen.seconds < relay_script._UDP_DNS_SECONDS - 1


def test_an_answer_to_another_question_is_none(tmp_path: Path) -> None:
    other = flow(FlowKind.DNS_UDP, 53, "other.example.")
    wire = relay_script.job_of(other)
    assert isinstance(wire, relay_script.Job)
    with (
        answering(lambda q: bytes([q[0] ^ 1]) + dns_answer(q, NOERROR, "10.96.0.1")[1:]) as odd_id,
        answering(lambda _: dns_answer(wire.payload, NOERROR, "10.96.0.1")) as odd_name,
        answering(lambda q: q) as echo,
        answering(lambda _: b"hello") as garbage,
    ):
        asked = [flow(FlowKind.DNS_UDP, p) for p in (odd_id, odd_name, echo, garbage)]
        seen = bench(tmp_path, programs()).ask(*asked).observations
    assert [(o.failure, o.answers) for o in seen] == [(Failure.DNS_NO_ANSWER, ())] * 4


def test_a_certificate_is_shown_and_nothing_is_waited_for(place: Bench, tmp_path: Path) -> None:
    made = chain(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    new = chain(tmp_path, ec.generate_private_key(ec.SECP256R1()), "new.example")
    new.context.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        serving(shaking_hands(made.context)) as port,
        serving(shaking_hands(new.context)) as new_port,
        serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as plain,
    ):
        asked = (
            flow(FlowKind.TLS, port, "hook.shop.svc"),
            flow(FlowKind.TLS, new_port, "new.example"),
            flow(FlowKind.TLS, plain, "shop.example"),
            flow(FlowKind.TLS, closed_port(), "shop.example"),
        )
        reading = place.ask(*asked)
    seen = reading.observations
    assert reading.unseen == ()
    assert [(o.failure, o.detail) for o in seen[:3]] == [
        (None, ""),
        (Failure.TLS_FAILED, "alert 70 protocol_version"),
        (Failure.TLS_FAILED, "not TLS"),
    ]
    assert seen[3].failure is Failure.CONNECTION_REFUSED
    shown = [ssl.DER_cert_to_PEM_cert(d) for d in made.ders]
    assert ["".join(p.splitlines()[1:-1]) for p in shown] == list(seen[0].certificates)
    # The job's own bound is far off: a server that has said its part closes.
    assert all(o.seconds < relay_script._TLS_SECONDS - 1 for o in seen)


def test_connections_are_sampled_and_a_refusal_is_no_loss(some: Bench) -> None:
    with serving(hanging_up) as port:
        asked = (
            flow(FlowKind.TCP, port, samples=5),
            flow(FlowKind.TCP, closed_port(), samples=3),
        )
        seen = some.ask(*asked).observations
    assert [(o.failure, o.sent, o.lost) for o in seen] == [
        (None, 5, 0),
        (Failure.CONNECTION_REFUSED, 3, 0),
    ]


def test_what_a_server_sends_without_end_is_bounded(some: Bench) -> None:
    def pouring(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536)

    with serving(pouring) as port:
        asked = (flow(FlowKind.HTTP, port, "x.y"), flow(FlowKind.TLS, port, "x.y"))
        frames = some.frames(*asked)
    http, tls = read_observations(asked, frames).observations
    assert (http.failure, http.status, tls.detail) == (None, 200, "not TLS")
    assert all(len(f.stdout) <= 100_000 for f in frames.jobs.values())


def test_what_a_server_says_is_never_taken_for_a_mark(some: Bench) -> None:
    marks = b"".join(
        b"\n@@%s %s\n" % (mark, end)
        for mark in (b"0123456789abcdef", b"")
        for end in (b"end", b"0 0 1.0 1.0", b"tools tcp=none")
    )
    with serving(saying(b"HTTP/1.1 200 OK\r\nServer: x" + marks + b"\r\n\r\n" + marks)) as port:
        asked = (flow(FlowKind.HTTP, port, "x.y"), flow(FlowKind.TCP, closed_port()))
        seen = some.ask(*asked).observations
    assert [o.failure for o in seen] == [None, Failure.CONNECTION_REFUSED]


def test_marks_are_drawn_anew() -> None:
    assert len({re.findall(r"^m=([0-9a-f]{16}) ", script(()))[0] for _ in range(5)}) == 5


def test_no_more_than_so_many_jobs_run_at_once(tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    full = threading.Event()

    def counting(connection: socket.socket) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] >= 24:
                full.set()
        connection.recv(65536)
        # Held until as many are here as may be, and a little more for one too many.
        full.wait(5)
        time.sleep(0.1)
        with lock:
            now[0] -= 1
        connection.sendall(NOT_FOUND)

    with serving(counting) as port:
        asked = [flow(FlowKind.HTTP, port, "x.y", f"/{n}") for n in range(60)]
        seen = bench(tmp_path, programs()).ask(*asked).observations
    assert [o.status for o in seen] == [404] * 60
    assert most[0] == 24


def test_no_job_starts_too_late(tmp_path: Path) -> None:
    text = script([flow(FlowKind.TCP, closed_port())])
    assert text.count("-gt $((B+10)) ]") == 1
    frames = read_frames(bench(tmp_path, programs()).run(text.replace("B+10", "B-1")))
    assert frames is not None
    reading = read_observations((flow(FlowKind.TCP),), frames)
    assert [reason for _, reason in reading.unseen] == ["no time was left for it"]


def test_the_script_ends_though_a_job_does_not(some: Bench) -> None:
    with serving(None) as port, serving(saying(NOT_FOUND)) as web:
        asked = (flow(FlowKind.HTTP, port, "x.y"), flow(FlowKind.HTTP, web, "x.y"))
        text = script(asked)
        assert text.count("-lt 18 ") == 1
        begun = time.monotonic()
        frames = read_frames(some.run(text.replace("-lt 18 ", "-lt 1 ")))
        assert time.monotonic() - begun < relay_script._HTTP_SECONDS - 1
    assert frames is not None
    reading = read_observations(asked, frames)
    assert [o.status for o in reading.observations] == [404]
    assert reading.unseen == ((asked[0], "no time was left for it"),)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_script_that_is_stopped_leaves_nothing(some: Bench, number: signal.Signals) -> None:
    with serving(None) as port:
        running = subprocess.Popen(
            [*some.shell, "-c", script([flow(FlowKind.HTTP, port, "x.y")])],
            env={"PATH": str(some.folder / "tools"), "TMPDIR": str(some.folder / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert running.stdout is not None
        assert b" tools " in running.stdout.readline()
        running.send_signal(number)
        assert running.wait(timeout=60) != 0
        running.stdout.close()
    assert list((some.folder / "tmp").iterdir()) == []


def test_nothing_to_ask(some: Bench) -> None:
    text = script(()).replace("-lt 18 ", "-lt 60 ")  # not what ends it
    frames = read_frames(some.run(text))
    assert frames is not None
    assert (frames.jobs, frames.ended) == ({}, True)


def kinds(*wanted: FlowKind) -> tuple[Flow, ...]:
    """A flow of each kind."""
    return tuple(flow(k, 1, "lo" if k is FlowKind.ARP else NAME) for k in wanted)


DIALLED = (FlowKind.TCP, FlowKind.HTTP, FlowKind.DNS_TCP, FlowKind.TLS)
EXCHANGED = (FlowKind.HTTP, FlowKind.DNS_TCP, FlowKind.TLS)


@needs_busybox
@pytest.mark.parametrize(
    ("without", "asked", "reason"),
    [
        (("nc",), DIALLED, "nc is missing in the image, and there is no bash"),
        (("base64", "od"), EXCHANGED, "base64 and od are missing in the image"),
        (("mkfifo",), EXCHANGED, "missing in the image: mkfifo"),
        (("dd", "mkfifo"), EXCHANGED, "missing in the image: dd, mkfifo"),
        (("head",), DIALLED, "missing in the image: head"),
        (("timeout", "sleep"), DIALLED, "timeout and sleep are missing in the image"),
        (("mkdir",), DIALLED, "missing in the image: mkdir"),
        (("rm", "head"), DIALLED, "missing in the image: head, rm"),
        (("arping",), (FlowKind.ARP,), "arping is missing in the image"),
        (("ping",), (FlowKind.PING,), "ping is missing in the image"),
        (
            ("nslookup",),
            (FlowKind.DNS_UDP,),
            "nslookup is missing in the image, and there is neither bash nor an nc that speaks UDP",
        ),
    ],
)
def test_what_the_image_lacks_is_named(
    tmp_path: Path, without: tuple[str, ...], asked: tuple[FlowKind, ...], reason: str
) -> None:
    place = bench(tmp_path, applets(*without))
    flows = kinds(*asked)
    frames = read_frames(place.run(script(flows)))
    assert frames is not None
    reading = read_observations(flows, frames)
    assert reading.observations == ()
    assert reading.unseen == tuple((f, reason) for f in flows)


@pytest.mark.parametrize(
    ("tool", "kind", "reason"),
    [
        ("nc", FlowKind.TCP, "nc in the image is of no known kind, and there is no bash"),
        ("ping", FlowKind.PING, "ping in the image is of no known kind"),
        ("arping", FlowKind.ARP, "arping in the image is of no known kind"),
    ],
)
def test_a_tool_of_no_known_kind_is_not_trusted(
    tmp_path: Path, tool: str, kind: FlowKind, reason: str
) -> None:
    place = bench(tmp_path, {**programs("bash"), tool: "echo usage: something else"})
    asked = kinds(kind)
    assert place.ask(*asked).unseen == ((asked[0], reason),)


def test_an_old_nslookup_is_not_trusted(tmp_path: Path) -> None:
    usage = "echo 'BusyBox v1.28.4 multi-call binary.\n\nUsage: nslookup [HOST] [SERVER]'"
    place = bench(tmp_path, {**programs("bash"), "nslookup": usage})
    asked = kinds(FlowKind.DNS_UDP)
    ((_, reason),) = place.ask(*asked).unseen
    assert reason.startswith("nslookup in the image takes no port, and there is neither bash")


@needs_busybox
def test_a_timeout_that_leaves_a_watcher_behind_is_not_used(tmp_path: Path) -> None:
    place = bench(tmp_path, applets())
    with serving(saying(NOT_FOUND)) as port:
        frames = place.frames(flow(FlowKind.TCP, port), flow(FlowKind.HTTP, port, "x.y"))
    assert frames.tools.timeout == "limit"
    assert next(f.status for f in frames.jobs.values()) == 0


@needs_busybox
def test_ping_on_loopback(tmp_path: Path) -> None:
    place = bench(tmp_path, applets())
    reading = place.ask(flow(FlowKind.PING, 0, samples=3), flow(FlowKind.PING, 0, size=1400))
    # Whether one may ping without being root is up to the machine.
    allowed = [(o.failure, o.sent, o.lost) for o in reading.observations]
    refused = [reason for _, reason in reading.unseen]
    assert allowed == [(None, 3, 0), (None, 1, 0)] or all("NET_RAW" in r for r in refused)


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    place = bench(tmp_path, programs())
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").write_text("a file, not a folder")
    done = subprocess.run(
        [*place.shell, "-c", script(kinds(FlowKind.TCP))],
        env={"PATH": str(tmp_path / "tools"), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    frames = read_frames(done.stdout)
    assert frames is not None
    mark = done.stdout[2:18]
    assert frames.tools.folder == "made"
    assert not (Path(tempfile.gettempdir()) / f"wwwm-{mark}").exists()
