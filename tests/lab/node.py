"""A machine of the cluster: namespaces of its own, a disk, a runtime and a kubelet."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import cgroups
from tests.lab.images import PAUSE, Archive
from tests.lab.init import HOLD, READY, Spec
from tests.lab.places import NETNS, PATH, ROOT, Places
from tests.lab.shape import RESOLVER, Shape
from tests.lab.shell import LabError, poll, run
from tests.lab.topology import Topology, tap

ADMIN: Final = "/etc/kubernetes/admin.conf"
SEARCH: Final = "openstacklocal novalocal"
_START_FIELD: Final = 19


def start_time(pid: int) -> str | None:
    """When a process began, which together with its id names it for good; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # the name before the last parenthesis may hold blanks
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[_START_FIELD]


def _child_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node; all of its state is in files, so that any process can attach to it."""

    shape: Shape
    places: Places
    index: int

    @property
    def name(self) -> str:
        """Its short name."""
        return self.shape.nodes[self.index].name

    @property
    def fqdn(self) -> str:
        """Its host name, which is its name in the cluster."""
        return self.shape.nodes[self.index].fqdn

    @property
    def address(self) -> str:
        """Its address in the nodes' network."""
        return self.shape.address(self.index)

    @property
    def tap(self) -> str:
        """The name of its port on the tenant switch."""
        return tap(self.index)

    @property
    def control_plane(self) -> bool:
        """Whether the API server runs here."""
        return self.index == 0

    @property
    def home(self) -> Path:
        """Where its disk, logs and state are on this machine."""
        return self.places.run / "nodes" / self.name

    @property
    def disk(self) -> Path:
        """Its disk: `/var/lib/kubelet` of the node is `var/lib/kubelet` in here."""
        return self.home / "fs"

    @property
    def tools(self) -> Path:
        """The directory with kubectl and kubeadm."""
        return self.places.run / "bin"

    @property
    def cgroup(self) -> str:
        """The control group of all its processes."""
        return f"{self.places.cgroup}/{self.name}"

    @property
    def pid(self) -> int | None:
        """The process id of its init; None while it is down."""
        try:
            pid, began = (self.home / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == began else None

    def run(
        self,
        *command: str,
        input: str | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node, as root."""
        inside = self.entering(*command)
        return run(*inside, input=input, check=check, timeout=timeout)

    def entering(self, *command: str) -> tuple[str, ...]:
        """The command that runs a command on the node."""
        if (pid := self.pid) is None:
            msg = f"{self.name} is down"
            raise LabError(msg)
        environment = ("env", f"PATH={self.tools}:{PATH}", f"KUBECONFIG={ADMIN}")
        spaces = ("--mount", "--uts", "--net", "--pid", "--cgroup")
        return ("nsenter", "--target", str(pid), *spaces, "--", *environment, *command)

    def boot(self, archives: tuple[Archive, ...]) -> None:
        """Plug the node in and start it; returns once its init is under way."""
        (self.home / HOLD).mkdir(parents=True, exist_ok=True)
        (self.home / READY).unlink(missing_ok=True)
        Topology(self.shape, self.places).plug_node(self.index)
        cgroups.make(self.cgroup)
        spec = self.home / "spec.json"
        spec.write_text(self._spec(archives).dump())
        netns = f"--net={NETNS / self.places.netns(self.name)}"
        spaces = ("--mount", "--uts", "--cgroup", "--pid", "--fork", "--mount-proc")
        unshare = ("nsenter", netns, "unshare", *spaces, "--propagation", "private", "--")
        init = (sys.executable, "-m", "tests.lab.init", str(spec))
        environment = {"PATH": PATH, "PYTHONPATH": str(ROOT), "HOME": "/root"}
        outer = cgroups.spawn(self.cgroup, self.home, "init", *unshare, *init, env=environment)
        pid = poll(lambda: _child_of(outer), seconds=30, what=f"the init of {self.name}")
        (self.home / "pid").write_text(f"{pid} {start_time(pid or 0)}\n")

    def await_ready(self, seconds: float = 120) -> None:
        """Wait until the runtime is up and holds all images."""

        def ready() -> bool:
            if self.pid is None:
                said = (self.home / "init.log").read_text()[-600:]
                msg = f"the init of {self.name} ended: {said}"
                raise LabError(msg)
            return (self.home / READY).exists()

        poll(ready, seconds=seconds, what=f"the runtime of {self.name}")

    def halt(self) -> None:
        """Switch the node off, as by its power button; its disk stays."""
        if (pid := self.pid) is not None:
            # the end of an init is the end of its process namespace
            os.kill(pid, signal.SIGKILL)
        cgroups.kill(self.cgroup)
        Topology(self.shape, self.places).unplug_node(self.index)
        cgroups.remove(self.cgroup)
        (self.home / "pid").unlink(missing_ok=True)

    def stop_service(self, name: str) -> None:
        """Stop `kubelet` or `containerd` and hold it down; containers live on."""
        (self.home / HOLD / name).touch()
        gone = self.home / f"{name}.pid"
        poll(lambda: not gone.exists(), seconds=10, what=f"the end of {name} on {self.name}")

    def start_service(self, name: str) -> None:
        """Let a stopped service run again."""
        (self.home / HOLD / name).unlink(missing_ok=True)
        started = self.home / f"{name}.pid"
        poll(started.exists, seconds=10, what=f"{name} on {self.name}")

    def _spec(self, archives: tuple[Archive, ...]) -> Spec:
        own = [a for a in archives if self.control_plane or not a.image.control_plane_only]
        hosts = ["127.0.0.1 localhost"]
        for index, other in enumerate(self.shape.nodes):
            names = dict.fromkeys((other.fqdn, other.name))
            hosts.append(f"{self.shape.address(index)} {' '.join(names)}")
        return Spec(
            home=str(self.home),
            fqdn=self.fqdn,
            address=self.address,
            hosts="\n".join(hosts) + "\n",
            resolver=f"nameserver {RESOLVER}\nsearch {SEARCH}\n",
            machine_id=hashlib.sha256(self.fqdn.encode()).hexdigest()[:32],
            pause=PAUSE,
            kubelet=str(self.tools / "kubelet"),
            images=tuple(str(archive.path) for archive in own),
            controllers=cgroups.CONTROLLERS,
        )


def link_tools(tools: Path, programs: dict[str, Path]) -> None:
    """Fill the directory that every node has in its PATH."""
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir(parents=True)
    for name, path in programs.items():
        (tools / name).symlink_to(path)
