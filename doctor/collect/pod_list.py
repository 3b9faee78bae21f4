"""A LIST of few objects, decoded at once."""

from typing import TypeVar

import msgspec

from doctor.collect.kube import Api, ApiAnswer
from doctor.model.kube import Item

__all__ = ["items_of", "listed"]

T = TypeVar("T", bound=Item)


class _List(msgspec.Struct):
    """A LIST, its items undecoded."""

    items: list[msgspec.Raw] | None = None


def items_of(answer: ApiAnswer, kind: type[T]) -> list[T]:
    """Decode the items of a LIST; none where it is none, or they are of another shape."""
    try:
        found = msgspec.json.decode(answer.body, type=_List).items if answer.ok else None
        return [msgspec.json.decode(i, type=kind) for i in found or ()]
    except msgspec.DecodeError:
        return []


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
