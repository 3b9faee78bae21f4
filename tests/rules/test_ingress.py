"""Ingress class, host, controller and answers: each fault by its code, look-alikes by none."""

from typing import Any

import msgspec
import pytest

from checks.ingress import answers, controller, host, ingress_class
from doctor.model.evidence import (
    Backends,
    IngressController,
    Ingresses,
    IngressFlows,
    Proxy,
    TargetFlows,
)
from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation, Purpose, VantageKind
from doctor.model.kube import (
    Backend,
    BackendPort,
    BackendService,
    Ingress,
    IngressClass,
    IngressClassSpec,
    IngressHttp,
    IngressPath,
    IngressRule,
    IngressSpec,
    Meta,
)
from doctor.model.proxy import HostProxy, ProxyServer
from tests.rules.factories_site import (
    CP,
    MACHINE,
    TIMEOUT,
    W1,
    Case,
    at,
    backend,
    gap,
    pod,
    seen,
    service,
    verify,
    workload,
)

HOST = "shop.example.net"
WEB = Backend(BackendService("web", BackendPort(number=80)))
UP = pod("traefik-1", namespace="ingress", address="10.244.1.20")
DOWN = msgspec.structs.replace(pod("traefik-1", namespace="ingress", ready=False))
TRAEFIK = IngressController(
    name="traefik",
    controller="traefik.io/ingress-controller",
    key="ingress/traefik",
    pods=(UP,),
    services=("ingress/traefik",),
    classes=("traefik",),
    annotation_classes=("traefik",),
)
NGINX = msgspec.structs.replace(
    TRAEFIK, name="ingress-nginx", classes=("nginx",), annotation_classes=("nginx",)
)


def rule(name: str, path: str = "/") -> IngressRule:
    """Make a rule to the shop."""
    return IngressRule(name, IngressHttp((IngressPath(path, "Prefix", WEB),)))


def ingress(
    *hosts: str,
    name: str = "web",
    named: str | None = "traefik",
    noted: str = "",
    default: Backend | None = None,
) -> Ingress:
    """Make an Ingress."""
    notes = {"kubernetes.io/ingress.class": noted} if noted else None
    spec = IngressSpec(named, tuple(rule(h) for h in hosts), default_backend=default)
    return Ingress(metadata=Meta(name=name, namespace="shop", annotations=notes), spec=spec)


def class_(name: str, *, default: str = "") -> IngressClass:
    """Make an IngressClass."""
    notes = {"ingressclass.kubernetes.io/is-default-class": default} if default else None
    return IngressClass(metadata=Meta(name=name, annotations=notes), spec=IngressClassSpec())


def table(*items: Ingress, hosts: tuple[str, ...] = (HOST,), **changes: Any) -> Ingresses:
    """Describe a cluster with Traefik, but for the changes."""
    healthy = Ingresses(
        items=items or (ingress(HOST),),
        classes=(class_("traefik"),),
        controllers=(TRAEFIK,),
        hosts=hosts,
    )
    return msgspec.structs.replace(healthy, **changes)


def visited(status: int, name: str = HOST) -> TargetFlows:
    """Ask for the site as a visitor does."""
    found = seen(
        Purpose.TARGET, MACHINE, "192.0.2.1", 80, kind=FlowKind.HTTP, name=name, status=status
    )
    return TargetFlows(observations=(found,))


UNSERVED = ["INGRESS_CLASS_NOT_SERVED"]
NOTED_NGINX = ingress(HOST, named=None, noted="nginx")
CLASSLESS = ingress(HOST, named=None)
DEFAULT = (class_("traefik", default="true"),)
RULE = f"ingress-rule:{HOST}"

