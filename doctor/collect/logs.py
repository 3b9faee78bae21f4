"""The last words of system pods' containers, read by plain GETs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from urllib.parse import quote, urlencode

from doctor.bundle.schema import GapRecord, LogRecord, Record
from doctor.collect.access import refusal
from doctor.collect.kube import Api
from doctor.collect.rights import telling
from doctor.evidence.log_choice import LogWish
from doctor.model.logs import ContainerLog
from doctor.model.rights import Rights
from doctor.model.verdict import Gap
from doctor.parse.log_lines import parse_log

__all__ = ["read_logs"]

_MOST_BYTES = 32 * 1024
_SECONDS = 4.0
_WORKERS = 6


def read_logs(api: Api, rights: Rights, wished: Sequence[LogWish]) -> tuple[Record, ...]:
    """Read logs; what is certainly not allowed is not asked for.

    Args:
        api: The API server.
        rights: What is known of what is allowed.
        wished: Which.
    """
    allowed = [w for w in wished if rights.permits(telling(w.namespace)) is not False]
    refused = dict.fromkeys(w.namespace for w in wished if w not in allowed)
    with ThreadPoolExecutor(_WORKERS) as pool:
        read = tuple(pool.map(lambda w: _read(api, w), allowed))
    refused |= dict.fromkeys(n for n, r in read if r.status == HTTPStatus.FORBIDDEN)
    return (*(r for _, r in read), *_gaps(refused))


def _gaps(namespaces: dict[str, None]) -> Iterator[GapRecord]:
    """Name the right that is missing, once for each namespace."""
    for namespace in namespaces:
        yield GapRecord(
            Gap(f"logs in {namespace}", refusal(telling(namespace)), essential=False), ("Logs",)
        )


def _read(api: Api, wish: LogWish) -> tuple[str, LogRecord]:
    """Read one log."""
    where = f"{quote(wish.namespace, safe='')}/pods/{quote(wish.pod, safe='')}"
    query = {
        "container": wish.container,
        "tailLines": str(wish.lines),
        "limitBytes": str(_MOST_BYTES),
        "timestamps": "true",
        **({"previous": "true"} if wish.previous else {}),
        **({"sinceSeconds": str(wish.seconds)} if wish.seconds else {}),
    }
    answer = api.call("GET", f"/api/v1/namespaces/{where}/log?{urlencode(query)}", seconds=_SECONDS)
    text = answer.body[:_MOST_BYTES].decode("utf-8", "replace")
    log = ContainerLog(
        pod=f"{wish.namespace}/{wish.pod}",
        node=wish.node,
        container=wish.container,
        lines=parse_log(text)[-wish.lines :],
        previous=wish.previous,
        seconds=wish.seconds,
    )
    return wish.namespace, LogRecord(log, answer.status, answer.reason)
