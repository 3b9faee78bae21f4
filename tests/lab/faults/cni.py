"""What the runtime takes to give a pod its network: plugins, configuration, addresses."""

from typing import Final

from tests.lab.faults.flannel import SUBNET
from tests.lab.faults.model import Fault, all_but, has_workers
from tests.lab.faults.objects import forget, listed, note, noted
from tests.lab.faults.pods import app_pods
from tests.lab.faults.stuck import free, last_node, lure, stuck, told
from tests.lab.lab import Lab
from tests.lab.shell import poll

ENV_GONE: Final = "cni-subnet-env-missing"
NO_BINARY: Final = "cni-binary-missing"
NO_CONFIG: Final = "cni-config-uninitialized"
STALE: Final = "cni-stale-conflist"
FULL: Final = "hostlocal-ip-exhausted"
_PLUGIN: Final = "/opt/cni/bin/flannel"
_CONF: Final = "/etc/cni/net.d"
_ASIDE: Final = "/var/lib/cni/lab-aside"
_STALE_FILE: Final = f"{_CONF}/05-old.conflist"
_STALE_NETWORK: Final = "10.66.0"
_STALE_CONF: Final = """{
 "cniVersion": "0.3.1", "name": "old", "plugins": [
  {"type": "bridge", "bridge": "old0", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "subnet": "10.66.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]}
"""
_LEASES: Final = "/var/lib/cni/networks/cbr0"
_FAKE: Final = "lab-leaked-lease"
_FILL: Final = "/var/lib/cni/lab-leak"
_FILLING: Final = f"{_FILL}-runs"


def _exists(lab: Lab, path: str) -> bool:
    return last_node(lab).run("test", "-e", path, check=False).returncode == 0


def _restart_flannel(lab: Lab) -> None:
    """Have flannel's pod on the node made anew, whose init containers put files in place."""
    namespace, node = lab.shape.flannel_namespace, last_node(lab)
    there = f"spec.nodeName={node.fqdn}"
    for pod in listed(lab, "pods", namespace, "--field-selector", there):
        owners = pod["metadata"].get("ownerReferences", [])
        if any(o["kind"] == "DaemonSet" and "flannel" in o["name"] for o in owners):
            lab.kubectl("delete", "pod", "-n", namespace, pod["metadata"]["name"])


def _inject_env(lab: Lab) -> None:
    last_node(lab).run("rm", "-f", SUBNET)
    if not stuck(lab):
        lure(lab, ENV_GONE)


def _settled_env(lab: Lab) -> bool:
    return not _exists(lab, SUBNET) and told(lab, SUBNET)


def _heal_env(lab: Lab) -> None:
    if not _exists(lab, SUBNET):
        _restart_flannel(lab)
        poll(lambda: _exists(lab, SUBNET), seconds=60, what=f"{SUBNET} on {last_node(lab).name}")
    free(lab, ENV_GONE)


def _inject_binary(lab: Lab) -> None:
    last_node(lab).run("sh", "-c", f"mkdir -p {_ASIDE}; mv -f {_PLUGIN} {_ASIDE}/ || true")
    if not stuck(lab):
        lure(lab, NO_BINARY, wait=False)


def _settled_binary(lab: Lab) -> bool:
    return not _exists(lab, _PLUGIN) and told(lab, "failed to find plugin")


def _heal_binary(lab: Lab) -> None:
    back = f"[ -e {_PLUGIN} ] || mv -f {_ASIDE}/flannel {_PLUGIN}; rm -rf {_ASIDE}"
    last_node(lab).run("sh", "-c", back)
    free(lab, NO_BINARY)


def _ready(lab: Lab) -> dict[str, str]:
    """The Ready condition of the node."""
    found = lab.kubectl(
        "get",
        "node",
        last_node(lab).fqdn,
        "-o",
        'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status}|{.message}{end}',
    )
    status, _, message = found.partition("|")
    return {"status": status, "message": message}


def _inject_config(lab: Lab) -> None:
    last_node(lab).run("sh", "-c", f"mkdir -p {_ASIDE}; mv -f {_CONF}/* {_ASIDE}/ || true")


def _settled_config(lab: Lab) -> bool:
    ready = _ready(lab)
    return ready["status"] == "False" and "cni" in ready["message"]


def _heal_config(lab: Lab) -> None:
    back = f"[ ! -d {_ASIDE} ] || {{ mv -f {_ASIDE}/* {_CONF}/ || true; rm -rf {_ASIDE}; }}"
    last_node(lab).run("sh", "-c", back)


def _inject_stale(lab: Lab) -> None:
    last_node(lab).run("tee", _STALE_FILE, input=_STALE_CONF)
    if not _strays(lab):
        lure_any(lab)


def lure_any(lab: Lab) -> None:
    """Have the site's pods on the last node made anew, which get an address there."""
    pods = [p for p in app_pods(lab) if p.node == last_node(lab).fqdn] or app_pods(lab)[:1]
    names = [p.name for p in pods]
    note(lab, STALE, "pods", " ".join(names))
    lab.kubectl("delete", "pod", "-n", lab.shape.app_namespace, *names)


def _strays(lab: Lab) -> list[str]:
    return [p.name for p in app_pods(lab) if p.address.startswith(_STALE_NETWORK)]


def _settled_stale(lab: Lab) -> bool:
    return bool(_strays(lab))


