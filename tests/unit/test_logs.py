"""Whose last words are read, how, and what is said where they cannot be had."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from doctor.bundle.schema import GapRecord, LogRecord, Record
from doctor.collect.logs import read_logs
from doctor.collect.resources import RESOURCES, reduce_items
from doctor.evidence.log_choice import MOST_LOGS, LogWish, choose_logs
from doctor.evidence.tables import Tables
from doctor.evidence.world import World
from doctor.model.evidence import Logs
from doctor.model.kube import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    DaemonSet,
    DaemonSpec,
    Meta,
    Node,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplate,
    TemplateSpec,
    Terminated,
    Waiting,
)
from doctor.model.rights import Review, Rights, Rule
from tests.unit.fake_cluster import Answer, FakeCluster, connected
from tests.unit.support import api, bundle, cluster, node

LABELS = {"app": "flannel"}
ENDED = ContainerState(terminated=Terminated("Error", 1))
DONE = ContainerState(terminated=Terminated("Completed", 0))
BACK_OFF = ContainerState(waiting=Waiting("CrashLoopBackOff"))
FIRST = ContainerState(waiting=Waiting("PodInitializing"))
KLOG = "E1124 12:18:41.223000       1 main.go:359] {}\n"


def flannel_set() -> DaemonSet:
    """Make flannel's DaemonSet."""
    template = PodTemplate(
        metadata=Meta(labels=LABELS), spec=TemplateSpec(containers=(Container(image="x/flannel"),))
    )
    return DaemonSet(
        metadata=Meta(name="fl", namespace="kube-flannel"), spec=DaemonSpec(template=template)
    )


def flannel_pod(
    name: str, on: str, *containers: ContainerStatus, init: tuple[ContainerStatus, ...] = ()
) -> Pod:
    """Make a pod of flannel; ready if no container is said to be anything."""
    return Pod(
        metadata=Meta(name=name, namespace="kube-flannel", labels=LABELS),
        spec=PodSpec(node_name=on, containers=(Container(name="main", image="x/flannel"),)),
        status=PodStatus(
            phase="Running",
            conditions=(Condition("Ready", "False" if containers or init else "True"),),
            container_statuses=containers,
            init_container_statuses=init,
        ),
    )


def world(*pods: Pod, nodes: tuple[Node, ...] = ()) -> World:
    """Make a cluster with these pods of flannel, DNS in order."""
    records = [r for r in cluster(3, *pods) if not (nodes and r.resource == "nodes")]
    more = (api("nodes", *nodes),) if nodes else ()
    return World(bundle(*records, *more, api("daemonsets", flannel_set())))


def wishes(*pods: Pod, nodes: tuple[Node, ...] = ()) -> list[LogWish]:
    """Choose, without what is read of DNS in any case."""
    return [w for w in choose_logs(world(*pods, nodes=nodes)) if w.namespace == "kube-flannel"]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (flannel_pod("a", "n0"), []),
        (
            flannel_pod("a", "n0", ContainerStatus("main", state=BACK_OFF, last_state=ENDED)),
            [("main", True)],
        ),
        (flannel_pod("a", "n0", ContainerStatus("main", state=ENDED)), [("main", False)]),
        (flannel_pod("a", "n0", ContainerStatus("main", last_state=ENDED)), [("main", True)]),
        (flannel_pod("a", "n0", ContainerStatus("main")), [("main", False)]),
        # it never ran
        (flannel_pod("a", "n0", ContainerStatus("main", state=FIRST)), []),
        (
            flannel_pod(
                "a",
                "n0",
                ContainerStatus("main", state=FIRST),
                init=(
                    ContainerStatus("bin", state=DONE),
                    ContainerStatus("cni", state=BACK_OFF, last_state=ENDED),
                ),
            ),
            [("cni", True)],
        ),
        (flannel_pod("a", "", ContainerStatus("main")), []),
    ],
)
def test_whose_last_words_are_wanted(pod: Pod, expected: list[tuple[str, bool]]) -> None:
    assert [(w.container, w.previous) for w in wishes(pod)] == expected


def test_a_silent_node_is_not_asked() -> None:
    silent = msgspec.structs.replace(
        node("n1"), status=NodeStatus(conditions=(Condition("Ready", "Unknown"),))
    )
    pods = [flannel_pod(f"a{n}", n, ContainerStatus("main")) for n in ("n0", "n1")]
    found = wishes(*pods, nodes=(node("n0"), silent))
    assert [w.node for w in found] == ["n0"]


