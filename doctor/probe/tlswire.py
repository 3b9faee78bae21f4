"""TLS 1.2 as bytes: the greeting that makes a server show its certificates, and what it shows.

No key is ever agreed on and nothing is encrypted: in TLS 1.2 a server sends its chain in the clear.
A server that speaks only TLS 1.3 hides it, and refuses the greeting with an alert instead.
"""

import base64
import ipaddress
from collections.abc import Iterator

import msgspec

from doctor.model.failure import Failure

__all__ = ["PARTING", "Shown", "client_hello", "read_chain"]

_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO, _CERTIFICATE, _SERVER_HELLO_DONE = 1, 11, 14
_CLOSE_NOTIFY, _FATAL = 0, 2
_TLS = 3
_TLS12 = b"\x03\x03"
_RECORD_HEAD, _MESSAGE_HEAD, _LENGTH = 5, 4, 3
_MOST_BYTES = 65536
_MOST_CERTIFICATES = 10
_MOST_NAME = 253

PARTING = b"\x15\x03\x03\x00\x02\x02\x5a"
"""A fatal alert, "user canceled": a server that has said its part closes at once when it reads it."""

_RANDOM = b"wwwm-doctor only reads the chain"
"""Constant, as no secret comes of it."""

_SUITES = bytes.fromhex(
    "c02bc02fc02cc030cca9cca8"  # ECDHE by ECDSA or RSA, with AES-GCM or ChaCha20
    "c009c013c00ac014"  # ECDHE with AES-CBC
    "009e009f00330039"  # DHE
    "009c009d002f0035"  # RSA
    "00ff"  # no cipher: says that secure renegotiation is understood
)
_GROUPS = bytes.fromhex("001d001700180019")
_POINTS = b"\x00"
_SIGNATURES = bytes.fromhex("0403050306030807080808040805080604010501060102030201")

_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}


class Shown(msgspec.Struct, frozen=True):
    """What a server showed.

    Args:
        failure: None where it showed a chain; else ``TLS_FAILED``.
        certificates: The chain in DER as base64, the server's own first.
        detail: Why there is none.
        broken_off: Whether there is none because the bytes end too early.
    """

    failure: Failure | None
    certificates: tuple[str, ...] = ()
    detail: str = ""
    broken_off: bool = False


class _Broken(Exception):  # noqa: N818 - it is caught in this file
    """The bytes are not what they should be; its text says what is wrong."""


class _Short(_Broken):
    """They end too early."""


def _sized(data: bytes, size: int) -> bytes:
    """Put the length in front, in so many bytes."""
    return len(data).to_bytes(size, "big") + data


def client_hello(server_name: str) -> bytes:
    """Write the greeting, one TLS record.

    Args:
        server_name: The name to ask for (SNI); an address or nothing is not sent.

    Raises:
        ValueError: It is no host name.
    """
    extensions = b"".join(
        number.to_bytes(2, "big") + _sized(body, 2)
        for number, body in (
            (10, _sized(_GROUPS, 2)),
            (11, _sized(_POINTS, 1)),
            (13, _sized(_SIGNATURES, 2)),
            (23, b""),  # extended master secret: some servers insist
            *_server_name(server_name),
        )
    )
    body = _TLS12 + _RANDOM + _sized(b"", 1) + _sized(_SUITES, 2) + _sized(b"\x00", 1)
    message = bytes([_CLIENT_HELLO]) + _sized(body + _sized(extensions, 2), 3)
    # Of old, the first record bears the oldest version; servers look at the message's.
    return bytes([_HANDSHAKE, 3, 1]) + _sized(message, 2)


def _server_name(name: str) -> tuple[tuple[int, bytes], ...]:
    """Write the server name extension; nothing for an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return ()
    wire = name.removesuffix(".").encode("idna")
    if len(wire) > _MOST_NAME:
        msg = "the name is too long"
        raise ValueError(msg)
    return ((0, _sized(b"\x00" + _sized(wire, 2), 2)),) if wire else ()


def read_chain(data: bytes) -> Shown:
    """Read what a server said to the greeting. Never raises."""
    try:
        chain = _chain(_messages(_records(data[:_MOST_BYTES])))
    except _Broken as error:
        broken_off = isinstance(error, _Short)
        return Shown(Failure.TLS_FAILED, detail=str(error), broken_off=broken_off)
    return Shown(None, tuple(base64.b64encode(der).decode() for der in chain))


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the handshake's bytes, record by record, until something else is said."""
    while len(data) >= _RECORD_HEAD:
        kind, major = data[0], data[1]
        if kind not in (_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA) or major != _TLS:
            raise _Broken("not TLS")
        end = _RECORD_HEAD + int.from_bytes(data[3:5], "big")
        body, data = data[_RECORD_HEAD:end], data[end:]
        if kind == _ALERT:
            _heed(body)
        elif kind == _HANDSHAKE:
            yield body
    if data and data[0] not in (_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA):
        raise _Broken("not TLS")


def _heed(alert: bytes) -> None:
    """End the reading at an alert, unless it is a mere warning."""
    level, number = (*alert[:2], 0, 0)[:2]
    if level == _FATAL or number == _CLOSE_NOTIFY:
        raise _Broken(f"alert {number} {_ALERTS.get(number, 'of an unknown kind')}")


def _messages(records: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Put handshake messages together: kind and body."""
    held = b""
    for record in records:
        held += record
        while len(held) >= _MESSAGE_HEAD:
            end = _MESSAGE_HEAD + int.from_bytes(held[1:4], "big")
            if len(held) < end:
                break
            yield held[0], held[_MESSAGE_HEAD:end]
            held = held[end:]


def _chain(messages: Iterator[tuple[int, bytes]]) -> tuple[bytes, ...]:
    """Find the certificates among the messages."""
    for kind, body in messages:
        if kind == _CERTIFICATE:
            return _certificates(body)
        if kind == _SERVER_HELLO_DONE:
            raise _Broken("the server showed no certificate")
    raise _Short("the handshake broke off")


def _certificates(body: bytes) -> tuple[bytes, ...]:
    """Cut the certificates of a message apart."""
    found: list[bytes] = []
    rest = body[_LENGTH:]
    if int.from_bytes(body[:_LENGTH], "big") != len(rest):
        raise _Broken("the certificate message is malformed")
    while rest:
        end = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
        if len(rest) < end or end == _LENGTH:
            raise _Broken("the certificate message is malformed")
        found.append(rest[_LENGTH:end])
        rest = rest[end:]
    if not found:
        raise _Broken("the server showed no certificate")
    return tuple(found[:_MOST_CERTIFICATES])
