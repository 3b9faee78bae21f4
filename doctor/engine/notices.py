"""Notices: what is worth knowing and is no finding. They never gate."""

from collections.abc import Iterator

from doctor.bundle.schema import ProbePodRecord
from doctor.evidence.tables import Tables
from doctor.model.evidence import Ingresses, TargetFlows
from doctor.model.kube import APIService, Ingress
from doctor.model.link import Link
from doctor.model.probe_pod import PREFIX

__all__ = ["notices"]

_ANNOTATION = "kubernetes.io/ingress.class"


def notices(tables: Tables, links: set[Link]) -> tuple[str, ...]:
    """Return the notices for the links that were looked at."""
    found: list[str] = []
    if Link.INGRESS in links:
        found.extend(_ingress(tables.get(Ingresses)))
    if Link.HOST_PROXY in links:
        found.extend(_targets(tables.get(TargetFlows)))
    found.extend(_unprobed(tables))
    found.extend(_lodged(tables))
    return tuple(found)


def _targets(table: TargetFlows) -> Iterator[str]:
    """Say what is not judged for want of a URL."""
    if not table.urls:
        why = f": {table.absent}" if table.absent else ""
        yield f"No URL was tried{why}; --url names one"
    elif table.derived:
        yield (
            "Without --url, targets are the Ingress hosts at the load balancer's address:"
            " the name and any proxy in front are not judged"
        )


def _ingress(table: Ingresses) -> Iterator[str]:
    """Say what is deprecated but honoured, and what is retired."""
    honoured = {a for c in table.controllers for a in c.annotation_classes}
    for item in table.items:
        if _deprecated(item, honoured):
            yield (
                f"Ingress {item.key} has its class only in the deprecated annotation {_ANNOTATION};"
                " its controller still honours it"
            )
    if any(c.name == "ingress-nginx" for c in table.controllers):
        yield "ingress-nginx is retired: plan a move to another controller"


def _deprecated(item: Ingress, honoured: set[str]) -> bool:
    """Say whether an Ingress relies on the annotation, with success."""
    return not item.spec.ingress_class_name and item.annotations.get(_ANNOTATION) in honoured


def _unprobed(tables: Tables) -> Iterator[str]:
    """Count nodes that are not probed because they do not run Linux."""
    others = [n.name for n in tables.world.nodes if not n.linux]
    if others:
        yield f"{len(others)} nodes do not run Linux and were not probed"


def _lodged(tables: Tables) -> Iterator[str]:
    """Say why probe pods were not in a namespace of their own."""
    away = [s.name for s in tables.world.items("apiservices", APIService) if s.unavailable]
    running = (r.namespace for r in tables.world.of(ProbePodRecord) if r.address)
    used = sorted({n for n in running if n and not n.startswith(PREFIX)})
    if away and used:
        yield (
            f"APIService {away[0]} is unavailable, and a new namespace could not be removed again:"
            f" probe pods ran in namespace {used[0]}"
        )
