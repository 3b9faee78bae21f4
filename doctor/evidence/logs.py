"""The builder of the table of logs."""

from collections.abc import Iterator
from http import HTTPStatus

from doctor.bundle.schema import LogRecord
from doctor.evidence.world import World
from doctor.model.evidence import Logs
from doctor.model.verdict import Gap

__all__ = ["logs"]


def logs(world: World) -> Logs:
    """Build the table of what system pods said last."""
    return Logs(
        items=tuple(r.log for r in world.of(LogRecord) if not r.reason),
        gaps=(*world.table_gaps("Logs"), *_unanswered(world)),
        absent=world.nodeless,
    )


def _unanswered(world: World) -> Iterator[Gap]:
    """Say which logs could not be had for another reason than a missing right, which is said once."""
    for record in world.of(LogRecord):
        if record.reason and record.status != HTTPStatus.FORBIDDEN:
            log = record.log
            yield Gap(f"log of {log.pod} ({log.container})", record.reason, essential=False)
