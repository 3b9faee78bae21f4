"""What may not be read is neither absent nor empty: no finding, no SKIPPED, and each check says so."""

from collections.abc import Iterable
from functools import cache
from itertools import combinations
from pathlib import Path

import msgspec
import pytest

from checks import CHAIN
from doctor.bundle.io import load
from doctor.bundle.schema import ApiRecord, Bundle, FlowRecord, Record
from doctor.contract import Check
from doctor.engine.run import diagnose
from doctor.evidence.finders import CONFIGMAPS
from doctor.evidence.tables import Tables, needs_of
from doctor.model.evidence import DnsService
from doctor.model.failure import Failure
from doctor.model.flow import Purpose
from doctor.model.kube import Pod, Service, ServicePort
from doctor.model.verdict import CheckResult, Result, Verdict
from tests.unit.support import api, bundle, cluster, pod, service

FOLDER = Path(__file__).parents[2] / "doctor" / "recordings"
RECORDINGS = sorted(p.stem for p in FOLDER.glob("*.bundle"))


HEALTHY = load(FOLDER / "healthy.bundle")
NAMES = tuple(r.resource for r in HEALTHY.records if isinstance(r, ApiRecord))
REASON = "may not"
METALLB = ("ipaddresspools", "l2advertisements", "bgpadvertisements", "servicel2statuses")


def without(whole: Bundle, *resources: str, status: int = 403) -> Bundle:
    """Let the API server refuse some resources."""
    empty = msgspec.Raw(b"[]")
    records = tuple(
        ApiRecord(r.resource, empty, status=status, reason=REASON)
        if isinstance(r, ApiRecord) and r.resource in resources
        else r
        for r in whole.records
    )
    return msgspec.structs.replace(whole, records=records)


def verdicts(result: Result) -> dict[str, CheckResult]:
    """Index the results."""
    return {c.id: c for c in result.checks}


ABSENT = {c.id for c in diagnose(HEALTHY, CHAIN).checks if c.verdict is Verdict.SKIPPED}
"""Checks of what the recorded cluster does not have: a NetworkPolicy."""


@cache
def recorded(name: str) -> Bundle:
    """Load a recording."""
    return load(FOLDER / f"{name}.bundle")


@pytest.mark.parametrize(
    "refused",
    [(n,) for n in NAMES] + list(combinations(NAMES, 2)) + [NAMES],
    ids=lambda names: "+".join(names) if len(names) < 3 else "all",
)
def test_nothing_is_found_or_skipped_for_want_of_a_right(refused: tuple[str, ...]) -> None:
    result = diagnose(without(HEALTHY, *refused), CHAIN)
    assert result.diagnoses == ()
    left = {c.verdict for c in result.checks if c.id not in ABSENT}
    assert left <= {Verdict.PASS, Verdict.INSUFFICIENT}


def source_of(resource: str) -> str:
    """Name the source that asks for a resource: ConfigMaps are asked for one by one."""
    names = {name: source for source, name in CONFIGMAPS.items()}
    return names[resource.rpartition("/")[2]] if "/" in resource else resource


def asking(resource: str) -> Iterable[Check]:
    """Select the checks whose required evidence is made of a resource."""
    wanted = source_of(resource)
    asked = [c for c in CHAIN if c.id in HEALTHY.question.checks and c.id not in ABSENT]
    return (c for c in asked if wanted in needs_of(tuple(n.type for n in c.needs if n.required)))


@pytest.mark.parametrize("refused", NAMES)
def test_every_check_says_what_it_may_not_read(refused: str) -> None:
    found = verdicts(diagnose(without(HEALTHY, refused), CHAIN))
    for check in asking(refused):
        named = {(g.needs, g.reason) for g in found[check.id].gaps}
        assert (f"api:{refused}", REASON) in named, check.id


@pytest.mark.parametrize(
    ("refused", "open_"),
    [
        ("nodes", {"node.ready", "flannel.on-every-node", "kube-proxy.on-every-node"}),
        ("pods", {"dns.running", "service.backends", "metallb.installed", "metallb.vip-in-subnet"}),
        ("services", {"dns.running", "webhook.endpoints", "metallb.assigned", "ingress.host"}),
        ("deployments", {"dns.running", "metallb.installed", "ingress.controller"}),
        ("ingresses", {"ingress.host", "service.backends"}),
        ("ipaddresspools", {"metallb.assigned", "metallb.advertised"}),
        ("l2advertisements", {"metallb.advertised"}),
        ("validatingwebhookconfigurations", {"webhook.endpoints", "webhook.reachable"}),
    ],
)
def test_what_a_check_is_about_leaves_it_open(refused: str, open_: set[str]) -> None:
    found = verdicts(diagnose(without(HEALTHY, refused), CHAIN))
    assert {c for c in open_ if found[c].verdict is not Verdict.INSUFFICIENT} == set()


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("refused", NAMES)
def test_a_fault_is_at_most_lost(name: str, refused: str) -> None:
    before = verdicts(diagnose(recorded(name), CHAIN))
    after = verdicts(diagnose(without(recorded(name), refused), CHAIN))
    for id_, result in after.items():
        assert result.findings == () or before[id_].findings, id_
        skipped = before[id_].verdict is Verdict.SKIPPED
        assert result.verdict is not Verdict.SKIPPED or skipped, id_
        # what is not there may not be known any more
        assert not skipped or result.verdict in {Verdict.SKIPPED, Verdict.INSUFFICIENT}, id_


