"""The load balancer's address: assigned, announced, let through, reachable."""

from ipaddress import IPv4Network
from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Json, Ref, edit, listed, remove_all, restore
from tests.lab.faults.traffic import drops, forget_neighbour, unanswered_arp
from tests.lab.lab import Lab
from tests.lab.shape import INTERNET, Shape, nth_address, with_length
from tests.lab.shell import LabError, poll
from tests.lab.topology import ROUTER

NO_POOL: Final = "pool-missing"
NOT_ADVERTISED: Final = "no-l2advertisement"
PORT_SECURITY: Final = "port-security-vip"
OUTSIDE: Final = "vip-outside-subnet"
POOL: Final = "ipaddresspool"
ADVERTISEMENT: Final = "l2advertisement"
# networks that somebody might take from an example; the first one that is free is used
_FOREIGN: Final = ("172.10.100.0/24", "10.77.100.0/24", "192.168.77.0/24")
_FOREIGN_HOST: Final = 200
_FOREIGN_LAST: Final = 210


def _vip(lab: Lab) -> tuple[str, ...]:
    return (lab.shape.first_vip,)


def _await_vip(lab: Lab, address: str | None) -> None:
    poll(lambda: lab.vip() == address, seconds=30, what=f"{address or 'no'} address of the site")


def _await_first_vip(lab: Lab) -> None:
    """The proxy host knows the site by one address: it has to be that one again."""
    _await_vip(lab, lab.shape.first_vip)


def _inject_no_pool(lab: Lab) -> None:
    remove_all(lab, NO_POOL, POOL, lab.shape.metallb_namespace)


def _settled_no_pool(lab: Lab) -> bool:
    return lab.vip() is None and not listed(lab, POOL, lab.shape.metallb_namespace)


def _heal_no_pool(lab: Lab) -> None:
    restore(lab, NO_POOL)
    _await_first_vip(lab)


def _unreachable(lab: Lab) -> bool:
    """Whether the site has an address that nobody owns up to."""
    vip = lab.vip()
    return vip is not None and unanswered_arp(lab, vip)


def _inject_not_advertised(lab: Lab) -> None:
    remove_all(lab, NOT_ADVERTISED, ADVERTISEMENT, lab.shape.metallb_namespace)
    forget_neighbour(lab, lab.shape.first_vip)


def _settled_not_advertised(lab: Lab) -> bool:
    forget_neighbour(lab, lab.shape.first_vip)
    return _unreachable(lab)


def _heal_not_advertised(lab: Lab) -> None:
    restore(lab, NOT_ADVERTISED)


def _inject_port_security(lab: Lab) -> None:
    vip = lab.shape.first_vip
    spoofed = [
        f"iifname {lab.tap(node)} {match} {vip}"
        for node in lab.nodes.values()
        for match in ("arp saddr ip", "ip saddr")
    ]
    lab.fabric_rules(PORT_SECURITY, drops(spoofed))
    forget_neighbour(lab, vip)


def _heal_port_security(lab: Lab) -> None:
    lab.fabric_rules(PORT_SECURITY, None)


def _foreign(shape: Shape) -> str:
    """A network that the shape does not use."""
    used = (
        shape.node_network,
        shape.provider_network,
        shape.pod_network,
        shape.service_network,
        INTERNET,
    )
    networks = [IPv4Network(network) for network in used]
    for candidate in _FOREIGN:
        if not any(IPv4Network(candidate).overlaps(network) for network in networks):
            return candidate
    raise LabError(f"the shape {shape.name} leaves no network for an address outside of it")


def _foreign_vip(lab: Lab) -> str:
    return nth_address(_foreign(lab.shape), _FOREIGN_HOST)


def _foreign_gateway(lab: Lab) -> str:
    network = _foreign(lab.shape)
    return with_length(nth_address(network, 1), network)


