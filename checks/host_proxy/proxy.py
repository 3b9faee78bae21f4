"""The reverse proxy in front of the cluster, and the same request past it."""

import shlex
from collections.abc import Iterable, Iterator

from checks.common import and_list, ids
from checks.host_proxy.shared import GATEWAY, OURS, hop_of, mend, plain, said, unrouted
from doctor.contract import check
from doctor.model.evidence import Nodes, Proxy, TargetFlows, VipFlows
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Role
from doctor.model.flow import FlowKind, Observation, Purpose
from doctor.model.hop import HopKind
from doctor.model.link import Link
from doctor.model.proxy import HostProxy, ProxyServer

__all__ = [
    "PROXY_ALTERS_REQUEST",
    "PROXY_CONNECT_DENIED",
    "PROXY_HOST_HEADER_LOST",
    "PROXY_NOT_RUNNING",
    "PROXY_UPSTREAM_UNREACHABLE",
    "PROXY_UPSTREAM_WRONG_PORT",
    "forwards",
]

PROXY_HOST_HEADER_LOST = Code(
    "PROXY_HOST_HEADER_LOST",
    Link.HOST_PROXY,
    "The reverse proxy does not hand on the Host header, so that the ingress knows no rule.",
)
PROXY_ALTERS_REQUEST = Code(
    "PROXY_ALTERS_REQUEST",
    Link.HOST_PROXY,
    "A request fails through the reverse proxy, and the same request past it is served.",
)
PROXY_CONNECT_DENIED = Code(
    "PROXY_CONNECT_DENIED",
    Link.HOST_PROXY,
    "The reverse proxy does not get through to an upstream that its machine reaches.",
)
PROXY_NOT_RUNNING = Code(
    "PROXY_NOT_RUNNING", Link.HOST_PROXY, "Nothing listens where the reverse proxy should."
)
PROXY_UPSTREAM_UNREACHABLE = Code(
    "PROXY_UPSTREAM_UNREACHABLE",
    Link.HOST_PROXY,
    "The reverse proxy's upstream does not answer where the proxy stands.",
    Role.SYMPTOM,
)
PROXY_UPSTREAM_WRONG_PORT = Code(
    "PROXY_UPSTREAM_WRONG_PORT",
    Link.HOST_PROXY,
    "The reverse proxy forwards to a port of the load balancer's address that is not served.",
)

_HANDED_ON = ("$host", "$http_host")


@check(
    id="host-proxy.forwards",
    title="The reverse proxy hands requests on as they are",
    codes=(
        PROXY_HOST_HEADER_LOST,
        PROXY_ALTERS_REQUEST,
        PROXY_CONNECT_DENIED,
        PROXY_NOT_RUNNING,
        PROXY_UPSTREAM_UNREACHABLE,
        PROXY_UPSTREAM_WRONG_PORT,
    ),
)
def forwards(
    proxy: Proxy, targets: TargetFlows, vips: VipFlows | None, nodes: Nodes | None = None
) -> Iterator[Finding]:
    """Send the same request through the reverse proxy and past it.

    What it looks at:
        Each URL as a visitor asks for it, the same Host and path asked of the proxy's upstream
        from where the proxy stands (this machine, or --proxy-host by ssh), and the configuration
        that the running proxy uses.

    Why it matters:
        By default nginx sends the upstream's address as Host. The ingress controller then finds
        no rule, and answers 404, although all of the cluster is in order.

    What proves it:
        The request fails through the proxy and is served past it: the fault lies in the proxy.
        Its configuration tells which directive is missing.

    Look-alikes:
        If the request past the proxy gets the same 404, the ingress is at fault. If the upstream
        does not answer the proxy's host either, the load balancer or the path to it is. 502 while
        that host reaches the upstream: the proxy may not connect (SELinux).

    Remediation:
        proxy_set_header Host $host; start the proxy; setsebool httpd_can_network_connect.

    Sources:
        nginx: ngx_http_proxy_module, proxy_set_header; ngx_http_core_module, server and location.
        ingress-nginx: Bare-metal considerations. SELinux: httpd_selinux.
    """
    for through in targets.of(Purpose.TARGET, kind=FlowKind.HTTP):
        direct = _direct(through, proxy, vips)
        if _closed(through) and _at_proxy(through):
            if behind := [o for o in (*direct, *_answering(vips)) if o.served]:
                yield _not_running(through, behind[0], proxy)
        elif through.ok and not through.served and (good := _better(through, direct)):
            yield _altered(through, good, proxy)
        elif direct and _stuck(through) and all(o.failure not in (None, *OURS) for o in direct):
            yield _unreachable(through, direct, proxy, _answering(vips), nodes)


