"""Pods on their nodes' own network, which ask the nodes' resolvers."""

from typing import Final

from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.objects import Json, Ref, await_available, edit, restore
from tests.lab.faults.pods import app_pods
from tests.lab.lab import Lab
from tests.lab.shape import Shape

HOST_NETWORK: Final = "dns-dnspolicy-hostnetwork"


def _deployment(lab: Lab) -> Ref:
    return Ref(kind="deployment", name=lab.shape.deployment, namespace=lab.shape.app_namespace)


def _service(lab: Lab) -> str:
    """A Service that the site is to depend on, by its name."""
    return f"site-policy.{lab.shape.policy_namespace}.svc:443"


def _may(shape: Shape) -> bool:
    # the pod security of other shapes lets no pod onto the nodes' network
    return shape.pod_security == "privileged"


def _inject(lab: Lab) -> None:
    def change(found: Json) -> None:
        found["spec"]["strategy"] = {"type": "Recreate"}
        spec = found["spec"]["template"]["spec"]
        spec["hostNetwork"] = True
        container = spec["containers"][0]
        container["env"] = [{"name": "DEPENDS_ON", "value": _service(lab)}]

    edit(lab, HOST_NETWORK, _deployment(lab), change)


def _settled(lab: Lab) -> bool:
    """Whether all pods of the site ended at least once, as the name was not known to whom they asked."""
    pods = app_pods(lab)
    said = [lab.kubectl("logs", "-n", p.namespace, p.name, "--previous", check=False) for p in pods]
    ended = bool(pods) and all(p.restarts and not p.ready for p in pods)
    return ended and all("dial tcp: lookup " in text for text in said)


def _heal(lab: Lab) -> None:
    restore(lab, HOST_NETWORK)
    await_available(lab, _deployment(lab))


FAULTS: Final = (
    Fault(
        name=HOST_NETWORK,
        link="dns",
        story=(
            "Somebody moved the site's pods to their nodes' own network and left dnsPolicy as it was,"
            " so they look a Service up at a resolver that knows none."
        ),
        expected=frozenset({"DNS_HOST_NETWORK_POLICY"}),
        names=lambda lab: (_service(lab), "ClusterFirst"),
        forbidden=all_but("DNS_") | others("DNS_HOST_NETWORK_POLICY"),
        lookalikes=("db-port-closed", "dns-kubelet-missing-clusterdns"),
        fits=_may,
        inject=_inject,
        settled=_settled,
        heal=_heal,
    ),
)
