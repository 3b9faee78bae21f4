"""Admission webhooks: is there somebody to answer, and does the API server's node reach them?"""

from collections.abc import Iterable, Iterator

import msgspec

from checks.common import and_list, ids, sharing, told_instead
from doctor.contract import check
from doctor.model.evidence import (
    Backend,
    Backends,
    EndpointAddress,
    Nodes,
    WebhookBackend,
    WebhookFlows,
    Webhooks,
)
from doctor.model.failure import Failure
from doctor.model.finding import Code, Confidence, Finding, Remediation, Risk, Role, Severity
from doctor.model.flow import Observation, Purpose
from doctor.model.hop import Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "VERIFY",
    "WEBHOOK_NO_ENDPOINTS",
    "WEBHOOK_PORT_MISSING",
    "WEBHOOK_REFUSED",
    "WEBHOOK_SERVICE_IP_DEAD",
    "WEBHOOK_SERVICE_MISSING",
    "WEBHOOK_TIMEOUT",
    "endpoints",
    "reachable",
]

WEBHOOK_SERVICE_MISSING = Code(
    "WEBHOOK_SERVICE_MISSING", Link.WEBHOOK, "A webhook is called at a Service that does not exist."
)
WEBHOOK_PORT_MISSING = Code(
    "WEBHOOK_PORT_MISSING", Link.WEBHOOK, "A webhook is called at a port its Service does not have."
)
WEBHOOK_NO_ENDPOINTS = Code(
    "WEBHOOK_NO_ENDPOINTS", Link.WEBHOOK, "The Service of a webhook has no ready endpoint."
)
WEBHOOK_REFUSED = Code(
    "WEBHOOK_REFUSED", Link.WEBHOOK, "A ready pod behind a webhook refuses connections."
)
WEBHOOK_TIMEOUT = Code(
    "WEBHOOK_TIMEOUT",
    Link.WEBHOOK,
    "A webhook's pods do not answer a control-plane node.",
    Role.SYMPTOM,
)
WEBHOOK_SERVICE_IP_DEAD = Code(
    "WEBHOOK_SERVICE_IP_DEAD",
    Link.WEBHOOK,
    "A webhook's pods answer a control-plane node, and its ClusterIP does not.",
    Role.SYMPTOM,
)

VERIFY = "wwwm-doctor check webhook"
_OVER = ("Succeeded", "Failed")


