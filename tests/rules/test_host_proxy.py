"""The reverse proxy and the visitor: each fault by its code, and the look-alikes by none."""

import msgspec
import pytest

from checks.host_proxy.proxy import forwards
from checks.host_proxy.url import certificate, url
from doctor.model.evidence import Nodes, Proxy, TargetFlows, VipFlows
from doctor.model.failure import Failure
from doctor.model.finding import Severity
from doctor.model.flow import FlowKind, Icmp, Observation, Purpose, TraceHop
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Meta, Node, NodeSpec
from doctor.model.proxy import HostProxy, ProxyServer
from tests.rules.factories_site import MACHINE, REFUSED, TIMEOUT, Case, seen, verify

HOST, URL = "shop.example.net", "http://shop.example.net:8080/a/b"
HERE, VIP = "172.20.112.5", "172.20.112.200"
PLACE = "host-proxy:172.20.112.5:tcp/8080"
CONFIG = "/etc/nginx/nginx.conf"
AT_PROXY = (Hop(HopKind.HOST_PROXY, HERE, "tcp/8080"),)


def server(header: str = "$proxy_host", **changes: object) -> ProxyServer:
    """Forward to the VIP."""
    made = ProxyServer(
        ports=(8080,),
        names=(HOST,),
        upstream_host=VIP,
        host_header=header,
        where=f"{CONFIG}:12",
    )
    return msgspec.structs.replace(made, **changes)


def proxy(*servers: ProxyServer, past: tuple[Observation, ...] = ()) -> Proxy:
    """Run nginx on this machine."""
    running = HostProxy("nginx", CONFIG, servers, "file:nginx")
    return Proxy(proxy=running, observations=past)


def target(
    status: int = 0, failure: Failure | None = None, *, there: tuple[Hop, ...] = AT_PROXY
) -> Observation:
    """Ask as a visitor does."""
    return seen(
        Purpose.TARGET,
        MACHINE,
        HERE,
        8080,
        failure,
        kind=FlowKind.HTTP,
        name=f"{HOST}:8080",
        path="/a/b",
        subject=URL,
        status=status,
        hops=there,
    )


def past(
    status: int = 0, failure: Failure | None = None, *, name: str = HOST, port: int = 80
) -> tuple[Observation, ...]:
    """Ask the upstream."""
    found = seen(
        Purpose.UPSTREAM,
        MACHINE,
        VIP,
        port,
        failure,
        kind=FlowKind.HTTP,
        name=name,
        subject=URL,
        status=status,
    )
    return (found,)


def to_vip(failure: Failure | None = None, *, status: int = 0, name: str = "") -> VipFlows:
    """Connect to the VIP, or ask it for a host."""
    kind = FlowKind.HTTP if status else FlowKind.TCP
    found = seen(Purpose.VIP, MACHINE, VIP, 80, failure, kind=kind, name=name, status=status)
    return VipFlows(observations=(found,))


def visit(*found: Observation, derived: bool = False) -> TargetFlows:
    """Visit URLs."""
    return TargetFlows(observations=found, urls=(URL,), derived=derived)


def told(seen: Observation, code: int) -> Observation:
    """Have a router tell why by ICMP."""
    return msgspec.structs.replace(seen, icmp=Icmp(3, code, "192.0.2.1"))


def circling() -> Observation:
    """Be sent to where the request came from."""
    return msgspec.structs.replace(target(308), looping=True, location=URL)


LOST, ALTERS = ["PROXY_HOST_HEADER_LOST"], ["PROXY_ALTERS_REQUEST"]
DENIED, UNREACHED = ["PROXY_CONNECT_DENIED"], ["PROXY_UPSTREAM_UNREACHABLE"]
WRONG, STOPPED = ["PROXY_UPSTREAM_WRONG_PORT"], ["PROXY_NOT_RUNNING"]
NOT_FOUND = visit(target(404))
OK = past(200)
DEFAULT = server(names=("_",))
TO_APP = server("$host", location="/a")
ELSEWHERE = server(ports=(9090,))
UNKNOWN = Proxy(observations=OK)
ITSELF = msgspec.structs.replace(
    target(200), flow=msgspec.structs.replace(target().flow, purpose=Purpose.UPSTREAM)
)

