"""What became of the URLs that should work."""

from collections.abc import Set as AbstractSet

from doctor.bundle.schema import FlowRecord
from doctor.evidence.tables import Tables
from doctor.model.evidence import TargetFlows
from doctor.model.finding import Severity
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import Hop
from doctor.model.link import Link
from doctor.model.verdict import Diagnosis, TargetResult

__all__ = ["TARGETED", "targets"]

TARGETED = frozenset({Link.SERVICE, Link.METALLB, Link.INGRESS, Link.HOST_PROXY})
"""Links that look at what the URLs asked for cross."""


def targets(
    tables: Tables, diagnoses: tuple[Diagnosis, ...], links: AbstractSet[Link]
) -> tuple[TargetResult, ...]:
    """Say of each target whether it is reachable, and which hop stops it.

    Args:
        tables: The evidence.
        diagnoses: What was found.
        links: What was looked at. Where no URL crosses any of it, nothing is said of URLs, and
            where the visitor's way is not among it, nothing of URLs that were not tried.
    """
    flows = any(isinstance(r, FlowRecord) for r in tables.world.bundle.records)
    if not flows or not links & TARGETED:
        return ()
    table = tables.get(TargetFlows)
    whole = Link.HOST_PROXY in links
    tried = (u for u in table.urls if whole or table.of(Purpose.TARGET, subject=u))
    return tuple(_target(url, table, diagnoses) for url in tried)


def _target(url: str, table: TargetFlows, diagnoses: tuple[Diagnosis, ...]) -> TargetResult:
    """Judge one target."""
    asked = table.of(Purpose.TARGET, subject=url)
    seen = tuple(o for o in asked if o.flow.kind is FlowKind.HTTP)
    tried = bool(seen) or not all(o.ok for o in asked)
    served = any(o.served for o in seen)
    status = next((o.status for o in seen if o.status), None)
    stopped = None if served else _stopping_hop(seen, diagnoses)
    return TargetResult(
        url=url,
        reachable=served,
        stopped_at=stopped,
        status=status,
        judged=tried and not table.derived,
    )


def _stopping_hop(seen: tuple[Observation, ...], diagnoses: tuple[Diagnosis, ...]) -> str | None:
    """Return the first diagnosed hop on a target's path; else the first diagnosis's."""
    causes = [d.finding.hop for d in diagnoses if d.finding.severity is Severity.FAIL]
    crossed: list[Hop] = [h for o in seen for h in o.hops]
    on_path = (c for c in causes if any(c.covers(h) for h in crossed))
    found = next(on_path, causes[0] if causes else None)
    return str(found) if found else None
