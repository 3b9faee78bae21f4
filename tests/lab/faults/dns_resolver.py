"""What kubelets tell pods of the cluster's DNS."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import yaml

from tests.lab.faults.corefile import make_anew, put_back, rewrite
from tests.lab.faults.dns_codes import others
from tests.lab.faults.model import Fault, all_but, anywhere, no_names
from tests.lab.faults.objects import forget, note, noted
from tests.lab.lab import Lab
from tests.lab.node import SEARCH, Node
from tests.lab.shape import RESOLVER, nth_address
from tests.lab.shell import poll

MISMATCH: Final = "dns-kubelet-clusterdns-mismatch"
UNSET: Final = "dns-kubelet-missing-clusterdns"
NODE_LOCAL: Final = "dns-nodelocal-down"
DOMAIN: Final = "dns-clusterdomain-mismatch"
_CONFIG: Final = "/var/lib/kubelet/config.yaml"
LIMIT: Final = "decoy-resolver-limits"
WILDCARD: Final = "dns-ndots-wildcard-hijack"
_TRAP: Final = "198.51.100.7"
_WILDCARD: Final = """\
  template IN A {zone} {{
    answer "{{{{ .Name }}}} 60 IN A {address}"
  }}
"""
_CACHE: Final = "169.254.20.10"
_OTHER_DOMAIN: Final = "k8s.local"
Change = Callable[[Lab, dict[str, Any]], None]


def _last(lab: Lab) -> Node:
    return list(lab.nodes.values())[-1]


def _wrong(lab: Lab) -> str:
    """An address of the Services' network that no Service has."""
    return nth_address(lab.shape.service_network, 99)


def _told(lab: Lab, node: Node) -> dict[str, Any]:
    """The configuration that a kubelet runs with; empty while it does not answer."""
    path = f"/api/v1/nodes/{node.fqdn}/proxy/configz"
    text = lab.kubectl("get", "--raw", path, check=False)
    found: dict[str, Any] = json.loads(text)["kubeletconfig"] if text.startswith("{") else {}
    return found


def _configure(node: Node, text: str) -> None:
    node.run("sh", "-c", f"cat > {_CONFIG}", input=text)
    node.stop_service("kubelet")
    node.start_service("kubelet")


def _inject(fault: str, change: Change, lab: Lab) -> None:
    node = _last(lab)
    original = note(lab, fault, "config", node.run("cat", _CONFIG).stdout)
    config = yaml.safe_load(original)
    change(lab, config)
    _configure(node, yaml.safe_dump(config, sort_keys=False))


def _settled(change: Change, lab: Lab) -> bool:
    """Whether the kubelet runs with what it was told."""
    told = _told(lab, _last(lab))
    wanted = dict(told)
    change(lab, wanted)
    return bool(told) and wanted == told


def _heal(fault: str, lab: Lab) -> None:
    original = noted(lab, fault, "config")
    if original is not None:
        node = _last(lab)
        _configure(node, original)
        servers = yaml.safe_load(original).get("clusterDNS")
        poll(lambda: _told(lab, node).get("clusterDNS") == servers, seconds=30, what="the kubelet")
        forget(lab, fault, "config")


def _mismatch(lab: Lab, config: dict[str, Any]) -> None:
    config["clusterDNS"] = [_wrong(lab)]


def _unset(_: Lab, config: dict[str, Any]) -> None:
    config.pop("clusterDNS", None)


def _node_local(_: Lab, config: dict[str, Any]) -> None:
    config["clusterDNS"] = [_CACHE]


def _inject_domain(lab: Lab) -> None:
    own = f"kubernetes {lab.shape.cluster_domain} "
    rewrite(lab, DOMAIN, lambda text: text.replace(own, f"kubernetes {_OTHER_DOMAIN} "))
    make_anew(lab)


def _settled_domain(lab: Lab) -> bool:
    text = lab.kubectl("get", "configmap", "coredns", "-n", "kube-system", "-o", "yaml")
    return f"kubernetes {_OTHER_DOMAIN} " in text


_FOUR: Final = "/var/lib/kubelet/lab-resolv.conf"
_LONG: Final = " ".join(f"d{n}.example.net" for n in range(40))


def _too_much(_: Lab, config: dict[str, Any]) -> None:
    config["resolvConf"] = _FOUR