SENT_ON = (msgspec.structs.replace(past(308)[0], location=URL),)

THROUGH = [
    Case("in circles, past it as well", (proxy(server("$host"), past=SENT_ON), visit(circling()), None)),
    Case("in circles only through it", (proxy(server("$host"), past=OK), visit(circling()), None), ALTERS, ["308 through nginx", "200 past it"]),
    Case("healthy", (proxy(server("$host"), past=OK), visit(target(200)), None)),
    Case("Host lost, but served", (proxy(server(), past=OK), visit(target(200)), None)),
    Case("not found past it, too", (proxy(server(), past=past(404)), NOT_FOUND, None)),
    Case("not asked past it", (proxy(server()), NOT_FOUND, to_vip())),
    Case("another Host was asked past it", (proxy(server(), past=past(200, name="b")), NOT_FOUND, None)),
    Case("past it is the same place", (proxy(server(), past=(ITSELF,)), NOT_FOUND, None)),
    Case("Host lost", (proxy(server(), past=OK), NOT_FOUND, None), LOST, ["nginx", f"{CONFIG}:12", URL, "Host header", "404"], PLACE),
    Case("another Host sent", (proxy(server("x.example.net", header_where=f"{CONFIG}:13"), past=OK), NOT_FOUND, None), LOST, ["it sends x.example.net"]),
    Case("Host lost in the default server", (proxy(ELSEWHERE, DEFAULT, past=OK), NOT_FOUND, None), LOST),
    Case("Host lost by a wildcard name", (proxy(server("$host", names=("b",)), server(names=("*.example.net",)), past=OK), NOT_FOUND, None), LOST),
    Case("Host lost by a dotted name", (proxy(server("$host", names=("b",)), server(names=(".example.net",)), past=OK), NOT_FOUND, None), LOST),
    Case("Host lost, and the gateway's own status", (proxy(server(), past=OK), visit(target(502)), None), ["PROXY_CONNECT_DENIED"], flows=[target().flow.id]),
    Case("Host kept with a port", (proxy(server("$host:$server_port"), past=OK), NOT_FOUND, None), ALTERS),
    Case("Host kept in the longest location", (proxy(server(), TO_APP, past=OK), NOT_FOUND, None), ALTERS),
    Case("Host kept literally", (proxy(server(HOST), past=OK), NOT_FOUND, None), ALTERS, ["404 through nginx", "200 past it"]),
    Case("forwards nothing", (proxy(server(upstream_host=""), past=OK), NOT_FOUND, None), ALTERS, [f"nothing in {CONFIG}"]),
    Case("the proxy itself is out of reach", (proxy(server(), past=past(failure=TIMEOUT)), visit(target(failure=Failure.NO_ROUTE)), None)),
    Case("a filter refuses in place of the proxy", (proxy(server(), past=OK), visit(told(target(failure=REFUSED), 3)), None)),
    Case("the proxy itself is filtered", (proxy(server(), past=past(failure=TIMEOUT)), visit(target(failure=Failure.HOST_PROHIBITED)), None)),
    Case("unknown proxy", (UNKNOWN, NOT_FOUND, None), ALTERS, ["not known"]),
    Case("unknown proxy before the VIP", (Proxy(), NOT_FOUND, to_vip(status=200, name=HOST)), ALTERS, hop=PLACE),
    Case("the VIP serves another host", (Proxy(), NOT_FOUND, to_vip(status=200, name="b"))),
    Case("may not connect", (proxy(server("$host"), past=OK), visit(target(502)), None), DENIED, ["SELinux", f"{VIP}:80"], PLACE, flows=[target().flow.id]),
    Case("upstream out of reach", (proxy(server("$host"), past=past(failure=TIMEOUT)), visit(target(504)), to_vip(TIMEOUT)), UNREACHED, [f"{VIP}:80 (no answer)"], PLACE, flows=[past()[0].flow.id]),
    Case("upstream out of reach and waited for", (proxy(server("$host"), past=past(failure=TIMEOUT)), visit(target(failure=TIMEOUT)), None), UNREACHED, flows=[past()[0].flow.id]),
    Case("no proxy that waits", (Proxy(observations=past(failure=TIMEOUT)), visit(target(failure=TIMEOUT, there=())), None)),
    Case("our own failure past it", (proxy(server("$host"), past=past(failure=Failure.UNKNOWN)), visit(target(504)), None)),
    Case("wrong port", (proxy(server("$host"), past=past(failure=REFUSED, port=81)), visit(target(502)), to_vip()), WRONG, [f"{VIP}:81 (connection refused)", f"{VIP}:80 answers"]),
    Case("not running", (Proxy(), visit(target(failure=REFUSED)), to_vip()), STOPPED, ["TCP 8080", HERE], PLACE),
    Case("not running, and nothing behind it", (Proxy(), visit(target(failure=REFUSED)), to_vip(TIMEOUT))),
    Case("refused elsewhere", (Proxy(), visit(target(failure=REFUSED, there=())), to_vip())),
]  # fmt: skip


