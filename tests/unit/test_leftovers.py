"""What killed runs leave is found and removed; what others have or still use is not."""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doctor.collect.leftovers import SweepPace, sweep
from doctor.collect.pod_owner import ENDS, OWNER, Owner, begin
from doctor.errors import ClusterError
from doctor.model.probe_pod import Fate, Sweep
from tests.unit.fake_cluster import Answer, FakeCluster, connected

PACE = SweepPace(poll=0.01, gone=0.05, longest=0.3)
OURS = {"app.kubernetes.io/managed-by": "wwwm-doctor", "wwwm-doctor/run": "1"}
SELF = begin(60).owner
DEAD = msgspec.structs.replace(SELF, started=SELF.started - 1)
ELSEWHERE = msgspec.structs.replace(SELF, host="elsewhere")


def marks(owner: Owner | None, minutes: int = 5) -> dict[str, Any]:
    """Write what a run marks its things with; it ends in some minutes."""
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    said = {ENDS: ends.isoformat()}
    if owner:
        said[OWNER] = msgspec.json.encode(owner).decode()
    return {"labels": OURS, "annotations": said}


class Leftovers:
    """A cluster in which runs were killed."""

    def __init__(self, folder: Path) -> None:
        """Begin with somebody else's things."""
        self.cluster = FakeCluster("shop")
        self.cluster.lingering = False
        self.folder = folder
        self.cluster.add_pod("shop", "web", labels={"app": "web"})

    def run(self, name: str, owner: Owner | None = DEAD, pods: int = 1, **meta: Any) -> None:
        """Let a run leave its namespace with pods in it."""
        self.cluster.add_namespace(name, **{**marks(owner), **meta})
        for number in range(pods):
            self.cluster.add_pod(name, f"{name}-{number}", **marks(owner))

    def sweep(self, **options: Any) -> Sweep:
        """Clean up."""
        with connected(self.cluster, self.folder) as server:
            return sweep(server, pace=PACE, **options)

    def fates(self, **options: Any) -> dict[str, Fate]:
        """Clean up, and see what became of what."""
        return {item.what: item.fate for item in self.sweep(**options).found}

    def removals(self) -> list[str]:
        """Select what was asked to be removed."""
        return [p.removeprefix("/api/v1/namespaces/") for p in self.cluster.asked("DELETE")]


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Leftovers]:
    """Make a cluster; somebody else's things are there in the end as before."""
    found = Leftovers(tmp_path)
    yield found
    assert ("shop", "web") in found.cluster.pods
    assert {"shop", "default"} <= found.cluster.namespaces.keys()


def test_where_nothing_is_left_nothing_is_done(left: Leftovers) -> None:
    assert left.sweep() == Sweep()
    assert len(left.cluster.log) == 3, "the version, and one LIST each"


def test_what_a_dead_run_left_is_removed(left: Leftovers) -> None:
    left.run("wwwm-doctor-a", pods=2)
    (item,) = left.sweep().found
    assert (item.what, item.fate) == ("namespace wwwm-doctor-a", Fate.REMOVED)
    assert item.detail == "with 2 pods"
    assert left.cluster.left == []


def test_a_run_that_is_alive_on_this_machine_is_left_alone(left: Leftovers) -> None:
    left.run("wwwm-doctor-a", SELF)
    left.cluster.add_pod("shop", "wwwm-doctor-b-1", **marks(SELF))
    found = left.sweep(everything=True).found
    assert {i.what for i in found} == {"namespace wwwm-doctor-a", "pod shop/wwwm-doctor-b-1"}
    assert {i.fate for i in found} == {Fate.LIVE}
    assert all(f"process {os.getpid()} on this machine" in i.detail for i in found)
    assert left.removals() == []


@pytest.mark.parametrize("owner", [ELSEWHERE, None])
def test_another_machines_run_is_left_alone_until_it_is_over(
    left: Leftovers, owner: Owner | None
) -> None:
    left.run("wwwm-doctor-a", owner)
    (item,) = left.sweep().found
    assert item.fate is Fate.LIVE
    assert "--all" in item.detail
    assert ("elsewhere" in item.detail) is (owner is not None)
    assert left.removals() == []
    assert left.fates(everything=True) == {"namespace wwwm-doctor-a": Fate.REMOVED}


