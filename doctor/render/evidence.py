"""The page of one piece of evidence: all that a bundle holds for it, down to what tools printed."""

import base64
import binascii
from collections.abc import Iterator, Sequence

import msgspec

from doctor.bundle.schema import LogRecord
from doctor.evidence.lookup import Found, Held
from doctor.model.flow import FlowKind, Observation, Sample
from doctor.model.verdict import Diagnosis
from doctor.render.text import count, inert

__all__ = ["evidence_page"]

_ROW = 16
_MOST_ROWS = 64
_BYTES = {FlowKind.DNS_UDP, FlowKind.DNS_TCP, FlowKind.HTTP, FlowKind.TLS}
"""Exchanges whose bytes the relay brings back encoded."""


def evidence_page(found: Found, diagnoses: Sequence[Diagnosis]) -> str:
    """Write all that is known of an evidence id.

    Args:
        found: What the bundle holds.
        diagnoses: Those of the same bundle, to say which of them it proves.
    """
    lines = [inert(found.id), *_cited(found.id, diagnoses)]
    if found.observation is not None:
        lines += _flow(found.observation)
    for held in found.held:
        lines += _answer(held, found.id)
    for node in found.nodes:
        lines += ["", f"Read inside the node through {inert(node.via)}"]
        lines += [f"  not read: {inert(node.reason)}"] if node.reason else []
        for output in node.outputs:
            cut = ", cut off here" if output.truncated else ""
            lines += ["", f"Printed for {inert(output.name)} (exit {output.status}{cut})"]
            lines += _text(output.stdout, "  ")
            lines += _text(output.stderr, "  stderr: ")
    if found.network is not None:
        lines += ["", "Understood as", *_json(found.network)]
    for log in found.logs:
        lines += _log(log)
    for conf in found.resolvers:
        lines += ["", f"The resolv.conf of a pod on {inert(conf.node)}", *_text(conf.text, "  ")]
    for record in (*found.probe_pods, *found.proxies):
        lines += ["", "Record", *_json(record)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _log(record: LogRecord) -> Iterator[str]:
    """Write the last words of a container, each line with its time."""
    log = record.log
    when = "the run before the present one" if log.previous else "the present run"
    yield from ("", f"Last words of {inert(log.container)} on {inert(log.node)}, {when}")
    if record.reason:
        yield f"  not read (HTTP {record.status}): {inert(record.reason)}"
    yield from (f"  {inert(line.at)} {inert(line.text)}" for line in log.lines)


def _cited(id_: str, diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    """Say which diagnoses and which of their echoes cite it, for or against."""
    for diagnosis in diagnoses:
        if id_ in diagnosis.against:
            yield f"  speaks against {diagnosis.id}: {inert(diagnosis.finding.code.name)}"
        own = (diagnosis.check, diagnosis.finding)
        for check, finding in (own, *diagnosis.explains):
            if id_ in finding.evidence:
                how = "proof of" if finding is diagnosis.finding else "explained by"
                yield f"  {how} {diagnosis.id}: {inert(finding.code.name)} ({inert(check)})"


def _flow(seen: Observation) -> Iterator[str]:
    """Write a flow: what was asked, what came of it, its way, and what the tool printed."""
    flow = seen.flow
    to = f"{flow.address}:{flow.port}" if flow.port else flow.address
    yield from ("", "Asked")
    yield f"  {flow.kind} from {inert(str(flow.vantage))} to {inert(to)}"
    about = {"about": flow.subject, "name": flow.name}
    yield from (f"  {word} {inert(text)}" for word, text in about.items() if text)
    yield from ("", "Came of it")
    answer = f"HTTP status {seen.status}" if seen.status else "an answer"
    yield f"  {seen.failure or answer} after {seen.seconds:g} s"
    if seen.sent > 1:
        yield f"  {seen.lost} of {count(seen.sent, 'sample')} lost"
    if seen.detail:
        yield f"  {inert(seen.detail)}"
    yield from ("", "Predicted way, and back")
    yield from (f"  {inert(str(hop))}" for hop in seen.hops)
    if not seen.hops:
        yield "  not predicted: it begins or ends where nothing is known of the way"
    for number, sample in enumerate(seen.printed, 1):
        yield from ("", f"Printed by the tool, sample {number} ({_ended(sample)})")
        yield from _text(sample.stdout, "  stdout: ")
        yield from _text(sample.stderr, "  stderr: ")
        yield from _dump(sample.stdout) if flow.kind in _BYTES else ()
    kept = msgspec.structs.replace(seen, hops=(), printed=())
    yield from ("", "Record", *_json(kept))


def _ended(sample: Sample) -> str:
    """Say how a tool ended."""
    return f"exit {sample.status} after {sample.seconds:g} s"


def _text(text: str, mark: str) -> Iterator[str]:
    """Write what was printed, line by line, harmless."""
    for line in text.splitlines():
        yield f"{mark}{inert(line)}"


def _dump(text: str) -> Iterator[str]:
    """Write the bytes of an exchange in hexadecimal and as far as they are letters."""
    packed = _bytes("".join(text.split()))
    if packed:
        yield f"  {count(len(packed), 'byte')}, as far as they were kept:"
    for start in range(0, min(len(packed), _ROW * _MOST_ROWS), _ROW):
        row = packed[start : start + _ROW]
        letters = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)  # noqa: PLR2004
        yield f"    {start:04x}  {row.hex(' '):{_ROW * 3}} {letters}"


def _bytes(text: str) -> bytes:
    """Decode what the relay encoded, by od or by base64, perhaps cut off; empty where it is neither."""
    try:
        return bytes.fromhex(text[: len(text) & ~1])
    except ValueError:
        pass
    try:
        return base64.b64decode(text[: len(text) & ~3].encode(), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _answer(held: Held, id_: str) -> Iterator[str]:
    """Write what the API said."""
    status = f"HTTP {held.status}" if held.status else "no answer"
    yield from ("", f"LIST {inert(held.resource)}: {status}, {count(held.count, 'object')}")
    if held.reason:
        yield f"  {inert(held.reason)}"
    yield from (f"  {inert(name)}" for name in held.names)
    for item in held.objects:
        yield from ("", "Kept of it (the fields that checks look at)", *_json(item))
    if not (held.objects or held.names or held.reason):
        yield f"  {inert(id_.rpartition('/')[2])} is not among them"


def _json(value: object) -> Iterator[str]:
    """Write a value as indented JSON, harmless."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return _text(text, "  ")
