"""Parts of the API that are served by others than the API server."""

import json
from typing import Final

from tests.lab.conditions.model import Condition
from tests.lab.faults.objects import Json
from tests.lab.faults.webhook import WEBHOOK
from tests.lab.lab import Lab

UNAVAILABLE: Final = "apiservice-unavailable"
BEHIND_OVERLAY: Final = "metrics-behind-overlay"
API_SERVICE: Final = "v1beta1.metrics.k8s.io"
_SERVICE: Final = "metrics-server"
_NOBODY: Final = "nobody"


def _service(lab: Lab, app: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _SERVICE, "namespace": lab.shape.policy_namespace},
        "spec": {"selector": {"app": app}, "ports": [{"port": 443, "targetPort": 8443}]},
    }


def _api_service(lab: Lab) -> Json:
    version, _, group = API_SERVICE.partition(".")
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API_SERVICE},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": _SERVICE, "namespace": lab.shape.policy_namespace},
        },
    }


def _register(lab: Lab, app: str) -> None:
    for item in (_service(lab, app), _api_service(lab)):
        lab.apply(json.dumps(item))


def available(lab: Lab) -> tuple[str, str]:
    """The state of the APIService, and its reason."""
    condition = '{.status.conditions[?(@.type=="Available")]'
    path = f"jsonpath={condition}.status}} {condition}.reason}}"
    said = lab.kubectl("get", "apiservice", API_SERVICE, "-o", path, check=False)
    status, _, reason = said.partition(" ")
    return status, reason


def _inject_unavailable(lab: Lab) -> None:
    _register(lab, _NOBODY)


def _settled_unavailable(lab: Lab) -> bool:
    return available(lab) == ("False", "MissingEndpoints")


def _inject_served(lab: Lab) -> None:
    _register(lab, WEBHOOK)


def _settled_served(lab: Lab) -> bool:
    """The group is discovered, which is more than that somebody answers for it."""
    there = available(lab)[0] == "True"
    return there and '"groupVersion"' in lab.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1")


def _heal(lab: Lab) -> None:
    lab.kubectl("delete", "apiservice", API_SERVICE, "--ignore-not-found")
    place = ("-n", lab.shape.policy_namespace, "--ignore-not-found")
    lab.kubectl("delete", "service", _SERVICE, *place)


CONDITIONS: Final = (
    Condition(
        name=UNAVAILABLE,
        story=(
            "The APIService of the metrics has a Service without endpoints, so no namespace that"
            " is deleted ends."
        ),
        complete=True,
        inject=_inject_unavailable,
        settled=_settled_unavailable,
        heal=_heal,
    ),
    Condition(
        name=BEHIND_OVERLAY,
        story=(
            "The metrics are served by a pod on a worker, which the API server reaches through"
            " the overlay alone."
        ),
        complete=True,
        inject=_inject_served,
        settled=_settled_served,
        heal=_heal,
    ),
)
