"""Users of the cluster with just the rights that somebody gave them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.lab.lab import Lab

NAMESPACE: Final = "kube-public"
"""Where the accounts are, unless the RBAC brings one along: a namespace that is there anyway."""

_RBAC: Final = "rbac.authorization.k8s.io"
_BINDS: Final = {"ClusterRole": "ClusterRoleBinding", "Role": "RoleBinding"}
_LIFE: Final = "1h"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the cluster.

    Attributes:
        name: The service account's name.
        namespace: The service account's namespace.
        kubeconfig: A file that works from the proxy host and the desk.
    """

    name: str
    namespace: str
    kubeconfig: Path

    @property
    def user(self) -> str:
        """What the API server calls it in its audit log."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


def _identity(documents: list[Manifest], name: str) -> Manifest:
    """The service account that the RBAC brings along, or one of our own."""
    brought = (d for d in documents if d["kind"] == "ServiceAccount")
    own = {"name": name, "namespace": NAMESPACE}
    return next(brought, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own})


def _bindings(documents: list[Manifest], subject: Manifest) -> list[Manifest]:
    """What gives an account every role that the RBAC brings along without a binding."""
    bound = {
        (d["roleRef"]["kind"], d["roleRef"]["name"])
        for d in documents
        if d["kind"].endswith("Binding")
    }
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": _BINDS[role["kind"]],
            "metadata": {
                **role["metadata"],
                "name": f"{subject['name']}-{role['metadata']['name']}",
            },
            "roleRef": {
                "apiGroup": _RBAC,
                "kind": role["kind"],
                "name": role["metadata"]["name"],
            },
            "subjects": [{"kind": "ServiceAccount", **subject}],
        }
        for role in documents
        if role["kind"] in _BINDS and (role["kind"], role["metadata"]["name"]) not in bound
    ]


def _kubeconfig(lab: Lab, token: str) -> str:
    """The administrator's kubeconfig with another user's token."""
    config: Manifest = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    return yaml.safe_dump(config)


@contextmanager
def account(lab: Lab, name: str, rbac: str) -> Iterator[Account]:
    """Make a user with the rights that some RBAC gives, for a while.

    Args:
        lab: The lab.
        name: The account's name, unless the RBAC brings a service account along.
        rbac: Roles as YAML, and if it likes, bindings and a service account. Roles without a
            binding are bound to the account.
    """
    documents = [d for d in yaml.safe_load_all(rbac) if d]
    identity = _identity(documents, name)
    subject = {key: identity["metadata"][key] for key in ("name", "namespace")}
    made = [identity, *(d for d in documents if d is not identity), *_bindings(documents, subject)]
    manifest = yaml.safe_dump_all(made)
    path = lab.places.run / "accounts" / f"{name}.conf"
    try:
        lab.apply(manifest)
        place = (subject["name"], "-n", subject["namespace"])
        token = lab.kubectl("create", "token", *place, f"--duration={_LIFE}").strip()
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(_kubeconfig(lab, token))
        yield Account(name=subject["name"], namespace=subject["namespace"], kubeconfig=path)
    finally:
        lab.kubectl("delete", "--ignore-not-found", "-f", "-", input=manifest)
        path.unlink(missing_ok=True)
