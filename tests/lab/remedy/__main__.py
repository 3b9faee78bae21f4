"""Run printed remedies as printed: python -m tests.lab.remedy FAULT…, or SHELL COMMANDS with --run."""

import argparse
import sys

from tests.lab.faults import FAULTS, mend, put_in
from tests.lab.lab import Lab
from tests.lab.patient import examine
from tests.lab.places import PREFIX
from tests.lab.remedy.place import run_as_printed
from tests.lab.remedy.run import COMMAND_SECONDS, Outcome, heal_as_printed, leaving_nothing


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _try(lab: Lab, name: str) -> bool:
    """Break the lab, run what the first diagnosis prints, and mend what is left."""
    fault = FAULTS[name]
    try:
        put_in(lab, fault)
        said = examine(lab, "--url", f"{lab.site_url}/")
        if not said.diagnoses:
            _tell(f"{name}: no diagnosis")
            return fault.decoy
        for remedy in said.diagnoses[0]["remediation"]:
            _tell(f"{name}: {remedy['title']}")
            for command in remedy["commands"]:
                _tell(f"  $ {command}")
        with leaving_nothing(lab):
            tried = heal_as_printed(lab, said.diagnoses[0])
    finally:
        mend(lab, fault)
    for line in tried.said.splitlines():
        _tell(f"  | {line}")
    verified = {True: ", verified as printed", False: ", not verified as printed", None: ""}
    _tell(f"{name}: heals: {tried.outcome}, {tried.seconds:.0f} s{verified[tried.verified]}")
    return tried.outcome is not Outcome.NO and tried.verified is not False


def main() -> None:
    """Do what the command line says; the exit code says whether all healed that could."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.remedy", description=__doc__)
    parser.add_argument("--prefix", default=PREFIX, help="the lab to use")
    parser.add_argument("--run", action="store_true", help="run the arguments as commands there")
    parser.add_argument("rest", nargs="+", metavar="FAULT|COMMAND")
    options = parser.parse_args()
    lab = Lab.attach(options.prefix)
    if options.run:
        ran = run_as_printed(lab, options.rest, COMMAND_SECONDS)
        sys.stdout.write(ran.output)
        sys.exit(ran.exit_code)
    if unknown := [name for name in options.rest if name not in FAULTS]:
        parser.error(f"no fault is called {', '.join(unknown)}")
    results = [_try(lab, name) for name in options.rest]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