def test_when_it_is_over_it_is_removed(left: Leftovers) -> None:
    left.run("wwwm-doctor-a", ELSEWHERE, **marks(ELSEWHERE, minutes=-1))
    left.run("wwwm-doctor-b", labels=OURS, annotations={}, creationTimestamp="2026-01-01T00:00:00Z")
    left.run("wwwm-doctor-c", labels=OURS, annotations={})
    assert set(left.fates().values()) == {Fate.REMOVED}


def test_only_what_has_both_marks_is_touched(left: Leftovers) -> None:
    left.cluster.add_namespace("wwwm-doctor-notes")
    left.cluster.add_namespace("tools", **marks(DEAD))
    for namespace in ("wwwm-doctor-notes", "tools", "shop"):
        left.cluster.add_pod(namespace, "web", **marks(DEAD))
        left.cluster.add_pod(namespace, "wwwm-doctor-x", labels={"app": "web"})
        label = {"app.kubernetes.io/managed-by": "wwwm-doctor"}
        left.cluster.add_pod(namespace, "wwwm-doctor-y", labels=label)
    assert left.sweep() == Sweep()
    assert left.removals() == []


def test_the_marks_are_looked_at_here_too(left: Leftovers) -> None:
    """Something in between might not pass the selector on."""
    other = left.cluster.add_namespace("wwwm-doctor-notes")
    left.cluster.refuse = lambda method, path: (
        (200, {"items": [other]})
        if method == "GET" and path.startswith("/api/v1/namespaces?")
        else None
    )
    assert left.sweep() == Sweep()
    assert left.removals() == []


def test_pods_in_others_namespaces_are_removed_one_by_one(left: Leftovers) -> None:
    left.cluster.add_pod("shop", "wwwm-doctor-1-a", **marks(DEAD))
    left.cluster.add_pod("tools", "wwwm-doctor-1-b", **marks(ELSEWHERE))
    assert left.fates() == {
        "pod shop/wwwm-doctor-1-a": Fate.REMOVED,
        "pod tools/wwwm-doctor-1-b": Fate.LIVE,
    }
    assert left.removals() == ["shop/pods/wwwm-doctor-1-a"]


def test_pods_that_do_not_go_are_removed_by_force(left: Leftovers) -> None:
    left.cluster.sticky = True
    left.run("wwwm-doctor-a")
    left.cluster.add_pod("shop", "wwwm-doctor-1-a", **marks(DEAD))
    assert set(left.fates().values()) == {Fate.REMOVED}
    assert left.cluster.left == []


def test_what_has_got_the_same_name_since_is_another_one(left: Leftovers) -> None:
    """Between the look and the removal, it went by itself and somebody made it again."""
    left.run("wwwm-doctor-a", pods=0)

    def replace(method: str, _path: str) -> Answer | None:
        if method == "DELETE":
            left.cluster.add_namespace("wwwm-doctor-a", **marks(SELF))
        return None

    left.cluster.refuse = replace
    assert left.fates() == {"namespace wwwm-doctor-a": Fate.REMOVED}
    assert "wwwm-doctor-a" in left.cluster.namespaces


DISCOVERY = {
    "type": "NamespaceDeletionDiscoveryFailure",
    "status": "True",
    "message": "Discovery failed for some groups, 1 failing:\n v1.metrics.example: stale",
}
REMAINDER = {"type": "NamespaceContentRemaining", "status": "True", "message": "pods: 1 left"}


@pytest.mark.parametrize(
    ("conditions", "fate", "detail"),
    [
        ([], Fate.GOING, ""),
        ([REMAINDER], Fate.GOING, ""),
        ([{**DISCOVERY, "status": "False"}], Fate.GOING, ""),
        ([REMAINDER, DISCOVERY], Fate.STUCK, "1 failing: v1.metrics.example: stale"),
    ],
)
def test_a_namespace_that_was_told_to_go_already_is_not_waited_for(
    left: Leftovers, conditions: list[object], fate: Fate, detail: str
) -> None:
    left.run("wwwm-doctor-a", pods=0, deletionTimestamp="2026-01-01T00:00:00Z")
    left.cluster.namespaces["wwwm-doctor-a"]["status"] = {"conditions": conditions}
    (item,) = left.sweep().found
    assert item.fate is fate
    assert item.detail.endswith(detail)
    assert left.removals() == []


