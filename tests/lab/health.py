"""Whether a lab is as it was when it came up."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.lab.fingerprint import SCRIPT, normalise
from tests.lab.init import SERVICES
from tests.lab.shell import LabError
from tests.lab.topology import FABRIC, PROXY, ROUTER

if TYPE_CHECKING:
    from tests.lab.lab import Lab

CONTROL_PLANE_TAINT: Final = "node-role.kubernetes.io/control-plane"
# states that only time, or a new pod, gets out of
_BACK_OFF: Final = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"}
)
_ENDED: Final = frozenset({"Failed", "Unknown"})
_FOUND_READY: Final = re.compile(
    r'^prober_probe_total{.*namespace="(?P<namespace>[^"]+)",pod="(?P<pod>[^"]+)",.*'
    r'probe_type="Readiness",result="successful"} ',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What matters of a pod here."""

    namespace: str
    name: str
    trouble: str | None
    stuck: bool


def _condition(item: dict[str, Any], kind: str) -> str:
    found = [c["status"] for c in item["status"].get("conditions", []) if c["type"] == kind]
    return str(found[0]) if found else "Unknown"


def pod_of(item: dict[str, Any]) -> Pod:
    """Judge a pod as the API describes it."""
    phase = item["status"].get("phase", "Unknown")
    states = item["status"].get("containerStatuses", [])
    states = [*states, *item["status"].get("initContainerStatuses", [])]
    waiting = [
        state["state"]["waiting"].get("reason", "")
        for state in states
        if "waiting" in state["state"]
    ]
    trouble = None
    if "deletionTimestamp" in item["metadata"]:
        trouble = "on its way out"
    elif phase != "Succeeded" and _condition(item, "Ready") != "True":
        trouble = next(iter(waiting), "") or phase
    return Pod(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        trouble=trouble,
        stuck=bool(_BACK_OFF & set(waiting)) or phase in _ENDED,
    )


def pods(lab: "Lab") -> list[Pod]:
    """All pods of the cluster."""
    listed = json.loads(lab.kubectl("get", "pods", "-A", "-o", "json"))
    return [pod_of(item) for item in listed["items"]]


def pods_trouble(lab: "Lab") -> str | None:
    """The first pod that is not ready, in one sentence."""
    found = pods(lab)
    if not found:
        return "there are no pods"
    return next((f"pod {p.namespace}/{p.name}: {p.trouble}" for p in found if p.trouble), None)


def found_ready(metrics: str) -> set[tuple[str, str]]:
    """The pods, by namespace and name, that a kubelet has found ready since it was started.

    Args:
        metrics: What the kubelet shows at `/metrics/probes`.
    """
    return {(m["namespace"], m["pod"]) for m in _FOUND_READY.finditer(metrics)}


def _has_readiness_probe(item: dict[str, Any]) -> bool:
    return any("readinessProbe" in container for container in item["spec"]["containers"])


