"""What runs in the cluster: MetalLB, the ingress controller, the site and its policy."""

import secrets
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Final

import yaml

from tests.lab.certificates import identity
from tests.lab.cluster import quicken, rename_namespace
from tests.lab.images import APP, TRAEFIK
from tests.lab.places import MANIFESTS
from tests.lab.shape import Shape

POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"
METALLB_NAMESPACE: Final = "metallb-system"


def render(name: str, shape: Shape, **more: str) -> str:
    """One of our own manifests with a shape's names in it."""
    values = {item.name: getattr(shape, item.name) for item in fields(shape)}
    template = Template((MANIFESTS / f"{name}.yaml").read_text())
    return template.substitute({**values, "depends_on": shape.depends_on, **more})


def namespaces(shape: Shape) -> str:
    """The namespaces that no manifest of upstream brings along."""
    names = {shape.ingress_namespace, shape.policy_namespace, shape.app_namespace} - {"default"}
    labels = {} if shape.pod_security == "privileged" else {POD_SECURITY: "baseline"}
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name in sorted(names)
    ]
    return yaml.safe_dump_all(documents)


def metallb(shape: Shape, upstream: Path) -> str:
    """Upstream's manifest of MetalLB in this shape's namespace.

    Nothing but namespace fields names it: the controller takes its own from its service account,
    and derives from that the names in the certificate of its webhook.
    """
    parsed = list(yaml.safe_load_all(upstream.read_text()))
    documents = rename_namespace(parsed, METALLB_NAMESPACE, shape.metallb_namespace)
    quicken(documents)
    # the controller would make it, but a while after the speakers want it
    memberlist = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "memberlist", "namespace": shape.metallb_namespace},
        "stringData": {"secretkey": secrets.token_urlsafe(16)},
    }
    namespace, *rest = documents
    return yaml.safe_dump_all([namespace, memberlist, *rest], sort_keys=False)


def pool(shape: Shape) -> str:
    """The addresses that MetalLB may give away."""
    return render("pool", shape)


def traefik(shape: Shape) -> str:
    """The ingress controller with its class."""
    return render("traefik", shape, image=TRAEFIK)


def site(shape: Shape) -> str:
    """The site behind the ingress."""
    return render("app", shape, image=APP)


def ingress(shape: Shape) -> str:
    """The rule that leads to the site."""
    return render("ingress", shape)


def policy(shape: Shape) -> str:
    """The webhook that reviews every Ingress."""
    own = identity(f"site-policy.{shape.policy_namespace}.svc")
    secret = {"authority": own.authority, "certificate": own.certificate, "key": own.key}
    return render("policy", shape, image=APP, **secret)
