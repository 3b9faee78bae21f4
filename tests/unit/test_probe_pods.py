"""Probe pods: started where they can be, from what is there, and always removed."""

import os
import threading

import pytest

from doctor.collect.pod_images import NO_IMAGE
from tests.unit.fake_cluster import (
    NO_SHELL,
    RUNNING,
    TAKEN_UP,
    Answer,
    Object,
    waiting,
)
from tests.unit.probe_site import (
    BAD,
    GOOD,
    NODES,
    WORSE,
    Site,
    away,
    node,
    slow,
)


def test_a_healthy_run_costs_few_requests_and_leaves_nothing(site: Site) -> None:
    found = site.start()
    assert [(p.node, p.address) for p in found] == [(n.name, "10.244.0.9") for n in NODES]
    site.nothing_is_left()
    requests = [(m, p.partition("?")[0].rpartition("/")[2][:4]) for m, p in site.cluster.log]
    assert requests == [
        ("GET", "vers"),
        ("POST", "name"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("POST", "pods"),
        ("GET", "pods"),
        ("DELETE", "wwwm"),
        ("DELETE", "pods"),
        ("GET", "pods"),
    ]


def test_its_namespace_says_whose_it_is_while_it_is_there(site: Site) -> None:
    site.during = lambda: seen.update(site.cluster.namespaces)
    seen: dict[str, Object] = {}
    site.start()
    (own,) = (o["metadata"] for n, o in seen.items() if n.startswith("wwwm-doctor-"))
    assert own["labels"]["app.kubernetes.io/managed-by"] == "wwwm-doctor"
    assert own["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert str(os.getpid()) in own["annotations"]["wwwm-doctor/owner"]


def test_pods_are_created_beside_each_other(site: Site) -> None:
    """Each creation is answered only when all have come: one after the other would never end."""
    together = threading.Barrier(len(NODES))

    def admit(_pod: Object, rehearsal: bool) -> Answer | None:  # noqa: FBT001
        if not rehearsal:
            together.wait(10)
        return None

    site.cluster._lock = threading.Lock()  # type: ignore[assignment]
    site.cluster.refuse = lambda m, p: (
        admit({}, rehearsal=False) if m == "POST" and p.endswith("/pods") else None
    )
    assert all(p.address for p in site.start())


class TestImages:
    """One image after the other, until a shell runs."""

    def test_an_image_without_a_shell_is_followed_by_the_next_at_once(self, site: Site) -> None:
        site.cluster.lives = {BAD: [TAKEN_UP, NO_SHELL], WORSE: [waiting("ErrImageNeverPull")]}
        (found,) = site.start(nodes=(node("n0", WORSE, BAD, GOOD),))
        assert (found.image, found.address) == (GOOD, "10.244.0.9")
        assert len(site.made()) == 3
        site.nothing_is_left()

    def test_what_the_user_chose_is_followed_by_nothing(self, site: Site) -> None:
        site.cluster.lives = {BAD: [NO_SHELL]}
        assert all("StartError" in r for r in site.reasons(image=BAD))
        assert len(site.made()) == 3
        site.nothing_is_left()

    def test_all_that_was_tried_is_said(self, site: Site) -> None:
        site.cluster.lives = {BAD: [NO_SHELL], WORSE: [waiting("ErrImageNeverPull")]}
        (reason,) = site.reasons(nodes=(node("n0", BAD, WORSE),))
        assert "StartError" in reason
        assert "; then ErrImageNeverPull" in reason

    def test_no_other_image_is_tried_where_none_can_help(self, site: Site) -> None:
        full = {"phase": "Failed", "reason": "OutOfpods", "message": "too many pods"}
        site.cluster.lives = {BAD: [full]}
        (reason,) = site.reasons(nodes=(node("n0", BAD, GOOD),))
        assert reason == "OutOfpods: too many pods"
        assert len(site.made()) == 1

    def test_a_node_with_no_image_is_not_asked_for(self, site: Site) -> None:
        found = site.start(nodes=(node("n0", "registry.k8s.io/pause:3"), node("n1")))
        assert [(p.node, p.reason) for p in found] == [("n0", NO_IMAGE), ("n1", "")]
        assert len(site.made()) == 1

    def test_where_no_node_has_one_nothing_is_made(self, site: Site) -> None:
        assert site.reasons(nodes=(node("n0", "registry.k8s.io/pause:3"),)) == [NO_IMAGE]
        assert [m for m, _ in site.cluster.log] == ["GET"], "the version, on connecting"


class TestAdmission:
    """What admission makes of a pod is seen before one is started."""

    def test_what_would_be_pulled_is_not_started(self, site: Site) -> None:
        def always(pod: Object, _rehearsal: bool) -> None:  # noqa: FBT001
            pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"

        site.cluster.admit = always
        reasons = site.reasons()
        assert all("sets imagePullPolicy to Always" in r for r in reasons)
        assert site.made() == []
        assert len(site.cluster.asked("POST", "dryRun=All")) == 1
        site.nothing_is_left()

    @pytest.mark.parametrize(
        "said",
        [
            "exceeded quota: pods, requested: pods=1, used: pods=0, limited: pods=0",
            'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
            'admission webhook "policy.example" denied the request: no probes here',
            'admission webhook "inject.example" does not support dry run',
        ],
    )
    def test_a_refusal_is_evidence_for_all_nodes_at_once(self, site: Site, said: str) -> None:
        site.cluster.admit = lambda _pod, _rehearsal: (403, {"message": said})
        assert site.reasons() == [said] * 3
        assert len(site.cluster.asked("POST", "/pods")) == 1
        site.nothing_is_left()

    def test_the_service_account_of_a_new_namespace_is_waited_for(self, site: Site) -> None:
        missing = 'pods "x" is forbidden: error looking up service account a/default: not found'
        answers = [(403, {"message": missing})] * 2
        site.cluster.admit = lambda _pod, _rehearsal: answers.pop() if answers else None
        assert all(p.address for p in site.start())

    def test_what_is_changed_later_than_in_the_rehearsal_is_taken_back(self, site: Site) -> None:
        def on_n1(pod: Object, _rehearsal: bool) -> None:  # noqa: FBT001
            if pod["spec"]["nodeName"] == "n1":
                pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"

        site.cluster.admit = on_n1
        removed: list[str] = []
        site.during = lambda: removed.extend(site.cluster.asked("DELETE", "/pods/"))
        found = {p.node: p.reason for p in site.start()}
        assert "imagePullPolicy" in found["n1"]
        assert (found["n0"], found["n2"]) == ("", "")
        assert len(removed) == 1

    def test_a_refusal_of_one_pod_is_that_nodes(self, site: Site) -> None:
        site.cluster.admit = lambda pod, _rehearsal: (
            (403, {"message": "not there"}) if pod["spec"]["nodeName"] == "n2" else None
        )
        assert [(bool(p.address), p.reason) for p in site.start()] == [
            (True, ""),
            (True, ""),
            (False, "not there"),
        ]
        site.nothing_is_left()


class TestNamespaces:
    """Where probe pods live."""

    def test_where_no_namespace_may_be_made_nothing_is(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "may not"})
            if (method, path[-11:]) == ("POST", "/namespaces")
            else None
        )
        (reason, *_) = site.reasons()
        assert "could not be created: may not (--probe-namespace)" in reason
        assert site.cluster.asked("POST", "/pods") == []
        site.nothing_is_left()

    def test_in_a_namespace_that_was_given_only_own_pods_are_touched(self, site: Site) -> None:
        site.cluster.add_pod("given", "web", labels={"app": "web"})
        site.cluster.add_pod(
            "given",
            "wwwm-doctor-other-1",
            labels={"app.kubernetes.io/managed-by": "wwwm-doctor", "wwwm-doctor/run": "other"},
        )
        assert [p.namespace for p in site.start(namespace="given")] == ["given"] * 3
        assert {name for _, name in site.cluster.pods} == {"web", "wwwm-doctor-other-1"}
        assert site.cluster.asked("POST", "namespaces")[0].startswith("/api/v1/namespaces/given/")
        (collection,) = site.cluster.asked("DELETE")
        assert "labelSelector=wwwm-doctor%2Frun%3D" in collection
        assert "deletionTimestamp" not in site.cluster.namespaces["given"]["metadata"]
        assert site.warnings == []

    def test_a_namespace_that_does_not_exist_is_named(self, site: Site) -> None:
        assert site.reasons(namespace="absent") == ['namespaces "absent" not found'] * 3

    def test_where_collections_may_not_be_deleted_pods_are_one_by_one(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "no"}) if method == "DELETE" and "labelSelector" in path else None
        )
        assert all(p.address for p in site.start(namespace="given"))
        site.nothing_is_left()

    @pytest.mark.parametrize("status", ["False", "Unknown"])
    def test_no_namespace_is_made_that_could_not_be_removed(self, site: Site, status: str) -> None:
        found = site.start(away(status))
        assert {p.namespace for p in found if p.address} == {"default"}
        assert "/api/v1/namespaces" not in site.cluster.asked("POST")
        assert len(site.cluster.asked("GET", "networkpolicies")) == 1
        site.nothing_is_left()

    def test_an_available_one_is_no_hindrance(self, site: Site) -> None:
        assert all(p.namespace != "default" for p in site.start(away("True")))
        assert site.cluster.asked("GET", "networkpolicies") == []

    def test_where_policies_would_be_measured_it_is_not_done_either(self, site: Site) -> None:
        site.cluster.policies["default"] = [{"metadata": {"name": "deny"}}]
        (reason, *_) = site.reasons(world=away())
        assert "APIService v1.metrics.example is unavailable" in reason
        assert "default has NetworkPolicies (--probe-namespace)" in reason
        assert site.cluster.asked("POST") == []

    def test_nor_where_that_cannot_be_told(self, site: Site) -> None:
        site.cluster.refuse = lambda _method, path: (
            (403, {"message": "may not"}) if "networkpolicies" in path else None
        )
        assert "whether default has NetworkPolicies: may not" in site.reasons(world=away())[0]

    def test_the_namespace_that_was_given_is_used_all_the_same(self, site: Site) -> None:
        assert {p.namespace for p in site.start(away(), namespace="given")} == {"given"}
        assert site.cluster.asked("GET", "networkpolicies") == []


