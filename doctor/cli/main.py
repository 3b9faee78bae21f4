"""The entry point: ``wwwm-doctor`` and ``kubectl wwwm-doctor``."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

import click

from doctor import __version__
from doctor.cli.duration import Duration
from doctor.cli.namespace import NamespaceName
from doctor.errors import DoctorError

__all__ = ["cli", "main"]

_INTERNAL = 1
_USAGE = 2
_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., object])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wwwm-doctor")
def cli() -> None:
    """Find out why a site on a self-run Kubernetes cluster does not answer.

    Walks the path that packets take, measures it from several places, and names the one thing that
    is broken, what proves it, and how to mend it.
    """


def _cluster_options(command: F) -> F:
    """Add the options of every command that talks to a cluster or judges a bundle."""
    options = (
        click.option("--url", "urls", multiple=True, metavar="URL", help="The address that should work; may be repeated. Default: every Ingress host."),
        *_connection(),
        click.option("--deadline", default="90s", show_default=True, metavar="DURATION", type=Duration(), help="How long the whole run may take; what is not known by then is said."),
        click.option("--no-probe", is_flag=True, help="Read the API only: enter no pod, start none."),
        click.option("--probe-image", metavar="IMAGE", help="The image of probe pods; must be on the nodes."),
        click.option("--proxy-host", metavar="[USER@]HOST", help="The host with the reverse proxy, entered by ssh. Default: this machine, where the URL leads here."),
        click.option("--sudo", is_flag=True, help="Use sudo, which must not ask for a password, for raw packets and for the proxy's configuration."),
        click.option("--probe-namespace", metavar="NAME", type=NamespaceName(), help="An existing namespace for probe pods; default: one of the run's own."),
        click.option("--allow-host-probe", is_flag=True, help="Start a probe pod in a node's own network where none can be entered."),
        click.option("--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write all evidence to a bundle."),
        click.option("--bundle", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Judge a bundle instead of a cluster."),
        *_output_options(),
    )  # fmt: skip
    return _with(command, options)


def _connection() -> tuple[Callable[[F], F], ...]:
    """List the options on which cluster is meant."""
    return (
        click.option("--kubeconfig", metavar="FILE", help="The kubeconfig; default as for kubectl."),
        click.option("--context", metavar="NAME", help="The kubeconfig's context."),
        click.option("--request-timeout", default="10s", show_default=True, metavar="DURATION", type=Duration(), help="How long a request to the API server may take."),
    )  # fmt: skip


def _connection_options(command: F) -> F:
    """Add the options of every command that only talks to a cluster."""
    return _with(command, _connection())


def _with(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Add options, to be shown in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def _output_options() -> tuple[Callable[[F], F], ...]:
    """List the options on how a result is shown."""
    return (
        click.option("-o", "--output", "outputs", multiple=True, metavar="FORMAT[=FILE]", help="terminal (default) or json, to stdout or a file; may be repeated."),
        click.option("--fail-on", type=click.Choice(["fail", "warn"]), default="fail", show_default=True, help="What makes the exit code non-zero."),
        click.option("-v", "--verbose", is_flag=True, help="Unfold what a cause explains."),
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    )  # fmt: skip


@cli.command()
@_cluster_options
def run(**given: object) -> int:
    """Walk the whole chain.

    \b
    Examples:
      wwwm-doctor run
      wwwm-doctor run --url http://shop.example.org/ --output json
      wwwm-doctor run --save evidence.bundle
      wwwm-doctor run --bundle evidence.bundle
    """  # noqa: D301 - click wants the control character
    from doctor.cli.examine import examine

    return examine(names=(), given=given)


@cli.command(short_help="Look at one link of the chain, or at single checks.")
@click.argument("names", nargs=-1, required=True, metavar="LINK|ID...")
@_cluster_options
def check(names: tuple[str, ...], **given: object) -> int:
    """Look at one link of the chain, or at single checks, and at what they cross.

    \b
    Examples:
      wwwm-doctor check dns
      wwwm-doctor check dns.udp-and-tcp webhook
    """  # noqa: D301 - click wants the control character
    from doctor.cli.examine import examine

    return examine(names=names, given=given)


@cli.command(name="list")
def list_() -> None:
    """List the checks, in the order in which the path is walked."""
    from doctor.cli.output import columns
    from doctor.engine.registry import load
    from doctor.render.explain import list_checks

    click.echo(list_checks(load(), width=columns()), nl=False)


@cli.command()
@click.argument("name", metavar="CODE|ID", required=False)
@click.option(
    "--evidence", metavar="ID", help="Print all that a bundle holds for what a diagnosis cites."
)
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The bundle, as `run --save` writes it.",
)
def explain(name: str | None, evidence: str | None, bundle: Path | None) -> None:
    """Explain a code or a check: what proves it, its look-alikes, how to mend it.

    \b
    Examples:
      wwwm-doctor explain DNS_PORT_FILTERED
      wwwm-doctor explain --evidence node:worker-1 --bundle evidence.bundle
    """  # noqa: D301 - click wants the control character
    from doctor.cli.explaining import explanation

    click.echo(explanation(name, evidence, bundle), nl=False)


@cli.command()
@click.option(
    "--tier",
    type=click.Choice(["read", "exec", "probe", "host"]),
    default="probe",
    show_default=True,
    help="How much is to be allowed; each builds on those before it.",
)
@click.option(
    "--for",
    "names",
    multiple=True,
    metavar="LINK|ID",
    help="Only what these need, as `check` takes them; may be repeated.",
)
@click.option(
    "--exec-namespace",
    "exec_namespaces",
    multiple=True,
    metavar="NAME",
    type=NamespaceName(),
    help="The namespace of flannel or kube-proxy; may be repeated. Default: anywhere.",
)
@click.option(
    "--probe-namespace",
    metavar="NAME",
    type=NamespaceName(),
    help="An existing namespace for probe pods; default: one of each run's own.",
)
@click.option(
    "--name",
    default="wwwm-doctor",
    show_default=True,
    metavar="NAME",
    help="What the roles' names begin with.",
)
@click.option(
    "--service-account", metavar="NAMESPACE/NAME", help="Also bind the roles to this account."
)
def rbac(**given: object) -> None:
    """Print the roles that the doctor needs: no cluster is asked.

    \b
    Examples:
      wwwm-doctor rbac --tier read
      wwwm-doctor rbac --service-account ops/doctor | kubectl apply -f -
      wwwm-doctor rbac --for dns --exec-namespace kube-flannel --probe-namespace probes
    """  # noqa: D301 - click wants the control character
    from doctor.cli.roles import role_page

    click.echo(role_page(given), nl=False)


@cli.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the recordings.")
@click.option("-v", "--verbose", is_flag=True, help="Unfold what a cause explains.")
def demo(name: str | None, listing: bool, verbose: bool) -> None:
    """Diagnose a recorded fault: no cluster, no network. The first is the article's."""
    from doctor.cli.demonstrate import demonstrate

    click.echo(demonstrate(name, listing=listing, verbose=verbose), nl=False)


