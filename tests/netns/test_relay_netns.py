"""The relay in network namespaces: how a path fails, with each kind of tool."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Icmp, Observation
from doctor.probe.relay import read_frames, read_observations, script
from tests.lab.packages import missing
from tests.netns import namespaces as ns
from tests.unit.dns_answers import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, dns_answer, dns_talk
from tests.unit.loopback import answering, closed_port, hanging_up, saying, serving
from tests.unit.relay_bench import Bench, applets, bench, flow, programs

pytestmark = pytest.mark.lab

IP: Final = shutil.which("ip") or "ip"
NC: Final = {
    "busybox": None,
    "openbsd": Path("/bin/nc.openbsd"),
    "traditional": Path("/bin/nc.traditional"),
    "ncat": Path("/usr/bin/ncat"),
    "bash": None,
}


@pytest.fixture(scope="module", autouse=True)
def _ready() -> None:
    """Say what is missing instead of skipping."""
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root", pytrace=False)
    if lacking := missing():
        pytest.fail(f"packages missing: {' '.join(lacking)}", pytrace=False)


@pytest.fixture(scope="module")
def world() -> Iterator[ns.World]:
    """One world for the module."""
    with ns.world() as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def client(made: ns.World, folder: Path, tools: dict[str, Path]) -> Bench:
    """Set up a shell in the client's namespace."""
    return bench(folder, tools, before=(IP, "netns", "exec", made["client"]))


def carrier(kind: str, *, with_bash: bool = True) -> dict[str, Path]:
    """Tools with one kind of nc, or with bash alone."""
    nc = NC[kind]
    if kind == "busybox":
        return applets()
    tools = programs(*(() if with_bash else ("bash",)))
    return {**tools, "nc": nc} if nc else tools


def tcp(address: str, port: int = 80, samples: int = 1) -> Flow:
    """Dial."""
    return flow(FlowKind.TCP, port, address=address, samples=samples)


def dns(address: str) -> Flow:
    """Ask over UDP."""
    return flow(FlowKind.DNS_UDP, 53, address=address)


@pytest.mark.parametrize("kind", NC)
def test_how_a_connection_fails(world: ns.World, folder: Path, kind: str) -> None:
    place = client(world, folder, carrier(kind))
    asked = (
        tcp(ns.SERVER),
        tcp(ns.SERVER, 81),
        tcp(ns.NOBODY),
        tcp(ns.DROPPED),
        tcp(ns.PROHIBITED),
        tcp(ns.NET_UNREACHABLE),
        tcp(ns.PORT_UNREACHABLE),
        flow(FlowKind.HTTP, 80, "x.y", address=ns.NOBODY),
        flow(FlowKind.TLS, 80, "x.y", address=ns.DROPPED),
        flow(FlowKind.DNS_TCP, 53, address=ns.PROHIBITED),
    )
    # the kernel may be at it still for whoever asked before, and give up that much sooner
    world.ip("client", "neigh", "flush", "to", ns.NOBODY)
    reading = place.ask(*asked)
    assert reading.unseen == ()
    seen = reading.observations
    assert [o.failure for o in seen] == [
        None,
        Failure.CONNECTION_REFUSED,
        Failure.NO_ROUTE,
        Failure.TIMEOUT,
        Failure.NO_ROUTE,
        Failure.NETWORK_UNREACHABLE,
        Failure.CONNECTION_REFUSED,
        Failure.NO_ROUTE,
        Failure.TIMEOUT,
        Failure.NO_ROUTE,
    ]
    # ARP gives up after three seconds: whoever of the two asked first had to wait that long.
    assert max(seen[2].seconds, seen[7].seconds) > 2.5
    assert seen[3].seconds > 3.5


@pytest.mark.parametrize("kind", ["busybox", "ncat", "bash"])
def test_how_a_datagram_fails(world: ns.World, folder: Path, kind: str) -> None:
    seen = client(world, folder, carrier(kind, with_bash=kind == "bash")).ask(
        dns(ns.SERVER), dns(ns.PROHIBITED), dns(ns.DROPPED)
    )
    assert seen.unseen == ()
    failures = [o.failure for o in seen.observations]
    assert failures == [Failure.CONNECTION_REFUSED, Failure.NO_ROUTE, Failure.TIMEOUT]


