"""Networks of the cluster that somebody else has, too."""

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Final

from tests.lab.faults.kube_proxy_rules import first_worker
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.lab import Lab

SERVICES: Final = "service-cidr-overlaps"
PODS: Final = "pod-cidr-overlaps"
_PART: Final = 24


def _part(network: str) -> str:
    """The last part of a network, which no Service and no node is given for long."""
    return str(list(IPv4Network(network).subnets(new_prefix=_PART))[-2])


def _services(lab: Lab) -> str:
    return _part(lab.shape.service_network)


def _pods(lab: Lab) -> str:
    return _part(lab.shape.pod_network)


def _adding(network: Callable[[Lab], str]) -> Callable[[Lab], None]:
    def inject(lab: Lab) -> None:
        route = (network(lab), "via", lab.shape.gateway)
        first_worker(lab).run("ip", "route", "replace", *route)

    return inject


def _added(network: Callable[[Lab], str]) -> Callable[[Lab], bool]:
    def settled(lab: Lab) -> bool:
        return network(lab) in first_worker(lab).run("ip", "route").stdout

    return settled


def _removing(network: Callable[[Lab], str]) -> Callable[[Lab], None]:
    def heal(lab: Lab) -> None:
        first_worker(lab).run("ip", "route", "del", network(lab), check=False)

    return heal


FAULTS: Final = (
    Fault(
        name=SERVICES,
        link="kube-proxy",
        story="A network of the office is part of the one that Services take their addresses from.",
        expected=frozenset({"SERVICE_CIDR_OVERLAPS"}),
        names=lambda lab: (_services(lab), first_worker(lab).fqdn),
        forbidden=all_but("SERVICE_") | {"POD_CIDR_OVERLAPS"},
        lookalikes=(PODS,),
        fits=has_workers,
        inject=_adding(_services),
        settled=_added(_services),
        heal=_removing(_services),
        warns=True,
    ),
    Fault(
        name=PODS,
        link="kube-proxy",
        story="A network of the office is part of the one that pods take their addresses from.",
        expected=frozenset({"POD_CIDR_OVERLAPS"}),
        names=lambda lab: (_pods(lab), first_worker(lab).fqdn),
        forbidden=all_but("SERVICE_") | {"SERVICE_CIDR_OVERLAPS"},
        lookalikes=(SERVICES,),
        fits=has_workers,
        inject=_adding(_pods),
        settled=_added(_pods),
        heal=_removing(_pods),
        warns=True,
    ),
)
