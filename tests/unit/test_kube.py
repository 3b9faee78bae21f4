"""The connection to an API server that is away, odd, or says no."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from doctor.collect import kube
from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, connect
from doctor.errors import ClusterError
from tests.unit.loopback import closed_port, http_server, kubeconfig, saying, serving

Respond = Callable[[str], tuple[int, object]]
VERSION = {"gitVersion": "v1.34.0"}


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """See neither a kubeconfig of this machine nor a pod's service account."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class _Handler(BaseHTTPRequestHandler):
    """Answer with what the server's ``respond`` returns."""

    def respond(self, path: str) -> tuple[int, object]:
        """Be replaced."""
        raise NotImplementedError(path)

    def do_GET(self) -> None:
        status, body = self.respond(self.path)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def api_server(respond: Respond) -> contextlib.AbstractContextManager[str]:
    """Serve HTTP on loopback; yield the URL."""
    return http_server(_Handler, respond=lambda _self, path: respond(path))


def refused(config: str | None, words: str, *, context: str | None = None) -> None:
    """See that connecting fails in one line."""
    with pytest.raises(ClusterError) as caught:
        connect(config, context, 0.5, Deadline(60))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(None, f"no kubeconfig: {tmp_path}/home/.kube/config does not exist")
    refused(str(tmp_path / "absent"), "absent does not exist; give --kubeconfig FILE")
    refused(str(tmp_path), "is a directory")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "elsewhere"))
    refused(None, "elsewhere does not exist")


def test_in_a_pod_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    refused(None, "service account")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"just words",
        b"a: [unclosed",
        b"\x00\xff\xfe",
        b"[]",
        b"apiVersion: v1\nkind: Config\n",
        b"contexts: 5\ncurrent-context: c\n",
        b"current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n",
        (
            b"{current-context: c, contexts: [{name: c, context: {cluster: k}}],"
            b" clusters: [{name: k, cluster: {}}]}"
        ),
    ],
)
def test_a_broken_kubeconfig(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(text)
    refused(str(path), f"the kubeconfig {path} is broken: ")


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "bm9uZQ==", "client-key-data": "bm9uZQ=="},
        {"client-certificate-data": "%%%", "client-key-data": "%%%"},
        {"client-certificate": "/absent/cert", "client-key": "/absent/key"},
    ],
)
def test_broken_credentials(tmp_path: Path, user: dict[str, str]) -> None:
    config = kubeconfig(tmp_path, f"https://127.0.0.1:{closed_port()}", **user)
    refused(config, "")


def test_an_unknown_context(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path, "http://127.0.0.1:1")
    refused(config, "has no context 'nonsense'", context="nonsense")


@pytest.mark.parametrize("server", ["nonsense", "http://", "http://127.0.0.1:port", "ftp://x"])
def test_a_server_that_is_no_url(tmp_path: Path, server: str) -> None:
    refused(kubeconfig(tmp_path, server), "")


def test_an_api_server_that_refuses(tmp_path: Path) -> None:
    server = f"https://127.0.0.1:{closed_port()}"
    expected = f"the API server {server} cannot be reached: connection refused"
    refused(kubeconfig(tmp_path, server), expected)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_api_server_that_never_answers(tmp_path: Path, scheme: str) -> None:
    with serving(None) as port:
        started = time.monotonic()
        refused(kubeconfig(tmp_path, f"{scheme}://127.0.0.1:{port}"), "no answer in time")
        assert time.monotonic() - started < 2


def test_something_else_that_listens_there(tmp_path: Path) -> None:
    with serving(saying(b"SSH-2.0-x\r\n")) as port:
        refused(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), "cannot be reached: ")


def test_credentials_that_are_not_accepted(tmp_path: Path) -> None:
    with api_server(lambda _: (401, {"message": "Unauthorized"})) as url:
        refused(kubeconfig(tmp_path, url), "does not accept these credentials")


def connected(folder: Path, url: str) -> Api:
    """Connect."""
    return connect(kubeconfig(folder, url), None, 2, Deadline(60))


def test_a_name_that_does_not_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    refused(kubeconfig(tmp_path, "http://api.invalid:6443"), "its name does not resolve")


PAGES = {
    "/api/v1/pods?limit=500": {"items": [{"n": 1}, {"n": 2}], "metadata": {"continue": "next"}},
    "/api/v1/pods?limit=500&continue=next": {"items": [{"n": 3}], "metadata": {"continue": ""}},
    "/api/v1/events?fieldSelector=a&limit=500": {"items": None, "metadata": {}},
}


