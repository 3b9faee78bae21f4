"""The ingress controller: does it run, does it take the Ingress, and does it know the host?"""

import json
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from checks.common import and_list, ids, told_instead
from doctor.contract import Check, check
from doctor.model.address import is_address
from doctor.model.evidence import (
    Backends,
    IngressController,
    Ingresses,
    IngressFlows,
    Proxy,
    TargetFlows,
)
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Role, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import Ingress, IngressRule, Pod
from doctor.model.link import Link

__all__ = [
    "CHECKS",
    "INGRESS_CLASS_NOT_SERVED",
    "INGRESS_CONTROLLER_MISSING",
    "INGRESS_CONTROLLER_NOT_READY",
    "INGRESS_HOST_MISMATCH",
    "INGRESS_SILENT",
    "INGRESS_WRONG_STATUS",
]

INGRESS_CLASS_NOT_SERVED = Code(
    "INGRESS_CLASS_NOT_SERVED",
    Link.INGRESS,
    "An Ingress asks for a class, or for none, that no controller of the cluster serves.",
)
INGRESS_CONTROLLER_MISSING = Code(
    "INGRESS_CONTROLLER_MISSING", Link.INGRESS, "There are Ingresses and no ingress controller."
)
INGRESS_HOST_MISMATCH = Code(
    "INGRESS_HOST_MISMATCH", Link.INGRESS, "No rule of any Ingress matches the host asked for."
)
INGRESS_CONTROLLER_NOT_READY = Code(
    "INGRESS_CONTROLLER_NOT_READY", Link.INGRESS, "The ingress controller has no ready pod."
)
INGRESS_WRONG_STATUS = Code(
    "INGRESS_WRONG_STATUS",
    Link.INGRESS,
    "The ingress controller itself answers a request for the host with an error.",
    Role.SYMPTOM,
)
INGRESS_SILENT = Code(
    "INGRESS_SILENT",
    Link.INGRESS,
    "The ingress controller does not answer a request from a node.",
    Role.SYMPTOM,
)

_VERIFY = "wwwm-doctor check ingress"
_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_GATEWAY = (502, 503, 504)
_NOT_FOUND = 404


@check(
    id="ingress.class",
    title="A controller serves the class of each Ingress",
    codes=(INGRESS_CLASS_NOT_SERVED, INGRESS_CONTROLLER_MISSING),
)
def ingress_class(table: Ingresses, targets: TargetFlows | None) -> Iterator[Finding]:
    """Judge whether a controller takes the Ingresses of the hosts in question.

    What it looks at:
        ingressClassName and the deprecated annotation of each Ingress, the IngressClasses with
        the one marked as default, and what the controllers that run here serve.

    Why it matters:
        An Ingress of a class that nobody serves is passed over in silence: requests for its host
        get the controller's 404.

    What proves it:
        The class is named by no IngressClass, or by one whose controller does not run here; or
        there is only an annotation that no controller here honours.

    Look-alikes:
        An annotation that the cluster's own controller honours is no fault. A host that is
        served all the same, through another Ingress or controller, is none either.
        Traefik's 404 for a Service without endpoints looks the same.

    Remediation:
        Set ingressClassName to a class that is served.

    Sources:
        Kubernetes: Ingress, Ingress class; Deprecated annotation; Default Ingress class.
        ingress-nginx: Multiple Ingress controllers. Traefik: Kubernetes Ingress provider.
    """
    if table.lacks("ingresses", "ingressclasses", "pods"):
        return
    asked = [(i, h) for i in table.items for h in _relevant_hosts(i, table)]
    unserved = [(i, h) for i, h in asked if not _served(i, table) and not _shown(h, targets)]
    taken = {h for i, h in asked if _served(i, table)}
    unserved = [(i, h) for i, h in unserved if h not in taken]
    if not table.controllers:
        if unserved and not table.classes:
            yield _no_controller(unserved)
        return
    first: dict[str, Hop] = {}
    for ingress, host in unserved:
        hop = Hop(HopKind.INGRESS_RULE, host)
        yield _not_served(ingress, hop, table, first.get(ingress.key))
        first.setdefault(ingress.key, hop)