def _heal_stale(lab: Lab) -> None:
    node = last_node(lab)
    node.run("rm", "-rf", _STALE_FILE, "/var/lib/cni/set-aside")
    poll(lambda: not _exists(lab, _STALE_FILE), seconds=10, what="the file to be gone")
    listing = lab.kubectl(
        "get", "pods", "-A", "-o",
        'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name} {.status.podIP}{"\\n"}{end}',
    )  # fmt: skip
    for line in listing.splitlines():
        namespace, name, *address = line.split()
        if address and address[0].startswith(_STALE_NETWORK):
            lab.kubectl("delete", "pod", "-n", namespace, name)
    node.run("ip", "link", "delete", "old0", check=False)
    node.run("rm", "-rf", "/var/lib/cni/networks/old")
    if noted(lab, STALE, "pods"):
        forget(lab, STALE, "pods")


def _fill(lab: Lab) -> str:
    """The shell's words that leak a lease for every address that nobody holds."""
    subnet = last_node(lab).run("sh", "-c", f". {SUBNET}; echo $FLANNEL_SUBNET").stdout.strip()
    prefix = subnet.rpartition(".")[0]
    return (
        f"for i in $(seq 2 254); do f={_LEASES}/{prefix}.$i;"
        f' [ -e "$f" ] || printf "{_FAKE}\\r\\neth0" >"$f"; done'
    )


def _inject_full(lab: Lab) -> None:
    node, fill = last_node(lab), _fill(lab)
    # an address that a pod gives back is leaked at once, or the next pod would have it
    loop = f"touch {_FILLING}; while [ -e {_FILL} ]; do {fill}; sleep 0.05; done; rm {_FILLING}"
    node.run("sh", "-c", f"mkdir -p {_LEASES}; touch {_FILL}; {fill}")
    node.run("sh", "-c", f"({loop}) </dev/null >/dev/null 2>&1 &")
    try:
        if not stuck(lab):
            lure(lab, FULL)
    finally:
        _stop_filling(lab)


def _stop_filling(lab: Lab) -> None:
    last_node(lab).run("rm", "-f", _FILL)
    poll(lambda: not _exists(lab, _FILLING), seconds=10, what="an end of leaking")


def _settled_full(lab: Lab) -> bool:
    return told(lab, "no IP addresses available in range set")


def _heal_full(lab: Lab) -> None:
    _stop_filling(lab)
    clear = f"cd {_LEASES} && grep -lF {_FAKE} * | xargs -r rm -f"
    last_node(lab).run("sh", "-c", clear, check=False)
    free(lab, FULL)


_SANDBOX: Final = (ENV_GONE, NO_BINARY, NO_CONFIG, FULL)


def _others(name: str, *more: str) -> tuple[str, ...]:
    return (*(n for n in _SANDBOX if n != name), *more)


def _named(lab: Lab) -> tuple[str, ...]:
    return (last_node(lab).fqdn,)


_FLANNELS: Final = frozenset({"FLANNEL_*"})

FAULTS: Final = (
    Fault(
        name=ENV_GONE,
        link="flannel",
        story=(
            "Somebody removed /run/flannel/subnet.env from a worker while flannel runs there, so"
            " new pods get no sandbox."
        ),
        expected=frozenset({"FLANNEL_SUBNET_ENV_MISSING"}),
        names=_named,
        forbidden=all_but("FLANNEL_") | {"FLANNEL_NOT_*"},
        lookalikes=_others(ENV_GONE, "flannel-not-on-node"),
        fits=has_workers,
        inject=_inject_env,
        settled=_settled_env,
        heal=_heal_env,
    ),
    Fault(
        name=NO_BINARY,
        link="flannel",
        story="The program of flannel's CNI plugin is gone from a worker.",
        expected=frozenset({"CNI_PLUGIN_MISSING"}),
        names=lambda lab: (*_named(lab), "flannel"),
        forbidden=all_but("CNI_") | {"CNI_CONFIG_MISSING", "CNI_ADDRESSES_EXHAUSTED"},
        lookalikes=_others(NO_BINARY),
        fits=has_workers,
        inject=_inject_binary,
        settled=_settled_binary,
        heal=_heal_binary,
    ),
    Fault(
        name=NO_CONFIG,
        link="flannel",
        story="A worker's /etc/cni/net.d is empty although flannel runs, so the node is not ready.",
        expected=frozenset({"CNI_CONFIG_MISSING"}),
        names=_named,
        forbidden=all_but("CNI_")
        | {"CNI_PLUGIN_MISSING", "CNI_ADDRESSES_EXHAUSTED", "NODE_NOT_READY"},
        lookalikes=_others(NO_CONFIG),
        fits=has_workers,
        inject=_inject_config,
        settled=_settled_config,
        heal=_heal_config,
    ),
    Fault(
        name=FULL,
        link="flannel",
        story="Leases of pods that are gone hold all addresses of a worker's subnet.",
        expected=frozenset({"CNI_ADDRESSES_EXHAUSTED"}),
        names=_named,
        forbidden=all_but("CNI_") | {"CNI_PLUGIN_MISSING", "CNI_CONFIG_MISSING"},
        lookalikes=_others(FULL),
        fits=has_workers,
        inject=_inject_full,
        settled=_settled_full,
        heal=_heal_full,
    ),
    Fault(
        name=STALE,
        link="flannel",
        story=(
            "A CNI configuration of former times sorts before flannel's on a worker, so new pods"
            " there get addresses that nobody routes to."
        ),
        expected=frozenset({"CNI_POD_OUTSIDE_PODCIDR"}),
        names=lambda lab: (*_named(lab), _STALE_NETWORK),
        forbidden=all_but("CNI_") | {"CNI_BRIDGE_*"},
        lookalikes=("sg-drops-8472", "cni0-ip-conflict"),
        fits=has_workers,
        inject=_inject_stale,
        settled=_settled_stale,
        heal=_heal_stale,
    ),
)