# ---- through the proxy and past it --------------------------------------------------------------


def _closed(o: Observation) -> bool:
    """Say whether nothing listens: who answers a SYN by ICMP is a packet filter."""
    return o.failure is Failure.CONNECTION_REFUSED and o.icmp is None


def _at_proxy(o: Observation) -> bool:
    """Say whether a request is sent to a proxy on this machine."""
    return any(h.kind is HopKind.HOST_PROXY for h in o.hops)


def _direct(through: Observation, proxy: Proxy, vips: VipFlows | None) -> list[Observation]:
    """Select the same request past the proxy; for want of that, the one sent to the VIP."""
    place = (through.flow.address, through.flow.port)
    past = proxy.of(Purpose.UPSTREAM, subject=through.flow.subject)
    to_vip = _from_outside(vips, kind=FlowKind.HTTP)
    same = [o for o in past or to_vip if plain(o.flow.name) == plain(through.flow.name)]
    return [o for o in same if (o.flow.address, o.flow.port) != place]


def _better(through: Observation, direct: Iterable[Observation]) -> list[Observation]:
    """Keep what is served past the proxy, unless it is the same redirect, followed from there."""
    return [
        o
        for o in direct
        if o.served
        and o.status
        and not (through.looping and (o.status, o.location) == (through.status, through.location))
    ]


def _answering(vips: VipFlows | None) -> list[Observation]:
    """List the connections to load balancer addresses that were answered outside the cluster."""
    return [o for o in _from_outside(vips) if o.ok]


def _from_outside(vips: VipFlows | None, kind: FlowKind | None = None) -> list[Observation]:
    """Select what was asked of load balancer addresses from outside the cluster."""
    seen = vips.of(Purpose.VIP, kind=kind) if vips else ()
    return [o for o in seen if o.flow.vantage.outside]


def _named(table: Proxy) -> tuple[str, str, str]:
    """Return what is known of the proxy: its software, its configuration's path, its record."""
    proxy = table.proxy or HostProxy("the reverse proxy", "", (), "proxy:machine")
    return proxy.software, proxy.config, proxy.evidence


def _there(table: Proxy, *commands: str) -> tuple[str, ...]:
    """Write commands so that they run where the proxy stands."""
    if not table.ssh:
        return commands
    return tuple(f"ssh {shlex.quote(table.ssh)} {shlex.quote(c)}" for c in commands)


def _stuck(through: Observation) -> bool:
    """Say whether the proxy got nothing from its upstream: it says so, or waits for longer.

    Where others tell that there is no way, it is not the proxy that waits.
    """
    waits = through.failure is Failure.TIMEOUT and _at_proxy(through)
    return through.status in GATEWAY or waits


def _altered(through: Observation, direct: list[Observation], table: Proxy) -> Finding:
    """Say what the proxy does to a request that is served past it."""
    proxy = table.proxy
    server = _server(through, proxy) if proxy else None
    # a gateway's status is the proxy's own: the ingress never answered
    if proxy and server and server.upstream_host and through.status in GATEWAY:
        return _denied(through, direct, table, server)
    if proxy and server and server.upstream_host and _loses_host(server, through):
        return _host_lost(through, direct, table, server)
    name = proxy.software if proxy else "a proxy whose configuration is not known"
    past = direct[0]
    return Finding(
        code=PROXY_ALTERS_REQUEST,
        title=(
            f"{through.flow.subject} gets {through.status} through {name} at "
            f"{through.flow.address}:{through.flow.port}, and {past.status} past it, from "
            f"{past.flow.address}:{past.flow.port}" + _unmatched(proxy, server)
        ),
        hop=hop_of(through),
        evidence=(*ids([through, *direct]), *((proxy.evidence,) if proxy else ())),
        confidence=Confidence.LIKELY,
        remediation=(_compare(through, past, table),),
        falsifier=f"past the proxy {through.flow.subject} gets {through.status}, too",
    )


