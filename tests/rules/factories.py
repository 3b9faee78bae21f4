"""Small makers of evidence: a healthy cluster of three nodes, of which tests bend one thing."""

from collections.abc import Iterable

import msgspec

from doctor.contract import Check
from doctor.model.evidence import (
    Backend,
    DnsService,
    EndpointAddress,
    Flannel,
    NodeNetworks,
    Nodes,
)
from doctor.model.failure import Failure
from doctor.model.finding import Finding
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Vantage, VantageKind
from doctor.model.kube import (
    Address,
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    DaemonSet,
    DaemonStatus,
    Meta,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServiceSpec,
    Terminated,
    Waiting,
)
from doctor.model.netfilter import RuleTable
from doctor.model.node import FilterRule, Link, NodeNetwork, Route, SubnetEnv
from doctor.parse.iptables_save import read_saved, rule_tables

MASTER, ONE, TWO = "master", "k8s-worker-1.novalocal", "k8s-worker-2.novalocal"
NAMES = (MASTER, ONE, TWO)
CIDRS = {n: f"10.244.{i}.0/24" for i, n in enumerate(NAMES)}
ADDRESSES = {n: f"172.20.112.{10 + i}" for i, n in enumerate(NAMES)}
PODS = {n: f"10.244.{i}.7" for i, n in enumerate(NAMES)}
VXLAN = "udp/8472"


def findings(check: Check, *tables: object) -> list[Finding]:
    """Run a check, and see that each finding is fit to be shown."""
    found = list(check.judge(*tables))
    for item in found:
        assert item.code in check.codes
        assert item.evidence
        assert all(item.evidence)
        assert not item.title.endswith(".")
        assert item.falsifier
        assert item.remediation
        for mend in item.remediation:
            assert mend.commands
            assert mend.verify.startswith("wwwm-doctor check ")
            assert "None" not in " ".join(mend.commands)
    return found


def said(found: Iterable[Finding]) -> set[tuple[str, str]]:
    """Reduce findings to code and hop."""
    return {(f.code.name, str(f.hop)) for f in found}


def node(name: str, *ready: str, cidr: str | None = None, **annotations: str) -> Node:
    """Make a node; ``ready`` are status, reason and message of its condition."""
    status, reason, message = ready or ("True", "KubeletReady", "kubelet is posting ready status")
    return Node(
        metadata=Meta(
            name=name,
            annotations={
                f"flannel.alpha.coreos.com/{k.replace('_', '-')}": v for k, v in annotations.items()
            },
        ),
        spec=NodeSpec(pod_cidr=CIDRS[name] if cidr is None else cidr),
        status=NodeStatus(
            addresses=(Address("InternalIP", ADDRESSES[name]),),
            conditions=(
                Condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                Condition("Ready", status, reason, message),
            ),
        ),
    )


def labelled(name: str, labels: dict[str, str]) -> Node:
    """Make a node with labels."""
    made = node(name)
    return msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, labels=labels)
    )


def nodes(*changed: Node, names: Iterable[str] = NAMES) -> Nodes:
    """Make the table of nodes, some of them changed."""
    by_name = {n: node(n) for n in names} | {n.name: n for n in changed}
    return Nodes(items=tuple(by_name.values()))


def pod(  # noqa: PLR0913 - a pod has many parts
    name: str,
    on: str,
    *,
    namespace: str = "kube-system",
    ready: bool = True,
    waiting: str = "",
    image: str = "",
    labels: dict[str, str] | None = None,
    deleted: bool = False,
    phase: str = "Running",
    exit_code: int = 0,
) -> Pod:
    """Make a pod that runs, or waits for a reason."""
    ended = Terminated("Error", exit_code) if exit_code else None
    return Pod(
        metadata=Meta(
            name=name,
            namespace=namespace,
            labels=labels,
            deletion_timestamp="2025-01-01T00:00:00Z" if deleted else None,
        ),
        spec=PodSpec(node_name=on, containers=(Container(name="main", image=image),)),
        status=PodStatus(
            phase=phase,
            conditions=(Condition("Ready", "True" if ready else "False"),),
            container_statuses=(
                ContainerStatus(
                    "main",
                    ready=ready,
                    state=ContainerState(waiting=Waiting(waiting) if waiting else None),
                    last_state=ContainerState(terminated=ended),
                ),
            ),
        ),
    )


def daemonset(namespace: str, name: str, desired: int = 3) -> DaemonSet:
    """Make a DaemonSet."""
    return DaemonSet(
        metadata=Meta(name=name, namespace=namespace), status=DaemonStatus(desired, desired)
    )


