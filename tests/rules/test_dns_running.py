"""Why no replica of CoreDNS runs: taints, memory, its own words; and ports that the Service lacks."""

import re
import subprocess

import msgspec
import pytest

from checks.dns.lately import unhindered
from checks.dns.mending import restarts
from checks.dns.running import running
from doctor.model.evidence import Backend, DnsService, Logs, Nodes
from doctor.model.finding import Severity
from doctor.model.kube import (
    Container,
    DaemonSet,
    DaemonSpec,
    DaemonStatus,
    Deployment,
    Meta,
    NodeSpec,
    Pod,
    PodTemplate,
    ServicePort,
    Taint,
    TemplateSpec,
    Terminated,
    Toleration,
    WorkloadSpec,
)
from doctor.model.logs import ContainerLog, LogLine
from doctor.model.resolver import Corefile, Plugin, ServerBlock
from tests.rules.factories import MASTER, NAMES, ONE, TWO, dns, findings, node, nodes, pod, said

CONTROL_PLANE = Taint("node-role.kubernetes.io/control-plane", "NoSchedule")
UNINITIALISED = Taint("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule", "true")
NOT_READY = Taint("node.kubernetes.io/not-ready", "NoSchedule")
CORDON = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
SERVICE = "service:kube-system/kube-dns"
DEPLOYMENT = Deployment(
    metadata=Meta(name="coredns", namespace="kube-system"),
    spec=WorkloadSpec(
        replicas=2, template=PodTemplate(spec=TemplateSpec(containers=(Container("coredns"),)))
    ),
)


def behind(*pods: Pod, ready: str = "") -> DnsService:
    """Make the DNS Service before some pods; one node's replica may be ready."""
    parts = {"pods": pods, "workloads": (DEPLOYMENT,)}
    if not ready:
        parts["endpoints"] = ()
    return dns(*([ready] if ready else []), **parts)


def tainted(**taints: tuple[Taint, ...]) -> Nodes:
    """Make nodes with taints, by ``master``, ``one`` and ``two``."""
    names = {"master": MASTER, "one": ONE, "two": TWO}
    return nodes(
        *(
            msgspec.structs.replace(node(names[k]), spec=NodeSpec(taints=v))
            for k, v in taints.items()
        )
    )


def waiting(*tolerated: Toleration) -> Pod:
    """Make a pod that no node has taken yet."""
    made = pod("coredns-1", "", ready=False)
    spec = msgspec.structs.replace(made.spec, tolerations=tolerated)
    return msgspec.structs.replace(made, spec=spec)


TOLERANT = Toleration(
    key="node-role.kubernetes.io/control-plane", effect="NoSchedule", operator="Exists"
)


def test_every_node_has_a_taint() -> None:
    table = tainted(
        master=(CONTROL_PLANE, UNINITIALISED), one=(UNINITIALISED,), two=(UNINITIALISED,)
    )
    (found,) = findings(running, behind(waiting(TOLERANT)), table)
    assert said([found]) == {("DNS_UNSCHEDULABLE", SERVICE)}
    assert UNINITIALISED.key in found.title
    assert "control-plane" not in found.title
    assert set(found.remediation[0].commands) == {
        f"kubectl taint node {n} {UNINITIALISED.key}:NoSchedule-" for n in NAMES
    }
    assert "cloud controller manager" in found.remediation[0].title
    assert found.consequence_of == ()


def test_nodes_that_are_not_ready_are_their_own_fault() -> None:
    table = tainted(master=(NOT_READY,), one=(NOT_READY,), two=(CORDON,))
    (found,) = findings(running, behind(waiting()), table)
    assert {str(h) for h in found.consequence_of} >= {f"node:{MASTER}", f"flannel:{ONE}"}
    assert found.remediation[0].commands == (f"kubectl uncordon {TWO}",)


DISK = Taint("node.kubernetes.io/disk-pressure", "NoSchedule")
MEMORY = Taint("node.kubernetes.io/memory-pressure", "NoSchedule")


