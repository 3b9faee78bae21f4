"""What a run asks of the cluster, what it leaves, and that it can be judged again."""

import json
import signal
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.patient import doctor, examine, start
from tests.lab.shell import poll
from tests.lab.traces import requests

pytestmark = pytest.mark.lab

_DNS_RESOURCES = frozenset(
    {
        "apiservices",
        "configmaps",
        "daemonsets",
        "deployments",
        "endpointslices",
        "events",
        "namespaces",
        "networkpolicies",
        "nodes",
        "pods",
        "selfsubjectrulesreviews",
        "services",
    }
)
_VERBS = frozenset({"get", "list", "create", "delete", "deletecollection"})


def test_check_dns_gathers_only_what_dns_crosses(lab: Lab) -> None:
    """No Ingress, no webhook, nothing of MetalLB is read for it."""
    mark = lab.audit_mark()
    done = doctor(lab, "check", "dns", "--output", "json")
    seen = requests(lab, mark)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen, "the audit log shows no request of the doctor's"
    resources = {e["objectRef"]["resource"] for e in seen if "objectRef" in e}
    assert resources <= _DNS_RESOURCES
    configmaps = {
        e["objectRef"].get("name")
        for e in seen
        if e.get("objectRef", {}).get("resource") == "configmaps"
    }
    assert configmaps == {"kube-flannel-cfg", "coredns", "kube-proxy"}
    links = {c["link"] for c in json.loads(done.stdout)["checks"]}
    assert links == {"node", "flannel", "overlay", "dns", "kube-proxy"}


def test_a_run_changes_nothing_but_its_own_namespace(lab: Lab) -> None:
    """It gets and lists; it creates and deletes only in a namespace of its own."""
    mark = lab.audit_mark()
    said = examine(lab, "--url", f"{lab.site_url}/")
    seen = requests(lab, mark)
    assert said.exit_code == 0, said.lines
    assert {e["verb"] for e in seen} <= _VERBS
    changing = [e for e in seen if e["verb"] not in ("get", "list")]
    own = {
        e["objectRef"].get("namespace") or e["objectRef"].get("name", "")
        for e in changing
        if e["objectRef"].get("subresource") != "exec"
    }
    assert {name for name in own if name} <= {n for n in own if n.startswith("wwwm-doctor-")}
    assert len([n for n in own if n.startswith("wwwm-doctor-")]) == 1
    assert said.document["stats"]["api_requests"] == len(seen)


def test_nothing_of_a_run_stays(lab: Lab) -> None:
    """When the command returns no pod is left, and the namespace is on its way out."""

    def left() -> list[str]:
        names = lab.kubectl("get", "namespaces", "-o", "name").split()
        return [n for n in names if "wwwm-doctor" in n]

    examine(lab)
    label = ("-l", "app.kubernetes.io/managed-by=wwwm-doctor")
    assert lab.kubectl("get", "pods", "-A", *label, "-o", "name") == ""
    assert all("Terminating" in lab.kubectl("get", n) for n in left())
    poll(lambda: not left(), seconds=60, what="the run's namespace to go")


def test_a_saved_bundle_gives_the_same_diagnosis(lab: Lab, tmp_path: Path) -> None:
    """Byte for byte, and without a cluster to talk to."""
    bundle = tmp_path / "run.bundle"
    url = ("--url", f"{lab.site_url}/")
    live = doctor(lab, "run", "--output", "json", "--save", str(bundle), *url)
    mark = lab.audit_mark()
    replayed = doctor(
        lab,
        "run",
        "--output",
        "json",
        "--bundle",
        str(bundle),
        vantage="internet",
    )
    assert requests(lab, mark) == []
    assert replayed.stdout == live.stdout
    assert replayed.returncode == live.returncode
    assert bundle.stat().st_mode & 0o777 == 0o600


def test_an_unreachable_api_server_is_one_line(lab: Lab, tmp_path: Path) -> None:
    """An address that answers no ARP: said in one line, exit code 2."""
    kubeconfig = tmp_path / "kubeconfig"
    server = f"https://{lab.control_plane.address}:6443"
    nobody = f"https://{lab.shape.proxy_address.rpartition('.')[0]}.199:6443"
    kubeconfig.write_text(lab.kubeconfig.read_text().replace(server, nobody))
    done = doctor(lab, "run", "--kubeconfig", str(kubeconfig), "--request-timeout", "2")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert nobody in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_run_leaves_nothing(lab: Lab, number: signal.Signals) -> None:
    """Interrupted once its probe pods are there, it removes them and says so by its exit code."""
    label = ("-l", "app.kubernetes.io/managed-by=wwwm-doctor")

    def pods() -> str:
        return lab.kubectl("get", "pods", "-A", *label, "-o", "name")

    with start(lab, "run", "--url", f"{lab.site_url}/") as run:
        poll(pods, seconds=30, what="the run's probe pods")
        run.send_signal(number)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said.strip() == "wwwm-doctor: interrupted"
    assert pods() == ""
