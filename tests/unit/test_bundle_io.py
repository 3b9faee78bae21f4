"""Bundles on disk: kept whole, kept private, refused in one line."""

import errno
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.bundle import io
from doctor.bundle.schema import (
    SCHEMA,
    ApiRecord,
    Bundle,
    CommandOutput,
    FlowRecord,
    GapRecord,
    NodeRecord,
    ProbePodRecord,
    ProxyRecord,
)
from doctor.errors import BundleError
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.proxy import HostProxy, ProxyServer
from doctor.model.verdict import Gap
from tests.unit.support import bundle, cluster

FLOW = Flow("f", Purpose.DNS, Vantage(VantageKind.POD, "n0"), FlowKind.DNS_UDP, "10.96.0.10", 53)
WHOLE = bundle(
    *cluster(),
    ApiRecord("ingresses", msgspec.Raw(b"[]"), 403, "forbidden"),
    NodeRecord("n0", "kube-flannel/ds", (CommandOutput("route", 0, "[]", "사이트"),)),
    ProbePodRecord("n0", "10.244.0.9", 20053, "image"),
    FlowRecord(Observation(FLOW, Failure.TIMEOUT, 2.0, ("192.0.2.1",), 404, detail="quiet")),
    ProxyRecord(HostProxy("nginx", "/etc/nginx/nginx.conf", (ProxyServer((80,)),), "e")),
    GapRecord(Gap("api:pods", "403", essential=False), ("Mesh",)),
    urls=("http://shop.example/",),
    checks=("node.ready",),
)
BODY = gzip.compress(msgspec.json.encode(WHOLE), mtime=0)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    io.save(WHOLE, path)
    assert msgspec.json.encode(io.load(path)) == msgspec.json.encode(WHOLE)
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    assert first[4:8] == bytes(4), "the time of writing is no part of a bundle"
    io.save(io.load(path), path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def zipped(document: object) -> bytes:
    """Compress a JSON document."""
    return gzip.compress(msgspec.json.encode(document), mtime=0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (BODY[:-1], "truncated"),
        (BODY[: len(BODY) // 2], "truncated"),
        (b"plain text", "not a wwwm-doctor bundle"),
        (BODY[:40] + bytes(b ^ 0x55 for b in BODY[40:60]) + BODY[60:], "not a wwwm-doctor bundle"),
        (BODY[:-5] + b"\0\0\0\0\0", "not a wwwm-doctor bundle"),
        (zlib.compress(msgspec.json.encode(WHOLE)), "not a wwwm-doctor bundle"),
        (gzip.compress(b"not json", mtime=0), "not a wwwm-doctor bundle"),
        (zipped([]), "not a wwwm-doctor bundle"),
        (zipped({"tool": "other"}), "not a wwwm-doctor bundle"),
        (zipped({"schema": SCHEMA}), "damaged"),
        (zipped({"schema": SCHEMA + 1}), f"has bundle schema {SCHEMA + 1}"),
        (gzip.compress(b'{"schema": 1, "records": ' + b"[" * 100_000, mtime=0), "bundle: "),
        (gzip.compress(b"\xff\xfe", mtime=0), "not a wwwm-doctor bundle"),
    ],
)
def test_what_is_no_bundle_is_refused_in_one_line(body: bytes, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        io.loads(body, "x.bundle")
    assert words in str(caught.value)
    assert str(caught.value).startswith("x.bundle ")
    assert "\n" not in str(caught.value)


@given(st.data())
def test_no_flipped_byte_goes_unseen(data: st.DataObject) -> None:
    position = data.draw(st.integers(10, len(BODY) - 1))
    change = data.draw(st.integers(1, 255))
    body = bytearray(BODY)
    body[position] ^= change
    try:
        found = io.loads(bytes(body), "x")
    except BundleError:
        return
    assert found == WHOLE


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "MAX_BYTES", 1 << 20)
    with pytest.raises(BundleError, match="larger than 1 MiB"):
        io.loads(gzip.compress(b" " * (1 << 22), mtime=0), "x")
    assert io.loads(BODY, "x").question == WHOLE.question


def test_bytes_after_the_end_change_nothing() -> None:
    assert io.loads(BODY + b"tail", "x").question == WHOLE.question


def missing(path: Path) -> Path:
    """Name a file in a folder that is not there."""
    return path / "absent" / "a.bundle"


def in_a_file(path: Path) -> Path:
    """Name a file below another file."""
    (path / "file").write_text("")
    return path / "file" / "a.bundle"


def nowhere(_path: Path) -> Path:
    """Name a file where nobody can make one."""
    return Path("/proc/a.bundle")


def a_folder(path: Path) -> Path:
    """Name a folder."""
    return path


@pytest.mark.parametrize("make", [missing, in_a_file, nowhere, a_folder])
@pytest.mark.parametrize("act", [io.load, lambda path: io.save(WHOLE, path)])
def test_paths_that_do_not_work(
    tmp_path: Path, make: Callable[[Path], Path], act: Callable[[Path], Bundle | None]
) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(BundleError, match=f"cannot (read|write) the bundle {path}: "):
        act(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("moment", ["pathlib.Path.replace", "os.fdopen"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "a.bundle"
    io.save(WHOLE, path)
    old = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(moment, full)
    with pytest.raises(BundleError, match="No space left on device"):
        io.save(bundle(), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
