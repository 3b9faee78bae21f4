"""What ``run`` and ``check`` do."""

import re
from pathlib import Path

import msgspec

from doctor.bundle.io import load as load_bundle
from doctor.bundle.io import save
from doctor.bundle.schema import Bundle, Question
from doctor.cli.again import again
from doctor.cli.output import (
    Output,
    distinct,
    outputs_of,
    progress,
    warn,
    writable,
    write,
)
from doctor.contract import Check
from doctor.engine.registry import load, select
from doctor.engine.run import diagnose
from doctor.errors import BundleError, DoctorError, UsageError
from doctor.evidence.tables import needs_of
from doctor.model.target import parse_target
from doctor.model.verdict import Outcome, Result

__all__ = ["Wish", "examine"]

_DESTINATION = re.compile(r"([\w.+-]+@)?[a-zA-Z0-9_:][\w.:%-]*", re.ASCII)


class Wish(msgspec.Struct, frozen=True):
    """The options of ``run`` and ``check``, typed."""

    urls: tuple[str, ...] = ()
    kubeconfig: str | None = None
    context: str | None = None
    request_timeout: float = 10.0
    deadline: float = 90.0
    no_probe: bool = False
    probe_image: str | None = None
    proxy_host: str | None = None
    sudo: bool = False
    probe_namespace: str | None = None
    allow_host_probe: bool = False
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
    outputs = outputs_of(wish.outputs)
    # before anything is written, be it only an error
    distinct((*(o.path for o in outputs), wish.save, wish.bundle))
    machine = tuple(o for o in outputs if o.format != "terminal")
    try:
        _forbid_contradictions(wish)
        _see_proxy_host(wish)
        writable(o.path for o in (*outputs, Output("bundle", wish.save)))
        result = _result(names, wish)
    except DoctorError as error:
        write(Result(outcome=Outcome.ERROR, exit_code=2, message=str(error)), machine)
        raise
    except KeyboardInterrupt:
        result = Result(outcome=Outcome.INTERRUPTED, exit_code=130, message="interrupted")
        write(result, machine)
        raise
    same = {
        "--kubeconfig": wish.kubeconfig,
        "--context": wish.context,
        "--proxy-host": wish.proxy_host,
    }
    write(again(result, same), outputs, verbose=wish.verbose)
    return result.exit_code


def _forbid_contradictions(wish: Wish) -> None:
    """Refuse options of which one would be ignored for another's sake.

    Raises:
        UsageError: There are such options.
    """
    if wish.bundle is not None:
        _forbid_beside_bundle(wish)
    probing = {
        "--probe-image": wish.probe_image is not None,
        "--probe-namespace": wish.probe_namespace is not None,
        "--allow-host-probe": wish.allow_host_probe,
    }
    for name, given in probing.items():
        if wish.no_probe and given:
            raise UsageError(f"--no-probe and {name} exclude each other")


def _forbid_beside_bundle(wish: Wish) -> None:
    """Refuse what only a cluster can answer.

    Raises:
        UsageError: There are such options.
    """
    given = {
        "--url": wish.urls,
        "--kubeconfig": wish.kubeconfig,
        "--context": wish.context,
        "--no-probe": wish.no_probe,
        "--probe-image": wish.probe_image,
        "--proxy-host": wish.proxy_host,
        "--sudo": wish.sudo,
        "--probe-namespace": wish.probe_namespace,
        "--allow-host-probe": wish.allow_host_probe,
        "--save": wish.save,
    }
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} asks a cluster; it cannot be given with --bundle")


def _see_proxy_host(wish: Wish) -> None:
    """Refuse what ssh could take for something else than a host, and a proxy for no URL.

    Raises:
        UsageError: The host is none, or no URL says which port of it is the proxy's.
    """
    if wish.proxy_host is None:
        return
    if not _DESTINATION.fullmatch(wish.proxy_host):
        raise UsageError(f"--proxy-host: {wish.proxy_host!r} is no [USER@]HOST")
    if not wish.urls:
        raise UsageError("--proxy-host needs --url: the address that the proxy serves")


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
    try:
        return diagnose(bundle, checks, fail_on_warn=wish.fail_on == "warn")
    except msgspec.DecodeError as error:
        # what was gathered here has been decoded before; only a bundle can hold anything else
        raise BundleError(f"{wish.bundle} is damaged: {error}") from error


def _gather(checks: tuple[Check, ...], wish: Wish) -> Bundle:
    """Ask the cluster."""
    from doctor.collect.deadline import Deadline
    from doctor.collect.gather import Options, gather
    from doctor.collect.kube import connect

    question = Question(
        urls=wish.urls, checks=tuple(c.id for c in checks), probing=not wish.no_probe
    )
    needs = needs_of(tuple(n.type for c in checks for n in c.needs))
    api = connect(wish.kubeconfig, wish.context, wish.request_timeout, Deadline(wish.deadline))
    with progress(quiet=wish.quiet) as note:
        options = Options(
            probing=not wish.no_probe,
            probe_image=wish.probe_image,
            proxy_host=wish.proxy_host,
            sudo=wish.sudo,
            probe_namespace=wish.probe_namespace,
            host_probe=wish.allow_host_probe,
            note=note,
            warn=warn,
        )
        return gather(api, question, needs, options)
