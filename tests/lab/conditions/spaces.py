"""Namespaces made for a while, and pods that the API server is only to try."""

import json
from dataclasses import dataclass
from typing import Final

from tests.lab.faults.objects import Json
from tests.lab.images import BUSYBOX
from tests.lab.lab import Lab
from tests.lab.shell import poll

ELSEWHERE: Final = "kube-public"
"""A namespace that every cluster has, and that is none of the lab's own."""

_NAME: Final = "kubernetes.io/metadata.name"
_UNPRIVILEGED: Final = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the API server said to a pod: its text is the pod as it would be, or a refusal."""

    admitted: bool
    text: str


def own_namespaces(lab: Lab) -> list[str]:
    """The namespaces that the lab's own pods are in."""
    shape = lab.shape
    named = {
        "kube-system",
        shape.flannel_namespace,
        shape.metallb_namespace,
        shape.ingress_namespace,
        shape.policy_namespace,
        shape.app_namespace,
    }
    return sorted(named)


def outsiders(lab: Lab) -> Json:
    """The selector of all namespaces but the lab's own."""
    own = own_namespaces(lab)
    return {"matchExpressions": [{"key": _NAME, "operator": "NotIn", "values": own}]}


def pod(name: str, namespace: str, node: str = "", *, pull: str = "Never") -> Json:
    """A pod that the profile `restricted` admits, and that waits to be deleted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **({"nodeName": node} if node else {}),
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _UNPRIVILEGED,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "sleep",
                    "image": BUSYBOX,
                    "imagePullPolicy": pull,
                    "command": ["sleep", "300"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def tried(lab: Lab, namespace: str) -> Tried:
    """Have the API server try to create a pod."""
    create = ("kubectl", "create", "--dry-run=server", "-o", "json", "-f", "-")
    body = json.dumps(pod("tried", namespace))
    done = lab.at(lab.control_plane.name, *create, input=body, check=False)
    return Tried(admitted=done.returncode == 0, text=done.stdout + done.stderr)


def make_namespace(lab: Lab, name: str) -> None:
    """Make a namespace, and wait until pods can be made in it."""
    meta = {"name": name}
    lab.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}))
    # admission wants the account for pods that a controller makes a little later
    account = ("get", "serviceaccount", "default", "-n", name, "--ignore-not-found", "-o", "name")
    poll(lambda: lab.kubectl(*account), seconds=20, what=f"the account of {name}")


def drop_namespace(lab: Lab, name: str) -> None:
    """Delete a namespace, and wait until it is gone."""
    lab.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s")
