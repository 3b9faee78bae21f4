"""The result on a terminal: the chain at one glance, then what to mend. The only home of rich."""

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from doctor.model.finding import Remediation, Risk, Severity
from doctor.model.link import Link
from doctor.model.verdict import Diagnosis, Outcome, Result, TargetResult, Verdict
from doctor.render.summary import Station, Unseen, cost, headline, stations, unseen
from doctor.render.text import count, inert

__all__ = ["render_terminal"]

_UNKNOWN_WIDTH = 100  # of a log: wide enough for most titles, narrow enough for a browser
_NARROWEST, _WIDEST = 40, 120  # below nothing is aligned, above the eye loses the line
_EVIDENCE_SHOWN = 4
_LINES_SHOWN = 10
_LABEL = len("wrong if: ")

_WORDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "FAIL",
    Verdict.WARN: "warn",
    Verdict.INSUFFICIENT: "unknown",
    Verdict.MASKED: "masked",
    Verdict.SKIPPED: "skipped",
    Verdict.CRASHED: "crashed",
}
_MARKS = {
    Verdict.PASS: "✔",
    Verdict.FAIL: "✖",
    Verdict.WARN: "!",
    Verdict.INSUFFICIENT: "?",
    Verdict.MASKED: "–",  # noqa: RUF001
    Verdict.SKIPPED: "–",  # noqa: RUF001
    Verdict.CRASHED: "✖",
}
_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.WARN: "yellow",
    Verdict.INSUFFICIENT: "magenta",
    Verdict.MASKED: "dim",
    Verdict.SKIPPED: "dim",
    Verdict.CRASHED: "bold red",
}
_OUTCOMES = {
    Outcome.HEALTHY: Verdict.PASS,
    Outcome.WARN: Verdict.WARN,
    Outcome.FAIL: Verdict.FAIL,
    Outcome.INCOMPLETE: Verdict.INSUFFICIENT,
    Outcome.ERROR: Verdict.CRASHED,
    Outcome.INTERRUPTED: Verdict.INSUFFICIENT,
}


def render_terminal(
    result: Result, *, width: int | None, color: bool, ascii_only: bool, verbose: bool
) -> str:
    """Write the result for a person.

    Args:
        result: What the run found.
        width: Columns of the terminal; None where there is none.
        color: Whether to write colours.
        ascii_only: Whether the output must do without any character outside ASCII.
        verbose: Whether to unfold what is folded, and to write all also when all is well.

    Returns:
        Lines that end with a newline; the last one is the verdict.
    """
    page = _Page(width=width, color=color, ascii_only=ascii_only, verbose=verbose)
    full = verbose or result.outcome is not Outcome.HEALTHY or bool(result.diagnoses)
    _chain(page, stations(result), full=full)
    _targets(page, result.targets)
    if full:
        for diagnosis in result.diagnoses:
            _diagnosis(page, diagnosis)
        _notices(page, result.notices)
        _unseen(page, unseen(result))
    _verdict(page, result)
    return page.text


