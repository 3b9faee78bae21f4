"""Probe pods on a real cluster: started where they can be, and always removed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.lab.faults import FAULTS
from tests.lab.faults.runner import mend, put_in
from tests.lab.images import COREDNS_TAG, REPOSITORY
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.patient import Said, doctor, examine, start
from tests.lab.shell import poll
from tests.lab.traces import left, probe_pods

pytestmark = pytest.mark.lab

_GIVEN: Final = "probes"
_OF_FLANNEL: Final = "/run/flannel"
_APISERVICE: Final = "v1beta1.metrics.example"
_NOBODY: Final = f"""
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {_APISERVICE}}}
spec:
  group: metrics.example
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {{name: absent, namespace: default}}
"""
_POLICY: Final = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: any, namespace: default}
spec: {podSelector: {}, ingress: [{}]}
"""


def reasons(said: Said) -> dict[str, str]:
    """Why there was no probe pod, by node."""
    gaps = [g for c in said.document["checks"] for g in c["gaps"]]
    prefix = "a probe pod on "
    return {
        g["needs"].removeprefix(prefix): g["reason"] for g in gaps if g["needs"].startswith(prefix)
    }


def worker(lab: Lab) -> Node:
    """A node that the API server does not run on, if there is one."""
    return list(lab.nodes.values())[-1]


@pytest.mark.shapes("hostgw")
def test_two_runs_at_once_do_not_meet(lab: Lab) -> None:
    """Not in one namespace, either: each removes its own pods only."""
    with given_namespace(lab):
        option = ("--probe-namespace", _GIVEN)
        with start(lab, "run", *option) as first, start(lab, "run", *option) as second:
            said = [run.communicate(timeout=120) for run in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0], said
    assert left(lab) == []


@contextmanager
def given_namespace(lab: Lab) -> Iterator[None]:
    """A namespace that somebody else made, with a pod of theirs, restricted as can be."""
    lab.kubectl("create", "namespace", _GIVEN)
    try:
        lab.kubectl("label", "namespace", _GIVEN, "pod-security.kubernetes.io/enforce=restricted")
        yield
    finally:
        lab.kubectl("delete", "namespace", _GIVEN, "--wait=true")


def changes(lab: Lab, since: int) -> list[tuple[str, str, str]]:
    """What the doctor changed: verb, resource with its namespace, and name."""
    proxy = lab.shape.proxy_address
    return [
        (
            e["verb"],
            f"{e['objectRef'].get('namespace', '')}/{e['objectRef']['resource']}",
            e["objectRef"].get("name", ""),
        )
        for e in lab.audit(since=since)
        if proxy in e.get("sourceIPs", [])
        and e["stage"] == "ResponseComplete"
        and e["verb"] not in ("get", "list")
        and e["objectRef"].get("subresource") != "exec"
        # asking what is allowed changes nothing
        and not e["objectRef"]["resource"].startswith("selfsubject")
    ]


@pytest.mark.shapes("hostgw")
def test_in_a_given_namespace_only_its_own_pods_are_made_and_removed(lab: Lab) -> None:
    """Nothing else in it is touched, and no namespace is made."""
    with given_namespace(lab):
        lab.kubectl("create", "configmap", "theirs", "-n", _GIVEN)
        mark = lab.audit_mark()
        said = examine(lab, "--probe-namespace", _GIVEN)
        assert said.exit_code == 0, said.lines
        seen = changes(lab, mark)
        assert {(verb, where) for verb, where, _ in seen} == {
            ("create", f"{_GIVEN}/pods"),
            ("deletecollection", f"{_GIVEN}/pods"),
        }
        # more than one where a kubelet is slow to end its pod: then it is deleted by force
        collections = [
            e["requestURI"]
            for e in lab.audit(since=mark)
            if e["verb"] == "deletecollection" and e["stage"] == "ResponseComplete"
        ]
        assert all("labelSelector=wwwm-doctor%2Frun%3D" in uri for uri in collections), collections
        assert lab.kubectl("get", "configmap", "theirs", "-n", _GIVEN, "-o", "name")
    assert left(lab) == []


@contextmanager
def unavailable_apiservice(lab: Lab) -> Iterator[None]:
    """An APIService whose Service has nobody behind it."""
    lab.apply(_NOBODY)
    path = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
    try:
        poll(
            lambda: lab.kubectl("get", "apiservice", _APISERVICE, "-o", path) == "False",
            seconds=30,
            what="the APIService to be called unavailable",
        )
        yield
    finally:
        lab.kubectl("delete", "apiservice", _APISERVICE)


