"""X.509 certificates: what they say, and whether an authority vouches for them."""

import base64
import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from doctor.model.certificate import SKEW, Certificate, Vouching

__all__ = ["parse_certificate", "vouched_for"]

_LONGEST = 253
_MOST_NAMES = 1000
_MOST_SHOWN = 10
_MOST_TRUSTED = 1000

_BLOCK = re.compile(
    rb"^-----BEGIN CERTIFICATE-----[ \t\r]*\n([^-]*)^-----END CERTIFICATE-----[ \t\r]*$",
    re.MULTILINE,
)
_UNREADABLE = (ValueError, OverflowError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_OF_SERVERS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_E = TypeVar("_E", bound=x509.ExtensionType)


def parse_certificate(der: str) -> Certificate | None:
    """Read a certificate in DER as base64; None where it is none."""
    found = _load(der)
    if found is None:
        return None
    try:
        return Certificate(
            subject=found.subject.rfc4514_string()[:_LONGEST],
            issuer=found.issuer.rfc4514_string()[:_LONGEST],
            names=_names(found),
            begins=found.not_valid_before_utc.timestamp(),
            ends=found.not_valid_after_utc.timestamp(),
        )
    except (ValueError, OverflowError, x509.UnsupportedGeneralNameType):
        return None


def vouched_for(chain: tuple[str, ...], authorities: str, at: float) -> Vouching:
    """Say whether one of some authorities stands behind a chain; the first one's dates aside.

    Signatures are followed as Go's crypto/x509 does, which the API server uses: a certificate that
    is among the authorities itself is trusted, and an issuer counts only if it is an authority by
    its own words and valid at the time.

    Args:
        chain: Certificates in DER as base64, the server's own first.
        authorities: PEM as base64, as ``caBundle`` holds it.
        at: Unix time at which it is judged.
    """
    trusted = _bundle(authorities)
    shown = [c for c in map(_load, chain) if c is not None]
    if not trusted or not shown:
        return Vouching(None)
    misfit = _misfit(shown[0])
    if misfit != "":
        return Vouching(None if misfit is None else False, misfit or "")
    if shown[0] in trusted:
        return Vouching(trusted=True)
    found = _reached(shown[0], shown[1:_MOST_SHOWN], trusted[:_MOST_TRUSTED], at)
    whole = len(shown) <= _MOST_SHOWN and len(trusted) <= _MOST_TRUSTED
    return found if whole or found.trusted else Vouching(None)


def _reached(
    leaf: x509.Certificate,
    between: list[x509.Certificate],
    trusted: list[x509.Certificate],
    at: float,
) -> Vouching:
    """Follow signatures from a certificate to a trusted one, through each other one once.

    The shortest ways come first: they leave most room where the length of a way is bounded.
    """
    level, left, depth = [leaf], between, 0
    flaws: list[str] = []
    unclear = False
    while level:
        above: list[x509.Certificate] = []
        for one in level:
            for issuer in (*trusted, *left):
                if issuer in above or not _signed(one, issuer):
                    continue
                flaw = _flaw(issuer, depth, at)
                if flaw == "" and issuer in trusted:
                    return Vouching(trusted=True)
                unclear = unclear or flaw is None
                if flaw == "":
                    above.append(issuer)
                elif flaw:
                    flaws.append(flaw)
            left = [c for c in left if c not in above]
        level, depth = above, depth + 1
    return Vouching(None) if unclear else Vouching(trusted=False, flaw=next(iter(flaws), ""))


def _flaw(issuer: x509.Certificate, depth: int, at: float) -> str | None:
    """Say why a certificate may not have issued others; empty where it may.

    Args:
        issuer: The certificate.
        depth: How many other issuers stand between it and the server's own certificate.
        at: Unix time.

    Returns:
        None where that cannot be read.
    """
    try:
        who = f"the certificate of {issuer.subject.rfc4514_string()[:_LONGEST]}"
        authority = _extension(issuer, x509.BasicConstraints)
        usage = _extension(issuer, x509.KeyUsage)
        begins, ends = issuer.not_valid_before_utc, issuer.not_valid_after_utc
        old = issuer.version is x509.Version.v1
    except _UNREADABLE:
        return None
    misfit = _misfit(issuer)
    if misfit != "":
        return misfit
    most = authority.path_length if authority else None
    flaws = (
        (not (authority.ca if authority else old), "is not that of an authority (no CA:TRUE)"),
        (usage and not usage.key_cert_sign, "may not sign others (keyCertSign)"),
        (at > ends.timestamp(), f"expired on {ends:%Y-%m-%d %H:%M} UTC"),
        (at < begins.timestamp() - SKEW, f"is not valid before {begins:%Y-%m-%d %H:%M} UTC"),
        (most is not None and depth > most, f"allows only {most} authorities below it"),
    )
    return next((f"{who} {what}" for so, what in flaws if so), "")


def _misfit(found: x509.Certificate) -> str | None:
    """Say why a certificate is none of a server, nor of who vouches for one; empty where it may be.

    Returns:
        None where that is not known: it says what is not understood here, but has to be.
    """
    try:
        use = _extension(found, x509.ExtendedKeyUsage)
        odd = any(
            e.critical and isinstance(e.value, x509.UnrecognizedExtension) for e in found.extensions
        )
        bounded = _extension(found, x509.NameConstraints) is not None
        who = f"the certificate of {found.subject.rfc4514_string()[:_LONGEST]}"
    except _UNREADABLE:
        return None
    if use is not None and not _OF_SERVERS & set(use):
        return f"{who} is not for servers (extendedKeyUsage)"
    return None if odd or bounded else ""


def _extension(found: x509.Certificate, kind: type[_E]) -> _E | None:
    """Return what a certificate says of itself; None where it does not."""
    try:
        return found.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Say whether one certificate was issued with another's key."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _load(der: str) -> x509.Certificate | None:
    """Decode one certificate."""
    try:
        with _tolerant():
            return x509.load_der_x509_certificate(base64.b64decode(der, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None


def _bundle(text: str) -> list[x509.Certificate]:
    """Decode a bundle of authorities as Go does: a block that cannot be read is passed over."""
    try:
        pem = base64.b64decode(text, validate=True)
    except ValueError:
        return []
    blocks = ("".join(b.decode("ascii", "replace").split()) for b in _BLOCK.findall(pem))
    return [c for c in map(_load, blocks) if c is not None]


@contextlib.contextmanager
def _tolerant() -> Iterator[None]:
    """Take certificates as the API server does: controllers make some with a negative serial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _names(found: x509.Certificate) -> tuple[str, ...] | None:
    """List what a certificate is for: names, then addresses; None where that is not known."""
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None
    names = (
        *extension.value.get_values_for_type(x509.DNSName),
        *map(str, extension.value.get_values_for_type(x509.IPAddress)),
    )
    kept = tuple(n for n in names if len(n) <= _LONGEST)
    return kept if len(kept) == len(names) <= _MOST_NAMES else None
