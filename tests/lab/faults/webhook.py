"""The admission webhook that reviews every Ingress."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Ref, await_available, restore, scale_to_zero
from tests.lab.faults.pods import ready_endpoints
from tests.lab.lab import Lab
from tests.lab.shell import poll

BACKEND_DOWN: Final = "webhook-backend-down"
WEBHOOK: Final = "site-policy"


def _backend(lab: Lab) -> Ref:
    return Ref(kind="deployment", name=WEBHOOK, namespace=lab.shape.policy_namespace)


def _refusal(lab: Lab) -> str:
    """What the API server says to a change of the Ingress that it is only to try."""
    change = ("annotate", "ingress", "-n", lab.shape.app_namespace, lab.shape.ingress)
    first = next(iter(lab.nodes))
    tried = ("kubectl", *change, "lab.example.net/tried=yes", "--overwrite", "--dry-run=server")
    return lab.at(first, *tried, check=False).stderr


def _inject(lab: Lab) -> None:
    scale_to_zero(lab, BACKEND_DOWN, _backend(lab))


def _settled(lab: Lab) -> bool:
    """kube-proxy refuses for a service without endpoints, and the API server tells of it."""
    without = not ready_endpoints(lab, lab.shape.policy_namespace, WEBHOOK)
    return without and "connection refused" in _refusal(lab)


def _heal(lab: Lab) -> None:
    restore(lab, BACKEND_DOWN)
    await_available(lab, _backend(lab))
    # kube-proxy hears of the new pod a little later than we do
    poll(lambda: not _refusal(lab), seconds=30, what="the webhook's consent")


FAULTS: Final = (
    Fault(
        name=BACKEND_DOWN,
        link="webhook",
        story=(
            "The webhook that reviews every Ingress has no pod left, so no Ingress can be made or"
            " changed, while all that is there works on."
        ),
        expected=frozenset({"WEBHOOK_NO_ENDPOINTS"}),
        # its Service, its Deployment and its configuration are all called so
        names=lambda _: (WEBHOOK,),
        forbidden=all_but("WEBHOOK_") | {"WEBHOOK_TIMEOUT", "WEBHOOK_REFUSED"},
        lookalikes=("sg-drops-8472", "kube-proxy-gone", "coredns-at-zero"),
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
