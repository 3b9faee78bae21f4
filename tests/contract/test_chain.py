"""What holds for every check that ships."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import checks
from checks import CHAIN
from doctor.contract import SECTIONS, Check
from doctor.evidence.tables import TABLES, needs_of
from doctor.model.finding import Code
from doctor.model.link import Link

FOLDER = Path(inspect.getfile(checks)).parent
LINKS = tuple(
    sorted(p.stem for p in FOLDER.iterdir() if p.stem not in ("__init__", "__pycache__", "common"))
)
FILES = tuple(
    sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.py") if p.name != "__init__.py")
)
PURE = {
    "checks.common", *(f"checks.{n}" for n in LINKS), "collections", "datetime", "difflib", "doctor.contract", "doctor.model", "functools", "http",
    "ipaddress", "itertools", "json", "math", "msgspec", "re", "shlex", "typing", "urllib.parse",
}  # fmt: skip
IMPURE_NAMES = {"open", "eval", "exec", "compile", "__import__", "input", "print", "breakpoint"}
EACH = pytest.mark.parametrize("check", CHAIN, ids=[c.id for c in CHAIN])
EACH_LINK = pytest.mark.parametrize("name", LINKS)


def module(name: str) -> ModuleType:
    """Import what holds a link's checks."""
    return import_module(f"checks.{name}")


def parts(name: str) -> tuple[ModuleType, ...]:
    """Import what a link's checks are written in: a module, or those of a package."""
    folder = FOLDER / name
    inside = sorted(p.stem for p in folder.glob("*.py") if p.name != "__init__.py")
    return tuple(import_module(f"checks.{name}.{p}") for p in inside) or (module(name),)


def test_ids_are_unique() -> None:
    ids = [c.id for c in CHAIN]
    assert len(set(ids)) == len(ids)


def test_the_chain_walks_every_link_in_order() -> None:
    assert list(dict.fromkeys(c.link for c in CHAIN)) == list(Link)
    assert [m.replace("_", "-") for m in LINKS] == sorted(link.value for link in Link)


@EACH
def test_an_id_begins_with_its_link(check: Check) -> None:
    assert re.fullmatch(rf"{check.link}\.[a-z0-9]+(-[a-z0-9]+)*", check.id)


NEGATIVE = re.compile(
    r"\b(not|no|never|cannot|fails?|broken|missing|without|wrong)\b", re.IGNORECASE
)


@EACH
def test_a_title_is_a_positive_sentence(check: Check) -> None:
    assert re.fullmatch(r"\S+( \S+){2,}", check.title)
    assert check.title[0].isupper() or check.title.startswith("kube-proxy ")
    assert check.title[-1].isalnum()
    assert len(check.title) <= 80
    assert not NEGATIVE.search(check.title)


@EACH
def test_the_docs_have_all_sections_in_order(check: Check) -> None:
    heads = re.findall(r"^(\S[^\n]*):$", check.docs, re.MULTILINE)
    assert [h for h in heads if h in SECTIONS] == list(SECTIONS)
    assert heads == list(SECTIONS)
    for before, after in zip(SECTIONS, (*SECTIONS[1:], ""), strict=True):
        body = check.docs.partition(f"{before}:\n")[2]
        body = body.partition(f"\n{after}:\n")[0] if after else body
        assert len(body.split()) >= 4, before
        assert all(not line or line.startswith("    ") for line in body.splitlines()), before


@EACH
def test_the_docs_begin_with_the_title(check: Check) -> None:
    assert re.fullmatch(r"\S.*\.", check.docs.splitlines()[0])


@EACH
def test_every_need_can_be_met(check: Check) -> None:
    assert check.needs
    assert [n.type for n in check.needs if n.type not in TABLES] == []
    assert any(n.required for n in check.needs)
    assert needs_of(tuple(n.type for n in check.needs))


def test_every_table_is_asked_for() -> None:
    assert {n.type for c in CHAIN for n in c.needs} == set(TABLES)


@EACH
def test_codes_are_well_formed_and_of_the_checks_link(check: Check) -> None:
    assert check.codes
    assert len(set(check.codes)) == len(check.codes)
    for code in check.codes:
        assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", code.name)
        assert re.fullmatch(r"\S.*[^.\s]\.", code.meaning), code.name
        assert code.link is check.link, code.name


def test_a_code_is_defined_once() -> None:
    defined: dict[str, Code] = {}
    for code in (k for c in CHAIN for k in c.codes):
        assert defined.setdefault(code.name, code) == code


@EACH_LINK
def test_codes_that_are_defined_are_listed_and_the_other_way_round(name: str) -> None:
    names = {k: v.name for m in parts(name) for k, v in vars(m).items() if isinstance(v, Code)}
    listed = {k.name for c in module(name).CHECKS for k in c.codes}
    assert set(names.values()) == listed
    assert {k for k in names if not k.startswith("_")} == listed


@EACH_LINK
def test_a_links_checks_are_all_in_the_chain(name: str) -> None:
    found = module(name)
    defined = [v for m in parts(name) for v in vars(m).values() if isinstance(v, Check)]
    assert sorted(c.id for c in defined) == sorted(c.id for c in found.CHECKS)
    assert [c for c in CHAIN if c in found.CHECKS] == list(found.CHECKS)
    assert "CHECKS" in found.__all__


@EACH_LINK
def test_codes_are_public(name: str) -> None:
    for part in parts(name):
        codes = {k for k, v in vars(part).items() if isinstance(v, Code)}
        elsewhere = {a.asname or a.name for a in names_imported(part)}
        assert codes - elsewhere <= set(part.__all__)


def names_imported(part: ModuleType) -> list[ast.alias]:
    """List what a module has from others, where it is public."""
    tree = ast.parse(inspect.getsource(part))
    return [a for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]


def imported(tree: ast.Module) -> set[str]:
    """List the modules that a module imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", FILES)
def test_checks_are_pure(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text(encoding="utf-8"))
    outside = {m for m in imported(tree) if not any(f"{m}.".startswith(f"{p}.") for p in PURE)}
    assert outside == set()
    called = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert called & IMPURE_NAMES == set()
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Global | ast.Nonlocal)]


@EACH
def test_a_check_only_yields(check: Check) -> None:
    assert inspect.isgeneratorfunction(check.judge)