class _Page:
    """Lines of text, wrapped under themselves. All that is written passes through `inert`."""

    def __init__(self, *, width: int | None, color: bool, ascii_only: bool, verbose: bool) -> None:
        self.width = min(max(width or _UNKNOWN_WIDTH, _NARROWEST), _WIDEST)
        self.ascii_only = ascii_only
        self.verbose = verbose
        self._file = io.StringIO()
        # The caller has decided: nothing is left for rich to find out from the environment.
        self._console = Console(
            file=self._file,
            width=self.width,
            color_system="standard" if color else None,
            force_terminal=color,
            force_jupyter=False,
            no_color=not color,
            legacy_windows=False,
            markup=False,
            highlight=False,
            emoji=False,
        )

    @property
    def text(self) -> str:
        """All that has been written."""
        return self._file.getvalue()

    def say(self, text: str, style: str = "") -> Text:
        """Make a piece of a line. Text, never markup: brackets are only brackets.

        The style is the piece's own: a style of the Text would colour all that is added to it.
        """
        return Text().append(inert(text, ascii_only=self.ascii_only), style)

    def mark(self, verdict: Verdict, *, width: int = 0) -> Text:
        """Make the sign of a verdict; without Unicode it is the word."""
        word = "ok" if verdict is Verdict.PASS else _WORDS[verdict]
        sign = word.ljust(width) if self.ascii_only else _MARKS[verdict]
        return Text().append(f"{sign} ", _STYLES[verdict])

    def gap(self) -> None:
        """Leave a line between sections."""
        if self._file.tell():
            self._file.write("\n")

    def verbatim(self, text: Text, indent: int) -> None:
        """Write a line that is to be copied: it is never broken."""
        self._write(Text(" " * indent) + text)

    def cut(self, head: Text, body: Text) -> None:
        """Write one line, shortened to the width."""
        room = self.width - head.cell_len
        if body.cell_len > room:
            dots = "..." if self.ascii_only else "…"
            body.truncate(room - len(dots))
            body.rstrip()
            body.append(dots)
        self._write(head + body)

    def hang(self, head: Text, body: Text, *, indent: int | None = None) -> None:
        """Write a line and wrap it under itself.

        Args:
            head: What stands before the column.
            body: What is wrapped.
            indent: The column of further lines; where the head ends by default.
        """
        at = head.cell_len if indent is None else indent
        lines = body.wrap(self._console, self.width - max(at, head.cell_len), overflow="fold")
        for number, line in enumerate(lines):
            line.rstrip()
            self._write((Text(" " * at) if number else head) + line)

    def _write(self, line: Text) -> None:
        """Write a finished line."""
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def _chain(page: _Page, chain: Sequence[Station], *, full: bool) -> None:
    """Write the chain, a line per link; what stands in full further down is cut short here."""
    names = max((len(s.link.value) for s in chain), default=0) + 2
    words = max((len(_WORDS[s.verdict]) for s in chain), default=0)
    for station in chain:
        style = _STYLES[station.verdict]
        head = page.mark(station.verdict, width=words)
        head += page.say(station.link.value.ljust(names))
        if not page.ascii_only:
            head += page.say(_WORDS[station.verdict].ljust(words + 2), style)
        body = page.say(station.text, "dim" if style in ("green", "dim") else "")
        if station.repeated and full:
            page.cut(head, body)
        else:
            page.hang(head, body)


def _targets(page: _Page, targets: Sequence[TargetResult]) -> None:
    """Write what became of each URL, those out of reach first."""
    if not targets:
        return
    page.gap()
    page.hang(page.say("targets", "bold"), Text(""))
    ordered = sorted(targets, key=lambda t: t.reachable)
    shown = ordered if page.verbose else ordered[:_LINES_SHOWN]
    column = max(page.say(t.url).cell_len for t in shown)
    for target in shown:
        _target(page, target, column)
    _rest(page, ordered[len(shown) :])


def _target(page: _Page, target: TargetResult, column: int) -> None:
    """Write one URL: in columns where they fit, else with what became of it below."""
    excused = not target.judged and not target.stopped_at
    verdict = Verdict.SKIPPED if excused else Verdict.FAIL
    verdict = Verdict.PASS if target.reachable else verdict
    mark = Text("  ") + page.mark(verdict, width=len("FAIL"))
    style = "red" if verdict is Verdict.FAIL else ""
    url, fate = page.say(target.url), page.say(_fate(target), style)
    if mark.cell_len + column + 2 + fate.cell_len <= page.width:
        url.pad_right(column + 2 - url.cell_len)
        page.hang(mark + url, fate)
    else:
        page.hang(mark, url)
        page.hang(Text(" " * (mark.cell_len + 2)), fate)


def _fate(target: TargetResult) -> str:
    """Say what became of a URL."""
    status = f" (HTTP {target.status})" if target.status is not None else ""
    if target.reachable:
        return f"reachable{status}"
    if not target.judged and not target.stopped_at:
        return f"not judged{status}"
    return f"stopped at {target.stopped_at or 'a place not known'}{status}"


def _rest(page: _Page, rest: Sequence[TargetResult]) -> None:
    """Count the URLs that are not written out."""
    if rest:
        lost = sum(not t.reachable for t in rest)
        page.hang(Text("    "), page.say(f"and {len(rest)} more, {lost} of them not reachable"))