def test_few_are_read_however_many_fail() -> None:
    pods = [flannel_pod(f"a{i}", "n0", ContainerStatus("main")) for i in range(50)]
    found = choose_logs(world(*pods))
    assert len(found) <= MOST_LOGS
    assert sum(w.namespace == "kube-flannel" for w in found) == 3
    # what DNS said lately still has its place
    assert sum(w.seconds > 0 for w in found) == 2


FAILING = flannel_pod("a", "n0", ContainerStatus("main", state=BACK_OFF, last_state=ENDED))


def served() -> FakeCluster:
    """Serve the logs of that cluster."""
    made = FakeCluster("kube-flannel", "kube-system")
    made.logs["kube-flannel", "a", "main", True] = KLOG.format("first") * 60 + KLOG.format("last")
    made.logs["kube-system", "coredns-n0", "main", False] = "[ERROR] plugin/errors: 2 x. A: gone\n"
    return made


def read(made: FakeCluster, folder: Path, rights: Rights = Rights()) -> Logs:  # noqa: B008 - frozen
    """Read the logs, and build the table."""
    with connected(made, folder) as server:
        records: tuple[Record, ...] = read_logs(server, rights, choose_logs(world(FAILING)))
    assert all(isinstance(r, LogRecord | GapRecord) for r in records)
    return Tables(bundle(*world(FAILING).bundle.records, *records)).get(Logs)


def test_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    made = served()
    table = read(made, tmp_path)
    (log,) = table.of("kube-flannel/a")
    assert len(log.lines) == 40
    assert log.previous
    assert table.said("kube-flannel/a", "main.go", "last") == (log.lines[-1].text, log.evidence)
    assert table.said("kube-flannel/a", "absent") is None
    assert table.said("kube-flannel/b", "last") is None
    (asked,) = [parse_qs(urlsplit(p).query) for p in made.asked("GET", "pods/a/log")]
    assert (asked["tailLines"], asked["previous"]) == (["40"], ["true"])
    assert int(asked["limitBytes"][0]) <= 32768
    (recent,) = [parse_qs(urlsplit(p).query) for p in made.asked("GET", "coredns-n0/log")]
    assert int(recent["sinceSeconds"][0]) <= 300
    # the other replica has said nothing that could be had, and that is no finding
    assert [(g.needs, g.essential) for g in table.gaps] == [
        ("log of kube-system/coredns-n1 (main)", False)
    ]


def test_a_refusal_names_the_right(tmp_path: Path) -> None:
    made = served()

    def refuse(_method: str, path: str) -> Answer | None:
        return (403, {"message": "no"}) if "/log" in path else None

    made.refuse = refuse
    table = read(made, tmp_path)
    assert table.items == ()
    assert {g.needs: g.reason.partition(";")[0] for g in table.gaps} == {
        f"logs in {n}": f"may not get pods/log (core) in {n}"
        for n in ("kube-flannel", "kube-system")
    }
    assert not any(g.essential for g in table.gaps)


def test_what_is_certainly_forbidden_is_not_asked_for(tmp_path: Path) -> None:
    made = served()
    own = Review("kube-flannel", (Rule(("get",), ("",), ("pods/log",)),))
    known = Rights((Review(), own, Review("kube-system")))
    table = read(made, tmp_path, known)
    assert [log.pod for log in table.items] == ["kube-flannel/a"]
    assert [g.needs for g in table.gaps] == ["logs in kube-system"]
    assert made.asked("GET", "kube-system") == []


@pytest.mark.parametrize(
    ("image", "kept"), [("ghcr.io/flannel-io/flannel:v1", True), ("shop/flannelish:1", False)]
)
def test_only_system_pods_last_messages_are_kept(image: str, *, kept: bool) -> None:
    raw = {
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {
            "containerStatuses": [
                {
                    "name": "main",
                    "lastState": {"terminated": {"exitCode": 1, "message": "it broke, token=abc"}},
                }
            ]
        },
    }
    (pod,) = reduce_items(RESOURCES["pods"], [msgspec.Raw(msgspec.json.encode(raw))])
    assert isinstance(pod, Pod)
    ended = (pod.status.container_statuses or ())[0].last_state.terminated
    assert ended is not None
    assert ended.exit_code == 1
    assert ended.message == ("it broke, token=[hidden]" if kept else "")