@pytest.mark.parametrize("kind", ["openbsd", "traditional"])
def test_an_nc_that_keeps_the_error_to_itself(world: ns.World, folder: Path, kind: str) -> None:
    place = client(world, folder, carrier(kind, with_bash=False))
    frames = place.frames(dns(ns.SERVER))
    assert frames.tools.udp == "nc"
    told = [o.failure for o in place.ask(dns(ns.SERVER), dns(ns.DROPPED)).observations]
    assert told == [Failure.UNKNOWN, Failure.TIMEOUT]
    with_bash = client(world, _beside(folder), carrier(kind))
    assert with_bash.frames(dns(ns.SERVER)).tools.udp == "bash"


def _beside(folder: Path) -> Path:
    """Another folder."""
    other = folder / "other"
    other.mkdir()
    return other


@pytest.mark.parametrize("kind", NC)
@pytest.mark.parametrize("with_bash", [True, False], ids=["bash", "no bash"])
def test_each_kind_carries_bytes_both_ways(folder: Path, kind: str, *, with_bash: bool) -> None:
    if kind == "bash" and not with_bash:
        return

    def thinking(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the end of input would be the visitor's leaving
            connection.recv(1)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nServer: t\r\n\r\n")

    def slow(query: bytes) -> bytes:
        time.sleep(0.3)  # whoever does not wait for it has not seen it
        return dns_answer(query, NOERROR, "10.96.0.2")

    place = bench(folder, carrier(kind, with_bash=with_bash))
    with (
        serving(thinking) as web,
        serving(saying(b"SSH-2.0-x\r\n")) as other,
        serving(hanging_up) as closing,
        serving(dns_talk(NOERROR, "10.96.0.1", keep=True)) as keeping,
        answering(slow) as good,
        answering(lambda q: dns_answer(q, NXDOMAIN)) as absent,
    ):
        asked = (
            flow(FlowKind.HTTP, web, "x.y"),
            flow(FlowKind.HTTP, closing, "x.y"),
            flow(FlowKind.TLS, other, "x.y"),
            flow(FlowKind.DNS_TCP, keeping),
            flow(FlowKind.DNS_UDP, good),
            flow(FlowKind.DNS_UDP, absent),
        )
        reading = place.ask(*asked)
    assert reading.unseen == ()
    seen = reading.observations
    assert [(o.failure, o.status, o.answers) for o in seen] == [
        (None, 404, ()),
        (Failure.CONNECTION_RESET, 0, ()),
        (Failure.TLS_FAILED, 0, ()),
        (None, 0, ("10.96.0.1",)),
        (None, 0, ("10.96.0.2",)),
        (Failure.DNS_NXDOMAIN, 0, ()),
    ]
    assert all(o.seconds < 4 for o in seen)


def test_a_syn_that_was_lost_is_counted(world: ns.World, folder: Path) -> None:
    rule = "tcp flags & (syn|ack) == syn numgen inc mod 3 0 drop"
    chain = "type filter hook input priority 0;"
    world.inside(
        "server", "nft", "-f", "-", input=f"table ip lossy {{\n chain c {{\n {chain}\n {rule}\n }}\n}}\n"
    )  # fmt: skip
    try:
        place = client(world, folder, applets())
        (seen,) = place.ask(tcp(ns.SERVER, samples=6)).observations
    finally:
        world.inside("server", "nft", "delete", "table", "ip", "lossy")
    assert (seen.failure, seen.sent, seen.degraded) == (None, 6, True)
    # Of every three SYNs one is lost: six samples need eight or nine.
    assert 2 <= seen.lost <= 3
    assert seen.seconds < 0.9


PINGS = ("iputils", "busybox")


def pinging(kind: str) -> dict[str, Path]:
    """Tools with one kind of ping, and iproute2."""
    ping = shutil.which("ping")
    assert ping
    tools = {**applets("ping"), "ping": Path(ping)} if kind == "iputils" else applets()
    return {**tools, "ip": Path(IP)}


def ping(address: str, size: int = 0, samples: int = 3) -> Flow:
    """Ping."""
    return flow(FlowKind.PING, 0, address=address, size=size, samples=samples)


def outcome(seen: Observation) -> tuple[Failure | None, int, int, Icmp | None]:
    """What is compared."""
    return seen.failure, seen.sent, seen.lost, seen.icmp


@pytest.mark.parametrize("kind", PINGS)
def test_ping(world: ns.World, folder: Path, kind: str) -> None:
    place = client(world, folder, pinging(kind))
    asked = (
        ping(ns.SERVER),
        ping(ns.SERVER, 1500, samples=5),
        ping(ns.DROPPED),
        ping(ns.PROHIBITED),
        ping(ns.FILTERED),
        ping(ns.PORT_UNREACHABLE),
        ping(ns.NET_UNREACHABLE),
        ping(ns.NOBODY, samples=1),
    )
    frames = place.frames(*asked)
    assert frames.tools.ping == ("ping" if kind == "iputils" else "plain")
    reading = read_observations(asked, frames)
    assert reading.unseen == ()
    told = kind == "iputils"  # busybox does not print ICMP errors

    def error(failure: Failure, code: int, source: str = ns.ROUTER) -> tuple[Failure, Icmp | None]:
        return (failure, Icmp(3, code, source)) if told else (Failure.TIMEOUT, None)

    expected = [
        (None, None),
        (None, None),
        (Failure.TIMEOUT, None),
        error(Failure.HOST_PROHIBITED, 10),
        error(Failure.HOST_PROHIBITED, 13),
        error(Failure.PORT_UNREACHABLE, 3),
        error(Failure.NETWORK_UNREACHABLE, 0),
        error(Failure.NO_ROUTE, 1, "10.9.0.1"),
    ]
    counts = [3, 5, 3, 3, 3, 3, 3, 1]
    assert [(o.failure, o.lost, o.icmp) for o in reading.observations] == [
        (f, n if f else 0, i) for (f, i), n in zip(expected, counts, strict=True)
    ]
    # of busybox's the last may be late, and is not counted then
    late = [n - o.sent for o, n in zip(reading.observations, counts, strict=True)]
    assert set(late) <= ({0} if told else {0, 1})


@pytest.mark.parametrize("kind", PINGS)
def test_a_packet_that_is_too_big(world: ns.World, folder: Path, kind: str) -> None:
    place = client(world, folder, pinging(kind))
    for name, device in (("router", "e1"), ("server", "e0")):
        world.ip(name, "link", "set", device, "mtu", "1300")
    try:
        fits, too_big = place.ask(ping(ns.SERVER, 1300), ping(ns.SERVER, 1301)).observations
        (own,) = place.ask(ping(ns.ROUTER, 1501)).observations
    finally:
        for name, device in (("router", "e1"), ("server", "e0")):
            world.ip(name, "link", "set", device, "mtu", "1500")
        world.ip("client", "route", "flush", "cache")
    router = Icmp(3, 4, ns.ROUTER) if kind == "iputils" else None
    assert (fits.failure, fits.lost, fits.icmp) == (None, 0, None)
    assert outcome(own) == (Failure.TOO_BIG, 3, 3, None)
    assert own.detail.startswith("mtu=1500: ")
    assert outcome(too_big)[:3] == (Failure.TOO_BIG, 3, 3)
    assert too_big.icmp in (router, None)  # told by the router, or remembered by the kernel
    assert too_big.detail.startswith("mtu=1300: ")


def test_a_loss_of_large_packets_only(world: ns.World, folder: Path) -> None:
    rule = "ip length > 1400 drop"
    chain = "type filter hook input priority 0;"
    world.inside(
        "server", "nft", "-f", "-", input=f"table ip hole {{\n chain c {{\n {chain}\n {rule}\n }}\n}}\n"
    )  # fmt: skip
    try:
        for kind in PINGS:
            at = folder / kind
            at.mkdir()
            place = client(world, at, pinging(kind))
            small, large = place.ask(ping(ns.SERVER, 1400), ping(ns.SERVER, 1401)).observations
            assert outcome(small) == (None, 3, 0, None)
            assert outcome(large) == (Failure.TIMEOUT, 3, 3, None)
    finally:
        world.inside("server", "nft", "delete", "table", "ip", "hole")


@pytest.mark.parametrize("kind", ["busybox", "habets"])
def test_who_owns_an_address(world: ns.World, folder: Path, kind: str) -> None:
    arping = shutil.which("arping")
    assert arping
    tools = {**applets("arping"), "arping": Path(arping)} if kind == "habets" else applets()
    place = client(world, folder, tools)
    asked = [
        flow(FlowKind.ARP, 0, device, address=address)
        for device, address in (
            ("e1", ns.TWICE),
            ("e1", ns.FREE),
            ("e0", ns.ROUTER),
            ("nope", ns.FREE),
        )
    ]
    frames = place.frames(*asked)
    assert frames.tools.arping == kind
    reading = place.ask(*asked)
    twice, free, router = reading.observations
    assert (twice.failure, twice.answers) == (None, ns.hardware_addresses(world))
    assert (free.failure, free.answers) == (Failure.ARP_UNANSWERED, ())
    assert len(router.answers) == 1
    ((unseen, reason),) = reading.unseen
    assert unseen is asked[3]
    assert "No such device" in reason


def test_bind_s_nslookup(folder: Path) -> None:
    nslookup = shutil.which("nslookup")
    assert nslookup
    place = bench(folder, {**programs("bash"), "nslookup": Path(nslookup)})
    queries: list[bytes] = []

    def lossy(query: bytes) -> bytes:
        queries.append(query)
        return b"" if len(queries) == 2 else dns_answer(query, NOERROR, "10.96.0.1")

    with (
        answering(lossy) as port,
        answering(lambda q: dns_answer(q, NXDOMAIN)) as absent,
        answering(lambda q: dns_answer(q, SERVFAIL)) as failing,
        answering(lambda q: dns_answer(q, REFUSED)) as refusing,
        answering(lambda q: dns_answer(q, NOERROR)) as empty,
    ):
        others = [flow(FlowKind.DNS_UDP, p) for p in (absent, failing, refusing, empty)]
        asked = (
            flow(FlowKind.DNS_UDP, port, samples=4),
            *others,
            flow(FlowKind.DNS_UDP, closed_port()),
        )
        frames = place.frames(*asked)
        assert (frames.tools.udp, frames.tools.nslookup) == ("none", "nslookup")
        queries.clear()
        reading = place.ask(*asked)
    sampled, *rest = reading.observations
    assert (sampled.failure, sampled.sent, sampled.lost, len(queries)) == (None, 4, 1, 4)
    assert [o.failure for o in rest] == [
        Failure.DNS_NXDOMAIN,
        Failure.DNS_SERVFAIL,
        Failure.DNS_REFUSED,
        Failure.DNS_NO_ANSWER,
        Failure.CONNECTION_REFUSED,
    ]


NOBODY: Final = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
)
PLACES: Final = ("/tmp", "/dev/shm", "/run", "/var/tmp", "/")  # noqa: S108 - where it may write
READ_ONLY: Final = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o ro none /tmp && exec "$@"',
    "sh",
)


