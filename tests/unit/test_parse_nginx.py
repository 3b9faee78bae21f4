"""nginx's configuration: what is forwarded where, with which Host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.proxy import ProxyServer
from doctor.parse.nginx_conf import parse_nginx

DUMP = """\
# configuration file /etc/nginx/nginx.conf:
user www-data;  # a "comment' with { quotes
http {
    log_format main '$remote_addr "$request" {;}';
    include mime.types;
    include conf.d/*.conf;
    proxy_set_header X-Real-IP $remote_addr;
}

# configuration file /etc/nginx/mime.types:
types { text/html html; }

# configuration file /etc/nginx/conf.d/site.conf:
upstream shop { server 172.10.100.200; server 10.0.0.2:81 backup; }
server {
    listen 0.0.0.0:8080 default_server; listen [::]:8443 ssl;
    server_name shop.example "www.shop.example";
    location / {
        if ($request_method = POST) { return 405; }
        proxy_pass http://shop;
        include proxy_params;
    }
    location = /api { proxy_pass https://192.0.2.7:9443/v1; }
}

# configuration file /etc/nginx/proxy_params:
proxy_set_header Host $host;
"""
SHOP = ProxyServer(
    ports=(8080, 8443),
    names=("shop.example", "www.shop.example"),
    upstream_host="172.10.100.200",
    host_header="$host",
    header_where="/etc/nginx/proxy_params:1",
    where="/etc/nginx/conf.d/site.conf:7",
)


def test_a_dump_of_several_files() -> None:
    root, api = parse_nginx(DUMP)
    assert root == SHOP
    assert (api.location, api.upstream_host, api.upstream_port) == ("/api", "192.0.2.7", 9443)
    assert (api.upstream_scheme, api.host_header) == ("https", "$proxy_host")


def server(location: str, *, own: str = "", http: str = "") -> str:
    """Write a configuration with one location, and what stands around it."""
    return f"http {{ {http} server {{ {own} location / {{ {location} }} }} }}"


TO_APP = "proxy_pass http://192.0.2.1;"
HOST = "proxy_set_header Host $host;"
OTHER = "proxy_set_header X-A b;"


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (server(TO_APP), "$proxy_host"),
        (server(TO_APP + HOST), "$host"),
        (server(TO_APP, own=HOST), "$host"),
        (server(TO_APP, http=HOST), "$host"),
        (server(TO_APP + OTHER, own=HOST), "$proxy_host"),
        (server(TO_APP, own=OTHER, http=HOST), "$proxy_host"),
        (server(TO_APP + "proxy_set_header host 'shop.example';"), "shop.example"),
        (server(TO_APP + 'proxy_set_header Host "$http_host";'), "$http_host"),
        (server(TO_APP + "proxy_set_header Host ${host}:$server_port;"), "${host}:$server_port"),
        (server("add_header X it's; " + TO_APP + HOST), "$host"),
        (server(f"location /a {{ {TO_APP} {HOST} }}"), "$host"),
        (server("if ($http_x) { " + TO_APP + " }", own=HOST), "$host"),
        (server(TO_APP + "# " + HOST), "$proxy_host"),
        (server("return 200 'proxy_set_header Host a;';" + TO_APP), "$proxy_host"),
    ],
)
def test_which_host_is_sent(text: str, header: str) -> None:
    (found,) = parse_nginx(text)
    assert (found.upstream_host, found.host_header) == ("192.0.2.1", header)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://10.0.0.1", ("http", "10.0.0.1", 80)),
        ("https://10.0.0.1", ("https", "10.0.0.1", 443)),
        ("http://host:8080/path/", ("http", "host", 8080)),
        ("http://$backend", ("http", "$backend", 80)),
        ("http://host:99999", ("http", "host:99999", 80)),
        ("http://host:" + "9" * 5000, ("http", "host:" + "9" * 5000, 80)),
        ("somewhere", ("http", "somewhere", 80)),
    ],
)
def test_where_it_forwards(url: str, expected: tuple[str, str, int]) -> None:
    (found,) = parse_nginx(server(f"proxy_pass {url};"))
    assert (found.upstream_scheme, found.upstream_host, found.upstream_port) == expected


@pytest.mark.parametrize(
    ("text", "ports", "upstream"),
    [
        ("server { listen 8080; root /srv; }", (8080,), ""),
        ("server { listen unix:/run/x; root /srv; }", (80,), ""),
        ("server { root /srv; }", (80,), ""),
        ("server { location / { proxy_pass http://a; ", (80,), "a"),
        ("} } server { location / { proxy_pass; } }", (80,), ""),
    ],
)
def test_servers_that_forward_nowhere_or_are_cut(
    text: str, ports: tuple[int, ...], upstream: str
) -> None:
    (found,) = parse_nginx(text)
    assert (found.ports, found.upstream_host) == (ports, upstream)


@pytest.mark.parametrize("text", ["", "server;", "server {}", '"', "a{" * 5000, "};" * 9, "http {"])
def test_nothing_that_serves(text: str) -> None:
    assert parse_nginx(text) == ()


def test_files_that_include_each_other() -> None:
    head = "# configuration file "
    text = f"{head}a:\ninclude *; {server(TO_APP)}\n{head}b:\ninclude a; include *;\n"
    assert {s.upstream_host for s in parse_nginx(text)} == {"192.0.2.1"}


WORDS = st.sampled_from(
    [
        "server {",
        "location / {",
        "location",
        "upstream u {",
        "proxy_pass http://u;",
        "proxy_pass",
        "listen",
        ";",
        "{",
        "}",
        "'",
        '"',
        "\\",
        "$",
        "${",
        "#",
        "\n",
        "proxy_set_header Host",
        "include *;",
        "\n# configuration file x:\n",
        "server",
        "http {",
    ]
)


@given(st.lists(WORDS | st.text(max_size=4)).map(" ".join) | st.text())
def test_any_text_is_read(text: str) -> None:
    assert all(isinstance(s, ProxyServer) for s in parse_nginx(text))
