"""Checks of flannel: that it runs on every node, and gives the network that the node was assigned."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_network

from checks.common import and_list
from doctor.contract import check
from doctor.model.evidence import Flannel, Logs, NodeNetworks, Nodes, ProbePods
from doctor.model.finding import Code, Finding, Remediation, Risk
from doctor.model.hop import ANY, Hop, HopKind
from doctor.model.kube import Pod
from doctor.model.link import Link

__all__ = [
    "CHECKS",
    "FLANNEL_NOT_ON_NODE",
    "FLANNEL_NOT_READY",
    "FLANNEL_SUBNET_ENV_MISSING",
    "FLANNEL_SUBNET_MISMATCH",
    "on_every_node",
    "subnet_env",
]

FLANNEL_NOT_ON_NODE = Code(
    "FLANNEL_NOT_ON_NODE",
    Link.FLANNEL,
    "No flannel pod exists on a Linux node: pods that start there get no network.",
)
FLANNEL_NOT_READY = Code(
    "FLANNEL_NOT_READY", Link.FLANNEL, "Flannel's pod on a node exists and is not ready."
)
FLANNEL_SUBNET_ENV_MISSING = Code(
    "FLANNEL_SUBNET_ENV_MISSING",
    Link.FLANNEL,
    "Flannel runs on a node, but /run/flannel/subnet.env, which its CNI plugin reads, is absent.",
)
FLANNEL_SUBNET_MISMATCH = Code(
    "FLANNEL_SUBNET_MISMATCH",
    Link.FLANNEL,
    "Flannel's network or a node's subnet is not the one that Kubernetes assigned to the node.",
)
VERIFY = "wwwm-doctor check flannel"


@check(
    id="flannel.on-every-node",
    title="Flannel runs and is ready on every Linux node",
    codes=(FLANNEL_NOT_ON_NODE, FLANNEL_NOT_READY),
)
def on_every_node(
    nodes: Nodes, flannel: Flannel, probes: ProbePods | None, logs: Logs
) -> Iterator[Finding]:
    """Flannel runs and is ready on every Linux node.

    What it looks at:
        Flannel's DaemonSets and pods against the Linux nodes, what became of the probe pods, and the
        last words of flannel's pods that are not ready.

    Why it matters:
        The CNI plugin reads a file that only a running flannel writes. Where flannel does not run,
        pods stay in ContainerCreating and the node's routes to others grow stale.

    What proves it:
        No flannel pod is bound to the node and the DaemonSet wants fewer pods than there are
        nodes, or the pod there is not ready. A probe pod that could not start for want of
        subnet.env confirms it.

    Look-alikes:
        An old FailedCreatePodSandBox event on a node where flannel is ready again: no finding,
        since events alone are never judged. A node whose kubelet is silent: explained by the node.

    Remediation:
        Let the DaemonSet reach the node, or mend what its pod crashes on. Never write subnet.env.

    Sources:
        Flannel documentation, "Kubernetes" and "Troubleshooting"; Kubernetes documentation,
        "DaemonSet".
    """
    if not flannel.daemonsets or any(g.essential for g in flannel.gaps):
        return
    current = [p for p in flannel.pods if p.status.phase not in {"Failed", "Succeeded"}]
    missing = [n for n in nodes.linux if not any(p.node == n for p in current)]
    if missing:
        yield from _missing(nodes, flannel, missing, probes)
    reasons: dict[str, list[Pod]] = {}
    for node in nodes.linux:
        here = [p for p in current if p.node == node and not p.metadata.deletion_timestamp]
        if here and not any(p.ready for p in here):
            reasons.setdefault(_reason(nodes, here[0]), []).append(here[0])
    for reason, pods in reasons.items():
        yield from _not_ready(nodes, flannel, reason, pods, logs)


def _hops(nodes: Nodes, names: list[str]) -> Iterator[tuple[Hop, tuple[Hop, ...]]]:
    """Give one hop for all Linux nodes, else one per node: the first explains the others."""
    if len(names) > 1 and set(names) == set(nodes.linux):
        yield Hop(HopKind.FLANNEL, ANY), ()
        return
    first = (Hop(HopKind.FLANNEL, names[0]),)
    for name in names:
        down = (Hop(HopKind.NODE, name),) if nodes.down(name) else ()
        yield Hop(HopKind.FLANNEL, name), down + (first if name != names[0] else ())


def _missing(
    nodes: Nodes, flannel: Flannel, names: list[str], probes: ProbePods | None
) -> Iterator[Finding]:
    """Say on which nodes there is no flannel pod."""
    sets = flannel.daemonsets
    failed = [p for p in map(probes.failed, names) if p] if probes else []
    proof = [p for p in failed if "subnet.env" in p.reason]
    events = [e for e in flannel.events if "subnet.env" in e.message][:3]
    wanted = sum(d.status.desired_number_scheduled for d in sets)
    title = (
        f"Flannel does not run on {and_list(names)}: its DaemonSet {and_list(d.key for d in sets)} "
        f"wants {wanted} pods for {len(nodes.linux)} Linux nodes, and new pods there get no network"
        + (" (loadFlannelSubnetEnv: /run/flannel/subnet.env is absent)" if proof else "")
    )
    for hop, after in _hops(nodes, names):
        yield Finding(
            code=FLANNEL_NOT_ON_NODE,
            title=title,
            hop=hop,
            evidence=(
                *(f"api:daemonsets/{d.key}" for d in sets),
                *(f"api:nodes/{n}" for n in names),
                *(p.evidence for p in proof),
                *(f"api:events/{e.key}" for e in events),
            ),
            consequence_of=after,
            remediation=tuple(_reach(d.namespace, d.name, only=len(sets) == 1) for d in sets),
            falsifier=f"A flannel pod is ready on {and_list(names)}",
        )


def _reach(namespace: str, name: str, *, only: bool) -> Remediation:
    """Say how to let a DaemonSet reach every node again."""
    spec = "{.spec.template.spec"
    look = f"'{spec}.affinity}}{spec}.nodeSelector}}{spec}.tolerations}}'"
    at = '{"op":"add","path":"/spec/template/spec'
    patch = (
        f'[{at}/affinity","value":{{}}}},'
        f'{at}/nodeSelector","value":{{"kubernetes.io/os":"linux"}}}},'
        f'{at}/tolerations","value":[{{"operator":"Exists"}}]}}]'
    )
    heal = (
        f"kubectl -n {namespace} patch daemonset {name} --type=json -p '{patch}'",
        f"kubectl -n {namespace} rollout status daemonset {name} --timeout=180s",
    )
    return Remediation(
        title=f"See what keeps {namespace}/{name} off the node, and let it run on every Linux node",
        commands=(
            f"kubectl -n {namespace} get daemonset {name} -o jsonpath={look}",
            *(heal if only else ()),
        ),
        risk=Risk.DISRUPTIVE if only else Risk.SAFE,
        verify=VERIFY,
    )


def _reason(nodes: Nodes, pod: Pod) -> str:
    """Say why a flannel pod is not ready."""
    node = nodes.named(pod.node)
    ends = [
        s.last_state.terminated or s.state.terminated for s in pod.status.container_statuses or ()
    ]
    code = next((f" (exit code {e.exit_code})" for e in ends if e and e.exit_code), "")
    why = pod.waiting or pod.status.reason or f"{pod.status.phase or 'Unknown'} and not ready"
    cidr = ", and the node has no podCIDR" if node and not node.spec.pod_cidr else ""
    return f"{why}{code}{cidr}"


def _not_ready(
    nodes: Nodes, flannel: Flannel, reason: str, pods: list[Pod], logs: Logs
) -> Iterator[Finding]:
    """Say where flannel's pods are not ready for one reason."""
    names = [p.node for p in pods]
    read = [x.evidence for p in pods for x in logs.of(p.key)]
    wrong = {n for n in names if _outside(nodes, flannel, n)}
    for hop, after in _hops(nodes, names):
        yield Finding(
            code=FLANNEL_NOT_READY,
            title=f"Flannel is not ready on {and_list(names)}: {reason} "
            f"({and_list(p.key for p in pods)})",
            hop=hop,
            evidence=(*(f"api:pods/{p.key}" for p in pods), *read),
            consequence_of=after + ((hop,) if wrong else ()),
            remediation=(_restart(pods, assigned="podCIDR" not in reason),),
            falsifier=f"The flannel pods on {and_list(names)} are ready",
        )