def _inject_outside(lab: Lab) -> None:
    shape = lab.shape
    last = nth_address(_foreign(shape), _FOREIGN_LAST)

    def change(pool: Json) -> None:
        pool["spec"]["addresses"] = [f"{_foreign_vip(lab)}-{last}"]

    ref = Ref(kind=POOL, name=shape.pool_name, namespace=shape.metallb_namespace)
    edit(lab, OUTSIDE, ref, change)
    # the network is real, but it is the provider's: nobody there answers for the address
    lab.at(ROUTER, "ip", "address", "replace", _foreign_gateway(lab), "dev", "qg0")
    _await_vip(lab, _foreign_vip(lab))
    lab.proxy_config(upstream=f"http://{_foreign_vip(lab)}")


def _settled_outside(lab: Lab) -> bool:
    return lab.vip() == _foreign_vip(lab) and unanswered_arp(lab, _foreign_vip(lab))


def _heal_outside(lab: Lab) -> None:
    restore(lab, OUTSIDE)
    lab.at(ROUTER, "ip", "address", "delete", _foreign_gateway(lab), "dev", "qg0", check=False)
    _await_first_vip(lab)
    lab.proxy_config(upstream=f"http://{lab.shape.first_vip}")


_CODES: Final = frozenset(
    {
        "METALLB_NO_POOL",
        "METALLB_NOT_ADVERTISED",
        "METALLB_VIP_FILTERED",
        "METALLB_VIP_OUTSIDE_SUBNET",
    }
)
_ECHOES: Final = all_but("METALLB_")


def _others(code: str) -> frozenset[str]:
    return (_CODES - {code}) | _ECHOES


FAULTS: Final = (
    Fault(
        name=NO_POOL,
        link="metallb",
        story="MetalLB has no address pool, so the ingress controller's EXTERNAL-IP stays pending.",
        expected=frozenset({"METALLB_NO_POOL"}),
        names=lambda lab: (f"{lab.shape.ingress_namespace}/{lab.shape.ingress_controller}",),
        forbidden=_others("METALLB_NO_POOL"),
        lookalikes=(NOT_ADVERTISED, PORT_SECURITY, OUTSIDE),
        inject=_inject_no_pool,
        settled=_settled_no_pool,
        heal=_heal_no_pool,
    ),
    Fault(
        name=NOT_ADVERTISED,
        link="metallb",
        story=(
            "There is no L2Advertisement, so the load balancer's address works on the nodes and"
            " nobody answers ARP for it."
        ),
        expected=frozenset({"METALLB_NOT_ADVERTISED"}),
        names=_vip,
        forbidden=_others("METALLB_NOT_ADVERTISED"),
        lookalikes=(NO_POOL, PORT_SECURITY, OUTSIDE),
        inject=_inject_not_advertised,
        settled=_settled_not_advertised,
        heal=_heal_not_advertised,
    ),
    Fault(
        name=PORT_SECURITY,
        link="metallb",
        story=(
            "Port security of the nodes' switch ports drops what they send from the load"
            " balancer's address, for it is not among their own."
        ),
        expected=frozenset({"METALLB_VIP_FILTERED"}),
        names=_vip,
        forbidden=_others("METALLB_VIP_FILTERED"),
        lookalikes=(NO_POOL, NOT_ADVERTISED, OUTSIDE),
        inject=_inject_port_security,
        settled=_settled_not_advertised,
        heal=_heal_port_security,
    ),
    Fault(
        name=OUTSIDE,
        link="metallb",
        story=(
            "The pool's addresses are not in the nodes' network, so the router looks for the load"
            " balancer's address where nobody answers for it."
        ),
        expected=frozenset({"METALLB_VIP_OUTSIDE_SUBNET"}),
        names=lambda lab: (_foreign_vip(lab),),
        forbidden=_others("METALLB_VIP_OUTSIDE_SUBNET"),
        lookalikes=(NO_POOL, NOT_ADVERTISED, PORT_SECURITY),
        inject=_inject_outside,
        settled=_settled_outside,
        heal=_heal_outside,
    ),
)
