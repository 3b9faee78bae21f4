"""What kube-proxy is told, and a second one beside it."""

import json
import re
from typing import Final

from tests.lab.faults.kube_proxy import DAEMONS, GONE
from tests.lab.faults.kube_proxy_rules import FLUSHED, HUNG, first_worker, proxy_on, reaches_api
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import Json, Ref, edit, get, restore
from tests.lab.faults.pods import Pod, delete, pods
from tests.lab.faults.traffic import curl
from tests.lab.lab import Lab
from tests.lab.shape import nth_address
from tests.lab.shell import poll

CIDR: Final = "kube-proxy-cluster-cidr-wrong"
API: Final = "kube-proxy-api-unreachable"
TWICE: Final = "kube-proxy-duplicate"
_CONFIG: Final = Ref(kind="configmap", name="kube-proxy", namespace="kube-system")
_STRAY: Final = Ref(kind="pod", name="kube-proxy-old", namespace="kube-system")
_OTHER_PODS: Final = "10.99.0.0/16"
_NOBODY: Final = 99
# it keeps off the other's ports, and off settings that are the machine's own
_APART: Final = (
    "--healthz-bind-address=127.0.0.1:10356",
    "--metrics-bind-address=127.0.0.1:10349",
    "--conntrack-max-per-core=0",
    "--conntrack-min=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
)


def _all_pods(lab: Lab) -> list[Pod]:
    return pods(lab, DAEMONS.namespace, "k8s-app=kube-proxy")


def _tell(lab: Lab, fault: str, key: str, pattern: str, text: str) -> None:
    """Change a line of kube-proxy's configuration, and start every kube-proxy anew with it."""

    def change(found: Json) -> None:
        found["data"][key] = re.sub(pattern, text, found["data"][key], flags=re.MULTILINE)

    before = get(lab, _CONFIG)["data"]
    edit(lab, fault, _CONFIG, change)
    if get(lab, _CONFIG)["data"] != before:
        delete(lab, _all_pods(lab))
    poll(lambda: _running(lab), seconds=60, what="kube-proxy on every node")


def _running(lab: Lab) -> bool:
    found = _all_pods(lab)
    return len(found) == len(lab.nodes) and all(pod.ready for pod in found)


def _untell(lab: Lab, fault: str) -> None:
    """Put the configuration back, and let every kube-proxy read it."""
    before = get(lab, _CONFIG)["data"]
    restore(lab, fault)
    if get(lab, _CONFIG)["data"] != before:
        delete(lab, _all_pods(lab))
    poll(
        lambda: _running(lab) and all(reaches_api(lab, node) for node in lab.nodes.values()),
        seconds=60,
        what="kube-proxy on every node",
    )


def _inject_cidr(lab: Lab) -> None:
    text = rf"\1 {_OTHER_PODS}"
    _tell(lab, CIDR, "config.conf", r"^(\s*clusterCIDR:).*$", text)


def _settled_cidr(lab: Lab) -> bool:
    rules = first_worker(lab).run("iptables-save", "-t", "nat").stdout
    return lab.shape.kube_proxy_mode == "nftables" or f"! -s {_OTHER_PODS}" in rules


def _dead_server(lab: Lab) -> str:
    return f"https://{nth_address(lab.shape.node_network, _NOBODY)}:6443"


def _inject_api(lab: Lab) -> None:
    _tell(lab, API, "kubeconfig.conf", r"^(\s*server:).*$", rf"\1 {_dead_server(lab)}")


def _settled_api(lab: Lab) -> bool:
    vantage = first_worker(lab).name
    return curl(lab, vantage, f"{_dead_server(lab)}/version", seconds=1) != 0


def _inject_twice(lab: Lab) -> None:
    node = first_worker(lab)
    template: Json = get(lab, DAEMONS)["spec"]["template"]["spec"]
    (container,) = template["containers"]
    container["command"] = [
        "/usr/local/bin/kube-proxy",
        "--kubeconfig=/var/lib/kube-proxy/kubeconfig.conf",
        f"--hostname-override={node.fqdn}",
        f"--proxy-mode={lab.shape.kube_proxy_mode}",
        f"--cluster-cidr={lab.shape.pod_network}",
        *_APART,
    ]
    stray = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _STRAY.name, "namespace": _STRAY.namespace},
        "spec": {**template, "nodeName": node.fqdn},
    }
    lab.kubectl("apply", "-f", "-", input=json.dumps(stray))


def _settled_twice(lab: Lab) -> bool:
    found = lab.kubectl("get", *_STRAY.arguments, "-o", "json", "--ignore-not-found")
    ready = bool(found) and Pod.of(json.loads(found)).ready
    return ready and all(pod.ready for pod in proxy_on(lab, first_worker(lab)))


def _heal_twice(lab: Lab) -> None:
    lab.kubectl("delete", *_STRAY.arguments, "--ignore-not-found")


FAULTS: Final = (
    Fault(
        name=CIDR,
        link="kube-proxy",
        story=(
            "kube-proxy is told that pods are in a network that they are not in, so it takes all"
            " of their traffic for others'."
        ),
        expected=frozenset({"KUBE_PROXY_CLUSTER_CIDR_WRONG"}),
        names=lambda _: (_OTHER_PODS,),
        forbidden=all_but("KUBE_PROXY_") | {"KUBE_PROXY_API_UNREACHABLE"},
        lookalikes=(API,),
        inject=_inject_cidr,
        settled=_settled_cidr,
        heal=lambda lab: _untell(lab, CIDR),
        warns=True,
    ),
    Fault(
        name=API,
        link="kube-proxy",
        story=(
            "kube-proxy looks for the API server at an address that it has no more, and was"
            " started anew since."
        ),
        expected=frozenset({"KUBE_PROXY_API_UNREACHABLE"}),
        names=lambda lab: (_dead_server(lab),),
        forbidden=all_but("KUBE_PROXY_")
        | {"KUBE_PROXY_NOT_ON_NODE", "KUBE_PROXY_RULES_STALE", "KUBE_PROXY_RULES_MISSING"}
        | {"KUBE_PROXY_CLUSTER_CIDR_WRONG"},
        lookalikes=(GONE, HUNG, FLUSHED, CIDR),
        fits=has_workers,
        inject=_inject_api,
        settled=_settled_api,
        heal=lambda lab: _untell(lab, API),
    ),
    Fault(
        name=TWICE,
        link="kube-proxy",
        story="An old kube-proxy still runs on a worker beside the one of the DaemonSet.",
        expected=frozenset({"KUBE_PROXY_DUPLICATE"}),
        names=lambda lab: (first_worker(lab).fqdn, _STRAY.name),
        forbidden=all_but("KUBE_PROXY_") | {"KUBE_PROXY_BACKENDS_MIXED"},
        lookalikes=("kube-proxy-backends-mixed",),
        fits=has_workers,
        inject=_inject_twice,
        settled=_settled_twice,
        heal=_heal_twice,
        warns=True,
    ),
)
