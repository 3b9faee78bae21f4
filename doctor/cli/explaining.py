"""What ``explain`` does: the page of a code, of a check, or of one piece of evidence."""

from pathlib import Path

import msgspec

from doctor.cli.output import columns
from doctor.engine.registry import codes, load, suggestion
from doctor.errors import BundleError, UsageError

__all__ = ["explanation"]


def explanation(name: str | None, evidence: str | None, bundle: Path | None) -> str:
    """Return the page that was asked for.

    Args:
        name: A code, a check's id, or a link.
        evidence: An evidence id.
        bundle: The bundle that holds it.

    Raises:
        UsageError: There is none, or the options do not go together.
    """
    if (name is None) == (evidence is None):
        raise UsageError("explain takes a code or a check, or --evidence ID with --bundle FILE")
    if evidence is None and bundle is not None:
        raise UsageError("--bundle holds evidence; it goes with --evidence ID")
    if evidence is not None and bundle is None:
        raise UsageError("--evidence needs --bundle FILE; `wwwm-doctor run --save FILE` writes one")
    if evidence is not None and bundle is not None:
        return _evidence(evidence, bundle)
    return _named(name or "")


def _evidence(id_: str, path: Path) -> str:
    """Return all that a bundle holds for an evidence id."""
    from doctor.bundle.io import load as load_bundle
    from doctor.engine.run import diagnose
    from doctor.evidence.lookup import closest, look_up
    from doctor.evidence.tables import Tables
    from doctor.render.evidence import evidence_page

    bundle = load_bundle(path)
    asked = bundle.question.checks
    try:
        result = diagnose(bundle, tuple(c for c in load() if not asked or c.id in asked))
        cited = frozenset(e for c in result.checks for f in c.findings for e in f.evidence)
        cited |= frozenset(e for d in result.diagnoses for e in d.against)
        tables = Tables(bundle)
        found = look_up(tables, id_, cited=id_ in cited)
        if found is not None:
            return evidence_page(found, result.diagnoses)
        near = closest(tables, id_, cited)
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    hint = f" (near it: {', '.join(near)})" if near else ""
    raise UsageError(f"{path} holds no evidence called {id_!r}{hint}")


def _named(name: str) -> str:
    """Return the page of a code or a check, or of all checks of a link.

    Raises:
        UsageError: There is none.
    """
    from doctor.cli.roles import needs
    from doctor.render.explain import WIDTH, explain_check, explain_code, list_checks

    checks, width = load(), columns()
    known = codes(checks)
    code = known.get(name.upper().replace("-", "_"))
    if code is not None:
        return explain_code(code, checks, width=width or WIDTH)
    check = next((c for c in checks if c.id == name.lower()), None)
    if check is not None:
        return explain_check(check, needs(check, checks), width=width or WIDTH)
    of_link = tuple(c for c in checks if c.link.value == name.lower())
    if of_link:
        return list_checks(of_link, width=width)
    hint = suggestion(name, (*known, *(c.id for c in checks), *(c.link.value for c in checks)))
    raise UsageError(f"no code or check is called {name!r}{hint}; `wwwm-doctor list` shows all")