@pytest.mark.parametrize("case", THROUGH, ids=str)
def test_forwards(case: Case) -> None:
    verify(forwards, case)


SED = (
    "sed -i '13s/proxy_set_header[[:space:]]\\+Host[[:space:]][^;]*;/proxy_set_header Host $host;/I' "
    + CONFIG
)


@pytest.mark.parametrize(
    ("made", "command"),
    [
        (server(), f"sed -i '12a proxy_set_header Host $host;' {CONFIG}"),
        (server("b", header_where=f"{CONFIG}:13"), SED),
        # said in so many words what it would do by itself: one more directive would change nothing
        (server("$proxy_host", header_where=f"{CONFIG}:13"), SED),
        (server(where=""), f"# in {CONFIG}: proxy_set_header Host $host;"),
    ],
)
def test_the_directive_is_put_in(made: ProxyServer, command: str) -> None:
    finding = next(forwards.judge(proxy(made, past=OK), NOT_FOUND, None))
    assert command in finding.remediation[0].commands[0]


def resolved(failure: Failure | None) -> Observation:
    """Look the name up."""
    return seen(
        Purpose.TARGET, MACHINE, "", 0, failure, kind=FlowKind.RESOLVE, name=HOST, subject=URL
    )


OTHER = "198.51.100.99"


def at(address: str, status: int = 0, failure: Failure | None = None) -> Observation:
    """Ask as a visitor does, at another address of the name."""
    found = target(status, failure, there=())
    return msgspec.structs.replace(
        found,
        flow=msgspec.structs.replace(found.flow, id=f"target-{address}", address=address),
    )


UNSERVED, UNNAMED = ["URL_NOT_SERVED"], ["URL_NAME_UNRESOLVED"]
NXDOMAIN = resolved(Failure.DNS_NXDOMAIN)

