"""Facts about the reverse proxy in front of the cluster."""

import msgspec

__all__ = ["HostProxy", "ProxyServer"]


class ProxyServer(msgspec.Struct, frozen=True):
    """One way a request can take through the proxy: a server block's location.

    Args:
        ports: Ports that it listens on.
        names: Its server names.
        location: The location's prefix.
        upstream_host: Host or address it forwards to; empty where it forwards to nothing.
        upstream_port: Port it forwards to.
        upstream_scheme: ``http`` or ``https``.
        host_header: What it sends as Host: ``$host``, a literal, or ``$proxy_host`` by default.
        header_where: File and line of the directive that says so; empty where none does.
        where: File and line of the directive that forwards.
    """

    ports: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    location: str = "/"
    upstream_host: str = ""
    upstream_port: int = 80
    upstream_scheme: str = "http"
    host_header: str = "$proxy_host"
    header_where: str = ""
    where: str = ""


class HostProxy(msgspec.Struct, frozen=True):
    """The process that owns the URL's port on the host where the proxy stands.

    Args:
        software: ``nginx`` or the name of another program.
        config: The configuration file its running process uses.
        servers: What the configuration forwards where.
        evidence: Id of the record.
    """

    software: str
    config: str
    servers: tuple[ProxyServer, ...]
    evidence: str
