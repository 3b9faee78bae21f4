"""One file is licensed otherwise than the rest, and its licence comes with it."""

import tomllib
from pathlib import Path

import doctor

ROOT = Path(doctor.__file__).parents[1]
MARK = "SPDX-License-Identifier: GPL-2.0-only"


def test_one_file_is_of_another_licence() -> None:
    files = [p for folder in ("doctor", "checks") for p in (ROOT / folder).rglob("*.py")]
    marked = [p for p in files if MARK in p.read_text(encoding="utf-8")]
    assert marked == [ROOT / "doctor" / "probe" / "packets.py"]
    assert "`doctor/probe/packets.py`" in (ROOT / "NOTICE").read_text()


def test_both_licences_are_named_and_come_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0 AND GPL-2.0-only"
    texts = {name: (ROOT / name).read_text() for name in project["license-files"]}
    assert "Apache License" in texts["LICENSE"]
    assert (
        "GNU GENERAL PUBLIC LICENSE\n                       Version 2"
        in (texts["doctor/probe/COPYING.packets"])
    )
