"""Who has an address and who waits for one, as the cluster's objects tell."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.resources import RESOURCES, reduce_items
from doctor.evidence.pod_network import (
    addressed_pods,
    assigner_arguments,
    stuck_pods,
)
from doctor.evidence.world import World
from doctor.model.evidence import PodAddress
from doctor.model.kube import (
    OTHER_NETWORK,
    Container,
    Event,
    InvolvedObject,
    Meta,
    Node,
    Pod,
    PodSpec,
    PodStatus,
)
from doctor.parse.flannel_conf import net_conf_problem, parse_net_conf
from tests.unit.support import api, bundle

NOT_FOUND = "loadFlannelSubnetEnv failed: open /run/flannel/subnet.env: no such file or directory"


def pod(
    name: str, address: str = "", on: str = "n1", *, host: bool = False, gone: bool = False
) -> Pod:
    """Make a pod of the shop's."""
    return Pod(
        metadata=Meta(name=name, namespace="shop", deletion_timestamp="2026" if gone else None),
        spec=PodSpec(node_name=on, host_network=host, containers=(Container(name="web"),)),
        status=PodStatus(phase="Running" if address else "Pending", pod_ip=address),
    )


def event(about: str, message: str, at: str, reason: str = "FailedCreatePodSandBox") -> Event:
    """Make an event of a pod, or of a node."""
    kind = "Pod" if reason.startswith("Failed") else "Node"
    return Event(
        metadata=Meta(name=f"{about}.{at}", namespace="shop"),
        involved_object=InvolvedObject(kind, about, "shop" if kind == "Pod" else ""),
        reason=reason,
        message=message,
        last_timestamp=at,
    )


def world(*items: Pod | Event | Node) -> World:
    """Make a cluster."""
    return World(
        bundle(
            api("pods", *(i for i in items if isinstance(i, Pod))),
            api("nodes", *(i for i in items if isinstance(i, Node))),
            api("events:warning", *(i for i in items if isinstance(i, Event))),
        )
    )


def test_only_what_waits_now_is_stuck() -> None:
    found = stuck_pods(
        world(
            pod("waits"),
            pod("runs", "10.244.1.5"),
            pod("leaves", gone=True),
            pod("unbound", on=""),
            pod("silent"),
            event("waits", NOT_FOUND, "2026-01-01T00:00:02Z"),
            event("waits", "something older", "2026-01-01T00:00:01Z"),
            *(event(n, NOT_FOUND, "2026-01-01") for n in ("runs", "leaves", "unbound", "gone")),
        )
    )
    assert [(s.pod, s.node, s.message) for s in found] == [("shop/waits", "n1", NOT_FOUND)]
    assert found[0].evidence == "api:events/shop/waits.2026-01-01T00:00:02Z"


def test_who_has_an_address_of_the_pod_network() -> None:
    found = addressed_pods(
        world(pod("a", "10.244.1.5"), pod("b"), pod("c", "192.0.2.1", host=True))
    )
    assert found == (PodAddress("shop/a", "n1", "10.244.1.5"),)


def test_who_asked_for_another_network_is_none_of_the_pod_networks() -> None:
    asking = msgspec.structs.replace(
        pod("a", "192.0.2.77"),
        metadata=Meta(
            name="a", namespace="shop", annotations={OTHER_NETWORK: "kube-system/macvlan"}
        ),
    )
    (kept,) = reduce_items(RESOURCES["pods"], [msgspec.Raw(msgspec.json.encode(asking))])
    assert isinstance(kept, Pod)
    assert addressed_pods(world(kept)) == ()


def test_of_the_controller_manager_only_what_is_about_podcidrs_is_kept() -> None:
    raw = {
        "metadata": {"labels": {"component": "kube-controller-manager"}, "name": "kcm"},
        "spec": {
            "containers": [
                {
                    "command": [
                        "kube-controller-manager",
                        "--allocate-node-cidrs=true",
                        "--cluster-cidr=10.244.0.0/16",
                        "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
                    ]
                }
            ]
        },
    }
    (kept,) = reduce_items(RESOURCES["pods"], [msgspec.Raw(msgspec.json.encode(raw))])
    assert isinstance(kept, Pod)
    assert assigner_arguments(world(kept)) == (
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
    )
    assert kept.spec.containers[0].command == ("kube-controller-manager",)
    assert assigner_arguments(world(pod("a"))) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}', ""),
        ('{"IPv6Network": "fd00::/48", "EnableIPv4": false}', ""),
        ('{"Network": "10.244.0.0/16",}', "malformed"),
        ("{}", "names no Network"),
        ("", "truncated"),
        ('{"Network": 5}', "Expected"),
    ],
)
def test_what_is_wrong_with_a_net_conf(text: str, problem: str) -> None:
    found = net_conf_problem(text)
    assert problem in found
    assert bool(found) == bool(problem)


@given(st.text(max_size=200))
def test_any_net_conf_is_read(text: str) -> None:
    found = net_conf_problem(text)
    assert len(found) <= 200
    assert "\n" not in found
    assert found or parse_net_conf(text)