def _restart(pods: list[Pod], *, assigned: bool) -> Remediation:
    """Say how to see why flannel's pods fail, and how to start them again."""
    look = [f"kubectl -n {p.namespace} logs {p.name} --all-containers --previous" for p in pods[:3]]
    give = (
        "kubectl -n kube-system get pods -l component=kube-controller-manager -o yaml"
        " | grep -E 'allocate-node-cidrs|cluster-cidr'"
    )
    return Remediation(
        title="Read its last words, mend what they name, and start it again"
        + ("" if assigned else ": the controller manager must assign a podCIDR to each node"),
        commands=(
            *look,
            *(() if assigned else (give,)),
            *(f"kubectl -n {p.namespace} delete pod {p.name}" for p in pods[:3]),
        ),
        risk=Risk.SAFE,
        verify=VERIFY,
    )


@check(
    id="flannel.subnet-env",
    title="Flannel gives every node the subnet that Kubernetes assigned to it",
    codes=(FLANNEL_SUBNET_ENV_MISSING, FLANNEL_SUBNET_MISMATCH),
)
def subnet_env(nodes: Nodes, flannel: Flannel, networks: NodeNetworks | None) -> Iterator[Finding]:
    """Flannel gives every node the subnet that Kubernetes assigned to it.

    What it looks at:
        The network of net-conf.json, each node's podCIDR, and /run/flannel/subnet.env on each node.

    Why it matters:
        The CNI plugin takes subnet and MTU from that file. Without it no pod starts; with another
        subnet, pods get addresses that no other node routes to.

    What proves it:
        The file was read as absent while flannel's pod is ready, or containment of the three
        networks fails.

    Look-alikes:
        A file that could not be read is no absent file. A file that is absent because flannel does
        not run or is not ready is said by flannel.on-every-node.

    Remediation:
        Restart flannel's pod, which writes the file, or bring net-conf.json and podCIDR together.
        Never write the file by hand.

    Sources:
        Flannel documentation, "Kubernetes", "Configuration" and "Troubleshooting".
    """
    if not flannel.daemonsets:
        return
    outside = [n for n in nodes.linux if _outside(nodes, flannel, n)]
    if outside:
        yield from _wrong_network(nodes, flannel, outside)
    for name in nodes.linux:
        pod, read = flannel.on(name), networks.of(name) if networks else None
        if pod and pod.ready and read and read.subnet_env is None:
            yield _absent(pod, read.evidence)
        elif read and read.subnet_env and name not in outside:
            yield from _other_subnet(nodes, pod, read.subnet_env.subnet, name, read.evidence)