@check(
    id="ingress.host",
    title="A rule of an Ingress matches each host asked for",
    codes=(INGRESS_HOST_MISMATCH,),
)
def host(table: Ingresses, targets: TargetFlows | None, proxy: Proxy | None) -> Iterator[Finding]:
    """Judge whether any Ingress knows the hosts asked for.

    What it looks at:
        The hosts of the URLs that should work, and the rules of all Ingresses: exact hosts,
        wildcards of one label, rules without a host, and default backends.

    Why it matters:
        A controller answers a request for a host of no rule with its own 404.

    What proves it:
        No rule of any Ingress matches the host.

    Look-alikes:
        A proxy that sends another Host on purpose: then that host is looked for. A host that is
        served all the same is routed by other means, and no fault. An Ingress of a class that is
        not served is found by ingress.class.

    Remediation:
        Add a rule for the host, or ask for the host that has one.

    Sources:
        Kubernetes: Ingress, Hostname wildcards.
    """
    if table.lacks("ingresses") or not (table.items or table.controllers):
        return
    rules = [(i, r) for i in table.items for r in i.spec.rules or ()]
    for asked in table.hosts:
        sent = _sent_instead(asked, proxy)
        known = any(_matches_any(i, h) for i in table.items for h in sent)
        if not known and not _shown(asked, targets):
            yield _mismatch(asked, rules)


@check(
    id="ingress.controller",
    title="The ingress controller has a ready pod",
    codes=(INGRESS_CONTROLLER_NOT_READY,),
)
def controller(table: Ingresses, backends: Backends | None) -> Iterator[Finding]:
    """Judge the pods of the ingress controllers in question.

    What it looks at:
        The pods of each ingress controller that serves an Ingress of the hosts in question.

    Why it matters:
        Without a ready pod all hosts are dead at once, and MetalLB withdraws the address.

    What proves it:
        The Ready condition of the controller's pods.

    Look-alikes:
        Pods that wait for a network, or whose node is lost, are flannel's or the node's fault.
        Another controller, which none of these Ingresses needs, is not judged.

    Remediation:
        Scale the controller up, or mend what its pods say.

    Sources:
        ingress-nginx: Troubleshooting. Traefik: Kubernetes Ingress provider.
        MetalLB: Troubleshooting, Services without endpoints.
    """
    if table.lacks("pods"):
        return
    relevant = [i for i in table.items if _relevant_hosts(i, table)]
    for item in table.controllers:
        used = any(_serves(item, i) or _by_default(item, i, table) for i in relevant)
        if used and not any(p.ready for p in item.pods):
            yield _down(item, backends)


@check(
    id="ingress.answers",
    title="The ingress controller answers for each host",
    codes=(INGRESS_WRONG_STATUS, INGRESS_SILENT),
)
def answers(table: Ingresses, flows: IngressFlows, backends: Backends | None) -> Iterator[Finding]:
    """Ask the controller's pods for each host, from a node.

    What it looks at:
        HTTP requests with each host, from nodes straight to the controller's pods.

    Why it matters:
        This leaves out name, proxy and load balancer: what fails here fails behind them.

    What proves it:
        No answer, or a status that the controller gives of itself: 502, 503 or 504, or a 404
        where no rule matches, no class is served, or no endpoint is ready.

    Look-alikes:
        A 404 of the application, which need not have a page at that path, is no fault, nor is a
        500, a redirect or a request for credentials.

    Remediation:
        Mend what the controller misses: rule, class, Service, or the path to its endpoints.

    Sources:
        Kubernetes: Ingress. ingress-nginx: Troubleshooting. Traefik: Kubernetes Ingress provider.
    """
    seen = flows.of(Purpose.INGRESS)
    for asked in sorted({o.flow.subject for o in seen}):
        mine = [o for o in seen if o.flow.subject == asked]
        wrong = [o for o in mine if _wrong(o, asked, table, backends)]
        if wrong:
            yield _wrong_status(asked, wrong, table)
    silent = [o for o in seen if o.failure and o.failure.unanswered]
    if silent:
        yield _silent(silent, table)


CHECKS: tuple[Check, ...] = (ingress_class, host, controller, answers)


# ---- hosts --------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """Write a host as it is compared: without port and trailing dot, in lower case."""
    return name.partition(":")[0].rstrip(".").lower()


def _matches(rule: str, asked: str) -> bool:
    """Say whether a rule's host matches; a wildcard stands for one label."""
    pattern, name = _plain(rule), _plain(asked)
    if not pattern.startswith("*."):
        return pattern in ("", ANY, name)
    return name.partition(".")[2] == pattern[2:]


def _matches_any(ingress: Ingress, asked: str) -> bool:
    """Say whether an Ingress takes requests for a host."""
    rules = ingress.spec.rules or ()
    return ingress.spec.default_backend is not None or any(_matches(r.host, asked) for r in rules)


