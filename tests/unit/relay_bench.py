"""The relay's script, run by a real shell that finds only chosen tools."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from doctor.probe.relay import Reading, read_frames, read_observations, script
from doctor.probe.relay_frames import Frames

BUSYBOX: Final = shutil.which("busybox")
NAME: Final = "kubernetes.default.svc.cluster.local."
SMALL: Final = ("base64", "dd", "head", "mkdir", "mkfifo", "od", "rm", "sleep", "timeout", "true")
NETWORK: Final = ("nc", "nslookup", "ping", "arping")


def flow(  # noqa: PLR0913 - a flow's parts
    kind: FlowKind,
    port: int = 80,
    name: str = NAME,
    path: str = "/",
    *,
    address: str = "127.0.0.1",
    samples: int = 1,
    size: int = 0,
) -> Flow:
    """Ask loopback."""
    return Flow(
        id=f"{kind}:{address}:{port}{path}",
        purpose=Purpose.MESH,
        vantage=Vantage(VantageKind.POD, "n0"),
        kind=kind,
        address=address,
        port=port,
        name=name,
        path=path,
        samples=samples,
        size=size,
    )


class Bench(msgspec.Struct, frozen=True):
    """A shell, and a folder with the only tools that it finds.

    Args:
        folder: Where all of it is.
        shell: The shell's command, without ``-c``.
        before: What the shell runs in: a user, a network namespace.
    """

    folder: Path
    shell: tuple[str, ...]
    before: tuple[str, ...] = ()

    def run(self, text: str, *, cwd: Path | None = None) -> str:
        """Run a script, see that it leaves nothing in its folder, and return what it printed."""
        done = subprocess.run(
            [*self.before, *self.shell, "-c", text],
            env={"PATH": str(self.folder / "tools"), "TMPDIR": str(self.folder / "tmp")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=40,
            check=False,
            cwd=cwd,
        )
        assert list((self.folder / "tmp").iterdir()) == []
        assert done.stderr == b""
        return done.stdout.decode(errors="replace")

    def frames(self, *flows: Flow) -> Frames:
        """Run flows."""
        frames = read_frames(self.run(script(flows)))
        assert frames is not None
        assert frames.ended
        return frames

    def ask(self, *flows: Flow) -> Reading:
        """Run flows and understand what came."""
        return read_observations(flows, self.frames(*flows))


def bench(
    folder: Path,
    tools: Mapping[str, str | Path],
    shell: tuple[str, ...] = ("/bin/dash",),
    before: tuple[str, ...] = (),
) -> Bench:
    """Set up a folder with tools, each a link or (where it is text) a script of its own."""
    (folder / "tools").mkdir()
    (folder / "tmp").mkdir()
    for name, tool in tools.items():
        place = folder / "tools" / name
        if isinstance(tool, str):
            place.write_text(f"#!/bin/sh\n{tool}\n")
            place.chmod(0o755)
        else:
            place.symlink_to(tool)
    return Bench(folder, shell, before)


def applets(*without: str) -> dict[str, Path]:
    """All that is needed, by busybox.

    Its own shell and ``timeout`` find applets wherever they look: without some, others take over.
    """
    assert BUSYBOX is not None
    found = {name: Path(BUSYBOX) for name in {*SMALL, *NETWORK, "sh", "ip"} - set(without)}
    timeout = shutil.which("timeout")
    if without and "timeout" in found and timeout:
        found["timeout"] = Path(timeout)
    return {**found, "sh": Path("/bin/dash")} if without else found


def programs(*without: str) -> dict[str, Path]:
    """The small tools of this system, and bash."""
    found = {n: shutil.which(n) for n in {*SMALL, "bash", "ip"} - set(without)}
    real = {n: Path(os.path.realpath(p)) for n, p in found.items() if p}
    return {"sh": Path("/bin/dash"), **real}
