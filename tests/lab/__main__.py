"""The lab's command line: python -m tests.lab COMMAND."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from tests.lab import bringup
from tests.lab.lab import Lab
from tests.lab.packages import MissingError
from tests.lab.places import PREFIX, places
from tests.lab.shape import ARTICLE, SHAPES
from tests.lab.shell import LabError

if TYPE_CHECKING:
    from tests.lab.faults.runner import Change

USAGE: Final = 2
COMMANDS: Final = """\
commands:
  up                     bring the lab up; does nothing when it is
  down                   take it down, an interrupted bring-up, too
  status                 say what is up and whether it is healthy
  faults                 list the faults
  conditions             list the other circumstances that the doctor has to cope with
  inject NAME            bring a fault or a condition about, and wait until it shows
  heal NAME              mend it
  reboot NODE            switch a node off and on
  sh NODE                a shell on a node
  kubectl ARGUMENT…      kubectl on the control plane node
  at VANTAGE COMMAND…    run a command on a node, or on proxy, desk, router, fabric,
                         internet
"""


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _become(command: tuple[str, ...]) -> NoReturn:
    os.execvp(command[0], command)  # noqa: S606  (nothing is interpreted)


def _up(options: argparse.Namespace) -> None:
    bringup.up(SHAPES[options.shape or ARTICLE.name], places(options.prefix), _tell)


def _down(options: argparse.Namespace) -> None:
    bringup.down(places(options.prefix), _tell)


def _status(options: argparse.Namespace) -> None:
    lab = Lab.attach(options.prefix)
    _tell(f"shape       {lab.shape.name}")
    for node in lab.nodes.values():
        _tell(f"node        {node.name} {node.address} {'on' if node.pid else 'off'}")
    _tell(f"site        {lab.site_url} (proxy {lab.shape.proxy_address})")
    _tell(f"kubeconfig  {lab.kubeconfig}")
    trouble = lab.healthy()
    _tell(f"health      {trouble or 'healthy'}")
    if trouble:
        sys.exit(1)


def _chosen(options: argparse.Namespace) -> "Change":
    """The fault or condition that the command line names."""
    from tests.lab.conditions import CONDITIONS
    from tests.lab.faults import FAULTS

    known: dict[str, Change] = {**FAULTS, **CONDITIONS}
    return known[_one(options, known)]


def _inject(options: argparse.Namespace) -> None:
    from tests.lab.faults import put_in

    _tell(f"bites after {put_in(Lab.attach(options.prefix), _chosen(options)):.0f} s")


def _heal(options: argparse.Namespace) -> None:
    from tests.lab.faults import mend

    _tell(f"healthy after {mend(Lab.attach(options.prefix), _chosen(options)):.0f} s")


def _faults(_: argparse.Namespace) -> None:
    from tests.lab.faults import FAULTS

    for name in FAULTS:
        _tell(name)


def _conditions(_: argparse.Namespace) -> None:
    from tests.lab.conditions import CONDITIONS

    for name in CONDITIONS:
        _tell(name)


def _reboot(options: argparse.Namespace) -> None:
    lab = Lab.attach(options.prefix)
    lab.reboot(_one(options, lab.nodes))


def _sh(options: argparse.Namespace) -> None:
    lab = Lab.attach(options.prefix)
    _become(lab.entering(_one(options, lab.nodes), "bash"))


def _kubectl(options: argparse.Namespace) -> None:
    _become(Lab.attach(options.prefix).control_plane.entering("kubectl", *options.rest))


def _at(options: argparse.Namespace) -> None:
    if len(options.rest) < 2:
        msg = "at VANTAGE COMMAND…"
        raise LabError(msg)
    _become(Lab.attach(options.prefix).entering(*options.rest))


def _one(options: argparse.Namespace, known: object) -> str:
    names = list(known) if isinstance(known, dict) else []
    if len(options.rest) != 1 or options.rest[0] not in names:
        msg = f"{options.command} takes one of: {' '.join(names)}"
        raise LabError(msg)
    return str(options.rest[0])


HANDLERS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "inject": _inject,
    "heal": _heal,
    "faults": _faults,
    "conditions": _conditions,
    "reboot": _reboot,
    "sh": _sh,
    "kubectl": _kubectl,
    "at": _at,
}


ALONE: Final = ("up", "down", "status", "faults", "conditions")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="A Kubernetes cluster with the network around it, on this machine.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=SHAPES, help="what `up` makes (default: article)")
    parser.add_argument("--prefix", default=PREFIX, help="tells labs side by side apart")
    parser.add_argument("command", choices=HANDLERS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Do what the command line says."""
    parser = _parser()
    options = parser.parse_args()
    if options.rest and options.command in ALONE:
        parser.error(f"{options.command} takes no arguments; options stand before it")
    try:
        HANDLERS[options.command](options)
    except MissingError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USAGE)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
