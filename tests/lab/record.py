"""Record the demo's bundles in the lab: python -m tests.lab.record."""

import gzip
import json
import sys
from pathlib import Path
from typing import Final

from doctor.cli.demonstrate import RECORDINGS
from tests.lab import bringup
from tests.lab.faults import FAULTS, mend, put_in
from tests.lab.goldens import settled_in
from tests.lab.lab import Lab
from tests.lab.patient import doctor
from tests.lab.places import places
from tests.lab.shape import SHAPES
from tests.lab.shell import LabError

RECORDED: Final = {
    "article": ("hostgw-article", "sg-drops-53"),
    "overlay": ("article", "sg-drops-8472"),
    "port-security": ("article", "port-security-vip"),
    "host-header": ("article", "host-header-lost"),
    "healthy": ("article", None),
}
"""Per recording, the lab's shape and the fault; as many as `demo` lists."""

FOLDER: Final = Path(__file__).parents[2] / "doctor" / "recordings"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_MOST_TRIES: Final = 8


def _record(lab: Lab, name: str) -> None:
    """Run the doctor and keep the bundle.

    With the overlay broken, a request gets through if chance sends it to a pod of the same node.
    """
    path = FOLDER / f"{name}.bundle"
    url = f"{lab.site_url}/"
    for _ in range(_MOST_TRIES):
        done = doctor(lab, "run", "--output", "json", "--url", url, "--save", str(path))
        said = json.loads(done.stdout)
        if name != "overlay" or not said["targets"][0]["reachable"]:
            break
    else:
        raise LabError(f"{url} answered each time, although {name} is broken")
    text = settled_in(lab, gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(text, 9, mtime=0))
    path.chmod(0o644)
    found = [d["code"] for d in said["diagnoses"]]
    _tell(f"{name}: {found or 'healthy'}, {path.stat().st_size >> 10} KiB")


def _in_shape(shape: str) -> None:
    """Make all recordings of one shape."""
    lab = bringup.up(SHAPES[shape], places(), _tell)
    for name, (wanted, fault) in RECORDED.items():
        if wanted != shape:
            continue
        if fault is None:
            _record(lab, name)
            continue
        put_in(lab, FAULTS[fault])
        try:
            _record(lab, name)
        finally:
            mend(lab, FAULTS[fault])


def main() -> None:
    """Make every recording, shape by shape."""
    assert set(RECORDED) == set(RECORDINGS)
    FOLDER.mkdir(exist_ok=True)
    for shape in dict.fromkeys(shape for shape, _ in RECORDED.values()):
        bringup.down(places(), _tell)
        _in_shape(shape)


if __name__ == "__main__":
    main()