def _inject_limit(lab: Lab) -> None:
    servers = (RESOLVER, *(f"203.0.113.{n}" for n in (101, 102, 103)))
    text = "".join(f"nameserver {s}\n" for s in servers) + f"search {_LONG}\n"
    _last(lab).run("sh", "-c", f"cat > {_FOUR}", input=text)
    _inject(LIMIT, _too_much, lab)


def _heal_limit(lab: Lab) -> None:
    _heal(LIMIT, lab)
    _last(lab).run("rm", "-f", _FOUR)


def _searched(_: Lab) -> str:
    return SEARCH.split()[-1]


def _inject_wildcard(lab: Lab) -> None:
    lab.world.configure_resolver(_WILDCARD.format(zone=_searched(lab), address=_TRAP))


def _settled_wildcard(lab: Lab) -> bool:
    name = f"nobody.has.this.{_searched(lab)}"
    asked = ("nslookup", name, RESOLVER)
    return _TRAP in lab.at(_last(lab).name, *asked, check=False).stdout


def _heal_wildcard(lab: Lab) -> None:
    lab.world.configure_resolver("")
    poll(lambda: not _settled_wildcard(lab), seconds=20, what="the resolver to be as it was")


def _of_kubelet(
    fault: str,
    story: str,
    code: str,
    change: Change,
    *more: str,
) -> Fault:
    return Fault(
        name=fault,
        link="dns",
        story=story,
        expected=frozenset({code}),
        names=lambda lab: (_last(lab).fqdn, *more),
        forbidden=all_but("DNS_") | others(code),
        lookalikes=tuple({MISMATCH, UNSET, NODE_LOCAL, DOMAIN} - {fault}),
        fits=anywhere,
        inject=partial(_inject, fault, change),
        settled=partial(_settled, change),
        heal=partial(_heal, fault),
    )


FAULTS: Final = (
    _of_kubelet(
        MISMATCH,
        "One kubelet has an address as clusterDNS that no Service has: its new pods resolve nothing.",
        "DNS_CLUSTER_DNS_MISMATCH",
        _mismatch,
    ),
    _of_kubelet(
        UNSET,
        "One kubelet has no clusterDNS: its new pods ask the node's resolver, which knows no Service.",
        "DNS_CLUSTER_DNS_UNSET",
        _unset,
    ),
    _of_kubelet(
        NODE_LOCAL,
        "One kubelet sends pods to a DNS cache on the node, and none runs there.",
        "DNS_NODE_LOCAL_DEAD",
        _node_local,
        _CACHE,
    ),
    Fault(
        name=DOMAIN,
        link="dns",
        story="The Corefile answers for another cluster domain than kubelets have pods search.",
        expected=frozenset({"DNS_CLUSTER_DOMAIN_MISMATCH"}),
        names=lambda lab: (lab.shape.cluster_domain, _OTHER_DOMAIN),
        forbidden=all_but("DNS_") | others("DNS_CLUSTER_DOMAIN_MISMATCH"),
        lookalikes=(MISMATCH, UNSET),
        fits=anywhere,
        inject=_inject_domain,
        settled=_settled_domain,
        heal=partial(put_back, fault=DOMAIN),
    ),
    Fault(
        name=WILDCARD,
        link="dns",
        story="A domain that nodes and pods search has a wildcard, which answers for every name outside.",
        expected=frozenset({"DNS_SEARCH_WILDCARD"}),
        names=lambda lab: (_searched(lab), _TRAP),
        forbidden=all_but("DNS_") | others("DNS_SEARCH_WILDCARD"),
        lookalikes=("dns-upstream-unreachable", "dns-upstream-pods-filtered", DOMAIN),
        inject=_inject_wildcard,
        settled=_settled_wildcard,
        heal=_heal_wildcard,
    ),
    Fault(
        name=LIMIT,
        link="dns",
        story="A node's resolv.conf names more resolvers and domains than the kubelet hands on.",
        expected=frozenset(),
        names=no_names,
        forbidden=frozenset({"*"}),
        lookalikes=(WILDCARD, MISMATCH),
        inject=_inject_limit,
        settled=partial(_settled, _too_much),
        heal=_heal_limit,
        decoy=True,
    ),
)