def probes_trouble(lab: "Lab") -> str | None:
    """The first pod that its kubelet has not found ready by itself, in one sentence.

    A kubelet that was just started first calls its pods unready and then probes them; before it has
    done either, the API server knows only what the kubelet before it said.
    """
    listed = json.loads(lab.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    probed = [item for item in listed if _has_readiness_probe(item)]
    for node in sorted({item["spec"].get("nodeName", "") for item in probed} - {""}):
        path = f"/api/v1/nodes/{node}/proxy/metrics/probes"
        ready = found_ready(lab.kubectl("get", "--raw", path))
        for meta in (item["metadata"] for item in probed if item["spec"].get("nodeName") == node):
            if (meta["namespace"], meta["name"]) not in ready:
                return f"the kubelet of {node} has not seen {meta['name']} ready since its start"
    return None


def workloads_trouble(lab: "Lab") -> str | None:
    """The first Deployment that wants no pods, in one sentence: none of the lab's is like that."""
    listed = json.loads(lab.kubectl("get", "deployments", "-A", "-o", "json"))["items"]
    asleep = [d["metadata"]["name"] for d in listed if not d["spec"].get("replicas")]
    return f"deployment {asleep[0]} is scaled to zero" if asleep else None


def nodes_trouble(lab: "Lab") -> str | None:
    """The first node that is absent, not ready or tainted, in one sentence."""
    listed = json.loads(lab.kubectl("get", "nodes", "-o", "json"))["items"]
    known = {item["metadata"]["name"]: item for item in listed}
    for node in lab.nodes.values():
        if (item := known.get(node.fqdn)) is None:
            return f"node {node.fqdn} has not joined"
        if _condition(item, "Ready") != "True":
            return f"node {node.fqdn} is not ready"
        odd = [t["key"] for t in item["spec"].get("taints", []) if t["key"] != CONTROL_PLANE_TAINT]
        if odd:
            return f"node {node.fqdn} has the taint {odd[0]}"
    return None


def services_trouble(lab: "Lab") -> str | None:
    """The first runtime or kubelet that does not run, in one sentence."""
    for node in lab.nodes.values():
        for name in SERVICES:
            if not (node.home / f"{name}.pid").exists():
                return f"{name} of {node.name} does not run"
    return None


def objects_trouble(lab: "Lab") -> str | None:
    """The first object too many or too few, in one sentence."""
    return difference({"the cluster": lab.baseline_objects()}, {"the cluster": objects(lab)})


def site_trouble(lab: "Lab") -> str | None:
    """That the site does not answer, if so."""
    return None if lab.site_answers() else f"{lab.site_url} does not answer through the proxy"


def owners_trouble(lab: "Lab") -> str | None:
    """That several speakers announce the load balancer's address, if so.

    Speakers that did not hear each other for a while both do, until they have found together again.
    """
    address = lab.vip() or ""
    way = lab.at(ROUTER, "ip", "-json", "route", "get", address).stdout
    asked = ("-d", "-c", "2", "-W", "0.3", "-i", json.loads(way)[0]["dev"], address)
    alone = lab.at(ROUTER, "arping", *asked, check=False).returncode == 0
    return None if alone else f"not just one speaker announces {address}"


def objects(lab: "Lab") -> list[str]:
    """The objects of the cluster's that a fault or a condition may make, by kind and name."""
    kinds = (
        "namespaces",
        "apiservices",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "clusterroles",
        "clusterrolebindings",
        "resourcequotas",
        "services",
        "networkpolicies",
    )
    columns = "custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name,P:.status.phase"
    listed = lab.kubectl("get", ",".join(kinds), "-A", "--no-headers", "-o", columns)
    # a namespace that is on its way out is gone for all but the API server
    found = (line.split() for line in listed.splitlines() if "Terminating" not in line)
    return sorted(" ".join(words[:3]) for words in found)


def fingerprints(lab: "Lab") -> dict[str, list[str]]:
    """The fingerprint of every machine that a fault may touch."""
    names = [*lab.nodes, FABRIC, ROUTER, PROXY]
    mtu = lab.shape.pod_mtu

    def of(name: str) -> list[str]:
        return normalise(lab.at(name, "sh", "-c", SCRIPT, check=False).stdout, mtu)

    with ThreadPoolExecutor(len(names)) as pool:
        taken = dict(zip(names, pool.map(of, names), strict=True))
    # a fabric filters frames, which the script's IP tools do not see
    taken[FABRIC] += lab.at(FABRIC, "nft", "-s", "list", "ruleset").stdout.splitlines()
    ports = lab.at(FABRIC, "bridge", "link").stdout.splitlines()
    # without its index, which is another one after a reboot
    taken[FABRIC] += sorted(port.partition(": ")[2] for port in ports)
    taken[PROXY] += lab.world.nginx_config.read_text().splitlines()
    return taken


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> str | None:
    """The first difference between two sets of fingerprints, in one sentence."""
    for name, lines in before.items():
        now = after.get(name, [])
        if added := [line for line in now if line not in lines]:
            return f"{name} has in addition: {added[0].strip()}"
        if lost := [line for line in lines if line not in now]:
            return f"{name} has no longer: {lost[0].strip()}"
        if now != lines:
            return f"{name} has its rules in another order"
    return None


def trouble(lab: "Lab") -> str | None:
    """Why a lab is not healthy, in one sentence; None if it is."""
    if not lab.complete:
        return "the lab is not up"

    def fingerprint_trouble(lab: "Lab") -> str | None:
        return difference(lab.baseline(), fingerprints(lab))

    checks: tuple[Callable[[Lab], str | None], ...] = (
        services_trouble,
        # what is left of a fault says more than the site's silence because of it
        fingerprint_trouble,
        nodes_trouble,
        workloads_trouble,
        probes_trouble,
        pods_trouble,
        objects_trouble,
        site_trouble,
        owners_trouble,
    )
    try:
        return next((found for check in checks if (found := check(lab))), None)
    except LabError as error:
        return str(error)


def delete_stuck_pods(lab: "Lab") -> None:
    """Delete the pods that would wait for their back-off to pass."""
    try:
        for pod in pods(lab):
            if pod.stuck:
                name = (pod.name, "-n", pod.namespace, "--wait=false", "--ignore-not-found")
                lab.kubectl("delete", "pod", *name, check=False)
    except LabError:
        # the API server is not back yet: the next round sees
        return
