"""The doctor at work in the lab: on the proxy host or at a desk, as an operator would run it."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.lab.lab import Lab
from tests.lab.places import PATH, ROOT
from tests.lab.ssh import Client

__all__ = ["Said", "doctor", "examine", "examine_both_ways", "examine_fault", "start"]

SECONDS = 120
"""A hang guard, nothing else: speed is measured by the benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one run said.

    Attributes:
        exit_code: The process's.
        document: The JSON result.
        stderr: What else it wrote.
    """

    exit_code: int
    document: dict[str, Any]
    stderr: str

    @property
    def diagnoses(self) -> list[dict[str, Any]]:
        """The diagnoses, the first first."""
        found: list[dict[str, Any]] = self.document["diagnoses"]
        return found

    @property
    def codes(self) -> list[str]:
        """Their codes."""
        return [d["code"] for d in self.diagnoses]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """What no check could look at, each once."""
        found: list[dict[str, Any]] = []
        for check in self.document["checks"]:
            found += [gap for gap in check["gaps"] if gap not in found]
        return found

    @property
    def lines(self) -> str:
        """What a failed test shows of it."""
        checks = [
            f"  {c['id']}: {c['verdict']} {[f['code'] for f in c['findings']]} {c['gaps']}"
            for c in self.document["checks"]
            if c["verdict"] != "pass"
        ]
        found = [f"  {d['code']} {d['hop']}: {d['title']}" for d in self.diagnoses]
        return "\n".join(["diagnoses:", *found, "checks:", *checks, self.stderr])


def _command(lab: Lab, arguments: tuple[str, ...], client: Client | None = None) -> tuple[str, ...]:
    """The command line, with the administrator's kubeconfig."""
    # where the interpreter itself falls over, its last words say where
    told = "PYTHONFAULTHANDLER=1"
    environment = [f"KUBECONFIG={lab.kubeconfig}", f"PYTHONPATH={ROOT}", told]
    if client:
        environment.append(f"PATH={client.bin}:{PATH}")
    return ("env", *environment, sys.executable, "-m", "doctor", *arguments)


def doctor(
    lab: Lab, *arguments: str, vantage: str = "proxy", client: Client | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line at a vantage, with another ssh if there is one."""
    return lab.at(vantage, *_command(lab, arguments, client), check=False, timeout=SECONDS)


def start(lab: Lab, *arguments: str, vantage: str = "proxy") -> subprocess.Popen[str]:
    """Start the command line at a vantage, to be interrupted."""
    return subprocess.Popen(
        lab.entering(vantage, *_command(lab, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def examine(
    lab: Lab, *arguments: str, vantage: str = "proxy", client: Client | None = None
) -> Said:
    """Run `run` with JSON output and read what it says."""
    json_run = ("run", "--output", "json")
    done = doctor(lab, *json_run, *arguments, vantage=vantage, client=client)
    try:
        document = json.loads(done.stdout)
    except ValueError as error:
        text = f"no JSON came, exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
        raise AssertionError(text) from error
    return Said(exit_code=done.returncode, document=document, stderr=done.stderr)


def examine_both_ways(lab: Lab, *arguments: str) -> tuple[Said, Said]:
    """Run it with the site's URL and without, side by side: two runs do not meet."""
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(examine, lab, "--url", f"{lab.site_url}/", *arguments)
        untold = pool.submit(examine, lab)
        return told.result(), untold.result()


def examine_fault(lab: Lab, *, once: bool) -> tuple[Said, Said]:
    """Run it both ways; only with the URL where a fault is gone after one run."""
    if once:
        told = examine(lab, "--url", f"{lab.site_url}/")
        return told, told
    return examine_both_ways(lab)


def no_finding(said: Said) -> None:
    """Assert a clean bill of health."""
    assert said.codes == [], said.lines
    assert [f for c in said.document["checks"] for f in c["findings"]] == [], said.lines
    assert said.exit_code == 0, said.lines
    assert said.document["verdict"] == "healthy", said.lines
