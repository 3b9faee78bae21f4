"""The site's Service and what it selects."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Json, Ref, edit, restore
from tests.lab.faults.pods import APP_PORT, app_pods, delete, node_of, ready_endpoints
from tests.lab.faults.traffic import site_status
from tests.lab.lab import Lab

SELECTOR: Final = "selector-matches-nothing"
UNREADY: Final = "app-unready"
_OK: Final = "200"
_ECHOES: Final = all_but("SERVICE_")


def _name(lab: Lab) -> tuple[str, ...]:
    return (lab.shape.service,)


def _without_endpoint(lab: Lab) -> bool:
    return not ready_endpoints(lab, lab.shape.app_namespace, lab.shape.service)


def _inject_selector(lab: Lab) -> None:
    ref = Ref(kind="service", name=lab.shape.service, namespace=lab.shape.app_namespace)

    def change(service: Json) -> None:
        service["spec"]["selector"] = {"app": f"{lab.shape.app}-app"}

    edit(lab, SELECTOR, ref, change)


def _settled_selector(lab: Lab) -> bool:
    running = any(pod.ready for pod in app_pods(lab))
    return running and _without_endpoint(lab) and site_status(lab) not in {_OK, "000"}


def _heal_selector(lab: Lab) -> None:
    restore(lab, SELECTOR)


def _inject_unready(lab: Lab) -> None:
    for pod in app_pods(lab):
        url = f"http://{pod.address}:{APP_PORT}/actuator/fail"
        bounded = ("curl", "-fsS", "--noproxy", "*", "--max-time", "5")
        # from its own node, as the kubelet asks it
        lab.at(node_of(lab, pod).name, *bounded, "-X", "POST", url)


def _settled_unready(lab: Lab) -> bool:
    pods = app_pods(lab)
    alive = bool(pods) and not any(pod.ready or pod.waiting for pod in pods)
    return alive and _without_endpoint(lab) and site_status(lab) not in {_OK, "000"}


def _heal_unready(lab: Lab) -> None:
    # a new pod starts healthy, and whoever runs by now may have been made after the fault
    delete(lab, [pod for pod in app_pods(lab) if not pod.ready])


FAULTS: Final = (
    Fault(
        name=SELECTOR,
        link="service",
        story="The selector of the site's Service has a typing error, so it has no endpoint at all.",
        expected=frozenset({"SERVICE_SELECTOR_MATCHES_NOTHING"}),
        names=_name,
        forbidden=_ECHOES | {"SERVICE_PODS_NOT_READY"},
        lookalikes=(UNREADY, "ingress-host-mismatch", "ingress-class-missing", "host-header-lost"),
        inject=_inject_selector,
        settled=_settled_selector,
        heal=_heal_selector,
    ),
    Fault(
        name=UNREADY,
        link="service",
        story=(
            "The site's pods run but report themselves unhealthy, as their health check includes"
            " a database, so the Service has no ready endpoint."
        ),
        expected=frozenset({"SERVICE_PODS_NOT_READY"}),
        names=_name,
        forbidden=_ECHOES | {"SERVICE_SELECTOR_MATCHES_NOTHING"},
        lookalikes=(SELECTOR, "db-port-closed", "flannel-not-on-node"),
        inject=_inject_unready,
        settled=_settled_unready,
        heal=_heal_unready,
    ),
)
