"""Scripts in a container whose first process buries no children, as flanneld does not."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doctor.collect.node_script import node_script, read_outputs
from doctor.model.flow import FlowKind
from doctor.probe.relay import read_frames, script
from tests.unit.loopback import closed_port, hanging_up, saying, serving
from tests.unit.relay_bench import BUSYBOX, Bench, applets, bench, flow, programs

pytestmark = pytest.mark.lab

MARK = "@@0123456789abcdef"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def _children(parent: int) -> list[str]:
    """What a process has for children, zombies included."""
    found: list[str] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            if int(rest.split()[1]) == parent:
                found.append(f"{name} {rest.split()[0]}")
    return found


@contextlib.contextmanager
def container() -> Iterator[int]:
    """A process namespace, and the first process in it, which waits for nothing but its time."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with subprocess.Popen((*unshare, "sleep", "120")) as made:
        try:
            until = time.monotonic() + 10
            children = Path(f"/proc/{made.pid}/task/{made.pid}/children")
            while not (first := children.read_text().split()):
                assert time.monotonic() < until
                time.sleep(0.01)
            yield int(first[0])
        finally:
            made.kill()


def inside(first: int) -> tuple[str, ...]:
    """Enter it as `kubectl exec` does: as nobody's child in there."""
    return (str(shutil.which("nsenter")), "-t", str(first), "-p", "-m")


@pytest.mark.parametrize(
    ("tools", "shell"),
    [
        (applets, (str(BUSYBOX), "sh")),
        (lambda: programs("timeout"), ("/bin/dash",)),
        (lambda: programs("timeout"), ("/bin/bash",)),
        (programs, ("/bin/dash",)),
    ],
    ids=["busybox", "dash, no timeout", "bash, no timeout", "coreutils"],
)
def test_a_relay_leaves_no_child(
    folder: Path, tools: Callable[[], dict[str, Path]], shell: tuple[str, ...]
) -> None:
    with (
        container() as first,
        serving(saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi")) as web,
        serving(hanging_up) as closing,
    ):
        place: Bench = bench(folder, tools(), shell, inside(first))
        flows = (
            *(flow(FlowKind.TCP, web, samples=3), flow(FlowKind.TCP, closed_port())),
            *(flow(FlowKind.HTTP, web, "x.y"), flow(FlowKind.HTTP, closing, "x.y")),
            *(flow(FlowKind.TLS, web, "x.y"), flow(FlowKind.DNS_UDP, closed_port())),
            *(flow(FlowKind.DNS_TCP, closing), flow(FlowKind.PING, 0, samples=2)),
        )
        frames = read_frames(place.run(script(flows)))
        left = _children(first)
    assert frames is not None
    assert frames.ended
    assert left == []


@pytest.mark.parametrize("with_busybox", [True, False], ids=["busybox", "this system"])
def test_reading_a_node_leaves_no_child(folder: Path, *, with_busybox: bool) -> None:
    names = ("awk", "cat", "cut", "grep", "head", "ip", "ls", "nc", "sh", "timeout", "tr", "true")
    for name in names if with_busybox else ():
        (folder / name).symlink_to(str(BUSYBOX))
    for name in ("bridge", "nft", "iptables-save"):
        (folder / name).symlink_to(str(shutil.which(name)))
    path = str(folder) if with_busybox else "/usr/sbin:/usr/bin:/sbin:/bin"
    shell = (str(BUSYBOX), "sh") if with_busybox else ("sh",)
    with container() as first:
        done = subprocess.run(
            (*inside(first), *shell, "-c", node_script(MARK, 4096)),
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        left = _children(first)
    assert len(read_outputs(done.stdout, MARK, 4096)) > len(names)
    assert left == []
