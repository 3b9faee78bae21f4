"""``images`` and ``cleanup`` on the command line, against an API server on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from doctor.cli.namespace import NamespaceName
from doctor.collect.pod_owner import begin
from tests.unit.fake_cluster import FakeCluster, serve
from tests.unit.loopback import closed_port, kubeconfig

BUNDLE = Path(__file__).parents[2] / "doctor" / "recordings" / "healthy.bundle"


@pytest.fixture
def cluster() -> FakeCluster:
    """Make a cluster of one node."""
    found = FakeCluster()
    found.lingering = False
    found.nodes["n0"] = {
        "metadata": {"name": "n0"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": ["registry.example/busybox:1"]}],
        },
    }
    return found


@pytest.fixture
def config(cluster: FakeCluster, tmp_path: Path) -> Iterator[str]:
    """Serve it; give the kubeconfig."""
    with serve(cluster) as url:
        yield str(kubeconfig(tmp_path, url))


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_images_says_what_would_be_used_and_only_lists(cluster: FakeCluster, config: str) -> None:
    done = doctor("images", "--kubeconfig", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["n0", "  registry.example/busybox:1"]
    (asked,) = cluster.asked("POST")
    assert asked.endswith("/selfsubjectrulesreviews")
    assert len(cluster.log) == 5, "the version, a review of rights, and three LISTs"
    assert {method for method, _ in cluster.log} == {"GET", "POST"}


def test_images_says_what_it_could_not_read(cluster: FakeCluster, config: str) -> None:
    cluster.refuse = lambda _m, path: (403, {"message": "no"}) if "/pods" in path else None
    done = doctor("images", "--kubeconfig", config)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == (
        "not read: api:pods: may not list pods (core) in all namespaces;"
        " wwwm-doctor rbac prints the role"
    )


def test_images_without_nodes_to_read_is_one_line(cluster: FakeCluster, config: str) -> None:
    cluster.refuse = lambda _m, path: (403, {"message": "no"}) if "/nodes" in path else None
    done = doctor("images", "--kubeconfig", config)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "wwwm-doctor: the nodes cannot be listed: may not list nodes (core);"
        " wwwm-doctor rbac prints the role\n"
    )


def leave(cluster: FakeCluster) -> None:
    """Leave what a killed run would: its process id is some other process's by now."""
    run = begin(60)
    note = json.loads(run.annotations["wwwm-doctor/owner"])
    note["started"] -= 1
    marks = {"wwwm-doctor/owner": json.dumps(note)}
    cluster.add_namespace(run.namespace, labels=run.labels, annotations=marks)


def test_cleanup_removes_and_says_so(cluster: FakeCluster, config: str) -> None:
    leave(cluster)
    done = doctor("cleanup", "--kubeconfig", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("namespace wwwm-doctor-")
    assert done.stdout.endswith(": removed\n")
    assert cluster.left == []
    again = doctor("cleanup", "--kubeconfig", config)
    assert (again.returncode, again.stdout) == (0, "nothing is left of any run\n")


@pytest.mark.parametrize(
    ("method", "part", "code", "said"),
    [
        ("DELETE", "", 3, "not removed: no"),
        ("GET", "/api/v1/pods", 5, "not looked for: pods: no"),
    ],
)
def test_cleanup_says_by_its_exit_code_what_is_left(
    cluster: FakeCluster, config: str, method: str, part: str, code: int, said: str
) -> None:
    leave(cluster)
    cluster.refuse = lambda m, path: (
        (403, {"message": "no"}) if m == method and path.startswith(part) else None
    )
    done = doctor("cleanup", "--kubeconfig", config)
    assert done.returncode == code
    assert said in done.stdout


def test_cleanup_all_and_in_one_namespace(cluster: FakeCluster, config: str) -> None:
    labels = begin(60).labels
    note = {"wwwm-doctor/ends": "2999-01-01T00:00:00Z"}
    cluster.add_pod("default", "wwwm-doctor-x", labels=labels, annotations=note)
    done = doctor("cleanup", "--kubeconfig", config, "--probe-namespace", "default")
    assert done.returncode == 0
    assert "left alone" in done.stdout
    done = doctor("cleanup", "--kubeconfig", config, "--probe-namespace", "default", "--all")
    assert done.stdout == "pod default/wwwm-doctor-x: removed\n"
    assert not cluster.pods


@pytest.mark.parametrize("command", ["images", "cleanup"])
def test_without_a_cluster_it_is_one_line(tmp_path: Path, command: str) -> None:
    path = kubeconfig(tmp_path, f"http://127.0.0.1:{closed_port()}")
    done = doctor(command, "--kubeconfig", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "cannot be reached: connection refused" in done.stderr


@pytest.mark.parametrize("name", ["", "a/b", "..", "A", "-a", "a-", "a" * 64, "a\n", "\u0661"])
def test_what_is_no_name_of_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(click.BadParameter, match="is no name of a namespace"):
        NamespaceName().convert(name, None, None)


@pytest.mark.parametrize("name", ["a", "0", "kube-system", "a" * 63])
def test_what_is_one_is_taken(name: str) -> None:
    assert NamespaceName().convert(name, None, None) == name


@pytest.mark.parametrize("command", ["run", "cleanup"])
def test_no_name_is_not_taken_for_none_given(command: str) -> None:
    """As a script's empty variable would: it would mean another namespace than was meant."""
    done = doctor(command, "--probe-namespace", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no name of a namespace" in done.stderr


@pytest.mark.parametrize("options", [("--probe-namespace", "x"), ("--allow-host-probe",)])
def test_a_bundle_starts_no_pods(options: tuple[str, ...]) -> None:
    done = doctor("run", "--bundle", str(BUNDLE), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{options[0]} asks a cluster" in done.stderr


@pytest.mark.parametrize("command", ["images", "cleanup"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys, contextlib; from doctor.cli.main import main;"
        f"sys.argv = ['wwwm-doctor', '{command}', '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(*(m for m in ('kubernetes', 'httpx', 'rich', 'msgspec') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