@pytest.mark.shapes("hostgw")
def test_no_namespace_is_made_that_an_apiservice_would_keep(lab: Lab) -> None:
    """While it is unavailable, a namespace sticks in Terminating; so ``default`` is used."""
    with unavailable_apiservice(lab):
        mark = lab.audit_mark()
        said = examine(lab)
        assert said.exit_code == 0, said.lines
        (notice,) = [n for n in said.document["notices"] if _APISERVICE in n]
        assert notice.endswith("probe pods ran in namespace default")
        assert {where for _, where, _ in changes(lab, mark)} == {"default/pods"}
        assert left(lab) == []
        lab.apply(_POLICY)
        try:
            mark = lab.audit_mark()
            said = examine(lab)
        finally:
            lab.kubectl("delete", "networkpolicy", "any", "-n", "default")
        assert said.exit_code == 5, said.lines
        assert all(_APISERVICE in r and "--probe-namespace" in r for r in reasons(said).values())
        assert changes(lab, mark) == []


@pytest.mark.shapes("hostgw")
def test_a_namespace_that_an_apiservice_keeps_is_said_to_be_stuck(lab: Lab) -> None:
    """It is why none is made then. When the APIService has gone, so does the namespace."""
    name = "wwwm-doctor-stuck"
    lab.kubectl("create", "namespace", name)
    lab.kubectl("label", "namespace", name, "app.kubernetes.io/managed-by=wwwm-doctor")
    with unavailable_apiservice(lab):
        done = doctor(lab, "cleanup", "--all")
        assert done.returncode == 3, done.stdout
        assert f"namespace {name}: stuck: Discovery failed for some groups" in done.stdout
        assert "metrics.example/v1beta1" in done.stdout
    poll(
        lambda: lab.kubectl("get", "namespace", name, "--ignore-not-found") == "",
        seconds=90,
        what="the namespace to go after all",
    )


@pytest.mark.shapes("article")
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (f"{REPOSITORY}/coredns:{COREDNS_TAG}", 'exec: "sh": executable file not found'),
        ("registry.invalid/absent:1", "ErrImageNeverPull"),
    ],
)
def test_an_image_that_will_not_do_is_known_at_once_and_none_is_pulled(
    lab: Lab, image: str, said: str
) -> None:
    """The kubelet says why, and nobody waits for a time-out."""
    found = examine(lab, "--probe-image", image)
    assert found.exit_code == 5, found.lines
    assert all(said in r for r in reasons(found).values())
    assert found.document["stats"]["seconds"] < 15
    assert left(lab) == []


@pytest.mark.shapes("article")
def test_a_node_without_flannel_is_entered_through_a_host_network_pod(lab: Lab) -> None:
    """It needs no pod network, and sees what of flannel there is: nothing."""
    fault = FAULTS["flannel-not-on-node"]
    try:
        put_in(lab, fault)
        # as on a node that flannel never was on
        worker(lab).run("rmdir", _OF_FLANNEL)
        before = examine(lab)
        needs = f"entering node {worker(lab).fqdn}"
        assert [
            g for g in gaps(before) if g["needs"] == needs and "--allow-host-probe" in g["reason"]
        ]
        said = examine(lab, "--allow-host-probe")
        assert not [g for g in gaps(said) if g["needs"] == needs], said.lines
        assert said.codes[0] == "FLANNEL_NOT_ON_NODE", said.lines
        assert said.document["stats"]["seconds"] < 20
        assert left(lab) == []
        absent = worker(lab).run("test", "-e", _OF_FLANNEL, check=False)
        assert absent.returncode != 0, "it was made on the node"
    finally:
        mend(lab, fault)


def gaps(said: Said) -> list[dict[str, Any]]:
    """All gaps of a result."""
    return [g for c in said.document["checks"] for g in c["gaps"]]


@pytest.mark.shapes("article")
def test_a_stopped_run_is_still_alive(lab: Lab) -> None:
    """A debugger or Ctrl-Z may hold it: it will go on, and needs its pods."""
    with start(lab, "run") as run:
        poll(lambda: probe_pods(lab), seconds=30, what="the run's probe pods")
        run.send_signal(signal.SIGSTOP)
        done = doctor(lab, "cleanup", "--all")
        assert "left alone: its run is alive" in done.stdout
        run.send_signal(signal.SIGCONT)
        out, said = run.communicate(timeout=120)
    assert run.returncode == 0, (out, said)
    assert left(lab) == []
