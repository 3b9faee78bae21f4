"""Where the lab keeps things on this machine."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "sources"
MANIFESTS: Final = Path(__file__).parent / "manifests"
ROOT: Final = Path(__file__).parents[2]
NETNS: Final = Path("/run/netns")
NETNS_FILES: Final = Path("/etc/netns")
PREFIX: Final = "wd"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cache_dir() -> Path:
    """The directory that outlives a lab: binaries, images, logs of failures."""
    if own := os.environ.get("WWWM_LAB_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wwwm-doctor-lab"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths and names of one lab, told apart from others by its prefix."""

    cache: Path
    prefix: str

    def __post_init__(self) -> None:
        """Refuse a prefix that could be another lab's, or too long for a name of the kernel's."""
        if not re.fullmatch(r"[a-z][a-z0-9]{0,5}", self.prefix):
            msg = f"a prefix is one to six of a-z and 0-9, not {self.prefix!r}"
            raise ValueError(msg)

    @property
    def run(self) -> Path:
        """The state of this lab; gone when it is down."""
        return self.cache / "run" / self.prefix

    @property
    def state(self) -> Path:
        """The file that tells other commands which lab is up."""
        return self.run / "lab.json"

    @property
    def lock(self) -> Path:
        """Held while the lab goes up or down."""
        return self.cache / "run" / f"{self.prefix}.lock"

    @property
    def cgroup(self) -> str:
        """The control group over all of the lab's processes."""
        return f"{self.prefix}-lab"

    def netns(self, name: str) -> str:
        """The network namespace of a machine of the lab."""
        return f"{self.prefix}-{name}"


def places(prefix: str = PREFIX) -> Places:
    """The places of the lab with this prefix."""
    return Places(cache=cache_dir(), prefix=prefix)
