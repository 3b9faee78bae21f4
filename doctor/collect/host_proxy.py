"""The reverse proxy on this machine: whose process owns the port, and what it forwards where."""

import socket
import subprocess
from itertools import pairwise
from pathlib import Path

from doctor.bundle.schema import ProxyRecord
from doctor.model.proxy import HostProxy
from doctor.parse.nginx_conf import parse_nginx

__all__ = ["find_proxy", "is_local"]

_LISTEN = "0A"
_SECONDS = 10


def is_local(address: str) -> bool:
    """Say whether an address is one of this machine's: only then can it be bound."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def find_proxy(port: int) -> ProxyRecord:
    """Find the process that listens on a port, and read its configuration if it is nginx.

    Only processes of this network namespace are seen, as only their sockets are listed.
    """
    inodes = _listening(port)
    if not inodes:
        return ProxyRecord(proxy=None, reason=f"nothing listens on port {port} of this machine")
    owners = _owners(inodes)
    if not owners:
        return ProxyRecord(
            proxy=None,
            reason=f"the process that listens on port {port} cannot be seen (run as root)",
        )
    # Workers share the master's socket, but only the master's command line names the configuration.
    owner = next((o for o in owners if "master" in _command(o)), owners[0])
    words = _command(owner)
    if not any("nginx" in w for w in words[:2]):
        name = Path(words[0]).name if words else "unknown"
        found = HostProxy(software=name, config="", servers=(), evidence="proxy:machine")
        return ProxyRecord(proxy=found, reason=f"{name} is not read, only nginx is")
    return _nginx(owner, words)


def _listening(port: int) -> set[str]:
    """Return the inodes of sockets that listen on a port."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(words[9])
    return inodes


def _owners(inodes: set[str]) -> list[int]:
    """Return the processes that hold one of these sockets."""
    wanted = {f"socket:[{i}]" for i in inodes}
    found: list[int] = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        try:
            links = {str(f.readlink()) for f in (process / "fd").iterdir()}
        except OSError:
            continue
        if links & wanted:
            found.append(int(process.name))
    return found


def _command(pid: int) -> list[str]:
    """Return a process's command line; nginx rewrites its own with spaces."""
    try:
        raw = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    words = [w for w in raw.decode("utf-8", "replace").split("\0") if w]
    return words[0].split() if len(words) == 1 else words


def _nginx(pid: int, words: list[str]) -> ProxyRecord:
    """Read the configuration that a running nginx uses."""
    chosen = [w for flag in ("-c", "-p") if flag in words for w in (flag, _after(words, flag))]
    config = _after(words, "-c") or "/etc/nginx/nginx.conf"
    try:
        program = str((Path("/proc") / str(pid) / "exe").readlink())
        dump = subprocess.run(  # noqa: S603 - the very program that is running
            [program, "-T", *chosen],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return ProxyRecord(proxy=None, reason=f"nginx -T could not be run: {error}")
    text = dump.stdout.decode("utf-8", "replace")
    servers = parse_nginx(text)
    found = HostProxy(software="nginx", config=config, servers=servers, evidence="proxy:machine")
    said = dump.stderr.decode("utf-8", "replace").strip().splitlines()
    reason = "" if dump.returncode == 0 else f"nginx -T: {said[-1] if said else 'failed'}"[:300]
    return ProxyRecord(proxy=found, reason=reason)


def _after(words: list[str], flag: str) -> str:
    """Return the word after a flag; empty where it is absent."""
    return next((b for a, b in pairwise(words) if a == flag), "")