def test_what_a_node_is_short_of_is_freed_and_its_taint_left_alone() -> None:
    table = tainted(master=(CONTROL_PLANE, DISK), one=(DISK,), two=(MEMORY,))
    (found,) = findings(running, behind(waiting(TOLERANT)), table)
    assert said([found]) == {("DNS_UNSCHEDULABLE", SERVICE)}
    (mend,) = found.remediation
    assert mend.title.startswith("Free disk and memory on ")
    assert f'ssh {ONE} "sudo crictl rmi --prune"' in mend.commands
    assert not any("kubectl taint" in c for c in mend.commands)
    # a taint that somebody set is taken off all the same
    mixed = tainted(master=(DISK,), one=(UNINITIALISED,), two=(MEMORY,))
    (found,) = findings(running, behind(waiting()), mixed)
    assert found.remediation[0].commands == (
        f"kubectl taint node {ONE} {UNINITIALISED.key}:NoSchedule-",
    )


def daemon(selector: dict[str, str] | None, wanted: int = 0) -> DaemonSet:
    """Make a DaemonSet that runs CoreDNS on some nodes."""
    template = PodTemplate(spec=TemplateSpec(node_selector=selector))
    return DaemonSet(
        metadata=Meta(name="node-dns", namespace="kube-system"),
        spec=DaemonSpec(template=template),
        status=DaemonStatus(desired_number_scheduled=wanted),
    )


@pytest.mark.parametrize(
    ("selector", "wanted", "code", "command"),
    [
        ({"dns": "yes"}, 0, "DNS_SCALED_TO_ZERO", "kubectl label nodes -l kubernetes.io/os=linux"),
        (None, 0, "DNS_SCALED_TO_ZERO", "kubectl -n kube-system describe daemonset node-dns"),
        (None, 3, "DNS_NOT_READY", "kubectl -n kube-system describe daemonset node-dns"),
    ],
)
def test_a_daemonset_that_no_node_runs(
    selector: dict[str, str] | None, wanted: int, code: str, command: str
) -> None:
    table = dns(pods=(), endpoints=(), daemonsets=(daemon(selector, wanted),))
    (found,) = findings(running, table)
    assert said([found]) == {(code, SERVICE)}
    assert found.remediation[0].commands[0].startswith(command)
    assert "kubeadm" not in " ".join(found.remediation[0].commands)


@pytest.mark.parametrize(
    ("pods", "table"),
    [
        ((waiting(TOLERANT),), tainted(one=(UNINITIALISED,))),
        (
            (waiting(Toleration(operator="Exists")),),
            tainted(master=(CORDON,), one=(CORDON,), two=(CORDON,)),
        ),
        (
            (waiting(), pod("coredns-2", ONE, ready=False)),
            tainted(master=(CORDON,), one=(CORDON,), two=(CORDON,)),
        ),
        ((waiting(),), tainted(master=(Taint("x", "PreferNoSchedule"),))),
    ],
)
def test_some_node_would_take_them(pods: tuple[Pod, ...], table: Nodes) -> None:
    assert {f.code.name for f in findings(running, behind(*pods), table)} == {"DNS_NOT_READY"}


def killed(name: str, on: str) -> Pod:
    """Make a pod that was killed for its memory."""
    made = pod(name, on, ready=False, waiting="CrashLoopBackOff", exit_code=137)
    (status,) = made.status.container_statuses or ()
    ended = msgspec.structs.replace(
        status.last_state, terminated=Terminated("OOMKilled", exit_code=137)
    )
    return msgspec.structs.replace(
        made,
        status=msgspec.structs.replace(
            made.status, container_statuses=(msgspec.structs.replace(status, last_state=ended),)
        ),
    )


def test_killed_for_its_memory() -> None:
    (found,) = findings(running, behind(killed("coredns-1", ONE)))
    assert (found.code.name, found.severity) == ("DNS_OUT_OF_MEMORY", Severity.FAIL)
    assert "set resources deployment coredns -c coredns" in found.remediation[0].commands[0]
    (found,) = findings(running, behind(killed("coredns-1", ONE), pod("coredns-2", TWO), ready=TWO))
    assert (found.code.name, found.severity) == ("DNS_OUT_OF_MEMORY", Severity.WARN)
    # it was, long ago, and runs
    well = msgspec.structs.replace(killed("coredns-1", ONE), status=pod("coredns-1", ONE).status)
    assert findings(running, behind(well, ready=ONE)) == []


