"""The cluster itself: kubeadm, and flannel."""

import json
import re
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import yaml

from tests.lab.build import KUBERNETES
from tests.lab.images import COREDNS_TAG, ETCD_TAG, FLANNEL_PLUGIN, REPOSITORY
from tests.lab.node import ADMIN, Node
from tests.lab.places import MANIFESTS
from tests.lab.shape import Shape
from tests.lab.shell import LabError

Manifest = dict[str, Any]
KUBEADM_SECONDS: Final = 300
AUDIT_DIRECTORY: Final = "/var/log/kubernetes"
AUDIT_LOG: Final = f"{AUDIT_DIRECTORY}/audit.log"
AUDIT_POLICY: Final = "/etc/kubernetes/audit.yaml"
FLANNEL_NAMESPACE: Final = "kube-flannel"
_SOCKET: Final = "unix:///run/containerd/containerd.sock"
_PREFLIGHT: Final = "--ignore-preflight-errors=all"
_API: Final = "kubeadm.k8s.io/v1beta4"
_ADMISSION: Final = "/etc/kubernetes/admission.yaml"
_NO_LIMIT: Final = "0%"
# the control plane gives up a node that was silent for so long; upstream's 50 s only cost time
_SILENCE: Final = "24s"


def _init_configuration(shape: Shape, node: Node, token: str) -> Manifest:
    registration: Manifest = {
        "name": node.fqdn,
        "criSocket": _SOCKET,
        "imagePullPolicy": "IfNotPresent",
    }
    if len(shape.nodes) == 1:
        # nobody else is there to run pods
        registration["taints"] = []
    return {
        "apiVersion": _API,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{"token": token}],
        "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": 6443},
        "nodeRegistration": registration,
        # its pods are to find all nodes there, not the first one only
        "skipPhases": ["addon/coredns"],
    }


def pod_security(level: str) -> Manifest:
    """The admission configuration by which namespaces without labels get a level."""
    own = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": level, "enforce-version": "latest"},
        # its pods are kubeadm's, which sets no labels
        "exemptions": {"namespaces": ["kube-system"]},
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": own}],
    }


def _api_server() -> Manifest:
    arguments = {
        "admission-control-config-file": _ADMISSION,
        "audit-policy-file": AUDIT_POLICY,
        "audit-log-path": AUDIT_LOG,
        # never rotated: the lab reads it by position
        "audit-log-maxsize": "10000",
    }
    volumes = (
        ("admission", _ADMISSION, True, "File"),
        ("audit-policy", AUDIT_POLICY, True, "File"),
        ("audit-log", AUDIT_DIRECTORY, False, "DirectoryOrCreate"),
    )
    return {
        "extraArgs": [{"name": name, "value": value} for name, value in arguments.items()],
        "extraVolumes": [
            {"name": name, "hostPath": path, "mountPath": path, "readOnly": fixed, "pathType": kind}
            for name, path, fixed, kind in volumes
        ],
    }


def _cluster_configuration(shape: Shape) -> Manifest:
    return {
        "apiVersion": _API,
        "kind": "ClusterConfiguration",
        "kubernetesVersion": KUBERNETES,
        "imageRepository": REPOSITORY,
        "networking": {
            "podSubnet": shape.pod_network,
            "serviceSubnet": shape.service_network,
            "dnsDomain": shape.cluster_domain,
        },
        "etcd": {"local": {"imageTag": ETCD_TAG}},
        "dns": {"imageTag": COREDNS_TAG},
        "apiServer": _api_server(),
        "controllerManager": {
            "extraArgs": [{"name": "node-monitor-grace-period", "value": _SILENCE}]
        },
    }


def _component_configurations(shape: Shape) -> tuple[Manifest, Manifest]:
    kubelet: Manifest = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        # the disk is this machine's: how full it is must not evict anybody
        "imageGCHighThresholdPercent": 100,
        "evictionHard": dict.fromkeys(
            ("nodefs.available", "nodefs.inodesFree", "imagefs.available"), _NO_LIMIT
        ),
    }
    proxy: Manifest = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": shape.kube_proxy_mode,
        # the kernel's table is not a namespace's to size
        "conntrack": {"maxPerCore": 0},
    }
    return kubelet, proxy


def kubeadm_configuration(shape: Shape, node: Node, token: str) -> str:
    """The file that `kubeadm init` reads."""
    init = _init_configuration(shape, node, token)
    documents = (init, _cluster_configuration(shape), *_component_configurations(shape))
    return yaml.safe_dump_all(documents, sort_keys=False)


