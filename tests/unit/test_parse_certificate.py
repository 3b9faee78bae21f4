"""Certificates that were made on the spot, and whatever else a server may show."""

import base64
import datetime as dt
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from doctor.parse import certificate
from doctor.parse.certificate import parse_certificate, vouched_for

BEGINS = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ENDS = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def made(  # noqa: PLR0913 - a certificate has many parts
    name: str,
    key: Key,
    issuer: str,
    by: Key,
    *names: str,
    ca: bool | None = None,
    depth: int | None = None,
    signs: bool | None = None,
    dates: tuple[dt.datetime, dt.datetime] = (BEGINS, ENDS),
    more: x509.ExtensionType | None = None,
) -> x509.Certificate:
    """Make a certificate; it says of being an authority, and of signing, what is not None."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(dates[0])
        .not_valid_after(dates[1])
    )
    if names:
        general = [
            x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n)
            for n in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, depth), critical=True)
    if signs is not None:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    if more is not None:
        builder = builder.add_extension(more, critical=True)
    return builder.sign(by, hashes.SHA256())


NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp()


def at_after(**delta: float) -> dt.datetime:
    """Return a moment after now."""
    return dt.datetime.fromtimestamp(NOW, dt.UTC) + dt.timedelta(**delta)


def trusted(chain: tuple[str, ...], authorities: str) -> bool | None:
    """Judge a chain now."""
    return vouched_for(chain, authorities, NOW).trusted


def bundle_of(text: str) -> bytes:
    """Write DER as a block of PEM."""
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    return begin + base64.encodebytes(base64.b64decode(text)) + end


def der(certificate: x509.Certificate) -> str:
    """Write a certificate as a probe does."""
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


def bundle(*certificates: x509.Certificate) -> str:
    """Write authorities as a caBundle holds them."""
    pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
    return base64.b64encode(pem).decode()


ROOT_KEY, MIDDLE_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LEAF_KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ROOT = made("root", ROOT_KEY, "root", ROOT_KEY, ca=True, signs=True)
MIDDLE = made("middle", MIDDLE_KEY, "root", ROOT_KEY, ca=True, depth=0)
LEAF = made("leaf", LEAF_KEY, "middle", MIDDLE_KEY, "a.example", "192.0.2.1")
ALONE = made("alone", OTHER_KEY, "alone", OTHER_KEY, "a.example")
NAMESAKE = made("root", OTHER_KEY, "root", OTHER_KEY, ca=True)


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
    assert trusted(chain, bundle(ROOT)) is True
    assert trusted(chain, bundle(ALONE, ROOT)) is True
    assert trusted((der(LEAF),), bundle(MIDDLE)) is True
    assert trusted((der(ALONE),), bundle(ALONE)) is True


def test_nobody_vouches() -> None:
    assert trusted((der(LEAF),), bundle(ROOT)) is False
    assert trusted((der(LEAF), der(MIDDLE)), bundle(ALONE)) is False
    # the same name, another key
    assert trusted((der(LEAF), der(MIDDLE)), bundle(NAMESAKE)) is False


def test_a_block_that_cannot_be_read_is_passed_over_as_go_does() -> None:
    good = base64.b64decode(bundle(ROOT)).decode()
    begin, end = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
    for bad in (
        f"{begin}AAAA\n{end}",
        f"{begin}no base64!\n{end}",
        f"{begin}MIIB\n",
        f"{begin}{end}",
        f"{begin}Header: x\n\n{good.splitlines()[1]}\n{end}",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "# of the year before last\n",
        "caf\u00e9\n",
    ):
        for pem in (bad + good, good + bad, bad + good.replace("\n", "\r\n")):
            text = base64.b64encode(pem.encode()).decode()
            assert trusted((der(MIDDLE),), text) is True, pem
            assert trusted((der(ALONE),), text) is False, pem
        assert trusted((der(MIDDLE),), base64.b64encode(bad.encode()).decode()) is None


def issued(**of: Any) -> tuple[tuple[str, ...], str]:
    """Make a chain of which the one in the middle is made so; and the caBundle for it."""
    middle = made("middle", MIDDLE_KEY, "root", ROOT_KEY, **of)
    return (der(LEAF), der(middle)), bundle(ROOT)


OLD = (BEGINS - dt.timedelta(days=400), BEGINS - dt.timedelta(days=30))
YOUNG = (at_after(hours=1), ENDS)
FRESH = (at_after(minutes=5), ENDS)


@pytest.mark.parametrize(
    ("of", "flaw"),
    [
        ({"ca": True}, ""),
        ({"ca": True, "signs": True, "depth": 0}, ""),
        ({"ca": True, "dates": FRESH}, ""),
        ({}, "CN=middle is not that of an authority"),
        ({"ca": False}, "CN=middle is not that of an authority"),
        ({"ca": True, "signs": False}, "CN=middle may not sign others"),
        ({"ca": True, "dates": OLD}, "CN=middle expired on 2025-12-03 03:04 UTC"),
        ({"ca": True, "dates": YOUNG}, "CN=middle is not valid before 2026-06-01 01:00 UTC"),
    ],
)
def test_an_issuer_has_to_be_a_valid_authority(of: dict[str, Any], flaw: str) -> None:
    """In the chain that is shown as well as in the caBundle, as Go has it."""
    chain, authorities = issued(**of)
    for found in (
        vouched_for(chain, authorities, NOW),
        vouched_for(chain[:1], bundle(made("middle", MIDDLE_KEY, "root", ROOT_KEY, **of)), NOW),
    ):
        assert found.trusted is (not flaw)
        assert flaw in found.flaw
        assert bool(found.flaw) is bool(flaw)


CLIENT, SERVER, ANY = (
    x509.ExtendedKeyUsage([oid])
    for oid in (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    )
)
BOUNDED = x509.NameConstraints([x509.DNSName("x")], None)
ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    ("more", "expected"),
    [(SERVER, True), (ANY, True), (CLIENT, False), (BOUNDED, None), (ODD, None)],
)
def test_what_a_certificate_is_for_counts_from_end_to_end(
    more: x509.ExtensionType, *, expected: bool | None
) -> None:
    """The server's own, also in the caBundle itself, and each that vouches for it."""
    leaf = made("leaf", LEAF_KEY, "root", ROOT_KEY, "a", more=more)
    chain, authorities = issued(ca=True, more=more)
    for found in (
        vouched_for((der(leaf),), bundle(ROOT), NOW),
        vouched_for((der(leaf),), bundle(leaf), NOW),
        vouched_for(chain, authorities, NOW),
    ):
        assert found.trusted is expected
        assert bool(found.flaw) is (expected is False)


