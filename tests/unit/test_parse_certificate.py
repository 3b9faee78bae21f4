"""Certificates that were made on the spot, and whatever else a server may show."""

import base64
import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from doctor.parse import certificate
from doctor.parse.certificate import parse_certificate, vouched_for

BEGINS = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ENDS = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def made(name: str, key: Key, issuer: str, by: Key, *names: str) -> x509.Certificate:
    """Make a certificate."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(BEGINS)
        .not_valid_after(ENDS)
    )
    if names:
        general = [
            x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n)
            for n in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(by, hashes.SHA256())


def der(certificate: x509.Certificate) -> str:
    """Write a certificate as a probe does."""
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def bundle(*certificates: x509.Certificate) -> str:
    """Write authorities as a caBundle holds them."""
    pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
    return base64.b64encode(pem).decode()


ROOT_KEY, MIDDLE_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LEAF_KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ROOT = made("root", ROOT_KEY, "root", ROOT_KEY)
MIDDLE = made("middle", MIDDLE_KEY, "root", ROOT_KEY)
LEAF = made("leaf", LEAF_KEY, "middle", MIDDLE_KEY, "a.example", "192.0.2.1")
ALONE = made("alone", OTHER_KEY, "alone", OTHER_KEY, "a.example")
NAMESAKE = made("root", OTHER_KEY, "root", OTHER_KEY)


def test_what_a_certificate_says() -> None:
    found = parse_certificate(der(LEAF))
    assert found is not None
    assert (found.subject, found.issuer) == ("CN=leaf", "CN=middle")
    assert found.names == ("a.example", "192.0.2.1")
    assert (found.begins, found.ends) == (BEGINS.timestamp(), ENDS.timestamp())
    bare = parse_certificate(der(ROOT))
    assert bare is not None
    assert bare.names == ()


def test_signatures_are_followed_to_an_authority() -> None:
    chain = (der(LEAF), der(MIDDLE))
    assert vouched_for(chain, bundle(ROOT)) is True
    assert vouched_for(chain, bundle(ALONE, ROOT)) is True
    assert vouched_for((der(LEAF),), bundle(MIDDLE)) is True
    assert vouched_for((der(ALONE),), bundle(ALONE)) is True


def test_nobody_vouches() -> None:
    assert vouched_for((der(LEAF),), bundle(ROOT)) is False
    assert vouched_for((der(LEAF), der(MIDDLE)), bundle(ALONE)) is False
    # the same name, another key
    assert vouched_for((der(LEAF), der(MIDDLE)), bundle(NAMESAKE)) is False


def test_nothing_is_said_of_what_cannot_be_read() -> None:
    assert vouched_for((), bundle(ROOT)) is None
    assert vouched_for((der(LEAF),), "") is None
    assert vouched_for((der(LEAF),), "no base64") is None
    assert vouched_for(("AAAA",), bundle(ROOT)) is None
    assert parse_certificate("AAAA") is None


def test_a_serial_number_below_zero_is_taken_as_it_is() -> None:
    """The rules forbid it, some controllers make it, and the API server accepts it."""
    raw = base64.b64decode(der(ROOT))
    negative = raw.replace(b"\x02\x01\x07", b"\x02\x01\x87", 1)
    assert negative != raw
    text = base64.b64encode(negative).decode()
    found = parse_certificate(text)
    assert found is not None
    assert found.subject == "CN=root"
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(negative)
    authorities = base64.b64encode(pem + b"-----END CERTIFICATE-----\n").decode()
    assert vouched_for((der(MIDDLE),), authorities) is True


def test_a_circle_of_signatures_ends() -> None:
    one = made("x", ROOT_KEY, "y", MIDDLE_KEY)
    two = made("y", MIDDLE_KEY, "x", ROOT_KEY)
    assert vouched_for((der(one), der(two), der(one), der(two)), bundle(ALONE)) is False


def test_many_certificates_that_sign_each_other_are_followed_once_each() -> None:
    """As many ways through them as there are orders: ten of them would take an hour."""
    twins = [made("x", ROOT_KEY, "x", ROOT_KEY) for _ in range(10)]
    chain = tuple(der(t) for t in twins)
    tried = 0
    real = certificate._signed

    def counting(one: x509.Certificate, issuer: x509.Certificate) -> bool:
        nonlocal tried
        tried += 1
        return real(one, issuer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "_signed", counting)
        assert vouched_for(chain, bundle(ALONE)) is False
    assert tried <= 10 * (10 + 1)


def test_names_of_a_kind_that_is_not_known_are_not_judged() -> None:
    """A general name of a kind that nothing can read: what else it is for is not known either."""
    raw = base64.b64decode(der(LEAF))
    # dNSName [2] becomes x400Address [3]
    odd = raw.replace(b"\x82\x09a.example", b"\xa3\x09a.example", 1)
    assert odd != raw
    found = parse_certificate(base64.b64encode(odd).decode())
    assert found is not None
    assert found.names is None
    assert found.covers("a.example") is None


def test_a_certificate_for_too_many_names_is_not_judged_by_them() -> None:
    many = made("m", ROOT_KEY, "m", ROOT_KEY, *(f"n{i}.example" for i in range(1001)))
    found = parse_certificate(der(many))
    assert found is not None
    assert found.names is None


@given(st.binary(max_size=40), st.integers(0, 400))
def test_whatever_a_server_shows_is_read(noise: bytes, at: int) -> None:
    whole = bytearray(base64.b64decode(der(LEAF)))
    whole[at : at + len(noise)] = noise
    text = base64.b64encode(bytes(whole)).decode()
    parse_certificate(text)
    vouched_for((text,), bundle(ROOT))