def _relevant_hosts(ingress: Ingress, table: Ingresses) -> list[str]:
    """List the hosts in question that an Ingress is for."""
    if table.hosts:
        return [_plain(h) for h in table.hosts if _matches_any(ingress, h)]
    return sorted({_plain(r.host) or ANY for r in ingress.spec.rules or ()}) or [ANY]


def _shown(asked: str, targets: TargetFlows | None) -> bool:
    """Say whether a visitor's request for the host was served: then it is routed somehow."""
    seen = targets.of(Purpose.TARGET) if targets else ()
    return any(o.served and o.status and _plain(o.flow.name) == asked for o in seen)


def _sent_instead(asked: str, proxy: Proxy | None) -> tuple[str, ...]:
    """List the host asked for, with literal hosts that this machine's proxy sends in its place."""
    servers = proxy.proxy.servers if proxy and proxy.proxy else ()
    fixed = (s.host_header for s in servers if s.host_header and not s.host_header.startswith("$"))
    return (asked, *fixed)


# ---- classes ------------------------------------------------------------------------------------


def _serves(item: IngressController, ingress: Ingress) -> bool:
    """Say whether a controller takes an Ingress by what that says itself."""
    name, noted = ingress.spec.ingress_class_name, ingress.annotations.get(_ANNOTATION)
    if name and name in item.classes:
        return True
    if noted:
        return noted in item.annotation_classes
    return not name and item.classless


def _by_default(item: IngressController, ingress: Ingress, table: Ingresses) -> bool:
    """Say whether a controller takes an Ingress that names no class as it serves the default one."""
    if ingress.spec.ingress_class_name or ingress.annotations.get(_ANNOTATION):
        return False
    default = {c.name for c in table.classes if c.annotations.get(_DEFAULT) == "true"}
    return bool(default.intersection(item.classes))


def _served(ingress: Ingress, table: Ingresses) -> bool:
    """Say whether any controller takes an Ingress."""
    return any(_serves(c, ingress) or _by_default(c, ingress, table) for c in table.controllers)


def _no_controller(unserved: list[tuple[Ingress, str]]) -> Finding:
    """Say that there is no ingress controller at all."""
    names = sorted({i.key for i, _ in unserved})
    hosts = sorted({h for _, h in unserved})
    return Finding(
        code=INGRESS_CONTROLLER_MISSING,
        title=f"No ingress controller runs in the cluster: nothing serves Ingress {and_list(names)}",
        hop=Hop(HopKind.INGRESS_RULE, hosts[0] if len(hosts) == 1 else ANY),
        evidence=tuple(f"api:ingresses/{n}" for n in names),
        confidence=Confidence.LIKELY,
        remediation=(
            _mend(
                "Install an ingress controller, such as Traefik",
                "helm repo add traefik https://traefik.github.io/charts",
                "helm install traefik traefik/traefik -n traefik --create-namespace",
            ),
        ),
        falsifier="an IngressClass or the pods of an ingress controller exist",
    )


def _not_served(ingress: Ingress, hop: Hop, table: Ingresses, first: Hop | None) -> Finding:
    """Say that nobody serves the class of an Ingress."""
    served = sorted({c for item in table.controllers for c in item.classes})
    named = ingress.spec.ingress_class_name
    unrecognised = any(c.name == named for c in table.classes)
    return Finding(
        code=INGRESS_CLASS_NOT_SERVED,
        title=(
            f"Ingress {ingress.key} {_class_of(ingress)}, which no controller here serves: "
            f"{_offer(table, served)}"
        ),
        hop=hop,
        evidence=(
            f"api:ingresses/{ingress.key}",
            *(f"api:ingressclasses/{c.name}" for c in table.classes),
        ),
        # a controller of a product that is not recognised may serve it all the same
        severity=Severity.WARN if unrecognised and not table.hosts else Severity.FAIL,
        confidence=Confidence.LIKELY if unrecognised else Confidence.CERTAIN,
        consequence_of=(first,) if first else (),
        remediation=_reclass(ingress, served),
        falsifier=f"a controller that runs here says that it serves Ingress {ingress.key}",
    )


def _class_of(ingress: Ingress) -> str:
    """Put into words which class an Ingress asks for."""
    noted = ingress.annotations.get(_ANNOTATION)
    if ingress.spec.ingress_class_name:
        return f'asks for the class "{ingress.spec.ingress_class_name}"'
    if noted:
        return f'names its class by the deprecated annotation {_ANNOTATION} alone, "{noted}"'
    return "names no class, and there is no default one"


def _offer(table: Ingresses, served: list[str]) -> str:
    """Put into words what is served."""
    if served:
        return f"{and_list(c.name for c in table.controllers)} serves {and_list(served)}"
    return f"{and_list(c.name for c in table.controllers)} has no IngressClass"


