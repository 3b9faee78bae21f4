"""What ``demo`` does: judge bundles that were recorded in a real cluster."""

from importlib.resources import files

from doctor.bundle.io import loads
from doctor.cli.again import program
from doctor.cli.output import show
from doctor.engine.registry import load
from doctor.engine.run import diagnose
from doctor.errors import UsageError

__all__ = ["RECORDINGS", "demonstrate"]

RECORDINGS = {
    "article": "A security group drops port 53 on a routed (host-gw) pod network",
    "overlay": "A security group drops UDP 8472: pods of different nodes cannot talk",
    "port-security": "OpenStack port security drops the load balancer's address",
    "host-header": "nginx on the proxy host forwards requests without their Host header",
    "healthy": "A healthy cluster",
}
"""The recordings in the package, the default first."""


def demonstrate(name: str | None, *, listing: bool, verbose: bool) -> str:
    """Judge one recording.

    Raises:
        UsageError: There is no such recording.
    """
    if listing:
        return "".join(f"{key:15}{text}\n" for key, text in RECORDINGS.items())
    chosen = name or next(iter(RECORDINGS))
    if chosen not in RECORDINGS:
        raise UsageError(f"no recording is called {chosen!r}; recordings: {', '.join(RECORDINGS)}")
    body = files("doctor").joinpath("recordings", f"{chosen}.bundle").read_bytes()
    bundle = loads(body, f"the recording {chosen}")
    checks = tuple(c for c in load() if c.id in bundle.question.checks)
    title = f"Recording: {RECORDINGS[chosen]}\n\n"
    more = "" if name else f"\nOther recordings: {program()} demo --list\n"
    return title + show(diagnose(bundle, checks), verbose=verbose) + more
