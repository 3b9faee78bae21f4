"""Shells: places where a POSIX shell runs a script of ours, in a container or over ssh."""

import subprocess
from typing import Protocol

import msgspec

from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, ExecAnswer
from doctor.model.flow import Vantage, VantageKind

__all__ = ["PodShell", "Shell", "SshShell"]

_CONNECT_SECONDS = 8
_MOST_OUTPUT = 8 * 1024 * 1024
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


class SshShell(msgspec.Struct, frozen=True):
    """A host that the system's ssh reaches without asking anything.

    Args:
        destination: ``user@host``, ``host`` or a name from ssh's configuration.
        deadline: When the run has to be over.
    """

    destination: str
    deadline: Deadline

    @property
    def vantage(self) -> Vantage:
        """The proxy host: the only one that is entered like this."""
        return Vantage(VantageKind.PROXY, self.destination.rpartition("@")[2])

    @property
    def via(self) -> str:
        """What ssh was given."""
        return self.destination

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Run a script there; on standard input, so that no shell takes it apart once more."""
        if self.deadline.passed:
            return ExecAnswer(reason=self.deadline.reason)
        command = (
            "ssh",
            "-o", "BatchMode=yes",
            "-o", f"ConnectTimeout={_CONNECT_SECONDS}",
            "-o", "ForwardAgent=no",
            "-o", "ForwardX11=no",
            "-o", "ClearAllForwardings=yes",
            "-T", "--", self.destination, 'exec sh -c "$(cat)"',
        )  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - the system's ssh, as its user set it up
                command,
                input=script.encode(),
                capture_output=True,
                timeout=self.deadline.bound(seconds + _CONNECT_SECONDS),
                check=False,
            )
        except FileNotFoundError:
            return ExecAnswer(reason="ssh is not installed here")
        except subprocess.TimeoutExpired:
            return ExecAnswer(reason=f"ssh {self.destination} did not end in time")
        except OSError as error:
            return ExecAnswer(reason=f"ssh could not be run: {error.strerror}")
        out, err = (b[:_MOST_OUTPUT].decode("utf-8", "replace") for b in (done.stdout, done.stderr))
        if done.returncode == _SSH_FAILED:
            return ExecAnswer(reason=f"ssh {self.destination} failed: {_last_line(err)}")
        return ExecAnswer(stdout=out, stderr=err)


def _last_line(text: str) -> str:
    """Return the last line that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["it said nothing"])[-1][:300]
