"""What ``images`` and ``cleanup`` do."""

from typing import TYPE_CHECKING

import msgspec

from doctor.bundle.schema import Question
from doctor.errors import ClusterError
from doctor.model.probe_pod import Fate, Sweep
from doctor.render.probe_pods import render_images, render_sweep

if TYPE_CHECKING:
    from doctor.collect.kube import Api

__all__ = ["Connection", "clean_up", "show_images"]

_READ = ("nodes", "pods", "daemonsets")
_HEALTHY, _LEFT, _INCOMPLETE = 0, 3, 5
_SECONDS = 120.0
"""How long either may take in all: whatever the API server does, it ends."""


class Connection(msgspec.Struct, frozen=True):
    """The options on which cluster is meant."""

    kubeconfig: str | None = None
    context: str | None = None
    request_timeout: float = 10.0


def show_images(given: dict[str, object]) -> str:
    """Say what probe pods would be started from; only LISTs are asked for.

    Args:
        given: The command line's options.

    Raises:
        ClusterError: There is no cluster to talk to, or it does not tell its nodes.
    """
    from doctor.collect.gather import Options, gather
    from doctor.collect.pod_images import images_of
    from doctor.evidence.world import World

    options = Options(probing=False)
    world = World(gather(_connect(given), Question(probing=False), frozenset(_READ), options))
    unknown = next(iter(world.gaps("nodes")), None)
    if unknown:
        raise ClusterError(f"the nodes cannot be listed: {unknown.reason}")
    return render_images(images_of(world), world.gaps(*_READ[1:]))


def clean_up(
    given: dict[str, object], *, everything: bool, namespace: str | None
) -> tuple[str, int]:
    """Remove what killed runs have left.

    Args:
        given: The command line's options on the cluster.
        everything: Whether to remove other machines' runs, too, before they are over.
        namespace: The only namespace to look in, None for all.

    Returns:
        What was found, and the exit code: 0 where nothing is left but what may still be alive, 3
        where something could not be removed, 5 where something could not be looked for.

    Raises:
        ClusterError: There is no cluster to talk to, or nothing can be looked for.
    """
    from doctor.collect.leftovers import sweep

    found = sweep(_connect(given), everything=everything, namespace=namespace)
    return render_sweep(found), _exit_code(found)


def _exit_code(found: Sweep) -> int:
    """Settle the exit code."""
    if any(item.fate in (Fate.STUCK, Fate.REFUSED) for item in found.found):
        return _LEFT
    return _INCOMPLETE if found.unseen else _HEALTHY


def _connect(given: dict[str, object]) -> "Api":
    """Connect to the cluster that is meant."""
    from doctor.collect.deadline import Deadline
    from doctor.collect.kube import connect

    wish = msgspec.convert(given, Connection)
    return connect(wish.kubeconfig, wish.context, wish.request_timeout, Deadline(_SECONDS))