VISITS = [
    Case("healthy", (visit(resolved(None), target(200)),)),
    Case("redirect", (visit(target(302)),)),
    Case("credentials wanted", (visit(target(401)),)),
    Case("not found", (NOT_FOUND,), UNSERVED, [URL, "status 404", f"{HERE}:8080"], PLACE, flows=[target().flow.id]),
    Case("no answer", (visit(target(failure=TIMEOUT)),), UNSERVED, ["no answer"], flows=[target().flow.id]),
    Case("one of two addresses is dead", (visit(resolved(None), target(200), at(OTHER, failure=TIMEOUT)),), UNSERVED, ["no answer", f"{OTHER}:8080, while {HERE}:8080 serves it"], flows=[f"target-{OTHER}"]),
    Case("a redirect in circles", (visit(circling()),), UNSERVED, ["leads round in circles"], flows=[target().flow.id]),
    Case("a redirect in circles, derived", (visit(circling(), derived=True),), UNSERVED, flows=[target().flow.id]),
    Case("both addresses serve", (visit(resolved(None), target(200), at(OTHER, 200)),)),
    Case("our own failure", (visit(target(failure=Failure.PERMISSION_DENIED)),)),
    Case("no route, or a filter", (visit(target(failure=Failure.NO_ROUTE)),), UNSERVED, [": no route to host, or a filter that rejects at"], flows=[target().flow.id]),
    Case("no route, as a router says", (visit(told(target(failure=Failure.NO_ROUTE), 1)),), UNSERVED, [": no route to host at"], flows=[target().flow.id]),
    Case("a filter", (visit(told(target(failure=Failure.HOST_PROHIBITED), 10)),), UNSERVED, [": a filter rejects it at"], flows=[target().flow.id]),
    Case("a filter refuses", (visit(told(target(failure=REFUSED), 3)),), UNSERVED, [": connection refused by a packet filter at"], flows=[target().flow.id]),
    Case("no network", (visit(target(failure=Failure.NETWORK_UNREACHABLE)),), UNSERVED, [": network unreachable, or a filter that rejects at"], flows=[target().flow.id]),
    Case("derived and rejected", (visit(target(failure=Failure.HOST_PROHIBITED), derived=True),)),
    Case("derived and silent", (visit(target(failure=TIMEOUT), derived=True),)),
    Case("derived and no network", (visit(target(failure=Failure.NETWORK_UNREACHABLE), derived=True),)),
    Case("derived and not found", (visit(target(404), derived=True),)),
    Case("derived and bad gateway", (visit(target(502), derived=True),), UNSERVED, flows=[target().flow.id]),
    Case("derived and refused", (visit(target(failure=REFUSED), derived=True),), UNSERVED, flows=[target().flow.id]),
    Case("no such name", (visit(NXDOMAIN),), UNNAMED, [HOST, "no address"], f"dns-name:{HOST}"),
    Case("resolver fails", (visit(resolved(TIMEOUT)),), UNNAMED, ["the resolver fails (no answer)"]),
    Case("derived and no such name", (visit(NXDOMAIN, derived=True),)),
    Case("no such name, but served", (visit(NXDOMAIN, target(200)),)),
    Case("lookup failed of itself", (visit(resolved(Failure.UNKNOWN)),)),
]  # fmt: skip


@pytest.mark.parametrize("case", VISITS, ids=str)
def test_url(case: Case) -> None:
    verify(url, case)


def test_a_foreign_processs_path_is_no_command() -> None:
    hostile = HostProxy("nginx", "/x;reboot", (server(),), "file:nginx")
    table = Proxy(proxy=hostile, observations=OK)
    finding = next(forwards.judge(table, NOT_FOUND, None))
    commands = " ".join(c for r in finding.remediation for c in r.commands)
    assert "'/x;reboot'" in commands
    assert "-c /x;reboot" not in commands


SECURE = "https://shop.example.net/"


def shaken(failure: Failure | None, detail: str = "") -> TargetFlows:
    """Shake hands with the https URL."""
    made = seen(
        Purpose.TARGET_TLS,
        MACHINE,
        HERE,
        443,
        failure,
        kind=FlowKind.TLS,
        name=HOST,
        subject=SECURE,
    )
    return TargetFlows(observations=(msgspec.structs.replace(made, detail=detail),), urls=(SECURE,))


@pytest.mark.parametrize(
    "case",
    [
        Case("accepted", (shaken(None),)),
        Case("no TLS there", (shaken(Failure.TLS_FAILED),)),
        Case("no answer", (shaken(TIMEOUT),)),
        Case(
            "expired",
            (shaken(Failure.TLS_EXPIRED, "it ended on 2020-01-01"),),
            ["URL_CERTIFICATE_EXPIRED"],
            says=[SECURE, "2020-01-01"],
            hop=f"host-proxy:{HERE}:tcp/443",
        ),
        Case("another name", (shaken(Failure.TLS_NAME_MISMATCH),), ["URL_CERTIFICATE_WRONG_NAME"]),
        Case(
            "an unknown signer",
            (shaken(Failure.TLS_UNKNOWN_AUTHORITY),),
            ["URL_CERTIFICATE_UNTRUSTED"],
        ),
    ],
    ids=str,
)
def test_certificate(case: Case) -> None:
    found = verify(certificate, case)
    warned = case.name == "an unknown signer"
    assert all((f.severity is Severity.WARN) is warned for f in found)