CLASSES = [
    Case("healthy", (table(), None)),
    Case(
        "annotation of a class that is not here",
        (table(NOTED_NGINX), None),
        UNSERVED,
        ["shop/web", "kubernetes.io/ingress.class", '"nginx"', "traefik serves traefik"],
        RULE,
    ),
    Case("annotation that is honoured", (table(ingress(HOST, named=None, noted="traefik")), None)),
    Case("unknown class", (table(ingress(HOST, named="foo")), None), UNSERVED, ['class "foo"']),
    Case("no class", (table(CLASSLESS), None), UNSERVED, ["names no class"]),
    Case("no class, but a default one", (table(CLASSLESS, classes=DEFAULT), None)),
    Case("a default one is no help against an annotation", (table(NOTED_NGINX, classes=DEFAULT), None), UNSERVED),
    Case("a default one that is not here", (table(CLASSLESS, classes=(class_("foo", default="true"),)), None), UNSERVED),
    Case("marked as no default", (table(CLASSLESS, classes=(class_("traefik", default="false"),)), None), UNSERVED),
    Case("classless are served", (table(CLASSLESS, controllers=(msgspec.structs.replace(TRAEFIK, classless=True),)), None)),
    Case("classless are served, a foreign annotation is not", (table(NOTED_NGINX, controllers=(msgspec.structs.replace(TRAEFIK, classless=True),)), None), UNSERVED),
    Case("another controller serves it", (table(NOTED_NGINX, controllers=(TRAEFIK, NGINX)), None)),
    Case("another Ingress is served", (table(NOTED_NGINX, ingress(HOST, name="b")), None)),
    Case("another Ingress of another host", (table(NOTED_NGINX, ingress("b.example.net", name="b")), None), UNSERVED),
    Case("of a host nobody asks for", (table(ingress("old.example.net", named="foo")), None)),
    Case("each one where no host is asked for", (table(ingress("a.example.net", "b.example.net", named="foo"), hosts=()), None), UNSERVED * 2, hop="ingress-rule:a.example.net"),
    Case("served all the same", (table(NOTED_NGINX), visited(200))),
    Case("visited in vain", (table(NOTED_NGINX), visited(404)), UNSERVED),
    Case("no controller known", (table(controllers=()), None)),
    Case("no controller and no class", (table(controllers=(), classes=()), None), ["INGRESS_CONTROLLER_MISSING"], ["shop/web"], RULE),
    Case("no controller and no Ingress", (table(ingress("x"), controllers=(), classes=()), None)),
    Case("classes not listed", (table(ingress(HOST, named="foo"), gaps=gap("ingressclasses")), None)),
]  # fmt: skip


@pytest.mark.parametrize("case", CLASSES, ids=str)
def test_class(case: Case) -> None:
    verify(ingress_class, case)


def test_further_hosts_of_one_ingress_are_folded_under_the_first() -> None:
    both = table(ingress("a.example.net", "b.example.net", named="foo"), hosts=())
    first, second = ingress_class.judge(both, None)
    assert first.consequence_of == ()
    assert second.consequence_of == (first.hop,)


def test_the_class_is_set_and_the_annotation_taken_away() -> None:
    commands = next(ingress_class.judge(table(NOTED_NGINX), None)).remediation[0].commands
    patch = """'{"spec": {"ingressClassName": "traefik"}}'"""
    assert commands == (
        "kubectl -n shop annotate ingress web kubernetes.io/ingress.class-",
        f"kubectl -n shop patch ingress web --type=merge -p {patch}",
    )


def proxied(header: str) -> Proxy:
    """Send a Host to the upstream."""
    servers = (ProxyServer(ports=(80,), host_header=header),)
    return Proxy(proxy=HostProxy("nginx", "/etc/nginx/nginx.conf", servers, "file:nginx"))


MISMATCH = ["INGRESS_HOST_MISMATCH"]
WWW = ingress(f"www.{HOST}")

HOSTS = [
    Case("healthy", (table(), None, None)),
    Case(
        "another host",
        (table(ingress("zzz", name="z"), WWW), None, None),
        MISMATCH,
        [f"No Ingress rule matches host {HOST}: the nearest is www.{HOST} in Ingress shop/web"],
        RULE,
    ),
    Case("in capitals with a dot", (table(hosts=("SHOP.example.net.",)), None, None)),
    Case("wildcard", (table(ingress("*.example.net")), None, None)),
    Case("wildcard of one label only", (table(ingress("*.net")), None, None), MISMATCH),
    Case("wildcard of none", (table(ingress(f"*.{HOST}")), None, None), MISMATCH),
    Case("rule for any host", (table(ingress("")), None, None)),
    Case("default backend", (table(ingress(default=WEB)), None, None)),
    Case("not listed", (table(WWW, gaps=gap("ingresses")), None, None)),
    Case("no ingress in use", (Ingresses(hosts=(HOST,)), None, None)),
    Case("no Ingress yet", (table(items=()), None, None), MISMATCH, ["there is no Ingress"]),
    Case("served all the same", (table(WWW), visited(200), None)),
    Case("visited in vain", (table(WWW), visited(404), None), MISMATCH),
    Case("another host is served", (table(WWW), visited(200, "x.example.net"), None), MISMATCH),
    Case("the proxy sends that host", (table(WWW), None, proxied(f"www.{HOST}"))),
    Case("the proxy sends this host", (table(WWW), None, proxied("$host")), MISMATCH),
]


@pytest.mark.parametrize("case", HOSTS, ids=str)
def test_host(case: Case) -> None:
    verify(host, case)


