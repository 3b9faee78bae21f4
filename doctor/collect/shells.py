"""Shells: places where a POSIX shell runs a script of ours, in a container or over ssh."""

import subprocess
from typing import Protocol

import msgspec

from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, ExecAnswer
from doctor.collect.process import MOST_OUTPUT, Finished, finish
from doctor.model.flow import Vantage, VantageKind

__all__ = ["LocalShell", "PodShell", "Shell", "SshShell"]

_CONNECT_SECONDS = 8
_SSH_FAILED = 255


class Shell(Protocol):
    """A place to run scripts in, and the vantage that it stands for."""

    @property
    def vantage(self) -> Vantage:
        """Where a packet starts that a script sends."""

    @property
    def via(self) -> str:
        """What was entered: ``namespace/pod`` or ``user@host``."""

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Run a script with ``sh`` and return what it printed, or why it could not be run."""


class PodShell(msgspec.Struct, frozen=True):
    """A container with a shell.

    Args:
        api: The API server.
        vantage: What it stands for.
        namespace: The pod's namespace.
        pod: The pod's name.
        container: The container's name.
    """

    api: Api
    vantage: Vantage
    namespace: str
    pod: str
    container: str

    @property
    def via(self) -> str:
        """The pod's key."""
        return f"{self.namespace}/{self.pod}"

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Run a script in the container."""
        command = ["sh", "-c", script]
        return self.api.exec(self.namespace, self.pod, self.container, command, seconds)


class LocalShell(msgspec.Struct, frozen=True):
    """This machine.

    Args:
        deadline: When the run has to be over.
        sudo: Whether sudo, without asking for a password, runs the scripts.
    """

    deadline: Deadline
    sudo: bool = False

    @property
    def vantage(self) -> Vantage:
        """This machine."""
        return Vantage(VantageKind.MACHINE)

    @property
    def via(self) -> str:
        """Nothing is entered."""
        return ""

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Run a script here."""
        command = ("sudo", "-n", "sh", "-s") if self.sudo else ("sh", "-s")
        return _run(command, script, self.deadline, seconds, sudo=self.sudo)


class SshShell(msgspec.Struct, frozen=True):
    """A host that the system's ssh reaches without asking anything.

    Args:
        destination: ``user@host``, ``host`` or a name from ssh's configuration.
        deadline: When the run has to be over.
        sudo: Whether sudo, without asking for a password, runs the scripts there.
    """

    destination: str
    deadline: Deadline
    sudo: bool = False

    @property
    def vantage(self) -> Vantage:
        """The proxy host: the only one that is entered like this."""
        return Vantage(VantageKind.PROXY)

    @property
    def via(self) -> str:
        """What ssh was given."""
        return self.destination

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Run a script there; on standard input, so that no shell takes it apart once more."""
        command = (
            "ssh",
            "-o", "BatchMode=yes",
            "-o", f"ConnectTimeout={_CONNECT_SECONDS}",
            "-o", "ForwardAgent=no",
            "-o", "ForwardX11=no",
            "-o", "ClearAllForwardings=yes",
            "-T", "--", self.destination, "exec sudo -n sh -s" if self.sudo else "exec sh -s",
        )  # fmt: skip
        return _run(command, script, self.deadline, seconds + _CONNECT_SECONDS, sudo=self.sudo)


def _run(
    command: tuple[str, ...], script: str, deadline: Deadline, seconds: float, *, sudo: bool
) -> ExecAnswer:
    """Run a program that reads a script from its standard input."""
    name = command[0]
    if deadline.passed:
        return ExecAnswer(reason=deadline.reason)
    # The brace has the shell read all of the script before it runs any: no command eats the rest.
    whole = f"{{\n{script}\n}} </dev/null\n"
    try:
        done = finish(command, whole.encode(), deadline, seconds)
    except FileNotFoundError:
        return ExecAnswer(reason=f"{name} is not installed here")
    except subprocess.TimeoutExpired:
        return ExecAnswer(reason=f"{name} did not end within {seconds:g} s")
    except OSError as error:
        return ExecAnswer(reason=f"{name} could not be run: {error.strerror}")
    return _answer(command, done, sudo=sudo)


def _answer(command: tuple[str, ...], done: Finished, *, sudo: bool) -> ExecAnswer:
    """Tell what a script printed from why it could not be run."""
    out, err = (b.decode("utf-8", "replace") for b in (done.out, done.err))
    if done.cut:
        reason = f"{command[0]} was ended: it printed more than {MOST_OUTPUT >> 20} MiB"
        return ExecAnswer(stdout=out, stderr=err, reason=reason)
    if command[0] == "ssh" and done.code == _SSH_FAILED:
        return ExecAnswer(reason=f"ssh {command[-2]} failed: {_last_line(err)}")
    if sudo and not out and "sudo:" in err:
        return ExecAnswer(reason=f"sudo refused: {_last_line(err)}")
    return ExecAnswer(stdout=out, stderr=err)


def _last_line(text: str) -> str:
    """Return the last line that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["it said nothing"])[-1][:300]
