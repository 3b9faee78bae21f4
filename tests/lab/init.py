"""The first process of a node: it makes the node's file system and keeps its services running.

It is started as `python -m tests.lab.init SPEC` inside fresh namespaces. A service is held down
while a file of its name is in the directory `hold`; its log and its process id (as the node sees
it) are beside that directory.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

DISK: Final = (
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/var/log/kubernetes",
    "/etc/kubernetes",
    "/etc/cni",
    "/etc/containerd",
    "/etc/sysctl.d",
    "/etc/modules-load.d",
    "/opt/cni",
    "/usr/libexec/kubernetes",
)
PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
READY: Final = "ready"
HOLD: Final = "hold"
TICK_SECONDS: Final = 0.1
CONTAINERD_CONFIG: Final = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that a node has to know about itself."""

    home: str
    fqdn: str
    address: str
    hosts: str
    resolver: str
    machine_id: str
    pause: str
    kubelet: str
    images: tuple[str, ...]
    controllers: tuple[str, ...]

    def dump(self) -> str:
        """The text that `load` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Spec":
        """The spec that `dump` wrote."""
        raw = json.loads(text)
        lists = {key: tuple(raw[key]) for key in ("images", "controllers")}
        return cls(**{**raw, **lists})


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _mount_cgroups(controllers: tuple[str, ...]) -> None:
    # mounted again from inside the cgroup namespace, a hierarchy shows the node's part alone
    _mount("-t", "sysfs", "sysfs", "/sys")
    _mount("-t", "tmpfs", "tmpfs", "/sys/fs/cgroup")
    for name in controllers:
        directory = Path("/sys/fs/cgroup") / name
        directory.mkdir()
        option = "none,name=systemd" if name == "systemd" else name
        _mount("-t", "cgroup", "-o", option, "cgroup", str(directory))


def _bind_file(home: Path, target: str, text: str) -> None:
    own = home / Path(target).name
    # kept if it is there: what was changed on a disk is there after a reboot, too
    if not own.exists():
        own.write_text(text)
    _mount("--bind", str(own), str(Path(target).resolve()))


def _mount_disk(spec: Spec, home: Path) -> None:
    for directory in DISK:
        own = home / "fs" / directory.lstrip("/")
        own.mkdir(parents=True, exist_ok=True)
        Path(directory).mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(own), directory)
    Path("/lib/modules").mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "tmpfs", "/run")
    for name in ("netns", "containerd", "flannel", "lock"):
        Path("/run", name).mkdir()
    _bind_file(home, "/etc/resolv.conf", spec.resolver)
    _bind_file(home, "/etc/hosts", spec.hosts)
    _bind_file(home, "/etc/machine-id", f"{spec.machine_id}\n")


def _furnish(spec: Spec) -> None:
    plugins = Path("/opt/cni/bin")
    plugins.mkdir(exist_ok=True)
    for name in PLUGINS:
        if not (plugins / name).exists():
            shutil.copy2(Path("/usr/lib/cni") / name, plugins / name)
    config = Path("/etc/containerd/config.toml")
    if not config.exists():
        config.write_text(CONTAINERD_CONFIG.format(pause=spec.pause))
    settings = ("net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1")
    subprocess.run(["sysctl", "-qw", *settings], check=True)


def set_up(spec: Spec) -> None:
    """Turn fresh namespaces into a machine with a disk of its own."""
    socket.sethostname(spec.fqdn)
    _mount("--make-rprivate", "/")
    _mount_cgroups(spec.controllers)
    _mount_disk(spec, Path(spec.home))
    # kubelet and flannel hand mounts to containers
    _mount("--make-rshared", "/")
    _furnish(spec)


def _containerd(_: Spec) -> list[str]:
    return ["containerd"]


def _kubelet(spec: Spec) -> list[str] | None:
    """The kubelet's command, once kubeadm has written its configuration."""
    etc, lib = Path("/etc/kubernetes"), Path("/var/lib/kubelet")
    bootstrap, kubeconfig = etc / "bootstrap-kubelet.conf", etc / "kubelet.conf"
    if not (lib / "config.yaml").exists() or not (bootstrap.exists() or kubeconfig.exists()):
        return None
    flags = ""
    with contextlib.suppress(FileNotFoundError):
        flags = (lib / "kubeadm-flags.env").read_text().partition("=")[2].strip().strip('"')
    return [
        spec.kubelet,
        f"--bootstrap-kubeconfig={bootstrap}",
        f"--kubeconfig={kubeconfig}",
        f"--config={lib / 'config.yaml'}",
        *shlex.split(flags),
        f"--node-ip={spec.address}",
        f"--hostname-override={spec.fqdn}",
    ]


SERVICES: Final = {"containerd": _containerd, "kubelet": _kubelet}


class Supervisor:
    """Keeps the services running that are not held down, and reaps orphans."""

    def __init__(self, spec: Spec) -> None:
        """Start with nothing running."""
        self._spec = spec
        self._home = Path(spec.home)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def tick(self) -> None:
        """Look once after everything."""
        self._reap()
        for name in SERVICES:
            held = (self._home / HOLD / name).exists()
            if held and name in self._running:
                self._running[name].send_signal(signal.SIGKILL)
            elif not held and name not in self._running:
                self._start(name)

    def _pid_file(self, name: str) -> Path:
        return self._home / f"{name}.pid"

    def _start(self, name: str) -> None:
        command = SERVICES[name](self._spec)
        if command is None:
            return
        with (self._home / f"{name}.log").open("ab") as log:
            # this process lives as long as its services: it keeps them itself, by their ids
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._running[name] = process
        self._pid_file(name).write_text(f"{process.pid}\n")

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._forget(*ended)

    def _forget(self, pid: int, status: int) -> None:
        for name, process in list(self._running.items()):
            if process.pid == pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                del self._running[name]
                self._pid_file(name).unlink(missing_ok=True)

    def run_until(self, seconds: float, *condition: str) -> None:
        """Supervise until a command succeeds.

        Raises:
            TimeoutError: It did not within that time.
        """
        deadline = time.monotonic() + seconds
        while subprocess.run(condition, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(" ".join(condition))
            self.tick()
            time.sleep(TICK_SECONDS)


def _import(images: tuple[str, ...]) -> None:
    done = Path("/var/lib/containerd/imported")
    known = done.read_text().splitlines() if done.exists() else []
    for path in images:
        if path not in known:
            command = ["ctr", "-n", "k8s.io", "images", "import", "--digests=false", path]
            subprocess.run(command, check=True)
            with done.open("a") as listed:
                listed.write(f"{path}\n")


def main() -> None:
    """Be a node until somebody ends the process namespace."""
    spec = Spec.load(Path(sys.argv[1]).read_text())
    set_up(spec)
    supervisor = Supervisor(spec)
    supervisor.tick()
    supervisor.run_until(60, "ctr", "version")
    _import(spec.images)
    (Path(spec.home) / READY).touch()
    while True:
        supervisor.tick()
        time.sleep(TICK_SECONDS)


if __name__ == "__main__":
    main()
