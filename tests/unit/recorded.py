"""What was recorded inside nodes of the lab, shortened."""

from pathlib import Path

import msgspec
from hypothesis import strategies as st

from doctor.bundle.schema import CommandOutput, NodeRecord

DATA = Path(__file__).parent / "data"
RECORD = msgspec.json.decode((DATA / "node-record.json").read_bytes(), type=NodeRecord)
"""A worker with kube-proxy in iptables mode; rules of three Services, and one pod's link, are kept."""

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def text(name: str) -> str:
    """Return a file of recorded output."""
    return (DATA / name).read_text()


def printed(name: str) -> str:
    """Return what one reading of the record printed."""
    return next(o.stdout for o in RECORD.outputs if o.name == name)


def record(*changed: CommandOutput, without: tuple[str, ...] = (), reason: str = "") -> NodeRecord:
    """Return the record with some outputs changed, added or left out."""
    named = {o.name: o for o in (*RECORD.outputs, *changed)}
    outputs = tuple(o for name, o in named.items() if name not in without)
    return msgspec.structs.replace(RECORD, outputs=outputs, reason=reason)


@st.composite
def damaged(draw: st.DrawFn, *originals: str) -> str:
    """Cut, double or overwrite a part of one of the originals."""
    original = draw(st.sampled_from(originals))
    first, last = sorted((draw(st.integers(0, len(original))), draw(st.integers(0, len(original)))))
    put = draw(
        st.sampled_from(("", original[first:last] * 2, "\0", '"', "[" * 2000, "\n", "9" * 400))
    )
    end = draw(st.sampled_from((original[last:], "")))
    return original[:first] + put + end
