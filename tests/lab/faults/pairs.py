"""Two faults at once: of different places, neither hiding the other, so that both are to be named.

Left out is what one of two hides from every vantage: a filter on the tunnel hides all that is asked of
other nodes; a site without an address cannot be asked with a wrong Host; a site without endpoints has
nobody whose database could be missed, or who would answer past the proxy. There only the first can be
asked for.
"""

from typing import Final

from tests.lab.faults import FAULTS, Fault
from tests.lab.shape import Shape

__all__ = ["PAIRS", "both", "faults_of", "fitting", "pair_name"]

PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("host-header-lost", "coredns-at-zero"),
    ("host-header-lost", "tcp53-dropped"),
    ("host-header-lost", "kube-proxy-gone"),
    ("host-header-lost", "webhook-backend-down"),
    ("ingress-host-mismatch", "coredns-at-zero"),
    ("ingress-host-mismatch", "no-l2advertisement"),
    ("ingress-class-missing", "pool-missing"),
    ("ingress-class-missing", "port-security-vip"),
    ("selector-matches-nothing", "tcp53-dropped"),
    ("selector-matches-nothing", "pool-missing"),
    ("selector-matches-nothing", "no-l2advertisement"),
    ("selector-matches-nothing", "webhook-backend-down"),
    ("app-unready", "port-security-vip"),
    ("coredns-at-zero", "port-security-vip"),
    ("coredns-at-zero", "no-l2advertisement"),
    ("coredns-at-zero", "webhook-backend-down"),
    ("udp53-dropped", "webhook-backend-down"),
    ("udp53-dropped", "port-security-vip"),
    ("sg-drops-8472", "port-security-vip"),
    ("sg-drops-53", "webhook-backend-down"),
    ("sg-drops-53", "port-security-vip"),
    ("db-port-closed", "webhook-backend-down"),
    ("db-port-closed", "port-security-vip"),
    ("webhook-backend-down", "port-security-vip"),
    ("webhook-backend-down", "flannel-not-on-node"),
)
"""The first is put in first, while the way is whole on which it shows, and taken out last."""


def pair_name(pair: tuple[str, str]) -> str:
    """What a pair is called in a report."""
    return "+".join(pair)


def faults_of(name: str) -> tuple[Fault, ...]:
    """The faults that a name speaks of: one, two joined by `+`, or none, as of a healthy lab."""
    return tuple(FAULTS[part] for part in name.split("+") if part in FAULTS)


def both(pair: tuple[str, str]) -> tuple[Fault, Fault]:
    """The two faults."""
    return FAULTS[pair[0]], FAULTS[pair[1]]


def fitting(shape: Shape) -> list[tuple[str, str]]:
    """The pairs that can be put into a lab of a shape."""
    return [pair for pair in PAIRS if all(f.fits(shape) for f in both(pair))]