def _diagnosis(page: _Page, diagnosis: Diagnosis) -> None:
    """Write a diagnosis: what, where, why, how to mend, how to see it mended."""
    finding = diagnosis.finding
    verdict = Verdict.FAIL if finding.severity is Severity.FAIL else Verdict.WARN
    page.gap()
    head = page.mark(verdict) + page.say(f"{diagnosis.id}  ", _STYLES[verdict])
    page.hang(head, page.say(finding.title, "bold"))
    _field(page, "where:", page.say(str(finding.hop), "cyan"))
    _field(page, "code:", page.say(f"{finding.code.name} ({finding.confidence.value})"))
    most = len(finding.evidence) if page.verbose else _EVIDENCE_SHOWN
    _field(page, "proof:", page.say(_some(finding.evidence, most)))
    if diagnosis.against:
        _field(page, "against:", page.say(_some(diagnosis.against, most)))
    for rival in diagnosis.rivals:
        _field(page, "or else:", page.say(f"{rival.hop}, if {rival.decided_by}"))
    _explains(page, diagnosis)
    for remedy in finding.remediation:
        _fix(page, remedy)
    for command in dict.fromkeys(r.verify for r in finding.remediation if r.verify):
        page.verbatim(_label(page, "verify:") + page.say(command, "cyan"), 0)
    if finding.falsifier:
        _field(page, "wrong if:", page.say(finding.falsifier))


def _label(page: _Page, name: str) -> Text:
    """Make the left column of a diagnosis."""
    return page.say("  " + name.ljust(_LABEL), "dim")


def _field(page: _Page, name: str, value: Text) -> None:
    """Write one labelled line of a diagnosis."""
    page.hang(_label(page, name), value)


def _some(items: Sequence[str], most: int) -> str:
    """List a few, and count the rest."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def _explains(page: _Page, diagnosis: Diagnosis) -> None:
    """Count the findings that are echoes, by link; unfolded, name each."""
    if not diagnosis.explains:
        return
    at = [finding.code.link for _, finding in diagnosis.explains]
    places = ", ".join(f"{at.count(link)} at {link.value}" for link in Link if link in at)
    number = count(len(at), "other finding")
    _field(page, "explains:", page.say(f"{number} ({places})"))
    if page.verbose:
        for check, finding in diagnosis.explains:
            page.hang(
                Text(" " * (_LABEL + 2)),
                page.say(f"{check}  {finding.code.name}  {finding.title}"),
                indent=_LABEL + 4,
            )


def _fix(page: _Page, remedy: Remediation) -> None:
    """Write a remediation; its commands stand alone on their lines."""
    style = "green" if remedy.risk is Risk.SAFE else "bold yellow"
    title = page.say(remedy.title) + page.say(f" ({remedy.risk.value})", style)
    _field(page, "fix:", title)
    for command in remedy.commands:
        page.verbatim(page.say(command, "cyan"), _LABEL + 4)


def _notices(page: _Page, notices: Iterable[str]) -> None:
    """Write what is worth knowing and is no finding."""
    for number, notice in enumerate(notices):
        if not number:
            page.gap()
        page.hang(page.say("note: ", "dim"), page.say(notice))


def _unseen(page: _Page, missed: Sequence[Unseen]) -> None:
    """Write what was not looked at, and which answers that costs."""
    if not missed:
        return
    page.gap()
    page.hang(page.say("not looked at", "bold"), Text(""))
    shown = missed if page.verbose else missed[:_LINES_SHOWN]
    for gap in shown:
        page.hang(Text("  "), page.say(f"{gap.needs}: {gap.reason}"), indent=4)
        if gap.costs:
            costs = gap.costs if page.verbose else (_some(gap.costs, _EVIDENCE_SHOWN),)
            page.hang(Text("    "), page.say("so no answer from " + ", ".join(costs), "dim"))
    if len(missed) > len(shown):
        page.hang(Text("  "), page.say(f"and {len(missed) - len(shown)} more"))


def _verdict(page: _Page, result: Result) -> None:
    """Write the last line; it stays one line also in a narrow log, for whoever reads the tail."""
    page.gap()
    spent = page.verbose and result.outcome is not Outcome.HEALTHY
    tail = f"; {cost(result.stats)}" if spent else ""
    style = _STYLES[_OUTCOMES[result.outcome]].removeprefix("bold ")
    page.verbatim(page.say(headline(result) + tail, f"bold {style}"), 0)