def _network(text: str) -> IPv4Network | None:
    """Read an IPv4 network; None for anything else."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def _pod_cidr(nodes: Nodes, name: str) -> IPv4Network | None:
    """Return the podCIDR of a node."""
    node = nodes.named(name)
    return _network(node.spec.pod_cidr) if node else None


def _outside(nodes: Nodes, flannel: Flannel, name: str) -> bool:
    """Say whether a node's podCIDR lies outside flannel's network."""
    network, cidr = _network(flannel.network), _pod_cidr(nodes, name)
    return bool(network and cidr and not cidr.subnet_of(network))


def _wrong_network(nodes: Nodes, flannel: Flannel, names: list[str]) -> Iterator[Finding]:
    """Say that net-conf.json is not about the nodes' pod CIDRs."""
    cidrs = [c for c in (_pod_cidr(nodes, n) for n in names) if c]
    for hop, after in _hops(nodes, names):
        yield Finding(
            code=FLANNEL_SUBNET_MISMATCH,
            title=f"Flannel's network {flannel.network} (net-conf.json in ConfigMap "
            f"{flannel.config}) does not contain the podCIDR {and_list(map(str, cidrs))} of "
            f"{and_list(names)}",
            hop=hop,
            evidence=(f"api:configmaps/{flannel.config}", *(f"api:nodes/{n}" for n in names)),
            consequence_of=after,
            remediation=(_set_network(flannel, cidrs),),
            falsifier="The podCIDR of every node lies in the Network of net-conf.json",
        )


