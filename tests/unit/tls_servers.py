"""Certificates and TLS servers of a test."""

import datetime as dt
import socket
import ssl
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.unit.loopback import Talk

DER: Final = serialization.Encoding.DER
PEM: Final = serialization.Encoding.PEM
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Chain(msgspec.Struct, frozen=True):
    """A server's chain of two, its own certificate first.

    Args:
        ders: The certificates.
        context: What serves them.
    """

    ders: tuple[bytes, ...]
    context: ssl.SSLContext


def _certificate(name: str, key: Key, issuer: str, signer: Key) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )


def chain(folder: Path, key: Key, name: str = "hook.shop.svc") -> Chain:
    """Make a chain of two and a context that serves it."""
    authority = ec.generate_private_key(ec.SECP256R1())
    found = (
        _certificate(name, key, "authority", authority),
        _certificate("authority", authority, "authority", authority),
    )
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(private + b"".join(c.public_bytes(PEM) for c in found))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return Chain(tuple(c.public_bytes(DER) for c in found), context)


def shaking_hands(context: ssl.SSLContext, names: list[str | None] | None = None) -> Talk:
    """Serve TLS; keep which server names were asked for."""
    asked = names if names is not None else []

    def keep(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = keep

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    return talk
