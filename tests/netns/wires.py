"""Hosts that are network namespaces of this test alone, joined by cables that lead nowhere else."""

import contextlib
import ctypes
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar, cast

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000


def run(*argv: str, input: str = "") -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(
        argv, input=input, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stderr or done.stdout}"
    return done.stdout


class Host:
    """A network namespace."""

    def __init__(self, name: str) -> None:
        """Make it, with its own loopback and settings, forwarding nothing."""
        self.name = f"wwwm-{os.getpid()}-{name}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        self.set("net.ipv6.conf.all.disable_ipv6", 1)
        self.set("net.ipv6.conf.default.disable_ipv6", 1)

    def ip(self, *argv: str) -> str:
        """Run ip in it."""
        return run("ip", "-n", self.name, *argv)

    def set(self, name: str, value: int) -> None:
        """Set a sysctl, of this namespace only."""
        run("ip", "netns", "exec", self.name, "sysctl", "-qw", f"{name}={value}")

    def nft(self, rules: str) -> str:
        """Load rules, or list what is loaded."""
        return run("ip", "netns", "exec", self.name, "nft", "-f", "-", input=rules)

    @contextlib.contextmanager
    def filtering(self, hook: str, rule: str, *, more: str = "") -> Iterator[None]:
        """Have one more rule for IPv4 at a hook, for a while."""
        chain = f"chain c {{\ntype filter hook {hook} priority 10\n{rule}\n}}"
        self.nft(f"table ip more {{\n{more}\n{chain}\n}}")
        try:
            yield
        finally:
            self.nft("delete table ip more")

    def address(self, device: str, *addresses: str) -> None:
        """Give an interface addresses, and take it up."""
        for address in addresses:
            self.ip("address", "add", address, "dev", device)
        self.ip("link", "set", device, "up")

    def hardware(self, device: str) -> str:
        """Read an interface's hardware address."""
        return self.ip("-br", "link", "show", "dev", device).split()[2]

    def do(self, action: Callable[[], T]) -> T:
        """Do something in a thread that has moved into the namespace; its sockets stay there."""
        outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                self._enter()
                outcome.put((action(), None))
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                outcome.put((None, error))

        threading.Thread(target=work, daemon=True).start()
        value, error = outcome.get(timeout=60)
        if error is not None:
            raise error
        return cast("T", value)

    def _enter(self) -> None:
        """Move this thread into the namespace."""
        handle = os.open(Path("/run/netns") / self.name, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Take it away, and the cables with it."""
        run("ip", "netns", "delete", self.name)


def cable(one: Host, here: str, other: Host, there: str, *, mtu: int = 1500) -> None:
    """Join two hosts. Both ends are made inside: none is ever seen outside."""
    one.ip(
        "link", "add", here, "mtu", str(mtu), "type", "veth",
        "peer", "name", there, "mtu", str(mtu), "netns", other.name,
    )  # fmt: skip
