"""Queries that connection tracking leads to where CoreDNS was before."""

import msgspec
import pytest

from checks.dns.tracked import tracked
from doctor.bundle.schema import SCHEMA, ApiRecord, Bundle, Question
from doctor.evidence.requeried import stale_queries
from doctor.evidence.world import World
from doctor.model.evidence import KubeProxy, NodeNetworks, StaleQueries
from doctor.model.finding import Confidence, Finding, Severity
from doctor.model.netfilter import ServiceEntry
from doctor.model.node_state import TrackedQueries, TrackedQuery
from tests.rules.factories import DNS_IP, MASTER, ONE, PODS, TWO, findings, network, pod, said

GONE = "10.244.0.253"
CLIENT = "10.244.1.9"
PROXY = KubeProxy(pods=(pod("kube-proxy-1", ONE),))


def world() -> World:
    """Make a cluster with CoreDNS on two nodes, and a client."""
    addresses = {"coredns-1": PODS[MASTER], "coredns-2": PODS[TWO], "client": CLIENT}
    pods = [
        {
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"nodeName": ONE},
            "status": {"podIP": address, "phase": "Running"},
        }
        for name, address in addresses.items()
    ]
    labels = {"k8s-app": "kube-dns"}
    service = {
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": DNS_IP, "selector": labels},
    }
    nodes = [{"metadata": {"name": ONE, "labels": {"kubernetes.io/os": "linux"}}}]
    records = tuple(
        ApiRecord(kind, msgspec.Raw(msgspec.json.encode(items)))
        for kind, items in (("pods", pods), ("services", [service]), ("nodes", nodes))
    )
    return World(Bundle(schema=SCHEMA, tool="", created="", question=Question(), records=records))


def looks(
    *seconds: float, to: str = GONE, passed: float = 5.0, client: str = CLIENT
) -> list[TrackedQueries]:
    """Look at one entry, and once more a while later."""
    return [
        TrackedQueries(100 + n * passed, (TrackedQuery(client, 40053, to, int(left)),))
        for n, left in enumerate(seconds)
    ]


def table(seen: list[TrackedQueries], *leads: str, ruled: bool = True) -> StaleQueries:
    """Build the table of a node whose rules lead to some endpoints."""
    first, later = (*seen, None, None)[:2]
    to = tuple(f"{a}:53" for a in leads or (PODS[MASTER], PODS[TWO]))
    entry = ServiceEntry(DNS_IP, "udp", 53, endpoints=to)
    read = msgspec.structs.replace(
        network(ONE), queries=first, queries_later=later, services=(entry,) if ruled else ()
    )
    return stale_queries(world(), NodeNetworks(items=(read,)))


def judge(found: StaleQueries, proxy: KubeProxy | None = PROXY) -> list[Finding]:
    """Run the check."""
    return findings(tracked, found, proxy)


def test_an_entry_that_is_kept_alive() -> None:
    (found,) = judge(table(looks(29, 28)))
    assert said([found]) == {("DNS_CONNTRACK_STALE", f"kube-proxy:{ONE}:udp/53")}
    assert (found.severity, found.confidence) == (Severity.FAIL, Confidence.CERTAIN)
    assert "kube-system/client (port 40053)" in found.title
    assert GONE in found.title
    enter, _, command = found.remediation[0].commands[0].partition(" -- ")
    assert enter == "kubectl -n kube-system exec kube-proxy-1"
    assert command == (
        f"conntrack -D -p udp --orig-dst {DNS_IP} --orig-port-dst 53 --reply-src {GONE}"
    )
    assert [str(h) for h in found.consequence_of] == [f"kube-proxy:{ONE}"]


def test_a_node_without_kube_proxy_has_the_program_itself() -> None:
    (found,) = judge(table(looks(29, 29)), None)
    assert found.remediation[0].commands[0].startswith(f"ssh {ONE} sudo conntrack -D")


def test_a_program_of_the_node_itself_is_named_by_its_address() -> None:
    (found,) = judge(table(looks(29, 29, client="192.0.2.7")))
    assert "192.0.2.7 (port 40053)" in found.title


@pytest.mark.parametrize(
    "seen",
    [
        # it only runs out
        looks(29, 24),
        looks(29, 25),
        # it was looked at once, or twice at the same moment
        looks(29),
        looks(29, 29, passed=1.5),
        # it leads to a pod, be it to one where the rules lead or not
        looks(29, 29, to=PODS[TWO]),
        looks(29, 29, to=CLIENT),
        [],
    ],
)
def test_entries_that_harm_nobody(seen: list[TrackedQueries]) -> None:
    assert judge(table(seen)) == []


@pytest.mark.parametrize("leads", [(GONE,), (PODS[TWO], GONE), (PODS[TWO], "10.244.0.254")])
def test_where_the_rules_are_behind_it_is_kube_proxys(leads: tuple[str, ...]) -> None:
    assert judge(table(looks(29, 29), *leads)) == []


def test_without_rules_nothing_is_known() -> None:
    assert judge(table(looks(29, 29), ruled=False)) == []


def test_an_entry_that_was_never_translated() -> None:
    (found,) = judge(table(looks(29, 29, to=DNS_IP)))
    assert f"--reply-src {DNS_IP}" in found.remediation[0].commands[0]


def test_a_kernel_that_does_not_show_its_table_is_a_gap() -> None:
    found = table([])
    assert [g.essential for g in found.gaps] == [True]
    assert ONE in found.gaps[0].needs
    assert table(looks(29)).gaps == ()
