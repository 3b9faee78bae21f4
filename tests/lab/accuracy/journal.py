"""What was measured already: a line of JSON for each result, so that a killed run goes on."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from tests.lab.accuracy.row import Row
from tests.lab.places import ROOT, cache_dir
from tests.lab.shell import run

__all__ = ["Journal", "commit", "commits_since"]


_OWN: Final = (":(exclude)docs/accuracy.md", ":(exclude,glob)tests/golden/*/*/*")
"""What a measurement writes itself."""


def commit() -> str:
    """The commit of the working tree; `-dirty` where it has changes, but for what is written here."""
    git = ("git", "-C", str(ROOT))
    head = run(*git, "rev-parse", "--short=12", "HEAD").stdout.strip()
    changed = run(*git, "status", "--porcelain", "--", ".", *_OWN).stdout.strip()
    return f"{head}-dirty" if changed else head


def commits_since(first: str) -> tuple[str, ...]:
    """A commit and those that were made on top of it, as `commit` writes them, the first first.

    Raises:
        LabError: There is no such commit.
    """
    git = ("git", "-C", str(ROOT))
    begin = run(*git, "rev-parse", "--short=12", f"{first}^{{commit}}").stdout.strip()
    later = run(*git, "log", "--reverse", "--format=%h", "--abbrev=12", f"{begin}..HEAD").stdout
    return begin, *later.split()


class Journal:
    """A file that is only ever appended to; several shards may share it."""

    def __init__(self, path: Path | None = None) -> None:
        """Take the lab's own unless told otherwise."""
        self._path = path or cache_dir() / "accuracy.jsonl"

    def add(self, row: Row) -> None:
        """Write a result down, at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # one write to a file opened for appending: lines of two shards do not mix
        with self._path.open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(row) + b"\n")

    def rows(self, of: Collection[str]) -> tuple[Row, ...]:
        """The results for some commits, the last one of each thing that was measured."""
        found = {row.key: row for row in self._all() if row.commit in of}
        return tuple(found.values())

    def _all(self) -> Iterable[Row]:
        """Read all lines but one that a killed run left half written."""
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                yield msgspec.json.decode(line, type=Row)
            except msgspec.DecodeError:
                continue