class TestHosts:
    """Probe pods in the nodes' own network, where nothing else can be entered."""

    def test_they_are_in_a_namespace_of_their_own(self, site: Site) -> None:
        levels: dict[str, str] = {}
        site.during = lambda: levels.update(
            {
                name: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
                for name, item in site.cluster.namespaces.items()
                if name.startswith("wwwm-doctor-")
            }
        )
        found = site.start(hosts=NODES[1:2])
        assert [(p.node, p.host) for p in found] == [
            ("n0", False),
            ("n1", False),
            ("n2", False),
            ("n1", True),
        ]
        spaces = {p.host: p.namespace for p in found}
        assert levels == {spaces[False]: "restricted", spaces[True]: "privileged"}
        assert len(site.cluster.asked("POST", "dryRun=All")) == 2
        site.nothing_is_left()

    def test_a_refusal_of_theirs_is_no_other_pods(self, site: Site) -> None:
        site.cluster.admit = lambda pod, _rehearsal: (
            (403, {"message": "no host network"}) if pod["spec"].get("hostNetwork") else None
        )
        found = site.start(hosts=NODES[1:2])
        assert [bool(p.address) for p in found] == [True, True, True, False]
        assert found[3].reason == "no host network"
        site.nothing_is_left()

    def test_what_the_node_does_not_have_is_done_without(self, site: Site) -> None:
        """The kubelet says so in a warning, and the pod would wait for it for ever."""
        mounted: list[set[str]] = []

        def admit(pod: Object, rehearsal: bool) -> None:  # noqa: FBT001
            names = {v["name"] for v in pod["spec"]["volumes"]}
            site.cluster.lives[GOOD] = [RUNNING if names == {"opt-cni"} else TAKEN_UP]
            if not rehearsal:
                mounted.append(names)
                about = {"kind": "Pod", "name": pod["metadata"]["name"]}
                site.cluster.events[pod["metadata"]["namespace"]] += [
                    {
                        "reason": "FailedMount",
                        "message": f'for volume "{n}" : hostPath type check failed: it is absent',
                        "involvedObject": about,
                    }
                    for n in sorted(names - {"opt-cni"})
                ]

        def with_namespace(method: str, path: str) -> None:
            del method
            current["namespace"] = path.split("/")[4] if path.count("/") > 4 else ""

        current: dict[str, str] = {}
        site.cluster.refuse = with_namespace
        site.cluster.admit = lambda pod, rehearsal: admit(
            {**pod, "metadata": {**pod["metadata"], **current}}, rehearsal
        )
        (found,) = site.start(nodes=(), hosts=NODES[:1], pace=slow())
        assert found.address
        assert mounted == [{"run-flannel", "etc-cni", "opt-cni"}, {"opt-cni"}]
        site.nothing_is_left()

    def test_with_a_given_namespace_both_kinds_are_in_it(self, site: Site) -> None:
        found = site.start(hosts=NODES[1:2], namespace="given")
        assert {p.namespace for p in found} == {"given"}
        assert all(p.address for p in found)
        assert len(site.cluster.asked("DELETE")) == 1
        site.nothing_is_left()

    def test_both_kinds_are_removed_one_by_one_where_that_is_all_one_may(self, site: Site) -> None:
        site.cluster.refuse = lambda method, path: (
            (403, {"message": "no"}) if method == "DELETE" and "labelSelector" in path else None
        )
        assert all(p.address for p in site.start(hosts=NODES[1:2], namespace="given"))
        site.nothing_is_left()