def metallb(*more: Pod | Service, refused: tuple[str, ...] = (), status: int = 403) -> CheckResult:
    """Judge who assigns addresses, in a cluster where MetalLB's kinds are refused or unknown."""
    records = tuple(r for r in cluster(3, *more) if r.resource not in refused)
    kinds = (api(k, status=status, reason=REASON) for k in METALLB)
    workloads = (api(k) for k in ("deployments", "daemonsets") if k not in refused)
    others = (api(k, status=403, reason=REASON) for k in refused)
    made = bundle(*records, *kinds, *workloads, *others)
    return verdicts(diagnose(made, CHAIN))["metallb.installed"]


WAITING = msgspec.structs.replace(
    service("shop/web", "10.96.0.9", ServicePort("http", 80)),
    spec=msgspec.structs.replace(
        service("shop/web", "10.96.0.9", ServicePort("http", 80)).spec, type="LoadBalancer"
    ),
)
SERVED = service("shop/web", "10.96.0.9", ServicePort("http", 80), vips=("192.0.2.200",))
SPEAKER = pod("metallb-system/speaker-1", "n0", "192.0.2.10", image="quay.io/metallb/speaker:v1")


@pytest.mark.parametrize("status", [403, 404])
def test_what_pods_and_workloads_show_needs_no_kinds_of_metallb(status: int) -> None:
    assert metallb(status=status).detail == "no Service of type LoadBalancer"
    another = metallb(SERVED, status=status)
    assert another.verdict is Verdict.SKIPPED
    assert another.detail == "another load balancer than MetalLB assigns addresses"
    assert metallb(WAITING, status=status).verdict is Verdict.FAIL


@pytest.mark.parametrize("refused", [("pods",), ("deployments",), ("pods", "deployments")])
@pytest.mark.parametrize("given", [WAITING, SERVED])
def test_metallb_is_not_absent_where_it_cannot_be_seen(
    given: Service, refused: tuple[str, ...]
) -> None:
    result = metallb(given, SPEAKER, refused=refused)
    assert (result.verdict, result.findings, result.detail) == (Verdict.INSUFFICIENT, (), "")
    assert {f"api:{r}" for r in refused} <= {g.needs for g in result.gaps}


def test_metallbs_kinds_are_refused_or_unknown() -> None:
    """Its speakers run: 403 leaves open what is assigned, 404 is no gap."""
    refused = metallb(SERVED, SPEAKER, refused=("deployments",))
    assert "api:ipaddresspools" in {g.needs for g in refused.gaps}
    unknown = metallb(SERVED, SPEAKER, status=404)
    assert not [g for g in unknown.gaps if "pools" in g.needs]


def failing(whole: Bundle, how: Failure, *, but: str = "") -> Bundle:
    """Let queries to the cluster's DNS fail, but those to one address."""

    def fail(record: Record) -> Record:
        if not isinstance(record, FlowRecord) or record.observation.flow.purpose is not Purpose.DNS:
            return record
        if record.observation.flow.address == but:
            return record
        seen = msgspec.structs.replace(record.observation, failure=how, answers=())
        return FlowRecord(observation=seen)

    return msgspec.structs.replace(whole, records=tuple(fail(r) for r in whole.records))


COREFILE = next(n for n in NAMES if n.endswith("/coredns"))


@pytest.mark.parametrize(
    "how",
    [Failure.DNS_NXDOMAIN, Failure.DNS_SERVFAIL, Failure.DNS_REFUSED, Failure.TIMEOUT],
)
def test_a_name_in_a_domain_that_is_only_guessed_may_not_exist(how: Failure) -> None:
    broken = failing(HEALTHY, how)
    assert verdicts(diagnose(broken, CHAIN))["dns.udp-and-tcp"].verdict is not Verdict.PASS
    unread = verdicts(diagnose(without(broken, COREFILE), CHAIN))["dns.udp-and-tcp"]
    assert (unread.verdict, unread.findings) == (Verdict.INSUFFICIENT, ())
    assert {f"api:{COREFILE}", "the cluster domain"} <= {g.needs for g in unread.gaps}


def test_a_guess_that_is_answered_somewhere_is_right() -> None:
    replica = Tables(HEALTHY).get(DnsService).backend
    assert replica is not None
    broken = failing(HEALTHY, Failure.DNS_SERVFAIL, but=replica.ready[0].address)
    whole, unread = (
        verdicts(diagnose(b, CHAIN))["dns.udp-and-tcp"] for b in (broken, without(broken, COREFILE))
    )
    assert unread.verdict is whole.verdict is Verdict.FAIL
    assert unread.findings == whole.findings


def test_a_refusal_is_one_whatever_is_asked_for() -> None:
    refusing = without(failing(HEALTHY, Failure.CONNECTION_REFUSED), COREFILE)
    found = verdicts(diagnose(refusing, CHAIN))["dns.udp-and-tcp"]
    assert [f.code.name for f in found.findings] == ["DNS_ENDPOINT_REFUSES"]


def test_a_domain_is_only_guessed_where_the_corefile_is_not_there() -> None:
    read = Tables(HEALTHY).get(DnsService)
    assert (read.domain, read.guessed) == ("cluster.local", False)
    for status in (403, 404):
        unread = Tables(without(HEALTHY, COREFILE, status=status)).get(DnsService)
        assert (unread.domain, unread.guessed) == ("cluster.local", True)
