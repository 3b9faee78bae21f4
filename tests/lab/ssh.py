"""The way by which an operator gets onto the proxy host: an sshd there, and an ssh that knows it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.shell import run

USER: Final = "root"
SSHD: Final = "/usr/sbin/sshd"
# where sshd locks up what it does before somebody has logged in
EMPTY: Final = Path("/run/sshd")
_KIND: Final = "ed25519"
_SERVER: Final = """\
ListenAddress {address}
HostKey {home}/host_key
AuthorizedKeysFile {home}/user_key.pub
PidFile {home}/sshd.pid
AllowUsers {user}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
# the keys are the lab's: who may write beside them is the machine's owner's business
StrictModes no
"""
_CLIENT: Final = """\
IdentityFile {key}
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile {known}
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What an operator has at home: an ssh configuration, and an ssh that goes by it.

    Attributes:
        config: The configuration, for `ssh -F`.
        bin: A directory for the PATH, with an `ssh` that needs no `-F`.
    """

    config: Path
    bin: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """The keys and the configuration of both ends; all of it is in files below `home`."""

    home: Path
    address: str

    @property
    def destination(self) -> str:
        """Who logs in where, as `ssh` is told."""
        return f"{USER}@{self.address}"

    @property
    def server_config(self) -> Path:
        """The configuration of sshd."""
        return self.home / "sshd_config"

    @property
    def client(self) -> Client:
        """What somebody has who may log in."""
        return self._client("client")

    @property
    def command(self) -> tuple[str, ...]:
        """How sshd is started, in the foreground, with its log on stderr."""
        prepared = f'mkdir -p {EMPTY} && exec "$@"'
        return ("sh", "-c", prepared, "sh", SSHD, "-D", "-e", "-f", str(self.server_config))

    def make(self) -> None:
        """Make the keys and write the configuration of both ends."""
        self.home.mkdir(parents=True, exist_ok=True)
        host, user = self._key("host_key"), self._key("user_key")
        config = _SERVER.format(address=self.address, home=self.home, user=USER)
        self.server_config.write_text(config)
        self._write("client", key=user, host=host)

    def with_another_key(self) -> Client:
        """What somebody has whom the proxy host does not know."""
        return self._write("another-key", key=self._key("other_key"), host=self.home / "host_key")

    def with_another_host(self) -> Client:
        """What somebody has who met another host at this address before."""
        return self._write("another-host", key=self.home / "user_key", host=self._key("other_key"))

    def with_no_host(self) -> Client:
        """What somebody has who never met the host."""
        return self._write("no-host", key=self.home / "user_key", host=None)

    def _key(self, name: str) -> Path:
        path = self.home / name
        if not path.exists():
            run("ssh-keygen", "-q", "-t", _KIND, "-N", "", "-C", name, "-f", str(path))
        return path

    def _client(self, name: str) -> Client:
        directory = self.home / name
        return Client(config=directory / "config", bin=directory / "bin")

    def _write(self, name: str, *, key: Path, host: Path | None) -> Client:
        client = self._client(name)
        client.bin.mkdir(parents=True, exist_ok=True)
        known = client.config.with_name("known_hosts")
        public = host.with_name(f"{host.name}.pub").read_text() if host else ""
        known.write_text(f"{self.address} {public}" if public else "")
        client.config.write_text(_CLIENT.format(key=key, known=known))
        program = client.bin / "ssh"
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {client.config} "$@"\n')
        program.chmod(0o755)
        return client
