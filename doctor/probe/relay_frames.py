"""Cut the relay's output into what each job printed, and read what tools the script found."""

import base64
import binascii
import itertools
import re

import msgspec

__all__ = ["Frame", "Frames", "Tools", "read_frames"]

_TOOLS = re.compile(r"^@@([0-9a-f]{16}) tools ([a-z0-9_,= -]{0,400})$", re.MULTILINE | re.ASCII)
_HEAD = re.compile(r"(\d{1,6}) (\d{1,3}) (\d{1,12}(?:\.\d+)?) (\d{1,12}(?:\.\d+)?)", re.ASCII)
_MOST_FRAMES = 100_000


class Tools(msgspec.Struct, frozen=True):
    """What the script found in the image; a field is empty where no flow needed it looked for.

    Args:
        folder: ``made``, or ``none`` where nothing can be written.
        timeout: ``timeout``, or ``limit`` where the script bounds its jobs itself.
        nc: ``busybox``, ``busybox110`` (Alpine's), ``openbsd``, ``traditional``, ``ncat``,
            ``unknown`` or ``none``.
        tcp: What carries TCP: ``nc``, ``bash`` or ``none``.
        udp: What carries UDP: ``nc``, ``bash`` or ``none``.
        encoding: How bytes are printed: ``base64``, ``od`` or ``none``.
        nslookup: ``nslookup``, ``small`` (takes no port and no time-out), ``unknown`` or ``none``.
        ping: ``ping``, ``plain`` (cannot forbid fragments), ``barred`` (may not even be started),
            ``unknown`` or ``none``.
        arping: ``busybox``, ``iputils``, ``habets``, ``barred``, ``unknown`` or ``none``.
        lacks: Names of small tools that are missing.
    """

    folder: str = ""
    timeout: str = ""
    nc: str = ""
    tcp: str = ""
    udp: str = ""
    encoding: str = ""
    nslookup: str = ""
    ping: str = ""
    arping: str = ""
    lacks: frozenset[str] = frozenset()

    def bytes_of(self, text: str) -> bytes | None:
        """Decode what an exchange brought back; None where it is not encoded as it should be."""
        packed = "".join(text.split())
        try:
            if self.encoding == "od":
                return bytes.fromhex(packed)
            return base64.b64decode(packed.encode(), validate=True)
        except (ValueError, binascii.Error):
            return None


class Frame(msgspec.Struct, frozen=True):
    """What one job printed."""

    status: int
    seconds: float
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        """Whether its time ran out: ``timeout`` says 124, or is the program, as busybox's."""
        return self.status in (124, 137, 143)

    @property
    def never_ran(self) -> bool:
        """Whether the shell could not start the program."""
        return self.status in (126, 127)


class Frames(msgspec.Struct, frozen=True):
    """All that a script printed.

    Args:
        tools: What it found.
        jobs: What each job printed, by its number.
        ended: Whether its output is whole.
        resolver: The resolv.conf of the container; None where it was not read.
    """

    tools: Tools
    jobs: dict[int, Frame]
    ended: bool
    resolver: str | None = None


def read_frames(text: str) -> Frames | None:
    """Cut the script's output into frames; None where it did not even begin.

    The mark is drawn anew for each script and is printed before anything is asked of the network.
    """
    begun = _TOOLS.search(text)
    if begun is None:
        return None
    mark = f"\n@@{begun.group(1)} "
    parts = text[begun.end() :].split(mark, 2 * _MOST_FRAMES)[1:]
    jobs: dict[int, Frame] = {}
    for part, error in itertools.pairwise(parts):
        first, _, out = part.partition("\n")
        if (found := _HEAD.fullmatch(first)) and error.startswith("err\n"):
            number, status, start, end = found.groups()
            seconds = max(0.0, float(end) - float(start))
            said = error.removeprefix("err\n").strip()
            jobs[int(number)] = Frame(int(status), round(seconds, 2), out.strip(), said)
    ended = bool(parts) and parts[-1].strip() == "end"
    # Where the output was cut off, so may be the last frame.
    if not ended and jobs:
        del jobs[next(reversed(jobs))]
    told = next((p for p in parts[:1] if p.startswith("resolver\n")), None)
    resolver = told.removeprefix("resolver\n") if told and len(parts) > 1 else None
    return Frames(_tools(begun.group(2)), jobs, ended, resolver)


def _tools(text: str) -> Tools:
    """Read the line that says what was found."""
    pairs = dict(w.split("=", 1) for w in text.split() if "=" in w)
    lacks = frozenset(w for w in pairs.pop("lacks", "").split(",") if w)
    known = {k: v for k, v in pairs.items() if k in Tools.__struct_fields__}
    return Tools(**known, lacks=lacks)
