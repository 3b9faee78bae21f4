"""What a kubeconfig or a proxy variable can get wrong is one plain line."""

import base64
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from doctor.collect.deadline import Deadline
from doctor.collect.kube import connect
from doctor.collect.kubeconfig import client_of
from doctor.errors import ClusterError
from tests.unit.authority import Authority
from tests.unit.loopback import closed_port, kubeconfig, saying, serving

NOWHERE = "https://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """See no proxy and no cluster of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, cluster: dict[str, object], user: dict[str, object]) -> str:
    """Write a kubeconfig with these fields beside the usual ones, and return its path."""
    path = Path(kubeconfig(folder, NOWHERE))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["clusters"][0]["cluster"] |= cluster
    document["users"][0]["user"] = user
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def said(config: str | None) -> str:
    """Return the one line with which connecting fails."""
    with pytest.raises(ClusterError) as caught:
        connect(config, None, 2, Deadline(60))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("nonsense", "nonsense"),
        ("ftp://127.0.0.1:3", "ftp://127.0.0.1:3"),
        ("http://", "http://"),
        ("http://127.0.0.1:99999", "http://127.0.0.1:99999"),
        ("http://127.0.0.1:0", "http://127.0.0.1:0"),
        ("me:secret@nonsense", "nonsense"),
        ("ftp://me:secret@secret@127.0.0.1:3", "ftp://127.0.0.1:3"),
    ],
)
def test_a_proxy_variable_that_is_no_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(variable, value)
    line = said(kubeconfig(tmp_path, NOWHERE))
    assert line == f"{variable}: {shown!r} is no proxy's URL such as http://HOST:PORT"


@pytest.mark.parametrize("value", ["nonsense", "me:secret@nonsense", 5])
def test_a_proxy_url_that_is_none(tmp_path: Path, value: object) -> None:
    config = written(tmp_path, {"proxy-url": value}, {"token": "t"})
    shown = str(value).rpartition("@")[2]
    expected = f"the kubeconfig {config}, proxy-url: {shown!r} is no proxy's URL such as"
    assert said(config).startswith(expected)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4"])
def test_a_socks_proxy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://me:secret@127.0.0.1:1")
    expected = f"HTTPS_PROXY: '{scheme}://127.0.0.1:1': SOCKS proxies are not supported"
    assert said(kubeconfig(tmp_path, NOWHERE)).startswith(expected)


def test_in_a_pod_the_proxy_variable_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    (tmp_path / "token").write_text("t", encoding="utf-8")
    (tmp_path / "ca").write_text("no certificate", encoding="utf-8")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    assert said(None) == f"the pod's service account is broken: {tmp_path}/ca holds no certificate"
    (tmp_path / "ca").write_bytes(Authority("pods").pem())
    assert said(None).endswith("cannot be reached: connection refused")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "99999")
    expected = "the pod's environment is broken: its server 'https://127.0.0.1:99999' is no"
    assert said(None).startswith(expected)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setenv("HTTPS_PROXY", "nonsense")
    assert said(None).startswith("HTTPS_PROXY: 'nonsense' is no")


@pytest.mark.parametrize(
    ("given", "port"), [("127.0.0.1:3", 3), ("http://127.0.0.1", 80), ("https://127.0.0.1", 443)]
)
def test_an_exec_channel_is_told_the_proxys_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, port: int
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", given)
    client, proxy = client_of(kubeconfig(tmp_path, NOWHERE), None)
    assert urlsplit(client.configuration.proxy).port == port
    assert proxy == f"{'' if '://' in given else 'http://'}{given} (HTTPS_PROXY)"


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_that_is_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    port = closed_port()
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}me:secret@127.0.0.1:{port}")
    assert said(kubeconfig(tmp_path, NOWHERE)) == (
        f"the API server {NOWHERE} cannot be reached: requests go by the proxy"
        f" http://127.0.0.1:{port} (HTTPS_PROXY), and it or the server behind it cannot be"
        " reached: connection refused"
    )


