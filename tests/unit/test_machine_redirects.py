"""Redirects that lead nowhere, against loopback."""

import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.probe.machine import observe
from doctor.probe.machine_redirects import Head, leads_nowhere
from tests.unit.loopback import serving

HOST = "shop.invalid"


def visit(pages: dict[str, str], purpose: Purpose = Purpose.TARGET) -> tuple[Observation, int]:
    """Ask for / of a site whose pages send visitors to others; count the requests."""
    asked: list[str] = []

    def talk(connection: socket.socket) -> None:
        path = connection.recv(65536).split()[1].decode()
        asked.append(path)
        to = pages.get(path, pages.get("*", ""))
        lines = f"302 Found\r\nLocation: {to}" if to else "200 OK"
        connection.sendall(f"HTTP/1.1 {lines}\r\nContent-Length: 0\r\n\r\n".encode())

    with serving(talk) as port:
        url = f"http://{HOST}:{port}/"
        pages = {k: v.replace("PORT", str(port)) for k, v in pages.items()}
        here, name = Vantage(VantageKind.MACHINE), f"{HOST}:{port}"
        flow = Flow("f", purpose, here, FlowKind.HTTP, "127.0.0.1", port, name, "/", url)
        return observe(flow), len(asked)


@pytest.mark.parametrize(
    ("pages", "looping", "requests"),
    [
        ({}, False, 1),
        ({"/": "/"}, True, 1),
        ({"/": f"http://{HOST.upper()}:PORT/#top"}, True, 1),
        ({"/": "/a", "/a": "/b", "/b": "/a"}, True, 3),
        ({"/": "/a", "/a": "/b"}, False, 3),
        ({"/": "/?a=1"}, False, 2),
        ({"/": "/\r\nSet-Cookie: seen=1"}, False, 1),
        ({"/": "http://elsewhere.invalid:PORT/"}, False, 1),
        ({"/": "http://[/"}, False, 1),
        ({"/": "ftp://shop.invalid/"}, False, 1),
    ],
)
def test_where_redirects_lead(pages: dict[str, str], requests: int, *, looping: bool) -> None:
    seen, asked = visit(pages)
    assert (seen.looping, asked) == (looping, requests)
    assert seen.served is not looping
    assert seen.ok


def test_a_long_row_of_redirects_is_followed_so_far_and_no_further() -> None:
    """Whether it has an end is not known then."""
    seen, asked = visit({f"/{'a' * n}": f"/{'a' * (n + 1)}" for n in range(40)})
    assert (seen.looping, asked) == (False, 11)


@pytest.mark.parametrize(
    "location",
    ["myapp:open", "javascript:1", "http://xn--/", "https://h:443x/", "/" + "x" * 66_000],
)
def test_a_redirect_to_anything_is_an_answer(location: str) -> None:
    seen, asked = visit({"/": location})
    assert (seen.failure, seen.status, seen.looping) == (None, 302, False)
    assert asked <= 2


def test_only_for_a_visitor_redirects_are_followed() -> None:
    seen, asked = visit({"/": "/"}, Purpose.UPSTREAM)
    assert (seen.looping, seen.status, asked) == (False, 302, 1)


@given(st.text(), st.text())
def test_whatever_is_said_is_read(url: str, location: str) -> None:
    leads_nowhere(f"http://{HOST}/{url}", Head(302, location=location), lambda _url: None)


def test_what_fails_on_the_way_is_no_loop() -> None:
    head = Head(308, location=f"https://{HOST}/")
    assert not leads_nowhere(f"http://{HOST}/", head, lambda _url: None)
    assert leads_nowhere(f"http://{HOST}/", head, lambda _url: head)
    assert not leads_nowhere(
        f"http://{HOST}/", head, lambda _url: msgspec.structs.replace(head, keeps=True)
    )