LOOP = (
    '[FATAL] plugin/loop: Loop (127.0.0.1:38941 -> :53) detected for zone ".", see '
    'https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO 1.2."'
)
PARSE = "/etc/coredns/Corefile:3 - Error during parsing: Unknown directive 'kubernets'"
FORBIDDEN = (
    "[ERROR] plugin/kubernetes: Unhandled Error: failed to list *v1.EndpointSlice: "
    "endpointslices.discovery.k8s.io is forbidden: User "
    '"system:serviceaccount:kube-system:coredns" cannot list resource "endpointslices"'
)
UNREACHABLE = (
    "[ERROR] plugin/kubernetes: Unhandled Error: failed to list *v1.Service: Get "
    '"https://10.96.0.1:443/api/v1/services": dial tcp 10.96.0.1:443: i/o timeout'
)


def words(*lines: str) -> Logs:
    """Make what a replica said last."""
    items = ContainerLog("kube-system/coredns-1", ONE, "coredns", tuple(map(LogLine, lines)))
    return Logs(items=(items,))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((LOOP,), "DNS_FORWARDING_LOOP"),
        ((PARSE,), "DNS_COREFILE_INVALID"),
        ((FORBIDDEN,), "DNS_RBAC_FORBIDDEN"),
        ((UNREACHABLE,), "DNS_API_UNREACHABLE"),
        ((UNREACHABLE, FORBIDDEN), "DNS_RBAC_FORBIDDEN"),
        ((".:53", "CoreDNS-1.11.3"), "DNS_NOT_READY"),
        ((), "DNS_NOT_READY"),
    ],
)
def test_what_coredns_said_last(lines: tuple[str, ...], code: str) -> None:
    crashing = pod("coredns-1", ONE, ready=False, waiting="CrashLoopBackOff", exit_code=1)
    (found,) = findings(running, behind(crashing), None, words(*lines))
    assert (found.code.name, found.severity) == (code, Severity.FAIL)
    below = {str(h) for h in found.consequence_of}
    assert (f"kube-proxy:{ONE}" in below) is (code in ("DNS_NOT_READY", "DNS_API_UNREACHABLE"))
    if code != "DNS_NOT_READY":
        assert found.evidence[0] == "log:kube-system/coredns-1/coredns"


@pytest.mark.parametrize(
    ("line", "code"),
    [(PARSE, "DNS_COREFILE_INVALID"), (LOOP, "DNS_FORWARDING_LOOP"), (UNREACHABLE, "")],
)
def test_one_of_several_says_what_the_others_will(line: str, code: str) -> None:
    crashing = pod("coredns-1", ONE, ready=False, waiting="CrashLoopBackOff", exit_code=1)
    table = behind(crashing, pod("coredns-2", TWO), ready=TWO)
    found = findings(running, table, None, words(line))
    assert [(f.code.name, f.severity) for f in found] == ([(code, Severity.WARN)] if code else [])


LIMIT = "[ERROR] plugin/errors: 2 example.net. A: concurrent queries exceeded maximum 1"
LONG = "[ERROR] plugin/errors: 2 example.net. A: dns: overflow unpacking uint32"
SILENT = "[ERROR] plugin/errors: 2 example.net. A: read udp 10.244.1.2:1->192.0.2.1:53: i/o timeout"


@pytest.mark.parametrize(
    ("line", "code"), [(LIMIT, "DNS_FORWARD_LIMIT"), (LONG, "DNS_UPSTREAM_OVERFLOW"), (SILENT, "")]
)
def test_what_a_ready_replica_said_lately(line: str, code: str) -> None:
    """The overflow was not seen in a lab: CoreDNS says nothing of it since 1.11.2.

    It tells clients that the answer was cut, and they ask again over TCP.
    """
    table = behind(pod("coredns-1", ONE), ready=ONE)
    found = findings(unhindered, table, words(line))
    assert [(f.code.name, f.severity) for f in found] == ([(code, Severity.WARN)] if code else [])
    crashed = behind(pod("coredns-1", ONE, ready=False), ready=ONE)
    assert findings(unhindered, crashed, words(line)) == []


