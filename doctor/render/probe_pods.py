"""What ``images`` and ``cleanup`` print."""

from collections.abc import Iterable, Iterator, Sequence

from doctor.model.probe_pod import Leftover, NodeImages, Sweep
from doctor.model.verdict import Gap
from doctor.render.text import inert

__all__ = ["render_images", "render_sweep"]

_NODES_NAMED = 8


def render_images(items: Iterable[NodeImages], gaps: Iterable[Gap] = ()) -> str:
    """Write which images probe pods would be started from; nodes that are alike stand together.

    Args:
        items: One per node.
        gaps: What could not be read.
    """
    alike: dict[NodeImages, list[str]] = {}
    for item in items:
        alike.setdefault(NodeImages("", item.choices, item.reason), []).append(item.node)
    lines = [line for item, names in alike.items() for line in _images(item, names)]
    lines += [f"not read: {inert(g.needs)}: {inert(g.reason)}" for g in gaps]
    return "".join(f"{line}\n" for line in lines or ["there are no nodes"])


def _images(item: NodeImages, names: Sequence[str]) -> Iterator[str]:
    """Write the images of nodes that are alike."""
    more = len(names) - _NODES_NAMED
    shown = ", ".join(inert(n) for n in names[:_NODES_NAMED])
    yield f"{shown} and {more} more" if more > 0 else shown
    if item.reason:
        yield f"  none: {inert(item.reason)}"
    for number, choice in enumerate(item.choices):
        yield f"  {'else ' if number else ''}{inert(choice.image)}"
        yield f"      {inert(choice.reason)}"


def render_sweep(sweep: Sweep) -> str:
    """Write what a clean-up found, a line each."""
    lines = [_leftover(item) for item in sweep.found]
    lines += [f"not looked for: {inert(text)}" for text in sweep.unseen]
    return "".join(f"{line}\n" for line in lines or ["nothing is left of any run"])


def _leftover(item: Leftover) -> str:
    """Write what became of one thing."""
    return f"{inert(item.what)}: {item.fate}" + (f": {inert(item.detail)}" if item.detail else "")