def test_a_proxy_that_refuses_is_named(tmp_path: Path) -> None:
    with serving(saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")) as port:
        config = written(tmp_path, {"proxy-url": f"127.0.0.1:{port}"}, {"token": "t"})
        line = said(config)
    assert f"by the proxy http://127.0.0.1:{port} (the kubeconfig {config}, proxy-url)" in line
    assert "502" in line


@pytest.mark.parametrize("value", ["nonsense", "socks5://127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_that_is_not_used_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    server = f"https://127.0.0.1:{closed_port()}"
    expected = f"the API server {server} cannot be reached: connection refused"
    assert said(kubeconfig(tmp_path, server)) == expected


def plugin(folder: Path, script: str) -> dict[str, object]:
    """Write an exec plugin, and return its entry."""
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(path),
        "interactiveMode": "Never",
    }


CREDENTIAL = (
    '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": %s}'
)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo not today >&2; exit 3", "it ended with exit code 3: not today"),
        ("exit 1", "it ended with exit code 1"),
        ("true", "it printed no ExecCredential"),
        ("echo hello", "it printed no ExecCredential"),
        ("echo 5", "it printed no ExecCredential"),
        ("echo '{}'", "it printed no ExecCredential"),
        (f"echo '{CREDENTIAL % '{}'}'", "it printed no ExecCredential"),
        (f"echo '{CREDENTIAL % '{}'}' | sed s/v1/v9/", "it printed no ExecCredential"),
        (f"""echo '{CREDENTIAL % '{"clientCertificateData": "x"}'}'""", "no ExecCredential"),
    ],
)
def test_an_exec_plugin_that_gives_no_credentials(tmp_path: Path, script: str, words: str) -> None:
    entry = plugin(tmp_path, script)
    config = written(tmp_path, {}, {"exec": entry, "username": "u", "password": "p"})
    line = said(config)
    assert line.startswith(
        f"the kubeconfig {config}: its exec plugin {entry['command']!r} gives no credentials: "
    )
    assert words in line


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"},
            "its exec plugin 'no-such-plugin' gives no credentials: no such file or directory",
        ),
        (
            {"apiVersion": "client.authentication.k8s.io/v1", "command": "/dev/null"},
            "its exec plugin '/dev/null' gives no credentials: permission denied",
        ),
        ({"apiVersion": "client.authentication.k8s.io/v1"}, "its user's exec names no command"),
        ({"command": "true"}, "its exec plugin 'true' has no apiVersion"),
        ({"apiVersion": "v1", "command": 5}, "its user's exec names no command"),
        (5, "its user's exec names no command"),
    ],
)
def test_an_exec_plugin_that_cannot_be_started(tmp_path: Path, entry: object, words: str) -> None:
    config = written(tmp_path, {}, {"exec": entry})
    assert words in said(config)
    assert config in said(config)


def test_an_exec_plugins_token_is_taken(tmp_path: Path) -> None:
    entry = plugin(tmp_path, f"""echo '{CREDENTIAL % '{"token": "t"}'}'""")
    assert said(written(tmp_path, {}, {"exec": entry})).endswith(": connection refused")


def test_an_exec_plugins_certificate_is_looked_at(tmp_path: Path) -> None:
    pair = '{"clientCertificateData": "x", "clientKeyData": "y"}'
    entry = plugin(tmp_path, f"echo '{CREDENTIAL % pair}'")
    config = written(tmp_path, {}, {"exec": entry})
    assert said(config) == (
        f"the kubeconfig {config} is broken: its exec plugin's clientCertificateData and"
        " clientKeyData are no certificate with its unencrypted key"
    )


NONE = base64.b64encode(b"none").decode()


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"certificate-authority-data": NONE}, {}, "certificate-authority-data holds no certif"),
        ({"certificate-authority-data": "a"}, {}, "certificate-authority-data is no base64"),
        ({"certificate-authority-data": 5}, {}, "certificate-authority-data is no base64"),
        ({"certificate-authority": "config"}, {}, "certificate-authority holds no certificate"),
        (
            {},
            {"client-certificate-data": NONE, "client-key-data": NONE},
            "client-certificate-data and client-key-data are no certificate with its unencrypted",
        ),
        ({}, {"client-certificate-data": NONE, "client-key-data": "a"}, "client-key-data is no b"),
        (
            {},
            {"client-certificate": "config", "client-key-data": NONE},
            "client-certificate and client-key-data are no certificate with its unencrypted key",
        ),
        ({"server": "https://127.0.0.1:99999"}, {}, "server 'https://127.0.0.1:99999' is no http"),
        ({"server": "https://127.0.0.1:0"}, {}, "server 'https://127.0.0.1:0' is no http"),
        ({"server": "https://a b:6443"}, {}, "server 'https://a b:6443' is no http"),
        ({"server": "https://"}, {}, "server 'https:' is no http:// or"),
        ({"server": "https://me:secret@127.0.0.1:0"}, {}, "server 'https://127.0.0.1:0' is no"),
    ],
)
def test_a_field_that_is_broken_is_named(
    tmp_path: Path, cluster: dict[str, object], user: dict[str, object], words: str
) -> None:
    config = written(tmp_path, cluster, user or {"token": "t"})
    line = said(config)
    assert line.startswith(f"the kubeconfig {config} is broken: its ")
    assert words in line
    assert "secret" not in line


def test_a_file_that_cannot_be_read() -> None:
    """Not even root reads a process's memory from its start."""
    assert said("/proc/self/mem") == (
        "the kubeconfig /proc/self/mem cannot be read: input/output error"
    )


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\xff", b"a\x00b"])
def test_a_file_that_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    whole = kubeconfig(tmp_path, NOWHERE)
    binary = tmp_path / "binary"
    binary.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", f"{whole}:{binary}")
    assert said(None) == f"the kubeconfig {binary} is broken: it is no text in UTF-8"
