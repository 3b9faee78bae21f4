"""What is kept of objects, and what must never be."""

import msgspec
import pytest

from doctor.collect.resources import RESOURCES, reduce_items
from doctor.model.kube import ConfigMap, DaemonSet, Deployment, Item, Pod

SECRET = "hunter2"  # noqa: S105 - the word that must not be kept
NOTES = {
    "kubectl.kubernetes.io/last-applied-configuration": f'{{"password": "{SECRET}"}}',
    "example.org/token": SECRET,
    "nginx.ingress.kubernetes.io/auth-secret": SECRET,
    "kubernetes.io/ingress.class": "nginx",
    "nginx.ingress.kubernetes.io/rewrite-target": "/",
    "metallb.io/address-pool": "first",
}
KEPT_NOTES = {k: v for k, v in NOTES.items() if SECRET not in v}
CONTAINER = {
    "name": "main",
    "image": "app:1",
    "command": ["/app", f"--password={SECRET}", f"PASSWORD={SECRET}"],
    "args": [
        f"--password={SECRET}",
        f"--set=--ingress-class={SECRET}",
        "--ingress-class=web",
        "--providers.kubernetesingress.ingressclass=edge",
        SECRET,
    ],
    "env": [
        {"name": "PASSWORD", "value": SECRET},
        {"name": "URL", "value": f"redis://user:{SECRET}@redis.shop:6379/0"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "envFrom": [{"secretRef": {"name": SECRET}}],
    "lifecycle": {"postStart": {"exec": {"command": [SECRET]}}},
    "livenessProbe": {"exec": {"command": [SECRET]}},
    "readinessProbe": {
        "httpGet": {
            "path": "/ready",
            "port": "http",
            "httpHeaders": [{"name": "A", "value": SECRET}],
        }
    },
}
META = {
    "name": "web",
    "namespace": "shop",
    "annotations": NOTES,
    "managedFields": [{"fieldsV1": SECRET}],
}


def pod(*, ready: bool = False, phase: str = "Running", **container: object) -> dict[str, object]:
    """Make a pod as the API server sends it."""
    return {
        "metadata": META,
        "spec": {
            "containers": [CONTAINER | container],
            "volumes": [{"secret": SECRET}],
            "initContainers": [CONTAINER],
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def reduced(kind: str, document: object) -> Item:
    """Reduce one object."""
    (item,) = reduce_items(RESOURCES[kind], [msgspec.Raw(msgspec.json.encode(document))])
    return item


WORKLOAD = {"metadata": META, "spec": {"replicas": 2, "template": pod()}}
DATA = {
    "Corefile": f".:53 {{\n  kubernetes cluster.local\n  forward . 192.0.2.1 # {SECRET}\n}}",
    "config.conf": f"mode: nftables\nclientConnection:\n  kubeconfig: {SECRET}\n",
    "net-conf.json": '{"Network": "10.244.0.0/16"}',
    "kubeconfig.conf": (
        f"    server: https://10.0.0.1:6443\n    token: {SECRET}\n    server: https://a:{SECRET}@b\n"
    ),
    "application.yaml": f"password: {SECRET}",
}


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        *((k, {"metadata": META, "spec": {}, "status": {}, "webhooks": []}) for k in RESOURCES),
        ("pods", pod()),
        ("pods", pod(ready=True)),
        ("deployments", WORKLOAD),
        ("statefulsets", WORKLOAD),
        ("daemonsets", WORKLOAD),
        ("configmaps", {"metadata": META, "data": DATA, "binaryData": {"a": SECRET}}),
    ],
)
def test_no_secret_survives(kind: str, document: object) -> None:
    item = reduced(kind, document)
    kept = msgspec.json.encode(item).decode()
    assert SECRET not in kept
    assert item.annotations == KEPT_NOTES


def test_what_is_judged_survives() -> None:
    item = reduced("pods", pod())
    assert isinstance(item, Pod)
    (container,) = item.spec.containers
    assert container.command == ("/app",)
    assert container.args == (
        "--ingress-class=web",
        "--providers.kubernetesingress.ingressclass=edge",
    )
    assert container.readiness_probe is not None
    assert container.readiness_probe.http_get is not None
    assert container.readiness_probe.http_get.path == "/ready"
    for kind in ("deployments", "daemonsets"):
        workload = reduced(kind, WORKLOAD)
        assert isinstance(workload, Deployment | DaemonSet)
        assert workload.spec.template.spec.containers[0].command == ("/app",)
        assert workload.spec.template.metadata.annotations is None
    config = reduced("configmaps", {"metadata": META, "data": DATA})
    assert isinstance(config, ConfigMap)
    assert config.data == {
        "Corefile": ".:53 {\n  kubernetes cluster.local\n  forward . 192.0.2.1\n}\n",
        "config.conf": "mode: nftables",
        "kubeconfig.conf": "    server: https://10.0.0.1:6443",
        "net-conf.json": DATA["net-conf.json"],
    }


@pytest.mark.parametrize(
    ("value", "targets"),
    [
        ("redis.shop:6379", ["redis.shop:6379"]),
        ("kafka-1:9092,kafka-2:9092", ["kafka-1:9092", "kafka-2:9092"]),
        ("10.0.0.7:5432", ["10.0.0.7:5432"]),
        ("http://api:8080/health?x=1", ["api:8080"]),
        ("jdbc:postgresql://db:5432/shop?user=a&password=b", ["db:5432"]),
        ("mongodb://root:pw@m-1:27017,m-2:27018/db?replicaSet=rs", ["m-1:27017", "m-2:27018"]),
        ("http://a:80 http://b:81", ["a:80", "b:81"]),
        ("redis://:4711@cache:6379", ["cache:6379"]),
        ("redis://:4711@cache:6379?db=0", ["cache:6379"]),
        ("redis://user:4711@cache/0", []),
        ("redis://:12@34:5678@cache:6379", ["cache:6379"]),
        ("redis://user:4711/x@cache:6379", []),
        ("redis://user:4711?x@cache:6379", []),
        ("user:4711@cache", []),
        ("https://db.example/", []),
        ("12:30", []),
        ("db:99999", []),
        ("db:0", []),
        ("a:b:80", []),
        ("plain words", []),
        ("", []),
    ],
)
def test_of_an_environment_value_only_hosts_with_ports_are_kept(
    value: str, targets: list[str]
) -> None:
    item = reduced("pods", pod(env=[{"name": "WHERE", "value": value}]))
    assert isinstance(item, Pod)
    dependencies = item.spec.containers[0].dependencies or ()
    assert [t for d in dependencies for t in d.targets] == targets


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("BASIC_AUTH", False),
        ("DB_PASSWORD", False),
        ("api_key", False),
        ("TOKEN_A", False),
        ("DB_USER", False),
        ("AUTH_SERVICE", True),
        ("KEYCLOAK_HOST", True),
    ],
)
def test_what_a_name_calls_private_is_not_read_as_an_address(name: str, kept: bool) -> None:  # noqa: FBT001
    item = reduced("pods", pod(env=[{"name": name, "value": "admin:4711"}]))
    assert isinstance(item, Pod)
    assert bool(item.spec.containers[0].dependencies) is kept


@pytest.mark.parametrize(
    ("ready", "phase", "kept"),
    [
        (False, "Running", True),
        (False, "Pending", True),
        (True, "Running", False),
        (False, "Succeeded", False),
    ],
)
def test_only_failing_pods_are_asked_what_they_depend_on(
    ready: bool,  # noqa: FBT001
    phase: str,
    kept: bool,  # noqa: FBT001
) -> None:
    item = reduced("pods", pod(ready=ready, phase=phase))
    assert isinstance(item, Pod)
    assert bool(item.spec.containers[0].dependencies) is kept


@pytest.mark.parametrize("document", [[], "x", {"metadata": 5}, {"spec": {"containers": "x"}}])
def test_objects_of_another_shape_are_refused(document: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        reduced("pods", document)
