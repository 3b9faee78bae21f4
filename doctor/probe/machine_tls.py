"""The TLS handshake from this machine: judged as a visitor's program would, the chain kept."""

import base64
import ssl
import sys
import time
from pathlib import Path

import msgspec

from doctor.model.failure import Failure
from doctor.model.flow import Flow, Observation, Phases
from doctor.probe.sockets import Dialled, dial, failure_of_errno, unanswered

__all__ = ["server_name", "shake_hands"]

_HANDSHAKE_SECONDS = 5.0
_MOST_CERTIFICATES = 10

# X509_V_ERR_…, as in OpenSSL's x509_vfy.h
_VERIFY = {
    2: Failure.TLS_UNKNOWN_AUTHORITY,  # the issuer of an issuer is missing
    10: Failure.TLS_EXPIRED,
    18: Failure.TLS_UNKNOWN_AUTHORITY,  # signed by itself
    19: Failure.TLS_UNKNOWN_AUTHORITY,  # the chain ends in one that is signed by itself
    20: Failure.TLS_UNKNOWN_AUTHORITY,  # the issuer is not here
    21: Failure.TLS_UNKNOWN_AUTHORITY,  # a certificate alone, and its issuer is not here
    62: Failure.TLS_NAME_MISMATCH,
    64: Failure.TLS_NAME_MISMATCH,  # of an address
}
NO_AUTHORITIES = "this machine trusts no certificate authority, so no certificate can be judged"


class _Handshake(msgspec.Struct, frozen=True):
    """What came of a handshake: how it failed, and the certificates in DER.

    ``distrusted`` says that it failed for the certificate, and for nothing else.
    """

    seconds: float
    failure: Failure | None = None
    detail: str = ""
    chain: tuple[bytes, ...] = ()
    distrusted: bool = False


def server_name(text: str) -> str:
    """Return a name as TLS has it, without the dot that ends a DNS name.

    Raises:
        ValueError: It cannot be one. Python's ssl finds that out too late to close the connection.
    """
    name = text.rstrip(".")
    labels = name.encode("idna").split(b".")
    if b"" in labels or b"\0" in name.encode():
        msg = f"no name of a server: {text[:80]!r}"
        raise ValueError(msg)
    return name


def shake_hands(flow: Flow) -> Observation:
    """Connect and shake hands, with the name set apart from the address.

    Where the certificate is not accepted, it is fetched over a second connection, unverified.

    Args:
        flow: Its name is the server's; without one, the address is.
    """
    try:
        name = server_name(flow.name or flow.address)
    except ValueError as error:
        detail = str(error)[:200]
        return Observation(flow=flow, failure=Failure.UNKNOWN, seconds=0.0, detail=detail)
    context = _context()
    dialled = dial(flow.address, flow.port)
    shaken = _handshake(dialled, context, name)
    if shaken is None:
        return unanswered(flow, dialled)
    failure, detail = shaken.failure, shaken.detail
    chain = _chain_unverified(flow, name) if shaken.distrusted else shaken.chain
    if failure is Failure.TLS_UNKNOWN_AUTHORITY and not _trusts_anybody(context):
        failure, detail = Failure.UNKNOWN, NO_AUTHORITIES
    return Observation(
        flow=flow,
        failure=failure,
        seconds=dialled.seconds + shaken.seconds,
        detail=detail[:200],
        lost=int(dialled.retransmitted or (failure is not None and failure.silent)),
        phases=Phases(connect=round(dialled.seconds, 4), tls=round(shaken.seconds, 4)),
        certificates=tuple(base64.b64encode(c).decode() for c in chain[:_MOST_CERTIFICATES]),
    )


def _context() -> ssl.SSLContext:
    """Verify against the system's trust store, the same with each version of Python.

    From 3.13 on, Python is stricter than browsers and curl are, and before it insists on a root.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _trusts_anybody(context: ssl.SSLContext) -> bool:
    """Say whether there is any authority; those in a directory are not loaded before their use."""
    folder = ssl.get_default_verify_paths().capath
    hashed = Path(folder).glob("????????.[0-9]") if folder else ()
    return context.cert_store_stats()["x509_ca"] > 0 or any(hashed)


def _chain_unverified(flow: Flow, name: str) -> tuple[bytes, ...]:
    """Fetch what the server shows, whoever signed it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    shaken = _handshake(dial(flow.address, flow.port), context, name)
    return shaken.chain if shaken else ()


def _handshake(dialled: Dialled, context: ssl.SSLContext, name: str) -> _Handshake | None:
    """Shake hands over a connection and close it; None where there is none."""
    if dialled.socket is None:
        return None
    started = time.monotonic()
    failure: Failure | None = None
    detail, chain, distrusted = "", tuple[bytes, ...](), False
    with dialled.socket as connection:
        connection.settimeout(_HANDSHAKE_SECONDS)
        try:
            with context.wrap_socket(connection, server_hostname=name) as secure:
                chain = _chain(secure)
        except ssl.SSLCertVerificationError as error:
            failure = _VERIFY.get(error.verify_code, Failure.TLS_FAILED)
            detail, distrusted = error.verify_message, True
        except TimeoutError:
            failure = Failure.TIMEOUT
        except ssl.SSLError as error:
            failure, detail = Failure.TLS_FAILED, error.reason or str(error)
        except OSError as error:
            failure, detail = failure_of_errno(error.errno), error.strerror or str(error)
    return _Handshake(time.monotonic() - started, failure, detail, chain, distrusted)


def _chain(secure: ssl.SSLSocket) -> tuple[bytes, ...]:
    """Return the certificates shown, the server's own first; before Python 3.13 only that."""
    if sys.version_info >= (3, 13):
        return tuple(secure.get_unverified_chain())
    own = secure.getpeercert(binary_form=True)
    return (own,) if own else ()
