"""X.509 certificates: what they say, and whether an authority vouches for them."""

import base64
import contextlib
import warnings
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from doctor.model.certificate import Certificate

__all__ = ["parse_certificate", "vouched_for"]

_LONGEST = 253
_MOST_NAMES = 1000
_MOST_SHOWN = 10
_MOST_TRUSTED = 50


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


def vouched_for(chain: tuple[str, ...], authorities: str) -> bool | None:
    """Say whether one of some authorities stands behind a chain, its validity in time aside.

    Signatures are followed as Go's crypto/x509 does, which the API server uses: a certificate that
    is among the authorities itself is trusted.

    Args:
        chain: Certificates in DER as base64, the server's own first.
        authorities: PEM as base64, as ``caBundle`` holds it.

    Returns:
        None where either cannot be read.
    """
    trusted = _bundle(authorities)
    shown = [c for c in map(_load, chain) if c is not None]
    if not trusted or not shown:
        return None
    return _reaches(shown[0], shown[1:_MOST_SHOWN], trusted[:_MOST_TRUSTED])


def _reaches(
    leaf: x509.Certificate, between: list[x509.Certificate], trusted: list[x509.Certificate]
) -> bool:
    """Follow signatures from a certificate to a trusted one, through each other one once."""
    waiting, left = [leaf], between
    while waiting:
        one = waiting.pop()
        if one in trusted or any(_signed(one, t) for t in trusted):
            return True
        issuers = [c for c in left if _signed(one, c)]
        left = [c for c in left if c not in issuers]
        waiting += issuers
    return False


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
    """Decode a bundle of authorities; empty where it cannot be read."""
    try:
        with _tolerant():
            return x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return []


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