@pytest.mark.parametrize("shell", [("/bin/dash",), ("/bin/bash",), ("/bin/busybox", "ash")])
def test_as_nobody_in_a_folder_that_cannot_be_written(
    world: ns.World, folder: Path, shell: tuple[str, ...]
) -> None:
    bench(folder, {**pinging("iputils"), "sh": Path("/bin/dash")})
    asked = (tcp(ns.SERVER), ping(ns.SERVER), flow(FlowKind.ARP, 0, "e1", address=ns.TWICE))
    command = (IP, "netns", "exec", world["client"], *READ_ONLY, *NOBODY, *shell, "-c")
    text = script(asked)
    done = subprocess.run(
        [*command, f"cd /; PATH={folder}/tools; unset TMPDIR\n{text}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    frames = read_frames(done.stdout)
    assert frames is not None, done.stderr
    reading = read_observations(asked, frames)
    assert [(o.flow.kind, o.failure) for o in reading.observations] == [(FlowKind.TCP, None)]
    assert [reason.split(":")[0] for _, reason in reading.unseen] == [
        "ping is not permitted here",
        "arping is not permitted here",
    ]
    left = [p for p in PLACES if Path(p, f"wwwm-{done.stdout[2:18]}").exists()]
    assert left == []
    assert done.stderr == ""