class _Called(msgspec.Struct, frozen=True):
    """A Service with all webhooks that are called at it."""

    backend: Backend
    webhooks: tuple[WebhookBackend, ...]

    @property
    def severity(self) -> Severity:
        """FAIL where one of the webhooks stops requests when it does not answer."""
        stops = any(w.failure_policy != "Ignore" for w in self.webhooks)
        return Severity.FAIL if stops else Severity.WARN

    @property
    def configurations(self) -> str:
        """Name the configurations with their kinds."""
        return and_list(f"{w.kind} {w.configuration}" for w in self.webhooks)

    @property
    def effect(self) -> str:
        """Name what is intercepted, and what becomes of it."""
        what = and_list(i for w in self.webhooks for i in w.intercepts) or "what it intercepts"
        goes = "fails" if self.severity is Severity.FAIL else "goes on unchecked"
        return f"{what} {goes}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """Cite the configurations and the Service."""
        kinds = {f"api:{w.kind.lower()}s/{w.configuration}" for w in self.webhooks}
        return (*sorted(kinds), f"api:services/{self.backend.key}")

    @property
    def hop(self) -> Hop:
        """The first configuration as a hop."""
        return Hop(HopKind.WEBHOOK, self.webhooks[0].configuration)


@check(
    id="webhook.endpoints",
    title="Each admission webhook has a ready endpoint",
    codes=(WEBHOOK_SERVICE_MISSING, WEBHOOK_PORT_MISSING, WEBHOOK_NO_ENDPOINTS),
)
def endpoints(table: Webhooks, others: Backends | None) -> Iterator[Finding]:
    """Judge the Services that admission webhooks are called at by their objects.

    What it looks at:
        Each Validating- and MutatingWebhookConfiguration that names a Service: whether that
        exists, has the port, and has a ready endpoint; its pods and their workloads.

    Why it matters:
        With failurePolicy Fail the API server rejects what the webhook intercepts as long as
        nobody answers: no Ingress or address pool can be made. With Ignore nothing is checked.

    What proves it:
        The objects. Without a ready endpoint the API server says "no endpoints available" by
        itself, or kube-proxy refuses: no packet ever reaches a pod.

    Look-alikes:
        "context deadline exceeded" with ready endpoints is a path that is broken, or a slow
        webhook. DNS plays no part: the API server calls the ClusterIP and asks no CoreDNS.
        Pods that wait for a network, or whose node is lost, are flannel's or the node's.

    Remediation:
        Bring the webhook's workload back. failurePolicy Ignore is at most a stopgap, to be
        set back; the configuration is never to be deleted to get rid of the message.

    Sources:
        Kubernetes: Dynamic Admission Control; Admission Webhook Good Practices.
        MetalLB: Troubleshooting. ingress-nginx: Deployment, webhook network access.
    """
    if table.lacks("services"):
        return
    for called in _grouped(table):
        if called.backend.service is None:
            yield _service_missing(called)
        elif called.backend.port is None:
            yield _port_missing(called)
        elif not called.backend.ready and not table.lacks("endpointslices", "pods"):
            yield _no_endpoints(called, others)


@check(
    id="webhook.reachable",
    title="Control-plane nodes reach each admission webhook",
    codes=(WEBHOOK_REFUSED, WEBHOOK_TIMEOUT, WEBHOOK_SERVICE_IP_DEAD),
)
def reachable(
    table: Webhooks, flows: WebhookFlows, nodes: Nodes | None = None
) -> Iterator[Finding]:
    """Call webhooks from where the API server calls them.

    What it looks at:
        TCP connections from the control-plane nodes' own network to the ClusterIP of each
        webhook's Service, and to each of its ready endpoints.

    Why it matters:
        The API server runs in its node's network: that a pod reaches the webhook says nothing
        about whether the API server does.

    What proves it:
        A refusal by a ready pod: nothing listens on the target port. Silence is a symptom: the
        overlay, a filter or a policy is at fault. If the pods answer and the ClusterIP does not,
        the node translates it wrongly, which is kube-proxy's.

    Look-alikes:
        A slow webhook accepts the connection at once, and is not found here. Where no node of
        the control plane is visible, as with a managed one, nothing is concluded.
        No DNS fault explains a webhook that cannot be reached, as no name is looked up.

    Remediation:
        Mend the path from the control-plane node to the pod; set targetPort to the port that
        the webhook listens on.

    Sources:
        Kubernetes: Dynamic Admission Control, contacting the webhook.
        cert-manager: The Definitive Debugging Guide for the cert-manager Webhook Pod.
    """
    for called in _grouped(table):
        backend = called.backend
        seen = flows.of(Purpose.WEBHOOK, subject=backend.key)
        direct = [(e, _towards(e, seen)) for e in backend.ready]
        yield from (_refused(called, nodes, e, o) for e, o in direct if _all_refused(o))
        silent = [o for _, found in direct for o in found if o.failure and o.failure.unanswered]
        if silent:
            yield _silent(called, silent, seen)
        yield from _dead_service_ip(called, seen, [o for _, found in direct for o in found])


def _grouped(table: Webhooks) -> Iterator[_Called]:
    """Group webhooks by the Service that they are called at; those apart whose port it lacks."""
    groups: dict[tuple[str, str], list[WebhookBackend]] = {}
    for item in table.items:
        if item.backend.service is None or item.backend.service.spec.type != "ExternalName":
            found = item.backend.service is None or item.backend.port is not None
            port = "" if found else item.backend.asked_port
            groups.setdefault((item.backend.key, port), []).append(item)
    for items in groups.values():
        yield _Called(items[0].backend, tuple(items))


# ---- what the objects say -----------------------------------------------------------------------


def _service_missing(called: _Called) -> Finding:
    """Say that there is no such Service."""
    namespace, _, name = called.backend.key.partition("/")
    return Finding(
        code=WEBHOOK_SERVICE_MISSING,
        title=(
            f"{called.configurations} calls Service {called.backend.key}, which does not exist: "
            f"{called.effect}"
        ),
        hop=Hop(HopKind.SERVICE, called.backend.key),
        evidence=called.evidence,
        severity=called.severity,
        remediation=(
            _mend(
                f"Install again what Service {called.backend.key} belongs to",
                f"kubectl -n {namespace} get services,deployments",
                *_shown(called),
            ),
        ),
        falsifier=f"kubectl -n {namespace} get service {name} finds it",
    )


def _port_missing(called: _Called) -> Finding:
    """Say that the Service has no such port."""
    backend = called.backend
    namespace, _, name = backend.key.partition("/")
    ports = (backend.service.spec.ports if backend.service else None) or ()
    return Finding(
        code=WEBHOOK_PORT_MISSING,
        title=(
            f"{called.configurations} calls port {backend.asked_port} of Service {backend.key}, "
            f"which has {and_list(str(p.port) for p in ports) or 'none'}: {called.effect}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=called.evidence,
        severity=called.severity,
        remediation=(
            _mend(
                f"Give Service {backend.key} the port {backend.asked_port}",
                f"kubectl -n {namespace} edit service {name}",
                risk=Risk.DISRUPTIVE,
            ),
        ),
        falsifier=f"kubectl -n {namespace} get service {name} lists port {backend.asked_port}",
    )


def _no_endpoints(called: _Called, others: Backends | None) -> Finding:
    """Say that nobody is there to answer, and why."""
    backend = called.backend
    alive = _alive(backend)
    kinds = (HopKind.FLANNEL, HopKind.NODE, HopKind.POD_NETWORK)
    nodes = sorted({p.node for p in alive if not p.ready} - {""})
    return Finding(
        code=WEBHOOK_NO_ENDPOINTS,
        title=(
            f"Nobody answers webhook Service {backend.key} of {called.configurations} "
            f"({_why(backend, alive)}): {called.effect}"
        ),
        hop=Hop(HopKind.SERVICE, backend.key),
        evidence=(
            *called.evidence,
            *(f"api:deployments/{w.key}" for w in backend.scaled_to_zero),
            *(f"api:pods/{p.key}" for p in alive),
        ),
        severity=called.severity,
        consequence_of=(
            *(Hop(kind, node) for node in nodes for kind in kinds),
            *_same_pods(backend, others),
            *_metallb(called),
        ),
        remediation=_restore(called, alive),
        falsifier=f"an EndpointSlice of {backend.key} lists a ready endpoint",
    )


def _alive(backend: Backend) -> tuple[Pod, ...]:
    """List the pods that may still become endpoints."""
    return tuple(
        p for p in backend.pods if p.status.phase not in _OVER and not p.metadata.deletion_timestamp
    )


def _why(backend: Backend, alive: tuple[Pod, ...]) -> str:
    """Say why there is no ready endpoint."""
    if alive:
        reasons = and_list(p.waiting or f"{p.status.phase or 'Pending'}, not Ready" for p in alive)
        ready = all(p.ready for p in alive)
        names = and_list(p.name for p in alive)
        return f"its pods {names} are " + ("no endpoints of the port" if ready else reasons)
    if backend.scaled_to_zero:
        return f"Deployment {and_list(w.key for w in backend.scaled_to_zero)} is scaled to zero"
    if backend.workloads:
        return f"Deployment {and_list(w.key for w in backend.workloads)} has no pod"
    selector = (backend.service.spec.selector if backend.service else None) or {}
    written = ", ".join(f"{k}={v}" for k, v in sorted(selector.items()))
    return f"its selector {written} matches no pod" if selector else "it has no selector"


def _same_pods(backend: Backend, others: Backends | None) -> tuple[Hop, ...]:
    """List Services on the way to targets that lack the same pods: they are said to be broken."""
    mine = {p.key for p in backend.pods} | {f"workload {w.key}" for w in backend.workloads}
    return tuple(
        Hop(HopKind.SERVICE, b.key)
        for b in (others.items if others else ())
        if b.key != backend.key
        and not b.ready
        and mine & ({p.key for p in b.pods} | {f"workload {w.key}" for w in b.workloads})
    )


def _metallb(called: _Called) -> tuple[Hop, ...]:
    """Name the hop that is said to be broken where MetalLB's controller, which answers, is down.

    Only the class of all Services covers it: that one has no address is no reason for this.
    """
    ours = all(w.webhook.endswith(".metallb.io") for w in called.webhooks)
    return (Hop(HopKind.ASSIGN, called.backend.key),) if ours else ()


def _restore(called: _Called, alive: tuple[Pod, ...]) -> tuple[Remediation, ...]:
    """Bring the workload back."""
    backend = called.backend
    namespace, _, name = backend.key.partition("/")
    if not alive and backend.scaled_to_zero:
        commands = tuple(
            f"kubectl -n {w.namespace} scale deployment {w.name} --replicas=1"
            for w in backend.scaled_to_zero
        )
        return (_mend("Scale the webhook's workload up", *commands),)
    commands = tuple(f"kubectl -n {namespace} describe pod {p.name}" for p in alive[:2]) or (
        f"kubectl -n {namespace} get deployments,pods --show-labels",
        f"kubectl -n {namespace} get service {name} -o yaml",
    )
    return (_mend(f"Get the pods behind {backend.key} ready", *commands),)


def _shown(called: _Called) -> tuple[str, ...]:
    """Show the configurations."""
    names = sorted({(w.kind.lower(), w.configuration) for w in called.webhooks})
    return tuple(f"kubectl get {kind} {name} -o yaml" for kind, name in names)


# ---- what the control-plane nodes see -----------------------------------------------------------


def _towards(endpoint: EndpointAddress, seen: Iterable[Observation]) -> list[Observation]:
    """Select the connections to one endpoint."""
    return [o for o in seen if (o.flow.address, o.flow.port) == (endpoint.address, endpoint.port)]


def _all_refused(seen: list[Observation]) -> bool:
    """Say whether every connection was refused."""
    return bool(seen) and all(o.failure is Failure.CONNECTION_REFUSED for o in seen)


def _refused(
    called: _Called, nodes: Nodes | None, endpoint: EndpointAddress, seen: list[Observation]
) -> Finding:
    """Say that a ready pod refuses."""
    backend = called.backend
    namespace, _, name = backend.key.partition("/")
    pod = endpoint.pod or endpoint.address
    return Finding(
        code=WEBHOOK_REFUSED,
        title=(
            f"Nothing listens on port {endpoint.port} of {pod}, where Service {backend.key} sends "
            f"the calls of {called.configurations}: {called.effect}"
        ),
        hop=Hop(HopKind.POD, pod, f"tcp/{endpoint.port}"),
        evidence=(*called.evidence, *ids(seen)),
        severity=called.severity,
        consequence_of=sharing(nodes, [endpoint.node]),
        remediation=(
            _mend(
                f"Set targetPort of {backend.key} to the port that the webhook listens on",
                f"kubectl -n {namespace} get service {name} -o yaml",
                f"kubectl -n {namespace} logs {pod.rpartition('/')[2]} --tail=50",
            ),
        ),
        falsifier=f"{endpoint.address}:{endpoint.port} accepts a connection",
    )


def _silent(called: _Called, silent: list[Observation], seen: Iterable[Observation]) -> Finding:
    """Say that pods do not answer."""
    backend = called.backend
    pods = {e.address: e.pod or e.address for e in backend.ready}
    virtual = backend.service.spec.cluster_ip if backend.service else ""
    too = [o for o in seen if o.flow.address == virtual and o.failure and o.failure.unanswered]
    where = and_list(str(o.flow.vantage) for o in silent)
    return Finding(
        code=WEBHOOK_TIMEOUT,
        title=(
            f"{and_list(pods[o.flow.address] for o in silent)} behind webhook Service "
            f"{backend.key} of {called.configurations} gives no answer to {where}"
            f"{told_instead(silent)}: {called.effect}"
        ),
        hop=called.hop,
        evidence=(*called.evidence, *ids(silent), *ids(too)),
        severity=called.severity,
        confidence=Confidence.LIKELY,
        flows=ids([*silent, *too]),
        remediation=(_path(called),),
        falsifier=f"from {where} a connection to {silent[0].flow.address} is answered",
    )


def _dead_service_ip(
    called: _Called, seen: Iterable[Observation], direct: list[Observation]
) -> Iterator[Finding]:
    """Say that the ClusterIP fails on a node which every pod answers."""
    backend = called.backend
    virtual = backend.service.spec.cluster_ip if backend.service else ""
    failed = [o for o in seen if o.flow.address == virtual and not o.ok and _deaf(o)]
    for vantage in sorted({o.flow.vantage for o in failed}):
        control = [o for o in direct if o.flow.vantage == vantage]
        here = [o for o in failed if o.flow.vantage == vantage]
        if not control or not all(o.ok for o in control):
            continue
        yield Finding(
            code=WEBHOOK_SERVICE_IP_DEAD,
            title=(
                f"On {vantage} the ClusterIP {virtual} of webhook Service {backend.key} does not "
                f"answer, while its pods do: {called.effect}"
            ),
            hop=called.hop,
            evidence=(*called.evidence, *ids(here), *ids(control)),
            severity=called.severity,
            confidence=Confidence.LIKELY,
            flows=ids(here),
            consequence_of=(Hop(HopKind.KUBE_PROXY, vantage.node),),
            remediation=(_path(called),),
            falsifier=f"{virtual} answers on {vantage}",
        )


def _deaf(observation: Observation) -> bool:
    """Say whether a connection was refused or got no answer: our own failures do not count."""
    failure = observation.failure
    return failure is not None and (failure.unanswered or failure is Failure.CONNECTION_REFUSED)


def _path(called: _Called) -> Remediation:
    """Look along the path."""
    namespace, _, name = called.backend.key.partition("/")
    return _mend(
        "Look for what stands between the control-plane node and the webhook's pods",
        f"kubectl -n {namespace} get networkpolicies",
        f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name} -o wide",
        "wwwm-doctor check overlay kube-proxy",
    )


def _mend(title: str, *commands: str, risk: Risk = Risk.SAFE) -> Remediation:
    """Make a remediation that this link's checks verify."""
    return Remediation(title=title, commands=commands, risk=risk, verify=VERIFY)