def _kubeadm(node: Node, log: str, *arguments: str) -> str:
    done = node.run("kubeadm", *arguments, check=False, timeout=KUBEADM_SECONDS)
    path = node.home / f"{log}.log"
    path.write_text(done.stdout + done.stderr)
    if done.returncode:
        msg = f"kubeadm {log} failed on {node.name}, see {path}: {done.stderr.strip()[-400:]}"
        raise LabError(msg)
    return done.stdout


class Cluster:
    """Makes a cluster of nodes that are up."""

    def __init__(self, shape: Shape, nodes: Iterable[Node]) -> None:
        """Remember the nodes; the first is the control plane."""
        self._shape = shape
        self._first, *self._workers = nodes
        self._token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
        self._config = self._first.home / "kubeadm.yaml"

    def init(self) -> str:
        """Make the control plane.

        Returns:
            The hash by which the other nodes know it.
        """
        node = self._first
        policy = (MANIFESTS / "audit.yaml").read_text()
        (node.disk / AUDIT_POLICY.lstrip("/")).write_text(policy)
        admission = yaml.safe_dump(pod_security(self._shape.pod_security), sort_keys=False)
        (node.disk / _ADMISSION.lstrip("/")).write_text(admission)
        self._config.write_text(kubeadm_configuration(self._shape, node, self._token))
        said = _kubeadm(node, "init", "init", "--config", str(self._config), _PREFLIGHT)
        found = re.findall(r"sha256:[0-9a-f]{64}", said)
        if not found:
            msg = "kubeadm init names no hash to join by"
            raise LabError(msg)
        return str(found[-1])

    def join(self, ca_hash: str) -> None:
        """Let all other nodes join, at once."""
        if self._workers:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                list(pool.map(lambda node: self._join(node, ca_hash), self._workers))

    def _join(self, node: Node, ca_hash: str) -> None:
        node.await_ready()
        trust = ("--token", self._token, "--discovery-token-ca-cert-hash", ca_hash)
        registration = ("--node-name", node.fqdn, "--cri-socket", _SOCKET, _PREFLIGHT)
        _kubeadm(node, "join", "join", f"{self._first.address}:6443", *trust, *registration)

    def add_coredns(self) -> None:
        """Add CoreDNS, once there are nodes for its pods to spread over."""
        phase = ("init", "phase", "addon", "coredns", "--config", str(self._config))
        _kubeadm(self._first, "coredns", *phase)

    def admin_config(self) -> str:
        """The administrator's kubeconfig."""
        return self._first.run("cat", ADMIN).stdout


def rename_namespace(value: Any, old: str, new: str) -> Any:
    """Parsed YAML with every reference to a namespace by name changed."""
    if isinstance(value, list):
        return [rename_namespace(item, old, new) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: rename_namespace(item, old, new) for key, item in value.items()}
    if changed.get("namespace") == old:
        changed["namespace"] = new
    if changed.get("kind") == "Namespace" and changed.get("metadata", {}).get("name") == old:
        changed["metadata"]["name"] = new
    return changed


def quicken(documents: Iterable[Manifest]) -> None:
    """Let kubelets ask more often whether a pod is ready: upstream's pace only costs time here."""
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            if "readinessProbe" in container:
                container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 2}


def flannel(shape: Shape, upstream: Path) -> str:
    """Upstream's manifest of flannel, as this shape wants it."""
    parsed = list(yaml.safe_load_all(upstream.read_text()))
    documents = rename_namespace(parsed, FLANNEL_NAMESPACE, shape.flannel_namespace)
    quicken(documents)
    for document in documents:
        if document["kind"] == "ConfigMap":
            document["data"] = _flannel_configuration(shape, document["data"])
        if document["kind"] == "DaemonSet":
            for container in document["spec"]["template"]["spec"]["initContainers"]:
                if "cni-plugin" in container["image"]:
                    container["image"] = FLANNEL_PLUGIN
    return yaml.safe_dump_all(documents, sort_keys=False)


def _flannel_configuration(shape: Shape, data: dict[str, str]) -> dict[str, str]:
    network = json.loads(data["net-conf.json"])
    network["Network"] = shape.pod_network
    network["Backend"] = {"Type": shape.backend}
    if shape.vxlan_port:
        network["Backend"]["Port"] = shape.vxlan_port
    plugins = json.loads(data["cni-conf.json"])
    # the last plugin called flannel that is to be had speaks this version
    plugins["cniVersion"] = "0.3.1"
    return {
        **data,
        "net-conf.json": json.dumps(network, indent=2) + "\n",
        "cni-conf.json": json.dumps(plugins, indent=2) + "\n",
    }
