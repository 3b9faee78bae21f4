"""A certificate authority, and servers that show what it signed."""

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.loopback import Talk

DAY = dt.timedelta(days=1)
SERVER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])


class Authority:
    """Signs certificates; by default its own, and by an intermediate where one is given."""

    def __init__(self, name: str, parent: "Authority | None" = None) -> None:
        """Make a key and a certificate for it."""
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.parent = parent
        basic = x509.BasicConstraints(ca=True, path_length=None)
        issuer = parent or self
        self.certificate = (
            _dated(self.name, issuer.name, self.key, 0)
            .add_extension(basic, critical=True)
            .sign(issuer.key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """Return its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(
        self, folder: Path, name: str, *, days_ago: int = 0, root: "Authority | None" = None
    ) -> ssl.SSLContext:
        """Make a server's context for a name or an address, issued some time ago for 30 days.

        The chain that it shows ends before the root, unless that is given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(name, key, self.name, days_ago).sign(self.key, hashes.SHA256())
        above = [*((self,) if self.parent else ()), *((root,) if root else ())]
        return _context(folder, key, leaf, *(a.certificate for a in above))


def alone(folder: Path, name: str) -> ssl.SSLContext:
    """Make a server's context with a certificate that is signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _context(folder, key, _leaf(name, key, SERVER, 0).sign(key, hashes.SHA256()))


def _leaf(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, days_ago: int
) -> x509.CertificateBuilder:
    names = x509.SubjectAlternativeName([_general(name)])
    return _dated(SERVER, issuer, key, days_ago).add_extension(names, critical=False)


def _context(
    folder: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate
) -> ssl.SSLContext:
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / f"{chain[0].serial_number}.pem"
    path.write_bytes(secret + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _dated(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days_ago: int
) -> x509.CertificateBuilder:
    start = dt.datetime.now(dt.UTC) - DAY * (days_ago + 1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + DAY * 30)
    )


def secured(context: ssl.SSLContext, talk: Talk) -> Talk:
    """Talk behind a handshake; a visitor who breaks it off is no error."""

    def shake(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            talk(inside)

    return shake
