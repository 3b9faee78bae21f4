"""Running commands and waiting for conditions."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LabError(Exception):
    """Something the lab cannot go on without; its text is one sentence for the person at hand."""


def run(
    *argv: str,
    input: str | None = None,
    check: bool = True,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    quiet: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said.

    Args:
        argv: The command and its arguments.
        input: Text for its standard input; without it, that is empty.
        check: Whether a non-zero exit is an error.
        timeout: Seconds after which it is killed.
        env: Its whole environment; without it, ours.
        cwd: Its working directory.
        quiet: Whether its output goes nowhere; needed where a child of it lives on.

    Returns:
        The finished process with its output as text.

    Raises:
        LabError: The command failed or took too long.
    """
    try:
        done = subprocess.run(
            argv,
            input=input if input is not None else "",
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
            text=True,
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"no end after {timeout:g} s: {' '.join(argv)}"
        raise LabError(msg) from error
    if check and done.returncode != 0:
        said = ((done.stderr or "").strip() or (done.stdout or "").strip())[-600:]
        msg = f"exit {done.returncode} of {' '.join(argv)}: {said}"
        raise LabError(msg)
    return done


def poll(condition: Callable[[], T], *, seconds: float, what: str, every: float = 0.1) -> T:
    """Ask until the answer is true.

    Args:
        condition: What to ask; its first true answer ends the wait.
        seconds: The deadline.
        what: What is waited for, for the error message.
        every: Seconds between two questions.

    Returns:
        The first true answer.

    Raises:
        LabError: The deadline passed.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            msg = f"waited {seconds:g} s in vain for {what}"
            raise LabError(msg)
        time.sleep(every)
    return answer
