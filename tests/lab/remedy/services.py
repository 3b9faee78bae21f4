"""Stand-ins for `systemctl` and `journalctl` on a node: the lab's init keeps two services running.

Usage: python -m tests.lab.remedy.services PREFIX NODE systemctl|journalctl ARGUMENT…
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab.init import SERVICES
from tests.lab.lab import Lab
from tests.lab.node import Node

__all__ = ["main", "steps", "unit_of"]

_LINES: Final = 50
_NO_SUCH_UNIT: Final = 5
_STEPS: Final = {
    "start": ("start",),
    "enable": (),
    "stop": ("stop",),
    "restart": ("stop", "start"),
    "try-restart": ("stop", "start"),
    "reload-or-restart": ("stop", "start"),
    "daemon-reload": (),
}


def unit_of(arguments: Sequence[str]) -> str:
    """The service that a command line names; empty if it is none of the lab's."""
    words = [a.removesuffix(".service") for a in arguments]
    return next((w for w in words if w in SERVICES), "")


def steps(arguments: Sequence[str]) -> tuple[str, ...] | None:
    """What a `systemctl` command line does to a service; None for what only looks."""
    verb = next((a for a in arguments if not a.startswith("-")), "")
    if verb == "enable" and "--now" in arguments:
        return ("start",)
    return _STEPS.get(verb)


def _systemctl(node: Node, arguments: Sequence[str]) -> int:
    """Stop and start; what only looks prints whether it runs."""
    unit, todo = unit_of(arguments), steps(arguments)
    if not unit:
        if "daemon-reload" in arguments:
            return 0
        sys.stderr.write("Failed: no such unit on a node of the lab\n")
        return _NO_SUCH_UNIT
    for step in todo or ():
        {"stop": node.stop_service, "start": node.start_service}[step](unit)
    if todo is None:
        runs = (node.home / f"{unit}.pid").exists()
        sys.stdout.write("active\n" if runs else "inactive\n")
        return 0 if runs else 3
    return 0


def _journalctl(node: Node, arguments: Sequence[str]) -> int:
    """Print the last lines of a service's log."""
    unit = unit_of(arguments)
    log: Path = node.home / f"{unit}.log"
    if not unit or not log.exists():
        sys.stdout.write("-- No entries --\n")
        return 0
    lines = log.read_text(errors="replace").splitlines()[-_LINES:]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def main() -> None:
    """Do what the command line says."""
    prefix, name, program, *arguments = sys.argv[1:]
    node = Lab.attach(prefix).nodes[name]
    sys.exit({"systemctl": _systemctl, "journalctl": _journalctl}[program](node, arguments))


if __name__ == "__main__":
    main()