def test_a_rule_for_the_host_is_added() -> None:
    command = next(host.judge(table(WWW), None, None)).remediation[0].commands[0]
    assert command == (
        "kubectl -n shop patch ingress web --type=json -p '"
        '[{"op": "add", "path": "/spec/rules/-", "value": {"host": "shop.example.net", "http": '
        '{"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", '
        """"port": {"number": 80}}}}]}}}]'"""
    )


BROKEN = msgspec.structs.replace(TRAEFIK, pods=(DOWN,))
GONE = msgspec.structs.replace(TRAEFIK, pods=())
FRONT = service("ingress/traefik")
AT_ZERO = Backends(items=(backend(of=FRONT, workloads=(workload("traefik", 0, "ingress"),)),))
NOT_READY = ["INGRESS_CONTROLLER_NOT_READY"]

CONTROLLERS = [
    Case("healthy", (table(), None)),
    Case(
        "not ready",
        (table(controllers=(BROKEN,)), None),
        NOT_READY,
        ["traefik (ingress/traefik)", "traefik-1 Running"],
        "service:ingress/traefik",
        folds=["service:ingress/traefik", f"flannel:{W1}", f"node:{W1}"],
    ),
    Case(
        "at zero",
        (table(controllers=(GONE,)), AT_ZERO),
        NOT_READY,
        ["ingress/traefik is scaled to zero"],
    ),
    Case("serves the default class", (table(CLASSLESS, classes=DEFAULT, controllers=(GONE,)), None), NOT_READY),
    Case("not needed", (table(controllers=(TRAEFIK, msgspec.structs.replace(NGINX, pods=()))), None)),
    Case("not asked for", (table(ingress("x"), controllers=(GONE,)), None)),
    Case("pods not listed", (table(controllers=(GONE,), gaps=gap("pods")), None)),
]  # fmt: skip


@pytest.mark.parametrize("case", CONTROLLERS, ids=str)
def test_controller(case: Case) -> None:
    verify(controller, case)


def asked(
    status: int = 0, failure: Failure | None = None, on: str = CP, name: str = HOST
) -> Observation:
    """Ask the controller's pod from a node."""
    return seen(
        Purpose.INGRESS,
        at(VantageKind.NODE, on),
        "10.244.1.20",
        8000,
        failure,
        kind=FlowKind.HTTP,
        name=name,
        subject=name,
        status=status,
    )


def said(*found: Observation, ready: bool = True, **changes: Any) -> tuple[Any, ...]:
    """Judge what the controller answers."""
    behind = Backends(items=(backend(pod(), ready=ready),))
    return table(**changes), IngressFlows(observations=found), behind


WRONG = ["INGRESS_WRONG_STATUS"]
FLOW = asked().flow.id

ANSWERS = [
    Case("healthy", said(asked(200))),
    Case("a page of the application's own", said(asked(404))),
    Case("an error of the application's own", said(asked(500))),
    Case("bad gateway", said(asked(502)), WRONG, ["ingress/traefik-1 answers 502", HOST, "shop/web"], RULE, [RULE, "service:shop/web"], [FLOW]),
    Case("each host by itself", said(asked(502), asked(502, name="b")), WRONG * 2, flows=[asked(name="b").flow.id]),
    Case("not found for want of endpoints", said(asked(404), ready=False), WRONG, flows=[FLOW]),
    Case("not found for want of a rule", said(asked(404), items=(WWW,)), WRONG, flows=[FLOW]),
    Case("not found for want of a class", said(asked(404), items=(NOTED_NGINX,)), WRONG, flows=[FLOW]),
    Case("not found and rules not listed", said(asked(404), items=(WWW,), gaps=gap("ingresses"))),
    Case("not found and backends unknown", (*said(asked(404))[:2], None)),
    Case("not found at the default backend", said(asked(404), ready=False, items=(ingress(default=WEB),)), WRONG, flows=[FLOW]),
    Case("rejected by a filter", said(asked(failure=Failure.HOST_PROHIBITED), asked(200, on=W1)), ["INGRESS_SILENT"], ["node master (a filter rejects it)"], flows=[FLOW]),
    Case("no network", said(asked(failure=Failure.NETWORK_UNREACHABLE), asked(200, on=W1)), ["INGRESS_SILENT"], flows=[FLOW]),
    Case("silent", said(asked(failure=TIMEOUT), asked(200, on=W1)), ["INGRESS_SILENT"], ["ingress/traefik-1", "TCP 8000", "node master"], "pod:ingress/traefik-1:tcp/8000", flows=[FLOW]),
    Case("our own failure", said(asked(failure=Failure.UNKNOWN))),
]  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS, ids=str)
def test_answers(case: Case) -> None:
    verify(answers, case)