def _reclass(ingress: Ingress, served: list[str]) -> tuple[Remediation, ...]:
    """Give an Ingress a class that is served."""
    where = f"kubectl -n {ingress.namespace}"
    if len(served) != 1:
        return (_mend("Choose one of the classes that are served", "kubectl get ingressclasses"),)
    patch = json.dumps({"spec": {"ingressClassName": served[0]}})
    commands = [f"{where} patch ingress {ingress.name} --type=merge -p '{patch}'"]
    if _ANNOTATION in ingress.annotations:  # it may not say otherwise than the field
        commands.insert(0, f"{where} annotate ingress {ingress.name} {_ANNOTATION}-")
    return (_mend(f"Give Ingress {ingress.key} the class {served[0]}", *commands),)


# ---- rules --------------------------------------------------------------------------------------


def _mismatch(asked: str, rules: list[tuple[Ingress, IngressRule]]) -> Finding:
    """Say that no rule matches a host, and which comes nearest."""
    near = max(
        rules,
        key=lambda pair: SequenceMatcher(None, _plain(pair[1].host), _plain(asked)).ratio(),
        default=None,
    )
    nearest = (
        f"the nearest is {near[1].host} in Ingress {near[0].key}" if near else "there is no Ingress"
    )
    return Finding(
        code=INGRESS_HOST_MISMATCH,
        title=f"No Ingress rule matches host {asked}: {nearest}",
        hop=Hop(HopKind.INGRESS_RULE, _plain(asked)),
        evidence=tuple(sorted({f"api:ingresses/{i.key}" for i, _ in rules})) or ("api:ingresses",),
        confidence=Confidence.CERTAIN if near else Confidence.LIKELY,
        remediation=(_add_rule(asked, near),),
        falsifier=f"a rule of an Ingress has the host {asked}",
    )


def _add_rule(asked: str, near: tuple[Ingress, IngressRule] | None) -> Remediation:
    """Give an Ingress a second rule that does for this host what the nearest one does for its own."""
    if near is None:
        return _mend(f"Create an Ingress for {asked}", "kubectl get ingress -A")
    ingress, rule = near
    if is_address(asked.strip("[]")):
        return _mend(
            f"Ask by a name: rules match the host, and that of Ingress {ingress.key} is {rule.host}",
            f"curl -i -H 'Host: {rule.host}' http://{asked}/",
        )
    value = {"host": _plain(asked), "http": {"paths": _paths(rule)}}
    steps = json.dumps([{"op": "add", "path": "/spec/rules/-", "value": value}])
    return _mend(
        f"Add a rule for {asked} to Ingress {ingress.key}",
        f"kubectl -n {ingress.namespace} patch ingress {ingress.name} --type=json -p '{steps}'",
    )


def _paths(rule: IngressRule) -> list[object]:
    """Write a rule's paths as JSON."""
    return [
        {
            "path": p.path,
            "pathType": p.path_type or "Prefix",
            "backend": {
                "service": {
                    "name": s.name,
                    "port": {"number": s.port.number} if s.port.number else {"name": s.port.name},
                }
            },
        }
        for p in (rule.http.paths if rule.http else ())
        if (s := p.backend.service) is not None
    ]


# ---- controllers --------------------------------------------------------------------------------


def _down(item: IngressController, backends: Backends | None) -> Finding:
    """Say that a controller has no ready pod."""
    namespace = item.key.partition("/")[0]
    found = [b for key in item.services if backends and (b := backends.of(key))]
    at_zero = sorted({w.key for b in found for w in b.scaled_to_zero})
    why = and_list(f"{p.name} {p.waiting or p.status.phase or 'Pending'}" for p in item.pods)
    if not why:
        why = f"{and_list(at_zero)} is scaled to zero" if at_zero else "there is no pod"
    services = [Hop(HopKind.SERVICE, key) for key in item.services]
    return Finding(
        code=INGRESS_CONTROLLER_NOT_READY,
        title=f"Ingress controller {item.name} ({item.key}) has no ready pod: {why}",
        hop=services[0] if services else Hop(HopKind.SERVICE, item.key),
        evidence=(
            *(f"api:pods/{p.key}" for p in item.pods),
            *(f"api:services/{key}" for key in item.services),
        )
        or (f"api:deployments/{item.key}",),
        consequence_of=(
            *services,
            *_places(item.pods, HopKind.FLANNEL, HopKind.NODE, HopKind.POD_NETWORK),
        ),
        remediation=(
            _mend(
                f"Bring {item.name} back",
                *(
                    f"kubectl -n {k.partition('/')[0]} scale deployment {k.partition('/')[2]} "
                    "--replicas=1"
                    for k in at_zero
                ),
                *(f"kubectl -n {namespace} describe pod {p.name}" for p in item.pods[:1]),
                f"kubectl -n {namespace} get pods -o wide",
            ),
        ),
        falsifier=f"a pod of {item.key} is Ready",
    )


