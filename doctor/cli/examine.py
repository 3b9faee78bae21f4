"""What ``run``, ``check`` and ``explain`` do."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import msgspec

from doctor.bundle.io import load as load_bundle
from doctor.bundle.io import save
from doctor.bundle.schema import Bundle, Question
from doctor.contract import Check
from doctor.engine.registry import codes, load, select
from doctor.engine.run import diagnose
from doctor.errors import DoctorError, UsageError
from doctor.evidence.tables import needs_of
from doctor.model.target import parse_target
from doctor.model.verdict import Outcome, Result
from doctor.render.json_ import render_json

__all__ = ["Wish", "examine", "explanation", "show"]

_FORMATS = ("terminal", "json")


class Wish(msgspec.Struct, frozen=True):
    """The options of ``run`` and ``check``, typed."""

    urls: tuple[str, ...] = ()
    kubeconfig: str | None = None
    context: str | None = None
    request_timeout: float = 10.0
    no_probe: bool = False
    probe_image: str | None = None
    save: Path | None = None
    bundle: Path | None = None
    outputs: tuple[str, ...] = ()
    fail_on: str = "fail"
    verbose: bool = False
    quiet: bool = False


def examine(names: tuple[str, ...], given: dict[str, object]) -> int:
    """Gather or load evidence, judge it, show the result.

    Args:
        names: Links or ids of checks; empty for all.
        given: The command line's options.

    Returns:
        The exit code.
    """
    wish = msgspec.convert(given, Wish)
    outputs = _outputs(wish.outputs)
    try:
        result = _result(names, wish)
    except DoctorError as error:
        result = Result(outcome=Outcome.ERROR, exit_code=2, message=str(error))
        _write(result, tuple((f, p) for f, p in outputs if f != "terminal"), wish)
        raise
    except KeyboardInterrupt:
        result = Result(outcome=Outcome.INTERRUPTED, exit_code=130, message="interrupted")
        _write(result, tuple((f, p) for f, p in outputs if f != "terminal"), wish)
    else:
        _write(result, outputs, wish)
    return result.exit_code


def _result(names: tuple[str, ...], wish: Wish) -> Result:
    """Come to a result."""
    for url in wish.urls:
        try:
            parse_target(url)
        except ValueError as error:
            raise UsageError(f"--url: {error}") from error
    checks = select(load(), names)
    if wish.bundle:
        bundle = load_bundle(wish.bundle)
        if not names and bundle.question.checks:
            checks = tuple(c for c in checks if c.id in bundle.question.checks)
    else:
        bundle = _gather(checks, wish)
        if wish.save:
            save(bundle, wish.save)
    return diagnose(bundle, checks, fail_on_warn=wish.fail_on == "warn")


def _gather(checks: tuple[Check, ...], wish: Wish) -> Bundle:
    """Ask the cluster."""
    from doctor.collect.gather import Options, gather
    from doctor.collect.kube import connect

    question = Question(
        urls=wish.urls, checks=tuple(c.id for c in checks), probing=not wish.no_probe
    )
    needs = needs_of(tuple(n.type for c in checks for n in c.needs))
    options = Options(
        probing=not wish.no_probe, probe_image=wish.probe_image, note=_progress(wish.quiet)
    )
    api = connect(wish.kubeconfig, wish.context, wish.request_timeout)
    return gather(api, question, needs, options)


def _progress(quiet: bool) -> Callable[[str], None]:
    """Return what shows progress: a line on stderr that replaces itself, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        return lambda _line: None
    return lambda line: click.echo(f"\r\x1b[2K{line} ...", err=True, nl=False)


def _outputs(given: Iterable[str]) -> tuple[tuple[str, Path | None], ...]:
    """Understand ``FORMAT`` and ``FORMAT=FILE``."""
    found = tuple(_output(text) for text in given) or (("terminal", None),)
    if sum(path is None for _, path in found) > 1:
        raise UsageError("--output: only one format can go to stdout; give the others a file")
    return found


def _output(text: str) -> tuple[str, Path | None]:
    """Understand one --output."""
    name, found, path = text.partition("=")
    if name not in _FORMATS:
        raise UsageError(f"--output: no format is called {name!r}; formats: {', '.join(_FORMATS)}")
    if found and not path:
        raise UsageError(f"--output: {text!r} names no file")
    return name, Path(path) if path else None


def _write(result: Result, outputs: Iterable[tuple[str, Path | None]], wish: Wish) -> None:
    """Write the result in each format."""
    if sys.stderr.isatty() and not wish.quiet:
        click.echo("\r\x1b[2K", err=True, nl=False)
    for name, path in outputs:
        if path is None:
            text = render_json(result) if name == "json" else show(result, wish.verbose)
            click.echo(text, nl=False)
            continue
        text = render_json(result) if name == "json" else _plain(result, wish.verbose)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--output: cannot write {path}: {error.strerror}") from error


def _plain(result: Result, verbose: bool) -> str:
    """Render for a file."""
    from doctor.render.terminal import render_terminal

    return render_terminal(result, width=None, color=False, ascii_only=False, verbose=verbose)


def show(result: Result, verbose: bool) -> str:
    """Render for this terminal: its width, its character set, its colours if it has any."""
    from doctor.render.terminal import render_terminal

    terminal = sys.stdout.isatty()
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return render_terminal(
        result,
        width=shutil.get_terminal_size().columns if terminal else None,
        color=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        ascii_only=encoding != "utf8",
        verbose=verbose,
    )


def explanation(name: str) -> str:
    """Return the page of a code or a check.

    Raises:
        UsageError: There is neither.
    """
    from doctor.render.explain import explain_check, explain_code

    checks = load()
    code = codes(checks).get(name.upper().replace("-", "_"))
    if code is not None:
        return explain_code(code, checks)
    check = next((c for c in checks if c.id == name), None)
    if check is None:
        raise UsageError(f"no code or check is called {name!r}; `wwwm-doctor list` shows all")
    return explain_check(check)
