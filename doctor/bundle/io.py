"""Reading and writing bundles: gzip-compressed JSON, written atomically with mode 0600."""

import gzip
import os
import tempfile
import zlib
from pathlib import Path

import msgspec

from doctor.bundle.schema import SCHEMA, Bundle
from doctor.errors import BundleError

__all__ = ["MAX_BYTES", "load", "loads", "save"]

MAX_BYTES = 512 * 1024 * 1024
"""A bundle larger than this, uncompressed, is refused: 5,000 nodes take less."""


class _Version(msgspec.Struct):
    """The only field that every schema version has."""

    schema: int


def save(bundle: Bundle, path: Path) -> None:
    """Write a bundle.

    Args:
        bundle: What to write.
        path: The file; replaced if it exists.

    Raises:
        BundleError: The file cannot be written.
    """
    body = gzip.compress(msgspec.json.encode(bundle), 6, mtime=0)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BundleError(f"cannot write the bundle {path}: {error.strerror}") from error


def load(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: The file cannot be read, or is no bundle of a version known here.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the bundle {path}: {error.strerror}") from error
    return loads(body, str(path))


def loads(body: bytes, name: str) -> Bundle:
    """Read a bundle from bytes; ``name`` is what error messages call it.

    Raises:
        BundleError: These bytes are no bundle of a version known here.
    """
    text = _inflate(body, name)
    try:
        version = msgspec.json.decode(text, type=_Version).schema
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{name} is not a wwwm-doctor bundle: {error}") from error
    if version != SCHEMA:
        raise BundleError(
            f"{name} has bundle schema {version}; this version of wwwm-doctor reads {SCHEMA}"
        )
    try:
        return msgspec.json.decode(text, type=Bundle)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{name} is damaged: {error}") from error


def _inflate(body: bytes, name: str) -> bytes:
    """Decompress within MAX_BYTES, whatever the compressed size promises."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise BundleError(f"{name} is not a wwwm-doctor bundle: {error}") from error
    if inflater.unconsumed_tail:
        raise BundleError(f"{name} is larger than {MAX_BYTES >> 20} MiB uncompressed")
    if not inflater.eof:
        raise BundleError(f"{name} is truncated")
    return text
