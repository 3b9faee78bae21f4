"""Kubernetes objects, changed in such a way that another process can put them back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.lab.lab import Lab
from tests.lab.shell import LabError

Json: TypeAlias = dict[str, Any]

# what the API server owns: an object that carries them cannot be put back after a deletion
_SERVER_OWNED: Final = (
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """The place of an object; without a namespace, it belongs to the cluster."""

    kind: str
    name: str
    namespace: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """How kubectl is told of it."""
        where = ("-n", self.namespace) if self.namespace else ()
        return (self.kind, self.name, *where)


def directory(lab: Lab, fault: str) -> Path:
    """Where a fault keeps what it will need for its undoing."""
    return lab.places.run / "faults" / fault


def _file(lab: Lab, fault: str, ref: Ref) -> Path:
    return directory(lab, fault) / f"{ref.kind}.{ref.namespace}.{ref.name}.json"


def get(lab: Lab, ref: Ref) -> Json:
    """The object as it is now."""
    found: Json = json.loads(lab.kubectl("get", *ref.arguments, "-o", "json"))
    return found


def listed(lab: Lab, kind: str, namespace: str, *options: str) -> list[Json]:
    """All objects of a kind in a namespace."""
    text = lab.kubectl("get", kind, "-n", namespace, "-o", "json", *options)
    items: list[Json] = json.loads(text)["items"]
    return items


def note(lab: Lab, fault: str, name: str, value: str) -> str:
    """Remember a text for as long as the fault is in; the first one stays.

    Returns:
        The text that is remembered.
    """
    path = directory(lab, fault) / f"{name}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    return path.read_text()


def noted(lab: Lab, fault: str, name: str) -> str | None:
    """The text that `note` remembered."""
    path = directory(lab, fault) / f"{name}.txt"
    return path.read_text() if path.exists() else None


def forget(lab: Lab, fault: str, name: str) -> None:
    """Forget the text that `note` remembered."""
    (directory(lab, fault) / f"{name}.txt").unlink(missing_ok=True)


def keep(lab: Lab, fault: str, ref: Ref) -> Json:
    """Write down how the object is, unless that was done before, and return how it is now."""
    found = get(lab, ref)
    path = _file(lab, fault, ref)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        original = json.loads(json.dumps(found))
        for field in _SERVER_OWNED:
            original["metadata"].pop(field, None)
        original.pop("status", None)
        path.write_text(json.dumps(original, indent=1))
    return found


def edit(lab: Lab, fault: str, ref: Ref, change: Callable[[Json], None]) -> None:
    """Change an object in place, after having written down how it was."""
    found = keep(lab, fault, ref)
    change(found)
    lab.kubectl("replace", "-f", "-", input=json.dumps(found))


def remove_all(lab: Lab, fault: str, kind: str, namespace: str) -> None:
    """Delete all objects of a kind from a namespace, after having written them down."""
    for item in listed(lab, kind, namespace):
        ref = Ref(kind=kind, name=item["metadata"]["name"], namespace=namespace)
        keep(lab, fault, ref)
        lab.kubectl("delete", *ref.arguments)


def scale_to_zero(lab: Lab, fault: str, ref: Ref) -> None:
    """Take all replicas away from a Deployment.

    Raises:
        LabError: It had none to begin with, so there would be nothing to go back to.
    """
    if not get(lab, ref)["spec"]["replicas"] and not _file(lab, fault, ref).exists():
        raise LabError(f"{ref.name} is at zero without any fault's doing")

    def change(workload: Json) -> None:
        workload["spec"]["replicas"] = 0

    edit(lab, fault, ref, change)


def await_available(lab: Lab, ref: Ref) -> None:
    """Wait until a Deployment has all the replicas it wants."""
    lab.kubectl("rollout", "status", *ref.arguments, "--timeout=50s")


def restore(lab: Lab, fault: str) -> None:
    """Put every object back as it was before the fault."""
    for path in sorted(directory(lab, fault).glob("*.json")):
        text = path.read_text()
        there = lab.kubectl("get", "--ignore-not-found", "-o", "name", "-f", "-", input=text)
        lab.kubectl("replace" if there.strip() else "create", "-f", "-", input=text)
        path.unlink()
