"""URLs taken apart, and hosts matched."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.target import host_matches, parse_target


@pytest.mark.parametrize(
    ("url", "host_header", "port", "path"),
    [
        ("http://shop.example", "shop.example", 80, "/"),
        ("http://Shop.Example./a?b=1#c", "shop.example", 80, "/a?b=1"),
        ("https://shop.example:443/", "shop.example", 443, "/"),
        ("https://shop.example:8443/", "shop.example:8443", 8443, "/"),
        ("http://192.0.2.1:8080/", "192.0.2.1:8080", 8080, "/"),
        ("http://사이트.example/가 나", "xn--vf4b27jhrk.example", 80, "/%EA%B0%80%20%EB%82%98"),
        ("http://my_shop._tcp.example/", "my_shop._tcp.example", 80, "/"),
        ("http://a-b.1/", "a-b.1", 80, "/"),
        ("http://[::1]/", "::1", 80, "/"),
        ("http://shop.example:/", "shop.example", 80, "/"),
        ("http://shop.example/%20?a=%2F", "shop.example", 80, "/%20?a=%2F"),
    ],
)
def test_parts(url: str, host_header: str, port: int, path: str) -> None:
    found = parse_target(url)
    assert (found.url, found.host_header, found.port, found.path) == (url, host_header, port, path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("shop.example", "no http:// or https:// URL"),
        ("ftp://shop.example", "no http:// or https:// URL"),
        ("", "no http:// or https:// URL"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("http://.", "no valid host"),
        ("http://a b/", "no valid host"),
        ("http://a..b/", "no valid host"),
        ("http://shop.example:x/", "no valid port"),
        ("http://shop.example:99999/", "no valid port"),
        ("http://shop.example:0/", "no valid port: nothing can be reached at port 0"),
        ("http://-/", "no valid host"),
        ("http://-shop.example/", "no valid host"),
        ("http://shop-.example/", "no valid host"),
        ("http://.shop.example/", "no valid host"),
        ("http://[1:2]/", "no valid host|IPv6 address"),
        ("http://[fe80::1%25eth0]/", "no valid host"),
        ("http://[fe80::1%eth0]/", "no valid host"),
        (f"http://{'ab.' * 85}/", "no valid host"),
        ("http://user:secret@shop.example/", "user name or password"),
        ("http://[::1/", "Invalid IPv6 URL"),
    ],
)
def test_what_is_no_target(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_target(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text() | st.text().map("http://{}".format))
def test_any_text_is_a_target_or_a_value_error(url: str) -> None:
    with contextlib.suppress(ValueError):
        found = parse_target(url)
        assert (found.host + found.path).isascii()
        assert " " not in found.host + found.path


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        ("", "any.example", True),
        ("Shop.example", "shop.example.", True),
        ("*.example", "shop.example", True),
        ("*.example", "a.shop.example", False),
        ("*.example", "example", False),
        ("shop.example", "other.example", False),
        ("*", "shop", False),
    ],
)
def test_rules_match_hosts(rule: str, host: str, expected: bool) -> None:  # noqa: FBT001
    assert host_matches(rule, host) is expected
