"""Classes of pairs of nodes: the narrowest that covers what is broken between them."""

from collections.abc import Iterator
from typing import NamedTuple

from checks.common import and_list
from doctor.model.flow import Observation

__all__ = ["PAIR", "Class", "Pair", "Pairs", "classes"]

PAIR = 2
Pair = tuple[str, str]
Pairs = dict[Pair, list[Observation]]


class Class(NamedTuple):
    """A class of hops between nodes, with the broken pairs of nodes that it stands for."""

    where: str
    words: str
    pairs: list[Pair]
    nodes: tuple[str, ...]


def classes(count: int, broken: list[Pair], seen: list[Pair]) -> Iterator[Class]:
    """Sort broken pairs into the narrowest classes: all nodes, one node and the rest, one pair.

    Args:
        count: How many Linux nodes there are.
        broken: The pairs that are broken, each sorted.
        seen: All pairs that were looked at.
    """
    everyone = sorted({n for p in broken for n in p})
    left: list[Pair] = sorted(broken)
    shared = {n for n in everyone if all(n in p for p in broken)}
    two = count == PAIR
    if broken and set(broken) == set(seen) and (two or not shared):
        yield Class("*>*", f"the nodes {and_list(everyone)}", left, tuple(everyone))
        return
    while left:
        name = max(sorted({n for p in left for n in p}), key=lambda n: sum(n in p for p in left))
        mine = [p for p in left if name in p]
        others = [n for p in mine for n in p if n != name]
        if len(mine) > 1 and all(p in broken for p in seen if name in p):
            yield Class(f"*>{name}", f"node {name} and the nodes {and_list(others)}", mine, (name,))
        else:
            mine = mine[:1]
            a, b = mine[0]
            yield Class(f"{a}>{b}", f"the nodes {a} and {b}", mine, mine[0])
        left = [p for p in left if p not in set(mine)]
