"""What the API server makes of the pods that somebody wants to start."""

import json
from typing import Final

import yaml

from tests.lab.conditions.model import Condition
from tests.lab.conditions.spaces import ELSEWHERE, drop_namespace, make_namespace, outsiders, tried
from tests.lab.faults.objects import Json, Ref, get
from tests.lab.faults.webhook import WEBHOOK
from tests.lab.lab import Lab

REWRITTEN: Final = "pull-policy-rewritten"
REFUSED: Final = "pods-refused"
QUOTA: Final = "quota-none"
REFUSAL: Final = "visitors start no pods here: ask the platform team"
QUOTA_NAME: Final = "no-pods"
QUOTA_NAMESPACE: Final = "lab-quota"
_PODS: Final[Json] = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}


def _webhook(lab: Lab) -> Json:
    """A webhook that has every image pulled anew, served by the one that reviews Ingresses."""
    ref = Ref(kind="validatingwebhookconfiguration", name=WEBHOOK)
    (reviews,) = get(lab, ref)["webhooks"]
    served = reviews["clientConfig"]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": REWRITTEN},
        "webhooks": [
            {
                "name": "pull.site-policy.example.net",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {**served, "service": {**served["service"], "path": "/mutate"}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "namespaceSelector": outsiders(lab),
                "rules": [_PODS],
            }
        ],
    }


def _inject_rewritten(lab: Lab) -> None:
    lab.apply(json.dumps(_webhook(lab)))


def _settled_rewritten(lab: Lab) -> bool:
    said = tried(lab, ELSEWHERE)
    return said.admitted and '"imagePullPolicy": "Always"' in said.text


def _heal_rewritten(lab: Lab) -> None:
    lab.kubectl("delete", "mutatingwebhookconfiguration", REWRITTEN, "--ignore-not-found")


def _policy(lab: Lab) -> str:
    name = {"name": REFUSED}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": name,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": outsiders(lab), "resourceRules": [_PODS]},
            "validations": [{"expression": "false", "message": REFUSAL}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": name,
        "spec": {"policyName": REFUSED, "validationActions": ["Deny"]},
    }
    return yaml.safe_dump_all([policy, binding])


def _inject_refused(lab: Lab) -> None:
    lab.apply(_policy(lab))


def _settled_refused(lab: Lab) -> bool:
    return REFUSAL in tried(lab, ELSEWHERE).text


def _heal_refused(lab: Lab) -> None:
    kinds = ("validatingadmissionpolicybinding", "validatingadmissionpolicy")
    for kind in kinds:
        lab.kubectl("delete", kind, REFUSED, "--ignore-not-found")


def _inject_quota(lab: Lab) -> None:
    make_namespace(lab, QUOTA_NAMESPACE)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTA_NAME, "namespace": QUOTA_NAMESPACE},
        "spec": {"hard": {"pods": "0"}},
    }
    lab.apply(json.dumps(quota))


def _settled_quota(lab: Lab) -> bool:
    return f"exceeded quota: {QUOTA_NAME}" in tried(lab, QUOTA_NAMESPACE).text


def _heal_quota(lab: Lab) -> None:
    drop_namespace(lab, QUOTA_NAMESPACE)


CONDITIONS: Final = (
    Condition(
        name=REWRITTEN,
        story=(
            "A mutating webhook sets imagePullPolicy to Always on all pods but the lab's own, so"
            " no pod may start from an image that is on its node already."
        ),
        says=lambda _: ("Always",),
        inject=_inject_rewritten,
        settled=_settled_rewritten,
        heal=_heal_rewritten,
    ),
    Condition(
        name=REFUSED,
        story="An admission policy refuses all pods but the lab's own.",
        says=lambda _: (REFUSAL,),
        inject=_inject_refused,
        settled=_settled_refused,
        heal=_heal_refused,
    ),
    Condition(
        name=QUOTA,
        story="The namespace that probe pods are to use has a quota of no pods.",
        says=lambda _: (f"exceeded quota: {QUOTA_NAME}",),
        arguments=("--probe-namespace", QUOTA_NAMESPACE),
        inject=_inject_quota,
        settled=_settled_quota,
        heal=_heal_quota,
    ),
)
