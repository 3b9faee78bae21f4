"""Pages about checks and codes, made from the checks' own docstrings."""

import re
import textwrap
from collections.abc import Iterator, Sequence

import msgspec

from doctor.contract import SECTIONS, Check
from doctor.model.finding import Code, Role
from doctor.model.rights import Needs
from doctor.render.text import cells, inert

__all__ = ["WIDTH", "Section", "explain_check", "explain_code", "list_checks", "sections"]

WIDTH = 80
"""Columns of a page that is shown on no terminal."""

_WIDEST = 100  # prose
_ITEM = re.compile(r"([-*]|\d+\.) +")
_OF_A_CODE = ("What proves it", "Look-alikes", "Remediation")
_ROLES = {
    Role.CAUSE: "a cause: it is a diagnosis unless another one explains it",
    Role.SYMPTOM: "a symptom: it is a diagnosis only if no cause explains it",
}


class Section(msgspec.Struct, frozen=True):
    """One section of a check's docstring."""

    title: str
    body: str


def sections(docs: str) -> tuple[Section, ...]:
    """Split a check's docstring; what stands before the first section has an empty title."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in docs.splitlines():
        title = line.strip().rstrip(":")
        if title in SECTIONS and not line.startswith(" "):
            found.append((title, []))
        else:
            found[-1][1].append(line)
    bodies = ((title, textwrap.dedent("\n".join(lines)).strip("\n")) for title, lines in found)
    return tuple(Section(title, body) for title, body in bodies if body.strip())


def explain_check(check: Check, needs: Needs, *, width: int = WIDTH) -> str:
    """Write the page of a check.

    Args:
        check: The check.
        needs: What it takes to get its evidence.
        width: Columns of the terminal.
    """
    codes = [line for code in check.codes for line in _code(code, width)]
    told = f"{check.title}."
    parts = (*(s for s in sections(check.docs) if s.body.strip() != told), _needs(needs))
    return _page(
        [
            f"{inert(check.id)} ({check.link.value})",
            *_paragraph(check.title, width, "  "),
            *_prose(parts, width),
            "",
            "Codes",
            *codes,
        ]
    )


def _needs(needs: Needs) -> Section:
    """Write what has to be allowed, tier by tier."""
    tier = f"Tier {needs.answers}"
    tier += f"; with tier {needs.more} it says more" if needs.more is not needs.answers else ""
    rules = [f"- {role.tier}: {rule}" for role in needs.roles for rule in role.rules]
    if needs.crosses:
        tier += f". The checks of what it crosses ({', '.join(needs.crosses)}) are run with it: "
        tier += f"tier {needs.all} gives them all their evidence"
    command = f"`wwwm-doctor rbac --tier {needs.all or needs.more} --for {needs.id}`"
    text = f"{tier}. {command} prints the roles."
    return Section("Needs", "\n\n".join((text, "\n".join(rules))))


def explain_code(code: Code, checks: Sequence[Check], *, width: int = WIDTH) -> str:
    """Write the page of a code.

    Args:
        code: The code.
        checks: All checks; those that may say it are quoted.
        width: Columns of the terminal.
    """
    lines = [
        f"{inert(code.name)} ({code.link.value})",
        *_paragraph(code.meaning, width, "  "),
        *_paragraph(f"It is {_ROLES[code.role]}.", width, "  "),
    ]
    for check in checks:
        if any(c.name == code.name for c in check.codes):
            quoted = [s for s in sections(check.docs) if s.title in _OF_A_CODE]
            lines += ["", f"Said by {inert(check.id)}", *_paragraph(check.title, width, "  ")]
            lines += _prose(quoted, width)
    return _page(lines)


def list_checks(checks: Sequence[Check], *, width: int | None = None) -> str:
    """Write a table of id, link, title and codes.

    Args:
        checks: The checks, in the order of the chain.
        width: Columns of the terminal; None writes one line per check, for other programs.
    """
    rows = [("ID", "LINK", "TITLE", "CODES")]
    rows += [
        (inert(c.id), c.link.value, inert(c.title), " ".join(inert(k.name) for k in c.codes))
        for c in checks
    ]
    ids, links, titles = (max(cells(row[i]) for row in rows) + 2 for i in range(3))
    longest = max(cells(row[3]) for row in rows)
    if width is None or ids + links + titles + longest <= width:
        return _page(
            f"{_pad(name, ids)}{_pad(link, links)}{_pad(title, titles)}{codes}"
            for name, link, title, codes in rows
        )
    return _page(line for row in rows for line in _folded(row, ids, links, width))


def _folded(row: tuple[str, str, str, str], ids: int, links: int, width: int) -> Iterator[str]:
    """Write a check whose codes do not fit beside its title: they stand below it."""
    name, link, title, codes = row
    at = ids + links
    heads = iter([_pad(name, ids) + _pad(link, links)])
    for line in (*_wrap(title, width - at), *_wrap(codes, width - at - 2, "  ")):
        yield next(heads, " " * at) + line


def _pad(text: str, width: int) -> str:
    """Fill up with spaces, by columns rather than characters."""
    return text + " " * (width - cells(text))


def _page(lines: Sequence[str] | Iterator[str]) -> str:
    """Join lines."""
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _code(code: Code, width: int) -> Iterator[str]:
    """Write a code with its meaning."""
    yield f"  {inert(code.name)}"
    yield from _paragraph(code.meaning, width, "      ")


def _prose(parts: Sequence[Section], width: int) -> Iterator[str]:
    """Write sections, wrapped."""
    for part in parts:
        yield ""
        if part.title:
            yield part.title
        for number, block in enumerate(re.split(r"\n\s*\n", part.body)):
            if number:
                yield ""
            yield from _block(block.splitlines(), width)


def _block(lines: Sequence[str], width: int) -> Iterator[str]:
    """Write a paragraph, a list, or lines that are indented because they are to be kept."""
    if all(line.startswith("  ") for line in lines):
        yield from (f"  {inert(line)}" for line in lines)
        return
    item = ""
    for line in lines:
        if _ITEM.match(line.strip()) and item:
            yield from _item(item, width)
            item = ""
        item += f" {line.strip()}"
    yield from _item(item.strip(), width)


def _item(text: str, width: int) -> Iterator[str]:
    """Write a paragraph or an item of a list; further lines stand under its text."""
    mark = _ITEM.match(text.strip())
    yield from _paragraph(text.strip(), width, "  ", "  " + " " * len(mark[0] if mark else ""))


def _paragraph(text: str, width: int, indent: str, further: str | None = None) -> list[str]:
    """Wrap a paragraph; the marks of docstrings become those of prose."""
    plain = re.sub("::$", ":", text.replace("``", "`"))
    clean = inert(" ".join(plain.split()))
    return _wrap(clean, min(width, _WIDEST), indent, further)


def _wrap(text: str, width: int, indent: str = "", further: str | None = None) -> list[str]:
    """Wrap at spaces by columns; a command or a name is never broken."""
    lines = [indent]
    empty = True
    for word in text.split(" "):
        if not empty and cells(lines[-1]) + 1 + cells(word) > width:
            lines.append(indent if further is None else further)
            empty = True
        lines[-1] += word if empty else f" {word}"
        empty = False
    return lines
