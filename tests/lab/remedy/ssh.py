"""A stand-in for `ssh NODE COMMAND` that enters the namespaces of a node of the lab.

An operator has an account on the nodes; the lab's nodes have no sshd. What runs there runs as root,
with `sudo` that does nothing, `systemctl` and `journalctl` that mean the lab's init, and a root file
system that cannot be written, as it is the machine's own: what is a node's own can.

Usage: python -m tests.lab.remedy.ssh PREFIX ARGUMENT…
"""

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.remedy.place import confined, shims
from tests.lab.topology import PROXY

__all__ = ["destination_of", "main", "node_of"]

_WITH_VALUE: Final = frozenset("BbcDEeFIiJLlmOopQRSWw")
_UNKNOWN: Final = 255


def destination_of(arguments: Sequence[str]) -> tuple[str, str]:
    """Take ssh's command line apart.

    Returns:
        The host without its user, and the command as the far shell gets it.
    """
    rest = _after_options(list(arguments))
    host = rest.pop(0).rpartition("@")[2] if rest else ""
    # ssh takes options after the host, too
    return host, " ".join(_after_options(rest))


def _after_options(words: list[str]) -> list[str]:
    """Leave out the options that a list of words begins with."""
    while words and words[0].startswith("-"):
        option, *words = words
        if option == "--":
            break
        if option[1:2] in _WITH_VALUE and not option[2:]:
            words = words[1:]
    return words


def node_of(lab: Lab, host: str) -> Node | None:
    """The node with this name or address."""
    return next((n for n in lab.nodes.values() if host in (n.name, n.fqdn, n.address)), None)


def _become(*command: str) -> NoReturn:
    os.execvp(command[0], command)  # noqa: S606  (nothing is interpreted here)


def main() -> None:
    """Run the command on the node; its exit code is ours."""
    prefix, *arguments = sys.argv[1:]
    lab = Lab.attach(prefix)
    host, command = destination_of(arguments)
    node = node_of(lab, host)
    if node is None and host == lab.address_of(PROXY):
        real = lab.ssh.client.config
        _become("/usr/bin/ssh", "-F", str(real), *arguments)
    if node is None or node.pid is None:
        sys.stderr.write(f"ssh: Could not resolve hostname {host}: it is no node that is on\n")
        sys.exit(_UNKNOWN)
    path = os.pathsep.join((str(shims(lab, node.name)), str(node.tools), os.defpath))
    environment = ("env", f"PATH={path}:/usr/sbin:/sbin")
    _become(*node.entering(*environment, *confined(lab, "sh", "-c", command)))


if __name__ == "__main__":
    main()