def test_one_of_several_issuers_is_enough() -> None:
    """An authority that was renewed with its key: the old certificate is beside the new one."""
    old = made("root", ROOT_KEY, "root", ROOT_KEY, ca=True, dates=OLD)
    for pair in ((old, ROOT), (ROOT, old)):
        assert trusted((der(MIDDLE),), bundle(*pair)) is True
    assert trusted((der(MIDDLE),), bundle(old)) is False


def test_what_is_in_the_bundle_itself_needs_to_be_no_authority() -> None:
    assert trusted((der(LEAF),), bundle(LEAF)) is True


def test_a_way_may_be_bounded_in_length() -> None:
    lower = made("lower", OTHER_KEY, "middle", MIDDLE_KEY, ca=True)
    leaf = made("leaf", LEAF_KEY, "lower", OTHER_KEY)
    chain = (der(leaf), der(lower), der(MIDDLE))
    found = vouched_for(chain, bundle(ROOT), NOW)
    assert found.trusted is False
    assert found.flaw == "the certificate of CN=middle allows only 0 authorities below it"
    open_ = made("middle", MIDDLE_KEY, "root", ROOT_KEY, ca=True, depth=1)
    assert trusted((der(leaf), der(lower), der(open_)), bundle(ROOT)) is True


def test_an_issuer_that_cannot_be_read_leaves_it_open() -> None:
    """Its signature fits, and what it says of itself is garbled."""
    raw = base64.b64decode(der(made("root", ROOT_KEY, "root", ROOT_KEY, ca=True)))
    # the BOOLEAN of CA:TRUE becomes an INTEGER
    odd = raw.replace(b"\x30\x03\x01\x01\xff", b"\x30\x03\x05\x01\xff", 1)
    assert odd != raw
    pem = base64.b64encode(bundle_of(base64.b64encode(odd).decode())).decode()
    assert trusted((der(MIDDLE),), pem) is None


def test_more_authorities_than_are_looked_at_leave_it_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(certificate, "_MOST_TRUSTED", 1)
    assert trusted((der(MIDDLE),), bundle(ROOT, ALONE)) is True
    assert trusted((der(MIDDLE),), bundle(ALONE, ROOT)) is None


def test_nothing_is_said_of_what_cannot_be_read() -> None:
    assert trusted((), bundle(ROOT)) is None
    assert trusted((der(LEAF),), "") is None
    assert trusted((der(LEAF),), "no base64") is None
    assert trusted(("AAAA",), bundle(ROOT)) is None
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
    assert trusted((der(MIDDLE),), authorities) is True


def test_a_circle_of_signatures_ends() -> None:
    one = made("x", ROOT_KEY, "y", MIDDLE_KEY, ca=True)
    two = made("y", MIDDLE_KEY, "x", ROOT_KEY, ca=True)
    assert trusted((der(one), der(two), der(one), der(two)), bundle(ALONE)) is False


def test_many_certificates_that_sign_each_other_are_followed_once_each() -> None:
    """As many ways through them as there are orders: ten of them would take an hour."""
    twins = [made("x", ROOT_KEY, "x", ROOT_KEY, ca=True) for _ in range(10)]
    chain = tuple(der(t) for t in twins)
    tried = 0
    real = certificate._signed

    def counting(one: x509.Certificate, issuer: x509.Certificate) -> bool:
        nonlocal tried
        tried += 1
        return real(one, issuer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "_signed", counting)
        assert trusted(chain, bundle(ALONE)) is False
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
    vouched_for((text,), bundle(ROOT), NOW)
    vouched_for((der(LEAF), text), bundle(ROOT), NOW)
    vouched_for((der(LEAF),), base64.b64encode(bundle_of(text)).decode(), NOW)
