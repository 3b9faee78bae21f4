"""A certificate authority for the webhook, made anew at each bring-up."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server proves its name with; PEM, in base64 as Kubernetes wants it."""

    authority: str
    certificate: str
    key: str


def _builder(name: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    # clocks differ a little between those who sign and those who verify
    start = datetime.now(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFE)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return b64encode(certificate.public_bytes(serialization.Encoding.PEM)).decode()


def identity(dns_name: str) -> Identity:
    """A fresh authority, and a server's certificate signed by it."""
    issuer = "lab authority"
    own, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    basic = x509.BasicConstraints(ca=True, path_length=0)
    authority = _builder(issuer, issuer, own).add_extension(basic, critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName(dns_name)])
    leaf = _builder(dns_name, issuer, server).add_extension(names, critical=False)
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Identity(
        authority=_pem(authority.sign(own, hashes.SHA256())),
        certificate=_pem(leaf.sign(own, hashes.SHA256())),
        key=b64encode(key).decode(),
    )