@cli.command()
@_connection_options
def images(**given: object) -> None:
    """Say which image a probe pod would be started from on each node, and why."""
    from doctor.cli.pods import show_images

    click.echo(show_images(given), nl=False)


@cli.command()
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also remove what runs on other machines may still use.",
)
@click.option(
    "--probe-namespace",
    metavar="NAME",
    type=NamespaceName(),
    help="Look for probe pods in this namespace only.",
)
@_connection_options
def cleanup(everything: bool, probe_namespace: str | None, **given: object) -> int:
    """Remove probe pods and namespaces that killed runs have left.

    What a run on this machine still uses is left alone. Exit code 3 says that something is left
    that could not be removed, 5 that something could not be looked for.
    """
    from doctor.cli.pods import clean_up

    text, code = clean_up(given, everything=everything, namespace=probe_namespace)
    click.echo(text, nl=False)
    return code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into the exception that SIGINT raises: clean-up is the same."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; what the user did wrong is one line and exit code 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _interrupted()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except DoctorError as error:
        code = _fail(str(error), _USAGE)
    except BrokenPipeError:
        # Whoever read has seen enough.
        code = _discard_output()
    except OSError as error:
        _discard_output()
        code = _fail(f"cannot write the output: {error.strerror or error}", _USAGE)
    except Exception as error:
        if os.environ.get("WWWM_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        code = _fail(f"internal error: {what} (WWWM_DEBUG=1 shows where)", _INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> int:
    """Say so; all is cleaned up, and a signal that comes once more would take the exit code away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return _fail("interrupted", _INTERRUPTED)


def _fail(message: str, code: int) -> int:
    """Say in one line what is wrong."""
    from doctor.render.text import inert

    click.echo(f"wwwm-doctor: {inert(' '.join(message.split()))}", err=True)
    return code


def _discard_output() -> int:
    """Point stdout nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