def _unmatched(proxy: HostProxy | None, server: ProxyServer | None) -> str:
    """Say that no part of the configuration forwards the request."""
    if not proxy or (server and server.upstream_host):
        return ""
    return f": nothing in {proxy.config} forwards it"


def _server(through: Observation, proxy: HostProxy) -> ProxyServer | None:
    """Find what takes a request: the port's server of that name or its first, longest location."""
    here = [s for s in proxy.servers if through.flow.port in s.ports]
    named = [s for s in here if any(_names(n, through.flow.name) for n in s.names)]
    block = (named or here)[:1]
    path = through.flow.path or "/"
    fitting = [
        s
        for s in here
        if (s.ports, s.names) == (block[0].ports, block[0].names) and path.startswith(s.location)
    ]
    return max(fitting, key=lambda s: len(s.location), default=None)


def _names(pattern: str, asked: str) -> bool:
    """Say whether a server name matches: exact, ``*.example.net`` or ``.example.net``."""
    name, host = plain(pattern), plain(asked)
    if name.startswith("*."):
        return host.endswith(name[1:])
    return host == name or (name.startswith(".") and host.endswith((name, name[1:])))


def _loses_host(server: ProxyServer, through: Observation) -> bool:
    """Say whether what is sent as Host is something else than what was asked for."""
    sent = server.host_header.partition(":")[0]
    return sent not in _HANDED_ON and (
        sent.startswith("$") or plain(sent) != plain(through.flow.name)
    )


def _host_lost(
    through: Observation, direct: list[Observation], table: Proxy, server: ProxyServer
) -> Finding:
    """Say that the Host header is not handed on."""
    software, config, evidence = _named(table)
    default = not server.header_where
    why = "proxy_set_header Host $host is missing" if default else f"it sends {server.host_header}"
    return Finding(
        code=PROXY_HOST_HEADER_LOST,
        title=(
            f"{software} on {table.place} ({server.where or config}) forwards "
            f"{through.flow.subject} without its Host header ({why}), so the ingress answers "
            f"{through.status}"
        ),
        hop=hop_of(through),
        evidence=(*ids([through, *direct]), evidence),
        remediation=(_hand_on(table, server),),
        falsifier=f"{direct[0].flow.address} answers {through.status} to Host {direct[0].flow.name}",
    )


def _hand_on(table: Proxy, server: ProxyServer) -> Remediation:
    """Have the proxy send the Host that was asked for."""
    software, config, _ = _named(table)
    file, _, line = (server.header_where or server.where).rpartition(":")
    if software != "nginx" or not (file and line.isdecimal()):
        return mend(
            "Hand on the Host header of the request, then reload the proxy",
            f"# in {server.where or config}: proxy_set_header Host $host;",
        )
    change = (
        f"{line}s/proxy_set_header[[:space:]]\\+Host[[:space:]][^;]*;/proxy_set_header Host $host;/I"
        if server.header_where
        else f"{line}a proxy_set_header Host $host;"
    )
    edit = f"sed -i {shlex.quote(change)} {shlex.quote(file)}"
    return mend(
        "Hand on the Host header of the request: proxy_set_header Host $host;",
        *_there(
            table,
            edit,
            f"nginx -t -c {shlex.quote(config)} && nginx -s reload -c {shlex.quote(config)}",
        ),
    )


