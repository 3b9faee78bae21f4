"""What a fault is: data for the judge of a diagnosis, and functions for the lab."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from tests.lab.lab import Lab
from tests.lab.shape import Shape

Link = Literal[
    "node",
    "flannel",
    "overlay",
    "dns",
    "webhook",
    "kube-proxy",
    "service",
    "metallb",
    "ingress",
    "host-proxy",
    "egress",
]

_FAMILIES: Final = (
    "FLANNEL_",
    "CNI_",
    "OVERLAY_",
    "DNS_",
    "WEBHOOK_",
    "KUBE_PROXY_",
    "SERVICE_",
    "METALLB_",
    "INGRESS_",
    "PROXY_",
    "EGRESS_",
)


def all_but(family: str) -> frozenset[str]:
    """The patterns of all codes of other links: one broken thing gives one diagnosis."""
    if family not in _FAMILIES:
        raise ValueError(f"no code begins with {family}")
    return frozenset(f"{other}*" for other in _FAMILIES if other != family)


def anywhere(_: Shape) -> bool:
    """Fit every shape."""
    return True


def has_workers(shape: Shape) -> bool:
    """Fit shapes where a node can lose what another one keeps."""
    return len(shape.nodes) > 1


def no_names(_: Lab) -> tuple[str, ...]:
    """Ask for no text, as nothing is to be found."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that can be broken in the lab.

    Attributes:
        name: Its name in the catalogue.
        link: The station of the chain that its diagnosis belongs to.
        story: What is broken, in one sentence, as an operator would find out in the end.
        expected: The codes of which the first diagnosis has one.
        names: Texts of which each occurs in the first diagnosis, in its title or hop; they are
            the same before and after the fault is put in.
        forbidden: Codes that no diagnosis has, as shell patterns (`DNS_*`): what look-alikes
            are called, and what is but an echo.
        lookalikes: The faults of the catalogue that show much the same.
        fits: Whether it can be put into a lab of this shape.
        inject: Puts it in. May be repeated.
        settled: Whether it bites, by positive evidence.
        heal: Takes it out, also from another process, half put in or not put in at all.
        decoy: Whether this only looks like a fault: nothing may be found.
        warns: Whether everything still works, so that it is a warning and fails nothing.
        without_url: Whether it shows without anybody saying which address should work.
        fleeting: Whether a new pod on the node mends it: the doctor starts one, so that only one
            run sees it.
        stands_in: Whether a stand-in does what a program would that the lab cannot have: nobody acts
            on what the remedy changes, and whether it heals is not known.
    """

    name: str
    link: Link
    story: str
    expected: frozenset[str]
    names: Callable[[Lab], tuple[str, ...]]
    forbidden: frozenset[str]
    lookalikes: tuple[str, ...]
    fits: Callable[[Shape], bool] = anywhere
    inject: Callable[[Lab], None]
    settled: Callable[[Lab], bool]
    heal: Callable[[Lab], None]
    decoy: bool = False
    warns: bool = False
    without_url: bool = True
    fleeting: bool = False
    stands_in: bool = False

    def forbids(self, code: str) -> bool:
        """Whether a diagnosis with this code is a false one."""
        return any(fnmatchcase(code, pattern) for pattern in self.forbidden)
