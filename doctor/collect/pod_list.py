"""A LIST of few objects, decoded at once."""

import contextlib
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from doctor.collect.kube import Api, ApiAnswer
from doctor.model.kube import Item

__all__ = ["decoded", "items_of", "listed"]

T = TypeVar("T", bound=Item)


class _List(msgspec.Struct):
    """A LIST, its items undecoded."""

    items: list[msgspec.Raw] | None = None


def decoded(items: Iterable[msgspec.Raw], kind: type[T]) -> list[T]:
    """Decode objects; one of another shape is left out."""
    found = []
    for item in items:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(item, type=kind))
    return found


def items_of(answer: ApiAnswer, kind: type[T]) -> list[T]:
    """Decode the items of a LIST; none where it is none."""
    try:
        found = msgspec.json.decode(answer.body, type=_List).items if answer.ok else None
    except msgspec.DecodeError:
        return []
    return decoded(found or (), kind)


def listed(api: Api, path: str, kind: type[T], *, late: bool = False) -> tuple[ApiAnswer, list[T]]:
    """LIST objects of one kind.

    Args:
        api: The API server.
        path: Path with query.
        kind: What to decode each as.
        late: Whether it is asked after the run's deadline, too.
    """
    answer = api.call("GET", path, late=late)
    return answer, items_of(answer, kind)
