"""The Debian packages and programs that the lab is made of."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.lab.shell import LabError, run

PACKAGES: Final = (
    "arping",
    "bind9-dnsutils",
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dash",
    "ethtool",
    "gcc",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "libc6-dev",
    "mount",
    "ncat",
    "netcat-openbsd",
    "netcat-traditional",
    "nftables",
    "nginx-light",
    "openssh-client",
    "openssh-server",
    "procps",
    "runc",
    "util-linux",
)

# what is installed for its programs is not to run as a service of the machine's
_SERVICES: Final = {
    "containerd": "containerd",
    "nginx-light": "nginx",
    "openssh-server": "ssh",
}
# what Debian asks whether an installation may start a service
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_NEVER: Final = "#!/bin/sh\nexit 101\n"


class MissingError(LabError):
    """This machine lacks what only its owner can give it."""


def missing() -> list[str]:
    """The packages that are not installed."""
    said = run(
        "dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n", *PACKAGES, check=False
    ).stdout
    installed = {line.split()[0] for line in said.splitlines() if line.endswith(" installed")}
    return [name for name in PACKAGES if name not in installed]


def ensure() -> None:
    """Install what is missing.

    Raises:
        MissingError: It cannot be installed: not root, no Debian, or no Go toolchain.
    """
    if os.geteuid() != 0:
        msg = "the lab makes network namespaces and needs root"
        lacking = missing() if shutil.which("dpkg-query") else []
        raise MissingError(msg + (f"; packages missing: {' '.join(lacking)}" if lacking else ""))
    if not shutil.which("dpkg-query"):
        msg = f"not a Debian system; needs what these packages hold: {' '.join(PACKAGES)}"
        raise MissingError(msg)
    if not shutil.which("go"):
        msg = "go is missing: the lab builds Kubernetes from its Go modules"
        raise MissingError(msg)
    if lacking := missing():
        run("apt-get", "update", "-q", timeout=300)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ("apt-get", "install", "-qy", "--no-install-recommends", *lacking)
        with _starting_nothing():
            run(*install, env=quiet, timeout=900)
        _keep_off(lacking)


@contextlib.contextmanager
def _starting_nothing() -> Iterator[None]:
    """Have no installed package start its service; a policy that is there is its owner's."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text(_NEVER)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _keep_off(installed: list[str]) -> None:
    """Have no new service start with the machine, either."""
    for package in installed:
        if service := _SERVICES.get(package):
            run("update-rc.d", service, "disable", check=False)
            run("deb-systemd-helper", "disable", f"{service}.service", check=False)