COREFILE = """\
data:
  Corefile: |
    .:53 {
        errors
        forward . /etc/resolv.conf {
           max_concurrent 1000
        }
    }
    corp.test:53 {
        forward . 192.0.2.53
    }
"""


def test_the_resolver_is_asked_over_tcp() -> None:
    """The command's own sed, on the Corefile of kubeadm and on a block of one line."""
    (found,) = findings(unhindered, behind(pod("coredns-1", ONE), ready=ONE), words(LONG))
    (change,) = re.findall(r"sed '([^']+)'", found.remediation[0].commands[0])
    done = subprocess.run(
        ("sed", change), input=COREFILE, capture_output=True, text=True, check=True, timeout=10
    )
    assert done.stdout == COREFILE.replace(
        "resolv.conf {\n", "resolv.conf {\n            force_tcp\n"
    ).replace("192.0.2.53\n", "192.0.2.53 {\n            force_tcp\n        }\n")


@pytest.mark.parametrize(
    ("ports", "missing"),
    [
        ((), ""),
        ((ServicePort("dns", 53, "UDP"), ServicePort("dns-tcp", 53)), ""),
        ((ServicePort("dns", 53, "UDP"), ServicePort("metrics", 9153)), "TCP"),
        ((ServicePort("dns-tcp", 53),), "UDP"),
        ((ServicePort("metrics", 9153),), "TCP and UDP"),
    ],
)
def test_a_port_that_the_service_lacks(ports: tuple[ServicePort, ...], missing: str) -> None:
    table = dns(ONE)
    backend = table.backend
    assert isinstance(backend, Backend)
    assert backend.service is not None
    spec = msgspec.structs.replace(backend.service.spec, ports=ports)
    service = msgspec.structs.replace(backend.service, spec=spec)
    table = msgspec.structs.replace(
        table, backend=msgspec.structs.replace(backend, service=service)
    )
    found = findings(running, table)
    assert said(found) == ({("DNS_SERVICE_PORT_MISSING", SERVICE)} if missing else set())
    assert all(f"no port 53 for {missing}:" in f.title for f in found)


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("127.0.0.1", ("sed '/forward /s|127[.]0[.]0[.]1|/etc/resolv.conf|'",)),
        ("127.0.0.1:53", ("sed '/forward /s|127[.]0[.]0[.]1:53|/etc/resolv.conf|'",)),
        (
            "/etc/resolv.conf",
            ("$a resolvConf: /run/systemd/resolve/resolv.conf", "restart kubelet"),
        ),
        ("203.0.113.53", ("sed '/forward /s|203[.]0[.]113[.]53|/etc/resolv.conf|'",)),
    ],
)
def test_the_loop_is_opened_where_it_is_closed(target: str, commands: tuple[str, ...]) -> None:
    crashing = pod("coredns-1", ONE, ready=False, waiting="CrashLoopBackOff", exit_code=1)
    conf = Corefile((ServerBlock((".",), 53, (Plugin("forward", (".", target)),)),))
    table = msgspec.structs.replace(behind(crashing), corefile=conf)
    (found,) = findings(running, table, None, words(LOOP))
    (mend,) = found.remediation
    *doing, last = mend.commands
    assert last == "kubectl -n kube-system rollout restart deployment coredns"
    assert len(doing) == len(commands)
    assert all(c in d for c, d in zip(commands, doing, strict=True))


def test_what_runs_the_server_is_restarted_by_its_name() -> None:
    named = msgspec.structs.replace(
        DEPLOYMENT, metadata=Meta(name="rke2-coredns", namespace="kube-system")
    )
    (backend, start) = (dns(ONE).backend, "kubectl -n kube-system rollout restart")
    assert backend is not None
    assert restarts(msgspec.structs.replace(backend, workloads=(named,))) == (
        f"{start} deployment rke2-coredns",
    )
    assert restarts(msgspec.structs.replace(backend, daemonsets=(daemon(None),))) == (
        f"{start} daemonset node-dns",
    )
    assert restarts(None) == (f"{start} deployment coredns",)
