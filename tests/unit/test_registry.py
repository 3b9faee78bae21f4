"""Which checks are chosen, and what is gathered for them."""

from importlib.metadata import EntryPoint

import pytest

from checks import CHAIN
from doctor.contract import Check
from doctor.engine import registry
from doctor.engine.registry import codes, load, select
from doctor.errors import UsageError
from doctor.evidence.tables import Source, Wave, needs_of
from doctor.model.link import Link

INSTALLED = load()


def ids(*names: str) -> set[str]:
    """Select, and return the ids."""
    return {c.id for c in select(INSTALLED, names)}


def links(*names: str) -> set[str]:
    """Select, and return the links."""
    return {c.link.value for c in select(INSTALLED, names)}


def needed(*names: str) -> frozenset[Source]:
    """Select, and return all that must be gathered."""
    return needs_of(tuple(n.type for c in select(INSTALLED, names) for n in c.needs))


def test_all_checks_come_in_walking_order() -> None:
    assert {c.id for c in INSTALLED} == {c.id for c in CHAIN}
    assert [c.link for c in INSTALLED] == sorted((c.link for c in INSTALLED), key=list(Link).index)
    assert select(INSTALLED, ()) == INSTALLED


def test_a_link_brings_what_its_traffic_crosses() -> None:
    assert links("node") == {"node"}
    assert links("dns") == {"node", "flannel", "overlay", "dns", "kube-proxy"}
    assert links("metallb", "node") == {"node", "flannel", "overlay", "kube-proxy", "metallb"}


def test_an_id_brings_itself_and_not_its_neighbours() -> None:
    others = {c.id for c in CHAIN if c.link is Link.DNS} - {"dns.udp-and-tcp"}
    assert ids("dns.udp-and-tcp") == ids("dns") - others
    assert ids("dns.udp-and-tcp", "dns") == ids("dns")


def test_links_are_known_in_any_case() -> None:
    assert ids("DNS") == ids("dns")


def test_a_misspelt_name_brings_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"'dnss' \(did you mean dns\?\)"):
        select(INSTALLED, ("dnss",))


def test_the_order_of_names_does_not_matter() -> None:
    chosen = select(INSTALLED, ("service", "node"))
    assert chosen == select(INSTALLED, ("node", "service"))
    assert list(chosen) == [c for c in INSTALLED if c in chosen]


@pytest.mark.parametrize("name", ["nonsense", "dns.", "dns.nonsense", "", "dns\n"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UsageError, match="no link or check is called") as caught:
        select(INSTALLED, ("node", name))
    assert "links: node, flannel, overlay, dns, webhook, kube-proxy" in str(caught.value)
    assert "\n" not in str(caught.value)


ELSEWHERE = ("ingress", "webhook", "ipaddresspool", "l2adv", "bgpadv", "servicel2", "statefulset")


@pytest.mark.parametrize(
    ("name", "foreign", "waves"),
    [
        ("dns", ELSEWHERE, {Wave.NODE, Wave.PROBE_PODS, Wave.MESH, Wave.DNS, Wave.SERVICE_IP}),
        ("node", (*ELSEWHERE, "pods", "services", "configmaps"), set()),
        (
            "kube-proxy",
            ELSEWHERE,
            {Wave.NODE, Wave.PROBE_PODS, Wave.MESH, Wave.SERVICE_IP},
        ),
        ("metallb", ("webhook", "configmaps:coredns"), None),
        ("webhook", ("ipaddresspool", "l2adv", "bgpadv", "servicel2"), None),
    ],
)
def test_nothing_is_gathered_that_a_link_does_not_cross(
    name: str, foreign: tuple[str, ...], waves: set[Wave] | None
) -> None:
    wanted = needed(name)
    assert [s for s in wanted if not isinstance(s, Wave) and s.startswith(foreign)] == []
    assert waves is None or {s for s in wanted if isinstance(s, Wave)} == waves
    assert "nodes" in wanted


def test_codes_by_name() -> None:
    assert codes(INSTALLED)["DNS_UDP_FILTERED"].link is Link.DNS
    assert len(codes(INSTALLED)) == len({c.name for k in CHAIN for c in k.codes})


def entry(monkeypatch: pytest.MonkeyPatch, **chains: object) -> None:
    """Install these chains instead, by entry point."""

    class Point(EntryPoint):
        def load(self) -> object:
            return chains[self.name]

    points = [Point(name, f"{name}:CHAIN", registry.GROUP) for name in chains]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)


def test_a_package_of_others_adds_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Check("node.zz", Link.NODE, "Title", (), (), CHAIN[0].judge, "")
    entry(monkeypatch, aaa=(other,), builtin=CHAIN)
    found = [c.id for c in load()]
    own = [c.id for c in CHAIN if c.link is Link.NODE]
    assert found[: len(own) + 1] == [*own, "node.zz"]
    assert len(found) == len(CHAIN) + 1


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ((CHAIN[0],), "two installed checks are called node.ready"),
        ("checks", "does not hold a tuple of checks"),
        (("node.ready",), "does not hold a tuple of checks"),
    ],
)
def test_a_package_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, chain: object, words: str
) -> None:
    entry(monkeypatch, builtin=CHAIN, other=chain)
    with pytest.raises(UsageError, match=words):
        load()