def flannel(
    *pods: Pod, backend: str = "vxlan", network: str = "10.244.0.0/16", without: Iterable[str] = ()
) -> Flannel:
    """Make flannel: ready on every node, but for the pods given and the nodes left out."""
    instead = {p.node for p in pods} | set(without)
    own = tuple(
        pod(f"kube-flannel-ds-{n[:12]}", n, namespace="kube-flannel")
        for n in NAMES
        if n not in instead
    )
    return Flannel(
        daemonsets=(daemonset("kube-flannel", "kube-flannel-ds", len(own) + len(pods)),),
        pods=own + pods,
        backend=backend,
        port=8472 if backend == "vxlan" else 0,
        config="kube-flannel/kube-flannel-cfg",
        network=network,
    )


def vantage(kind: str, name: str) -> Vantage:
    """Make a vantage."""
    return Vantage(VantageKind(kind), name)


def seen(  # noqa: PLR0913 - an observation has many parts
    purpose: Purpose,
    where: Vantage,
    address: str,
    port: int,
    failure: Failure | None = None,
    *,
    subject: str = "",
    kind: FlowKind = FlowKind.TCP,
) -> Observation:
    """Make an observation."""
    return Observation(
        Flow(
            id=f"{purpose}:{where.kind}@{where.node}>{kind}:{address}:{port}",
            purpose=purpose,
            vantage=where,
            kind=kind,
            address=address,
            port=port,
            name="kubernetes.default.svc.cluster.local." if "dns" in kind else "",
            subject=subject,
        ),
        failure,
        2.0 if failure else 0.001,
    )


def rule(
    text: str, action: str = "DROP", protocol: str = "", port: int = 0, *, narrow: bool = False
) -> FilterRule:
    """Make a rule as iptables-save prints it; without a port it is for all."""
    ports = (port, port) if port else (0, 65535)
    return FilterRule(text.split()[1], action, protocol, ports, text, narrow)


def network(  # noqa: PLR0913 - a node has many parts
    name: str,
    *drops: FilterRule,
    routes: Iterable[str] = (*CIDRS.values(), "0.0.0.0/0"),
    device: Link | None = Link("flannel.1", vxlan_id=1, vxlan_port=8472),  # noqa: B008 - frozen
    forward: bool = True,
    env: SubnetEnv | bool = True,
    chains: Iterable[str] = ("KUBE-SERVICES",),
    accepts: bool = True,
) -> NodeNetwork:
    """Make what is read inside a healthy node, with some rules that drop before flannel's accept."""
    own = SubnetEnv("10.244.0.0/16", CIDRS[name].replace("0/24", "1/24"))
    uplink = Link("eth0", addresses=(f"{ADDRESSES[name]}/24",))
    return NodeNetwork(
        node=name,
        evidence=f"node:{name}",
        subnet_env=own if env is True else env or None,
        links=(uplink, device) if device else (uplink,),
        routes=tuple(Route(r) for r in routes),
        drops=drops,
        nat_chains=tuple(chains),
        neighbours=(),
        fdb=(),
        ip_forward=forward,
        tools=True,
        tables=filter_table(*(d.text for d in drops), accepts=accepts),
    )


def filter_table(*lines: str, accepts: bool = True) -> tuple[RuleTable, ...]:
    """Make the table filter of iptables with some rules, and flannel's after them."""
    policies = dict(line.split()[1:] for line in lines if line.startswith("-P"))
    chains = [f":{c} {policies.get(c, 'ACCEPT')} [0:0]" for c in ("INPUT", "FORWARD", "OUTPUT")]
    flannels = (
        "-A FORWARD -j FLANNEL-FWD",
        "-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT",
        "-A FLANNEL-FWD -d 10.244.0.0/16 -j ACCEPT",
    )
    rules = [line for line in (*lines, *(flannels if accepts else ())) if line.startswith("-A")]
    text = "\n".join(
        [
            "# Generated by iptables-save v1.8.11 (nf_tables)",
            "*filter",
            *chains,
            ":FLANNEL-FWD - [0:0]",
            *rules,
            "COMMIT",
            "",
        ]
    )
    return rule_tables(read_saved(text))


def networks(*changed: NodeNetwork) -> NodeNetworks:
    """Make the table of node networks, some of them changed."""
    by_name = {n: network(n) for n in NAMES} | {n.node: n for n in changed}
    return NodeNetworks(items=tuple(by_name.values()))


DNS_KEY = "kube-system/kube-dns"
DNS_IP = "10.96.0.10"


def dns(*on: str, **backend: object) -> DnsService:
    """Make the DNS Service, with a ready replica of CoreDNS on each of these nodes."""
    parts: dict[str, object] = {
        "key": DNS_KEY,
        "service": Service(
            metadata=Meta(name="kube-dns", namespace="kube-system"),
            spec=ServiceSpec(cluster_ip=DNS_IP, selector={"k8s-app": "kube-dns"}),
        ),
        "port": None,
        "endpoints": tuple(
            EndpointAddress(PODS[n], 53, ready=True, node=n, pod=f"kube-system/coredns-{n}")
            for n in on
        ),
        "pods": tuple(pod(f"coredns-{n}", n) for n in on),
    }
    return DnsService(backend=Backend(**parts | backend), control_port=9153)  # type: ignore[arg-type]
