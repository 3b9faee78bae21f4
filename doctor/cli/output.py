"""Where results go: stdout or files; and progress, which goes to stderr."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import msgspec

from doctor.errors import UsageError
from doctor.model.verdict import Result
from doctor.render.json_ import render_json
from doctor.render.text import inert

__all__ = [
    "Output",
    "columns",
    "distinct",
    "outputs_of",
    "progress",
    "show",
    "warn",
    "writable",
    "write",
]

_FORMATS = ("terminal", "json")


def columns() -> int | None:
    """Return how wide the terminal is that stdout is; None where it is none."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if terminal else None


class Output(msgspec.Struct, frozen=True):
    """One way in which the result is wanted; without a path it goes to stdout."""

    format: str
    path: Path | None = None


def outputs_of(given: Iterable[str]) -> tuple[Output, ...]:
    """Understand each ``FORMAT`` and ``FORMAT=FILE``; the terminal's where none is given.

    Raises:
        UsageError: A format is not known, or two are to go to stdout.
    """
    found = tuple(_output(text) for text in given) or (Output("terminal"),)
    if sum(o.path is None for o in found) > 1:
        raise UsageError("--output: only one format can go to stdout; give the others a file")
    return found


def _output(text: str) -> Output:
    """Understand one --output."""
    name, found, path = text.partition("=")
    if name not in _FORMATS:
        raise UsageError(f"--output: no format is called {name!r}; formats: {', '.join(_FORMATS)}")
    if found and not path:
        raise UsageError(f"--output: {text!r} names no file")
    return Output(name, Path(path) if path else None)


def distinct(paths: Iterable[Path | None]) -> None:
    """See that no file is meant twice; what is no regular file, such as /dev/null, may be.

    Raises:
        UsageError: One is: what is written last would be all that is left.
    """
    seen: set[Path] = set()
    for path in paths:
        if path is None or (path.exists() and not path.is_file()):
            continue
        place = path.resolve()
        if place in seen:
            raise UsageError(f"{path} is named twice, by --output, --save or --bundle")
        seen.add(place)


def writable(paths: Iterable[Path | None]) -> None:
    """See that files can be written, before half a minute of work would be lost.

    Raises:
        UsageError: One cannot.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"cannot write {path}: it is a directory")
        if not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: {path.parent} is no directory")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(f"cannot write {path}: permission denied")


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show progress as one line on stderr that replaces itself, on a terminal that can."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lambda _line: None
        return
    try:
        yield lambda line: click.echo(f"\r\x1b[2K{line} ...", err=True, nl=False)
    finally:
        click.echo("\r\x1b[2K", err=True, nl=False)


def warn(line: str) -> None:
    """Say on stderr what must not be missed, on a terminal or not."""
    click.echo(f"wwwm-doctor: {inert(line)}", err=True)


def write(result: Result, outputs: Iterable[Output], *, verbose: bool = False) -> None:
    """Write the result in each format.

    Raises:
        UsageError: A file cannot be written; the other outputs are written all the same.
    """
    refused = []
    for output in outputs:
        json = output.format == "json"
        if output.path is None:
            click.echo(render_json(result) if json else show(result, verbose=verbose), nl=False)
            continue
        text = render_json(result) if json else _plain(result, verbose=verbose)
        try:
            output.path.write_text(text, encoding="utf-8")
        except OSError as error:
            refused.append(f"cannot write {output.path}: {error.strerror}")
    if refused:
        raise UsageError("; ".join(refused))


def _plain(result: Result, *, verbose: bool) -> str:
    """Render for a file."""
    from doctor.render.terminal import render_terminal

    return render_terminal(result, width=None, color=False, ascii_only=False, verbose=verbose)


def show(result: Result, *, verbose: bool) -> str:
    """Render for this terminal: its width, its character set, its colours if it has any."""
    from doctor.render.terminal import render_terminal

    terminal = sys.stdout is not None and sys.stdout.isatty()
    return render_terminal(
        result,
        width=shutil.get_terminal_size().columns if terminal else None,
        color=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        ascii_only=_ascii_only(),
        verbose=verbose,
    )


def _ascii_only() -> bool:
    """Say whether only ASCII can be shown; Python turns to UTF-8 by itself in the C locale."""
    names = (os.environ.get(n) for n in ("LC_ALL", "LC_CTYPE", "LANG"))
    if next((n for n in names if n), "") in ("C", "POSIX"):
        return True
    encoding = (sys.stdout.encoding if sys.stdout is not None else None) or "ascii"
    return encoding.lower().replace("-", "") != "utf8"