def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    asked: list[str] = []

    def respond(path: str) -> tuple[int, object]:
        asked.append(path)
        return 200, VERSION if path == "/version" else PAGES[path]

    with api_server(respond) as url:
        api = connected(tmp_path, url)
        answer, items = api.pages("/api/v1/pods")
        assert answer.ok
        assert [json.loads(bytes(i)) for i in items] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert api.pages("/api/v1/events?fieldSelector=a")[1] == []
    assert asked == ["/version", *PAGES]
    assert api.requests == len(asked)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, {"message": 'pods is forbidden:\n  User "u"'}, 'pods is forbidden: User "u"'),
        (404, {"message": "the server could not find it"}, "the server could not find it"),
        (404, b"404 page not found\n", "404 page not found"),
        (410, {"message": "too old"}, "too old"),
        (500, b"", "HTTP 500"),
        (503, b"\xff" * 999, "\ufffd" * 200),
        (403, {}, "HTTP 403"),
    ],
)
def test_a_refusal_is_an_answer(tmp_path: Path, status: int, body: object, reason: str) -> None:
    with api_server(lambda p: (200, VERSION) if p == "/version" else (status, body)) as url:
        answer, items = connected(tmp_path, url).pages("/api/v1/pods")
    assert (answer.ok, answer.status, answer.reason, items) == (False, status, reason, [])


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"items": 5}'])
def test_an_answer_that_is_no_list(tmp_path: Path, body: bytes) -> None:
    with api_server(lambda p: (200, VERSION) if p == "/version" else (200, body)) as url:
        answer, _ = connected(tmp_path, url).pages("/api/v1/pods")
    assert answer.status == 0
    assert answer.reason.startswith("not a list: ")


def test_the_api_server_going_away_is_an_answer_too(tmp_path: Path) -> None:
    with api_server(lambda _: (200, VERSION)) as url:
        api = connected(tmp_path, url)
    answer = api.call("GET", "/api/v1/pods")
    assert (answer.ok, answer.status) == (False, 0)
    assert "\n" not in answer.reason
    assert answer.reason


def test_the_kubeconfigs_token_is_sent(tmp_path: Path) -> None:
    """Without it, every answer would be the anonymous user's."""
    told: list[str | None] = []

    class Handler(_Handler):
        def respond(self, path: str) -> tuple[int, object]:
            assert path == "/version"
            told.append(self.headers.get("Authorization"))
            return 200, VERSION

    with http_server(Handler) as url:
        connect(kubeconfig(tmp_path, url), None, 2, Deadline(60))
    assert told == ["Bearer t"]


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", {"major": "1"}])
def test_what_is_no_api_server_is_refused(tmp_path: Path, body: object) -> None:
    with api_server(lambda _path: (200, body)) as server:
        refused(kubeconfig(tmp_path, server), "answers, but not as a Kubernetes API server does")


def test_after_the_deadline_only_clean_up_is_sent(tmp_path: Path) -> None:
    asked: list[str] = []
    now = 0.0

    def respond(path: str) -> tuple[int, object]:
        asked.append(path)
        return 200, VERSION

    with api_server(respond) as url:
        deadline = Deadline(5, lambda: now)
        api = connect(kubeconfig(tmp_path, url), None, 2, deadline)
        assert api.call("GET", "/before").ok
        now = 5.0
        answer = api.call("GET", "/after")
        assert (answer.status, answer.reason) == (
            0,
            "the run's deadline of 5 s had passed (--deadline)",
        )
        assert api.exec("n", "p", "c", ["true"], 1).reason == answer.reason
        assert api.call("GET", "/mine", late=True).ok
    assert asked == ["/version", "/before", "/mine"]
    assert api.requests == len(asked)


def test_a_wait_does_not_outlive_the_deadline(tmp_path: Path) -> None:
    """A server that never answers: the request ends with the run, not with its own time."""
    with serving(None) as port:
        url = f"http://127.0.0.1:{port}"
        refused_by = Deadline(0.3)
        with pytest.raises(ClusterError):
            connect(kubeconfig(tmp_path, url), None, 600, refused_by)
    assert refused_by.passed


def test_no_more_requests_than_agreed_are_under_way(tmp_path: Path) -> None:
    """Every one is held until all that may come are there; then the rest follows."""
    full, now, most = threading.Event(), 0, 0
    count = threading.Lock()

    def respond(path: str) -> tuple[int, object]:
        nonlocal now, most
        if path == "/version":
            return 200, VERSION
        with count:
            now += 1
            most = max(most, now)
            if now == kube._MOST_AT_ONCE:
                full.set()
        assert full.wait(20)
        # one that is let in too early comes meanwhile
        time.sleep(0.05)
        with count:
            now -= 1
        return 200, {"items": []}

    wanted = 3 * kube._MOST_AT_ONCE
    with api_server(respond) as url, ThreadPoolExecutor(wanted) as pool:
        api = connected(tmp_path, url)
        answers = list(pool.map(lambda n: api.call("GET", f"/{n}"), range(wanted)))
    assert all(a.ok for a in answers)
    assert most == kube._MOST_AT_ONCE
