"""What is around the cluster: an internet with resolver and databases, and the proxy host."""

import os
import re
import signal
import sys
from pathlib import Path
from string import Template
from typing import Final

from tests.lab import cgroups
from tests.lab.places import MANIFESTS, PATH, ROOT, Places
from tests.lab.shape import DATABASE_PORTS, DATABASES, Shape
from tests.lab.shell import LabError, poll, run
from tests.lab.ssh import Ssh
from tests.lab.topology import OUTSIDE, PROXY

SSH_PORT: Final = 22
COREFILE: Final = """\
.:53 {{
{more}  hosts {{
    {entries}
  }}
}}
"""


class World:
    """Starts and steers what is outside of the cluster."""

    def __init__(self, shape: Shape, places: Places, coredns: Path) -> None:
        """Remember where everything is."""
        self._shape = shape
        self._places = places
        self._coredns = coredns
        self._home = places.run / "world"
        self.ssh = Ssh(home=self._home / "ssh", address=shape.proxy_address)

    @property
    def nginx_config(self) -> Path:
        """The configuration of the proxy host's nginx."""
        return self._home / "nginx.conf"

    def start(self) -> None:
        """Start everything and wait until it listens."""
        self._home.mkdir(parents=True, exist_ok=True)
        cgroups.make(f"{self._places.cgroup}/world")
        corefile = self._home / "Corefile"
        corefile.write_text(self._corefile(""))
        self.nginx_config.write_text(self._nginx(f"http://{self._shape.first_vip}", keep_host=True))
        ports = [str(port) for port in DATABASE_PORTS.values()]
        databases = (sys.executable, "-m", "tests.lab.databases", DATABASES, *ports)
        self._spawn(OUTSIDE, "resolver", str(self._coredns), "-conf", str(corefile))
        self._spawn(OUTSIDE, "databases", *databases)
        self._spawn(PROXY, "nginx", "nginx", "-c", str(self.nginx_config))
        self.ssh.make()
        self._spawn(PROXY, "sshd", *self.ssh.command)
        self._listening(OUTSIDE, "-u", 53)
        for port in DATABASE_PORTS.values():
            self._listening(OUTSIDE, "-t", port)
        for port in (self._shape.proxy_port, SSH_PORT):
            self._listening(PROXY, "-t", port)

    def configure_proxy(self, upstream: str, *, keep_host: bool) -> None:
        """Point the proxy elsewhere, and wait until no worker of the old configuration is left."""
        before = self.nginx_config.read_text()
        self.nginx_config.write_text(self._nginx(upstream, keep_host=keep_host))
        test = self._in(PROXY, "nginx", "-t", "-c", str(self.nginx_config))
        done = run(*test, check=False)
        if done.returncode:
            self.nginx_config.write_text(before)
            msg = f"nginx refuses that: {done.stderr.strip()}"
            raise LabError(msg)
        master = int((self._home / "nginx.pid").read_text())
        old = _children(master)
        os.kill(master, signal.SIGHUP)

        def replaced() -> bool:
            now = _children(master)
            return bool(now) and not now & old

        poll(replaced, seconds=10, what="new workers of nginx")

    def _corefile(self, more: str) -> str:
        names = dict.fromkeys(DATABASE_PORTS, DATABASES)
        names[self._shape.host] = self._shape.proxy_address
        entries = "\n    ".join(f"{address} {name}" for name, address in names.items())
        return COREFILE.format(entries=entries, more=more)

    def configure_resolver(self, more: str) -> None:
        """Give the resolver of the internet more to answer; nothing puts it back as it was."""
        (self._home / "Corefile").write_text(self._corefile(more))
        sockets = self._in(OUTSIDE, "ss", "-Hlnup", "sport", "=", ":53")
        for pid in set(re.findall(r"pid=(\d+)", run(*sockets).stdout)):
            os.kill(int(pid), signal.SIGUSR1)

    def _nginx(self, upstream: str, *, keep_host: bool) -> str:
        template = Template((MANIFESTS / "nginx.conf").read_text())
        return template.substitute(
            home=self._home,
            port=self._shape.proxy_port,
            name=self._shape.host,
            upstream=upstream,
            host="$host" if keep_host else "$proxy_host",
        )

    def _in(self, machine: str, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._places.netns(machine), *command)

    def _spawn(self, machine: str, name: str, *command: str) -> None:
        environment = {"PATH": PATH, "PYTHONPATH": str(ROOT), "HOME": "/root"}
        group = f"{self._places.cgroup}/world"
        cgroups.spawn(group, self._home, name, *self._in(machine, *command), env=environment)

    def _listening(self, machine: str, kind: str, port: int) -> None:
        sockets = self._in(machine, "ss", "-Hln", kind, "sport", "=", f":{port}")
        poll(
            lambda: run(*sockets).stdout, seconds=15, what=f"a listener on port {port} of {machine}"
        )


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