def beside(trace: tuple[TraceHop, ...] = (), **changes: object) -> Observation:
    """Look how far packets get."""
    kind = FlowKind.PING if changes else FlowKind.TRACE
    port = 0 if changes else 8080
    made = seen(Purpose.TRACE, MACHINE, HERE, port, TIMEOUT, kind=kind, subject=URL)
    flow = msgspec.structs.replace(made.flow, **changes)
    return msgspec.structs.replace(made, flow=flow, trace=trace)


GATE = "192.168.100.1"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), ""),
        (
            (beside((TraceHop(1, "icmp", GATE, Icmp(3, 1, GATE)), TraceHop(2))),),
            f"{GATE} (ICMP 3/1",
        ),
        ((beside((TraceHop(1), TraceHop(2))),), ""),
        ((beside(size=1500),), "packets of 1500 bytes do not pass"),
    ],
    ids=["not traced", "a router says so", "nobody answers", "too large"],
)
def test_a_url_that_is_not_served_says_how_far_packets_get(
    more: tuple[Observation, ...], words: str
) -> None:
    lost = target(failure=TIMEOUT)
    table = TargetFlows(observations=(lost, *more), urls=(URL,))
    (found,) = verify(url, Case("lost", (table,), ["URL_NOT_SERVED"], flows=[lost.flow.id]))
    assert words in found.title
    assert (";" in found.title) is bool(words)
    assert set(found.evidence) == {o.flow.id for o in (lost, *more)}


def test_a_name_that_does_not_resolve_is_told_by_each_resolver() -> None:
    resolve = seen(
        Purpose.TARGET,
        MACHINE,
        "",
        failure=Failure.DNS_NXDOMAIN,
        kind=FlowKind.RESOLVE,
        name=HOST,
        subject=URL,
    )
    asked = seen(
        Purpose.NAME,
        MACHINE,
        "192.0.2.53",
        53,
        Failure.DNS_SERVFAIL,
        kind=FlowKind.DNS_UDP,
        name=f"{HOST}.",
        subject=URL,
    )
    table = TargetFlows(observations=(resolve, asked), urls=(URL,))
    (found,) = verify(url, Case("unresolved", (table,), ["URL_NAME_UNRESOLVED"]))
    assert "192.0.2.53 says dns servfail" in found.title


def joined(cidr: str) -> Nodes:
    """Make a node that forwards, with a podCIDR or none."""
    return Nodes(items=(Node(metadata=Meta("w1"), spec=NodeSpec(pod_cidr=cidr)),))


NEVER = [(joined(""), ("flannel:w1",)), (joined("10.244.1.0/24"), ()), (None, ())]
"""Flannel that ran once has left its routes: whatever ails it since, it is not why nothing answers."""


@pytest.mark.parametrize(("nodes", "expected"), NEVER)
def test_an_upstream_may_be_lost_where_flannel_never_ran(
    nodes: Nodes | None, expected: tuple[str, ...]
) -> None:
    way = (Hop(HopKind.KUBE_PROXY, "w1"), Hop(HopKind.FORWARD, "w1", "tcp/80"))
    lost = msgspec.structs.replace(past(failure=TIMEOUT)[0], hops=way)
    about = proxy(server("$host"), past=(lost,)), visit(target(504)), to_vip(TIMEOUT)
    (found,) = forwards.judge(*about, nodes)
    assert found.code.name == UNREACHED[0]
    assert tuple(map(str, found.consequence_of)) == expected


@pytest.mark.parametrize(("nodes", "expected"), NEVER)
@pytest.mark.parametrize(
    ("failure", "status", "silent"), [(TIMEOUT, 0, True), (None, 504, True), (None, 404, False)]
)
def test_a_url_may_be_lost_where_flannel_never_ran(
    failure: Failure | None,
    status: int,
    *,
    silent: bool,
    nodes: Nodes | None,
    expected: tuple[str, ...],
) -> None:
    way = (*AT_PROXY, Hop(HopKind.FORWARD, "w1", "tcp/80"))
    lost = msgspec.structs.replace(target(status, failure), hops=way)
    (found,) = url.judge(visit(lost), nodes)
    assert tuple(map(str, found.consequence_of)) == (expected if silent else ())
