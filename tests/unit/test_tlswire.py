"""The greeting, read by real servers; and what they show."""

import base64
import itertools
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.probe.tlswire import PARTING, client_hello, read_chain
from tests.unit.loopback import Talk, saying, serving
from tests.unit.tls_servers import Key, chain, shaking_hands

NAME = "hook.shop.svc"
KEYS = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
)


def greet(talk: Talk, name: str = NAME, parting: bytes = PARTING) -> bytes:
    """Greet a server and read until it closes."""
    with serving(talk) as port, socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(client_hello(name) + parting)
        said = b""
        try:
            while more := connection.recv(65536):
                said += more
        except ConnectionError:
            pass
        return said


@pytest.mark.parametrize("key", KEYS, ids=["rsa", "p256", "p384"])
def test_a_server_shows_its_chain_and_closes(tmp_path: Path, key: Key) -> None:
    made, names = chain(tmp_path, key), list[str | None]()
    shown = read_chain(greet(shaking_hands(made.context, names)))
    assert (shown.failure, shown.detail, names) == (None, "", [NAME])
    ders = [base64.b64decode(text) for text in shown.certificates]
    assert ders == list(made.ders)
    assert x509.load_der_x509_certificate(ders[0]).subject.rfc4514_string() == f"CN={NAME}"


@pytest.mark.parametrize(("name", "asked"), [("192.0.2.1", None), ("", None), ("a.b.", "a.b")])
def test_which_name_is_asked_for(tmp_path: Path, name: str, asked: str | None) -> None:
    made, names = chain(tmp_path, KEYS[1]), list[str | None]()
    assert read_chain(greet(shaking_hands(made.context, names), name)).failure is None
    assert names == [asked]


def test_servers_that_know_but_one_cipher(tmp_path: Path) -> None:
    made = chain(tmp_path, KEYS[0])
    for suite in (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-SHA",
        "AES256-GCM-SHA384",
        "AES128-SHA",
    ):
        made.context.set_ciphers(f"{suite}:@SECLEVEL=0")
        assert read_chain(greet(shaking_hands(made.context))).failure is None, suite


def test_a_server_of_tls_1_3_only_refuses(tmp_path: Path) -> None:
    made = chain(tmp_path, KEYS[1])
    made.context.minimum_version = ssl.TLSVersion.TLSv1_3
    shown = read_chain(greet(shaking_hands(made.context)))
    assert (shown.failure, shown.certificates) == (Failure.TLS_FAILED, ())
    assert shown.detail == "alert 70 protocol_version"


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"220 mail\r\n", b"\x00", b"H"]
)
def test_what_is_not_tls(said: bytes) -> None:
    shown = read_chain(greet(saying(said), parting=b""))
    assert (shown.failure, shown.detail) == (Failure.TLS_FAILED, "not TLS")


@pytest.mark.parametrize("name", ["a" * 64 + ".x", "a..b", "b" * 300, "\ud800.x"])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        client_hello(name)


def record(kind: int, body: bytes) -> bytes:
    """Write a record."""
    return bytes([kind, 3, 3]) + len(body).to_bytes(2, "big") + body


def message(kind: int, body: bytes) -> bytes:
    """Write a handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def certificates(*ders: bytes) -> bytes:
    """Write a certificate message."""
    listed = b"".join(len(d).to_bytes(3, "big") + d for d in ders)
    return message(11, len(listed).to_bytes(3, "big") + listed)


HELLO = message(2, b"\x03\x03" + bytes(36))
DONE = message(14, b"")


@given(
    ders=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    warned=st.booleans(),
)
def test_however_it_is_cut_into_records(
    ders: list[bytes], cuts: list[int], *, warned: bool
) -> None:
    flight = HELLO + certificates(*ders) + DONE
    edges = sorted({0, len(flight), *(c for c in cuts if c < len(flight))})
    pieces = [flight[a:b] for a, b in itertools.pairwise(edges)]
    warning = record(21, b"\x01\x70") if warned else b""
    shown = read_chain(warning + b"".join(record(22, p) for p in pieces))
    assert shown.failure is None
    assert [base64.b64decode(c) for c in shown.certificates] == ders


def test_what_comes_too_early_or_not_at_all() -> None:
    whole = record(22, HELLO) + record(22, certificates(b"leaf", b"root"))
    for end in range(len(whole)):
        shown = read_chain(whole[:end])
        assert (shown.failure, shown.broken_off) == (Failure.TLS_FAILED, True), end
    assert read_chain(whole).failure is None


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (record(21, b"\x02\x28"), "alert 40 handshake_failure"),
        (record(21, b"\x02\xc8"), "alert 200 of an unknown kind"),
        (record(21, b"\x01\x00"), "alert 0 close_notify"),
        (record(22, HELLO + DONE), "the server showed no certificate"),
        (record(22, HELLO + certificates()), "the server showed no certificate"),
        (record(22, HELLO + certificates(b"")), "the certificate message is malformed"),
        (record(22, message(11, b"\x00\x00\x09abc")), "the certificate message is malformed"),
        (
            record(22, message(11, b"\x00\x00\x05\x00\x00\x09ab")),
            "the certificate message is malformed",
        ),
        (record(22, HELLO) + b"GET / HT", "not TLS"),
    ],
)
def test_why_no_chain_is_shown(said: bytes, detail: str) -> None:
    shown = read_chain(said)
    assert (shown.failure, shown.certificates, shown.detail) == (Failure.TLS_FAILED, (), detail)
    assert not shown.broken_off


def test_a_chain_is_bounded() -> None:
    shown = read_chain(record(22, certificates(*(b"%d" % n for n in range(50)))))
    assert len(shown.certificates) == 10


@given(
    st.lists(
        st.sampled_from(
            [b"\x16\x03\x03", b"\x15\x03\x01", b"\x0b", b"\x00\x00", b"\x02", HELLO, DONE]
        )
        | st.binary(max_size=5)
    ).map(b"".join)
)
def test_any_bytes_are_read(said: bytes) -> None:
    shown = read_chain(said)
    assert (shown.failure is None) == bool(shown.certificates)