@pytest.mark.parametrize(
    ("conditions", "detail"),
    [
        ([], "it was told to go, and is still there"),
        ([REMAINDER], "pods: 1 left"),
        ([DISCOVERY, REMAINDER], "Discovery failed for some groups"),
    ],
)
def test_a_namespace_that_does_not_go_is_said_to_be_stuck(
    left: Leftovers, conditions: list[object], detail: str
) -> None:
    left.cluster.lingering = True
    left.run("wwwm-doctor-a")
    left.cluster.namespaces["wwwm-doctor-a"]["status"] = {"conditions": conditions}
    (item,) = left.sweep().found
    assert item.fate is Fate.STUCK
    assert detail in item.detail


def test_pods_in_a_namespace_that_is_on_its_way_out_are_removed(left: Leftovers) -> None:
    """They are why it does not go."""
    left.run("wwwm-doctor-a", deletionTimestamp="2026-01-01T00:00:00Z")
    left.cluster.sticky = True
    left.fates()
    assert left.cluster.pods.keys() == {("shop", "web")}


def test_what_may_not_be_removed_is_said(left: Leftovers) -> None:
    left.run("wwwm-doctor-a")
    left.cluster.add_pod("shop", "wwwm-doctor-1-a", **marks(DEAD))
    left.cluster.refuse = lambda method, _path: (
        (403, {"message": "you may not"}) if method == "DELETE" else None
    )
    found = left.sweep().found
    assert {i.fate for i in found} == {Fate.REFUSED}
    assert {i.detail for i in found} == {"you may not"}


def test_what_is_refused_is_not_waited_for(left: Leftovers) -> None:
    left.run("wwwm-doctor-a", pods=0)
    left.run("wwwm-doctor-b", pods=0, deletionTimestamp="2026-01-01T00:00:00Z")
    left.cluster.refuse = lambda method, _path: (
        (403, {"message": "you may not"}) if method == "DELETE" else None
    )
    assert left.fates() == {
        "namespace wwwm-doctor-a": Fate.REFUSED,
        "namespace wwwm-doctor-b": Fate.GOING,
    }
    assert len(left.cluster.asked("GET")) == 3, "the version, and one LIST each"


def failing(part: str, times: int) -> Any:
    """Refuse the first LISTs of something."""
    left = [times]

    def refuse(method: str, path: str) -> Answer | None:
        if method == "GET" and path.startswith(f"/api/v1/{part}") and left[0]:
            left[0] -= 1
            return 403, {"message": f"may not list {part}"}
        return None

    return refuse


def test_what_could_not_be_looked_for_is_said(left: Leftovers) -> None:
    left.run("wwwm-doctor-a", pods=0)
    left.cluster.refuse = failing("pods", -1)
    found = left.sweep()
    assert found.unseen == ("pods: may not list pods",)
    assert [i.fate for i in found.found] == [Fate.REMOVED]


def test_where_nothing_can_be_looked_for_it_is_an_error(left: Leftovers) -> None:
    left.cluster.refuse = lambda method, path: (
        (403, {"message": "no"}) if method == "GET" and "api/v1" in path else None
    )
    with pytest.raises(ClusterError, match="namespaces: no; pods: no"):
        left.sweep()
    with pytest.raises(ClusterError, match="pods: no"):
        left.sweep(namespace="shop")


def test_a_look_that_fails_does_not_show_that_all_has_gone(left: Leftovers) -> None:
    left.cluster.lingering = True
    left.run("wwwm-doctor-a")
    calls = [0]

    def refuse(method: str, path: str) -> Answer | None:
        if method == "GET" and path.startswith("/api/v1/namespaces"):
            calls[0] += 1
            return (503, {"message": "later"}) if calls[0] > 1 else None
        return None

    left.cluster.refuse = refuse
    assert left.fates() == {"namespace wwwm-doctor-a": Fate.STUCK}


def test_in_one_namespace_only_its_pods_are_looked_for(left: Leftovers) -> None:
    left.run("wwwm-doctor-a")
    left.cluster.add_pod("shop", "wwwm-doctor-1-a", **marks(DEAD))
    assert left.fates(namespace="shop") == {"pod shop/wwwm-doctor-1-a": Fate.REMOVED}
    assert "wwwm-doctor-a" in left.cluster.namespaces
    assert left.cluster.asked("GET", "/api/v1/namespaces?") == []


def test_an_object_of_another_shape_is_nobodys(left: Leftovers) -> None:
    left.cluster.add_namespace("wwwm-doctor-odd", **marks(DEAD))["status"] = {"conditions": 5}
    assert left.sweep() == Sweep()