def _places(pods: Iterable[Pod], *kinds: HopKind) -> tuple[Hop, ...]:
    """List hops of the nodes that pods are on."""
    return tuple(
        Hop(kind, node) for node in sorted({p.node for p in pods} - {""}) for kind in kinds
    )


# ---- answers ------------------------------------------------------------------------------------


def _wrong(o: Observation, asked: str, table: Ingresses, backends: Backends | None) -> bool:
    """Say whether a status is the controller's own, rather than the application's."""
    if not o.ok or (o.status in _GATEWAY):
        return o.ok
    if o.status != _NOT_FOUND or table.lacks("ingresses"):
        return False
    matching = [i for i in table.items if _matches_any(i, asked)]
    if not any(_served(i, table) for i in matching):
        return True
    known = [backends.of(key) for key in _services(matching, asked)] if backends else []
    return bool(known) and not any(b is None or b.ready for b in known)


def _services(ingresses: Iterable[Ingress], asked: str) -> list[str]:
    """List the Services that requests for a host are sent to."""
    found = {
        f"{i.namespace}/{p.backend.service.name}"
        for i in ingresses
        for r in i.spec.rules or ()
        if _matches(r.host, asked) and r.http
        for p in r.http.paths
        if p.backend.service
    }
    defaults = {
        f"{i.namespace}/{i.spec.default_backend.service.name}"
        for i in ingresses
        if i.spec.default_backend and i.spec.default_backend.service
    }
    return sorted(found or defaults)


def _wrong_status(asked: str, wrong: list[Observation], table: Ingresses) -> Finding:
    """Say that the controller answers with an error."""
    hop = Hop(HopKind.INGRESS_RULE, _plain(asked))
    behind = _services([i for i in table.items if _matches_any(i, asked)], asked)
    statuses = and_list(str(o.status) for o in wrong)
    return Finding(
        code=INGRESS_WRONG_STATUS,
        title=(
            f"{_names(wrong, table)} answers {statuses} to requests for host {asked}"
            + (f", whose backend is Service {and_list(behind)}" if behind else "")
        ),
        hop=hop,
        evidence=ids(wrong),
        confidence=Confidence.POSSIBLE,
        flows=ids(wrong),
        consequence_of=(hop, *(Hop(HopKind.SERVICE, key) for key in behind)),
        remediation=(_logs(wrong, table),),
        falsifier=f"the controller answers a request for {asked} with the application's page",
    )


def _silent(silent: list[Observation], table: Ingresses) -> Finding:
    """Say that the controller's pods do not answer."""
    first = silent[0].flow
    pod = _pods(table).get(first.address)
    return Finding(
        code=INGRESS_SILENT,
        title=(
            f"{_names(silent, table)} gives no answer on TCP {first.port} to "
            f"{and_list(str(o.flow.vantage) for o in silent)}{told_instead(silent)}"
        ),
        hop=Hop(HopKind.POD, pod.key if pod else first.address, first.protocol),
        evidence=ids(silent),
        confidence=Confidence.LIKELY,
        flows=ids(silent),
        remediation=(_logs(silent, table),),
        falsifier=f"{first.address}:{first.port} answers a request from there",
    )


def _pods(table: Ingresses) -> dict[str, Pod]:
    """Map addresses to the controllers' pods."""
    return {p.status.pod_ip: p for c in table.controllers for p in c.pods if p.status.pod_ip}


def _names(seen: list[Observation], table: Ingresses) -> str:
    """Name the controller's pods that were asked."""
    pods = _pods(table)
    found = (pods.get(o.flow.address) for o in seen)
    asked = and_list(p.key if p else o.flow.address for p, o in zip(found, seen, strict=True))
    return f"Ingress controller pod {asked}"


def _logs(seen: list[Observation], table: Ingresses) -> Remediation:
    """Read what the controller says."""
    pod = _pods(table).get(seen[0].flow.address)
    command = (
        f"kubectl -n {pod.namespace} logs {pod.name} --tail=50"
        if pod
        else "kubectl get ingress -A -o wide"
    )
    return _mend("Read what the controller says about it", command, "wwwm-doctor check service")


def _mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=risk, verify=_VERIFY)