def _denied(
    through: Observation, direct: list[Observation], table: Proxy, server: ProxyServer
) -> Finding:
    """Say that the proxy fails to connect where its host does not."""
    software, config, evidence = _named(table)
    to = f"{server.upstream_host}:{server.upstream_port}"
    commands = ["getenforce", "setsebool -P httpd_can_network_connect 1"]
    if software == "nginx":
        commands.append(
            f"nginx -t -c {shlex.quote(config)} && nginx -s reload -c {shlex.quote(config)}"
        )
    return Finding(
        code=PROXY_CONNECT_DENIED,
        title=(
            f"{software} on {table.place} answers {through.status} for "
            f"{through.flow.subject}, and its upstream {to} serves {table.place}: the proxy may "
            "not connect (SELinux) or keeps an old address"
        ),
        hop=hop_of(through),
        evidence=(*ids([through, *direct]), evidence),
        confidence=Confidence.LIKELY,
        # 502 may come from behind the upstream, too: of several endpoints another one answered
        flows=ids([through]),
        remediation=(
            mend(
                "Where SELinux enforces, allow the proxy to connect; else reload it",
                *_there(table, *commands),
            ),
        ),
        falsifier=f"{table.place} cannot connect to {to} either",
    )


def _not_running(through: Observation, past: Observation, table: Proxy) -> Finding:
    """Say that nothing listens at the proxy's port."""
    proxy = table.proxy
    port = through.flow.port
    config = f" -c {shlex.quote(proxy.config)}" if proxy and proxy.config else ""
    return Finding(
        code=PROXY_NOT_RUNNING,
        title=(
            f"Nothing listens on TCP {port} of {table.place} ({through.flow.address}): the reverse "
            f"proxy for {through.flow.subject} is not running, while "
            f"{past.flow.address}:{past.flow.port} behind it answers"
        ),
        hop=hop_of(through),
        evidence=(*ids([through, past]), *((proxy.evidence,) if proxy else ())),
        remediation=(
            mend(
                "Start the reverse proxy",
                *_there(table, f"nginx -t{config} && nginx{config}", f"ss -lntp 'sport = :{port}'"),
            ),
        ),
        falsifier=f"a connection to {through.flow.address}:{port} is accepted",
    )


def _unreachable(
    through: Observation,
    direct: list[Observation],
    table: Proxy,
    answering: list[Observation],
    nodes: Nodes | None,
) -> Finding:
    """Say that the upstream does not answer the proxy's host either, or only on another port."""
    proxy = table.proxy
    name = proxy.software if proxy else "The reverse proxy"
    to = and_list(f"{o.flow.address}:{o.flow.port} ({said(o)})" for o in direct)
    asked = {o.flow.address: o.flow.port for o in direct}
    other = [o for o in answering if asked.get(o.flow.address, o.flow.port) != o.flow.port]
    ports = and_list(f"{o.flow.address}:{o.flow.port}" for o in other)
    return Finding(
        code=PROXY_UPSTREAM_WRONG_PORT if other else PROXY_UPSTREAM_UNREACHABLE,
        title=(
            f"{name} on {table.place} answers {through.flow.subject} with {said(through)}: its "
            f"upstream {to} is out of reach from here, too"
            + (f", while {ports} answers" if other else "")
        ),
        hop=hop_of(through),
        evidence=(
            *ids([through, *direct, *other]),
            *((proxy.evidence,) if proxy else ()),
        ),
        flows=() if other else ids(direct),
        consequence_of=() if other else unrouted(direct, nodes),
        remediation=(_compare(through, (other or direct)[0], table),),
        falsifier=f"{direct[0].flow.address}:{direct[0].flow.port} answers {table.place}",
    )


def _compare(through: Observation, past: Observation, table: Proxy) -> Remediation:
    """Show the difference between the ways."""
    proxy = table.proxy
    flow = past.flow
    config = f" -c {shlex.quote(proxy.config)}" if proxy and proxy.config else ""
    return mend(
        "Compare the request through the proxy and past it",
        *_there(
            table,
            f"curl -sv -o /dev/null -H 'Host: {flow.name}' "
            f"http://{flow.address}:{flow.port}{flow.path}",
        ),
        f"curl -sv -o /dev/null {through.flow.subject}",
        *(_there(table, f"nginx -T{config}") if proxy and proxy.software == "nginx" else ()),
    )
