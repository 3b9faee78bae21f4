"""The ports of the site's Service, and where it sends what."""

from collections.abc import Callable
from typing import Final

from tests.lab.faults.kube_proxy import GONE
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, Ref, edit, restore
from tests.lab.faults.pods import app_pods, coredns_pods, ingress_pods
from tests.lab.faults.service import SELECTOR, UNREADY
from tests.lab.faults.traffic import dns, site_status
from tests.lab.lab import Lab
from tests.lab.shape import nth_address

TARGET: Final = "service-target-port-wrong"
NAMED: Final = "service-named-port-missing"
PROTOCOL: Final = "service-protocol-mismatch"
INTERNAL: Final = "internal-traffic-local"
_NOBODY: Final = 9999
_OK: Final = "200"
_DNS: Final = Ref(kind="service", name="kube-dns", namespace="kube-system")
_DNS_HOST: Final = 10


def _name(lab: Lab) -> tuple[str, ...]:
    return (lab.shape.service,)


def _changing(fault: str, field: str, value: object) -> Callable[[Lab], None]:
    """Give the port of the site's Service another value of a field."""

    def change(service: Json) -> None:
        service["spec"]["ports"][0][field] = value

    def inject(lab: Lab) -> None:
        ref = Ref(kind="service", name=lab.shape.service, namespace=lab.shape.app_namespace)
        edit(lab, fault, ref, change)

    return inject


def _down(lab: Lab) -> bool:
    """Whether the site's pods are ready, and its visitors are told of an error."""
    ready = all(pod.ready for pod in app_pods(lab))
    return ready and site_status(lab) not in {_OK, "000"}


def _restoring(fault: str) -> Callable[[Lab], None]:
    return lambda lab: restore(lab, fault)


def _inject_protocol(lab: Lab) -> None:
    shape = lab.shape
    ref = Ref(kind="service", name=shape.ingress_controller, namespace=shape.ingress_namespace)

    def change(service: Json) -> None:
        service["spec"]["ports"][0]["protocol"] = "UDP"

    edit(lab, PROTOCOL, ref, change)


def _settled_protocol(lab: Lab) -> bool:
    return all(pod.ready for pod in ingress_pods(lab)) and site_status(lab) != _OK


def _inject_internal(lab: Lab) -> None:
    def change(service: Json) -> None:
        service["spec"]["internalTrafficPolicy"] = "Local"

    edit(lab, INTERNAL, _DNS, change)


def _settled_internal(lab: Lab) -> bool:
    """Every node with a replica resolves, and no other."""
    address = nth_address(lab.shape.service_network, _DNS_HOST)
    served = {pod.node for pod in coredns_pods(lab) if pod.ready}
    return all(
        (dns(lab, node.name, address, "udp") == "answer") == (node.fqdn in served)
        for node in lab.nodes.values()
    )


FAULTS: Final = (
    Fault(
        name=TARGET,
        link="service",
        story="The site's Service sends to a port on which nothing listens in its pods.",
        expected=frozenset({"SERVICE_TARGET_REFUSES"}),
        names=_name,
        forbidden=all_but("SERVICE_")
        | {"SERVICE_SELECTOR_MATCHES_NOTHING", "SERVICE_PODS_NOT_READY"}
        | {"SERVICE_TARGET_PORT_UNKNOWN", "SERVICE_PROTOCOL_MISMATCH"},
        lookalikes=(NAMED, PROTOCOL, SELECTOR, UNREADY),
        inject=_changing(TARGET, "targetPort", _NOBODY),
        settled=_down,
        heal=_restoring(TARGET),
    ),
    Fault(
        name=NAMED,
        link="service",
        story="The site's Service names a port that none of its pods' containers has.",
        expected=frozenset({"SERVICE_TARGET_PORT_UNKNOWN"}),
        names=_name,
        forbidden=all_but("SERVICE_")
        | {"SERVICE_SELECTOR_MATCHES_NOTHING", "SERVICE_PODS_NOT_READY"}
        | {"SERVICE_TARGET_REFUSES", "SERVICE_PROTOCOL_MISMATCH"},
        lookalikes=(TARGET, PROTOCOL, SELECTOR, UNREADY),
        inject=_changing(NAMED, "targetPort", "htp"),
        settled=_down,
        heal=_restoring(NAMED),
    ),
    Fault(
        name=PROTOCOL,
        link="service",
        story="The Service of the ingress controller offers UDP, while its pods speak TCP.",
        expected=frozenset({"SERVICE_PROTOCOL_MISMATCH"}),
        names=lambda lab: (lab.shape.ingress_controller,),
        forbidden=all_but("SERVICE_")
        | {"SERVICE_SELECTOR_MATCHES_NOTHING", "SERVICE_PODS_NOT_READY"}
        | {"SERVICE_TARGET_REFUSES", "SERVICE_TARGET_PORT_UNKNOWN"},
        lookalikes=(TARGET, NAMED, SELECTOR, UNREADY),
        inject=_inject_protocol,
        settled=_settled_protocol,
        heal=_restoring(PROTOCOL),
    ),
    Fault(
        name=INTERNAL,
        link="kube-proxy",
        story=(
            "The DNS Service keeps traffic on the node that it comes from, and a node without"
            " a replica of CoreDNS resolves nothing."
        ),
        expected=frozenset({"SERVICE_INTERNAL_TRAFFIC_LOCAL"}),
        names=lambda _: ("kube-dns",),
        forbidden=all_but("SERVICE_"),
        lookalikes=(GONE, "coredns-at-zero", "udp53-dropped"),
        fits=has_workers,
        inject=_inject_internal,
        settled=_settled_internal,
        heal=_restoring(INTERNAL),
    ),
)