def _set_network(flannel: Flannel, cidrs: Iterable[IPv4Network]) -> Remediation:
    """Say how to give flannel the network that the podCIDRs come from."""
    namespace, _, name = flannel.config.partition("/")
    network = ip_network(flannel.network, strict=False)
    wider = {str(c.supernet(new_prefix=min(network.prefixlen, c.prefixlen))) for c in cidrs}
    replace = (
        f"kubectl -n {namespace} get configmap {name} -o yaml"
        f" | sed 's#{flannel.network}#{min(wider)}#' | kubectl replace -f -"
    )
    edit = f"kubectl -n {namespace} edit configmap {name}"
    return Remediation(
        title="Give flannel the network that the podCIDRs come from, and restart it",
        commands=(
            replace if len(wider) == 1 else edit,
            *(
                f"kubectl -n {d.namespace} rollout restart daemonset {d.name}"
                for d in flannel.daemonsets
            ),
        ),
        risk=Risk.DISRUPTIVE,
        verify=VERIFY,
    )


def _again(pod: Pod | None, node: str) -> tuple[Remediation, ...]:
    """Say how to make flannel write its file again."""
    command = f"kubectl -n {pod.namespace} delete pod {pod.name}" if pod else ""
    return (
        (Remediation(f"Let flannel on {node} write it anew", (command,), Risk.SAFE, VERIFY),)
        if command
        else ()
    )


def _absent(pod: Pod, evidence: str) -> Finding:
    """Say that the file is absent although flannel is ready."""
    return Finding(
        code=FLANNEL_SUBNET_ENV_MISSING,
        title=f"/run/flannel/subnet.env is absent on {pod.node} although flannel is ready there: "
        "new pods get no network",
        hop=Hop(HopKind.FLANNEL, pod.node),
        evidence=(evidence, f"api:pods/{pod.key}"),
        remediation=_again(pod, pod.node),
        falsifier=f"The file exists on {pod.node}, or a new pod starts there",
    )


def _other_subnet(
    nodes: Nodes, pod: Pod | None, subnet: str, name: str, evidence: str
) -> Iterator[Finding]:
    """Say that flannel's subnet on a node is not the node's podCIDR."""
    cidr, ours = _pod_cidr(nodes, name), _network(subnet)
    if not cidr or not ours or ours.subnet_of(cidr):
        return
    yield Finding(
        code=FLANNEL_SUBNET_MISMATCH,
        title=f"Flannel gives pods on {name} addresses of {subnet}, but the node's podCIDR is "
        f"{cidr}: no other node routes to them",
        hop=Hop(HopKind.FLANNEL, name),
        evidence=(evidence, f"api:nodes/{name}"),
        remediation=_again(pod, name),
        falsifier=f"FLANNEL_SUBNET in /run/flannel/subnet.env on {name} lies in {cidr}",
    )


CHECKS = (on_every_node, subnet_env)
