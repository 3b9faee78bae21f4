"""Two faults at once: of different places, neither hiding the other, so that both are to be named.

Left out is what one of two hides from every vantage: a filter on the tunnel hides all that is asked of
other nodes; a site without an address cannot be asked with a wrong Host; a site without endpoints has
nobody whose database could be missed. There only the first can be asked for.
"""

from typing import Final

from tests.lab.faults import FAULTS, Fault
from tests.lab.shape import Shape

__all__ = ["PAIRS", "fitting", "pair_name"]

PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("coredns-at-zero", "host-header-lost"),
    ("coredns-at-zero", "port-security-vip"),
    ("coredns-at-zero", "webhook-backend-down"),
    ("coredns-at-zero", "ingress-host-mismatch"),
    ("coredns-at-zero", "no-l2advertisement"),
    ("udp53-dropped", "webhook-backend-down"),
    ("udp53-dropped", "port-security-vip"),
    ("tcp53-dropped", "host-header-lost"),
    ("tcp53-dropped", "selector-matches-nothing"),
    ("sg-drops-8472", "port-security-vip"),
    ("sg-drops-53", "webhook-backend-down"),
    ("sg-drops-53", "port-security-vip"),
    ("kube-proxy-gone", "host-header-lost"),
    ("flannel-not-on-node", "webhook-backend-down"),
    ("webhook-backend-down", "host-header-lost"),
    ("webhook-backend-down", "port-security-vip"),
    ("webhook-backend-down", "selector-matches-nothing"),
    ("webhook-backend-down", "db-port-closed"),
    ("pool-missing", "selector-matches-nothing"),
    ("pool-missing", "ingress-class-missing"),
    ("no-l2advertisement", "ingress-host-mismatch"),
    ("no-l2advertisement", "selector-matches-nothing"),
    ("port-security-vip", "db-port-closed"),
    ("port-security-vip", "ingress-class-missing"),
    ("selector-matches-nothing", "host-header-lost"),
    ("app-unready", "port-security-vip"),
)


def pair_name(pair: tuple[str, str]) -> str:
    """What a pair is called in a report."""
    return "+".join(pair)


def both(pair: tuple[str, str]) -> tuple[Fault, Fault]:
    """The two faults."""
    return FAULTS[pair[0]], FAULTS[pair[1]]


def fitting(shape: Shape) -> list[tuple[str, str]]:
    """The pairs that can be put into a lab of a shape."""
    return [pair for pair in PAIRS if all(f.fits(shape) for f in both(pair))]
