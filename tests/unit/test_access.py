"""What is learned of one's rights up front, what is not even asked for then, and what is said."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from checks import CHAIN
from doctor.bundle.io import load, save
from doctor.bundle.schema import ApiRecord, Bundle, GapRecord, Question, RightsRecord
from doctor.collect.access import learn, may_exec, may_probe, undecided
from doctor.collect.gather import Options, _read_api, _Run, gather
from doctor.collect.resources import RESOURCES
from doctor.collect.rights import EVERYTHING, Scope, entering, permissions, probing, roles
from doctor.engine.run import diagnose
from doctor.evidence.tables import Source, Wave
from doctor.model.kube import (
    Container,
    DaemonSet,
    DaemonSpec,
    Meta,
    Pod,
    PodTemplate,
    TemplateSpec,
)
from doctor.model.rights import Permission, Review, Rights, Rule, Tier
from doctor.model.verdict import Verdict
from tests.unit.guarded import Answer, Guarded, connection, lists
from tests.unit.support import address, cluster, names, pod

ADMIN = {"": (Rule(("*",), ("*",), ("*",)),)}
READS: frozenset[Source] = frozenset(s for s in EVERYTHING if not isinstance(s, Wave))
CONFIGMAPS = (
    "/api/v1/namespaces/kube-flannel/configmaps/kube-flannel-cfg",
    "/api/v1/namespaces/kube-system/configmaps/kube-proxy",
    "/api/v1/namespaces/kube-system/configmaps/coredns",
)
ANYWHERE = Scope()
LISTS = [RESOURCES[s].path.partition("?")[0] for s in RESOURCES if s in READS]


def daemonset(key: str, image: str) -> DaemonSet:
    """Make a DaemonSet of one container."""
    namespace, _, name = key.partition("/")
    template = PodTemplate(spec=TemplateSpec(containers=(Container(image=image),)))
    return DaemonSet(
        metadata=Meta(name=name, namespace=namespace), spec=DaemonSpec(template=template)
    )


def objects() -> dict[str, list[object]]:
    """Hold a small cluster with flannel and kube-proxy."""
    items: dict[str, list[object]] = {
        r.resource: msgspec.json.decode(r.items) for r in cluster() if ":" not in r.resource
    }
    items["daemonsets"] = [
        daemonset("kube-flannel/ds", "ghcr.io/flannel-io/flannel:v1"),
        daemonset("kube-system/kube-proxy", "registry.k8s.io/kube-proxy:v1"),
    ]
    held = lists(**items)
    return held | {path: [{"metadata": {}}] for path in CONFIGMAPS}


def granted(tier: Tier, scope: Scope = ANYWHERE) -> dict[str, tuple[Rule, ...]]:
    """Grant the roles of a tier."""
    found: dict[str, tuple[Rule, ...]] = {}
    for role in roles(EVERYTHING, tier, scope):
        found[role.namespace] = (*found.get(role.namespace, ()), *role.rules)
    return found


def read(
    guarded: Guarded,
    folder: Path,
    needs: frozenset[Source] = READS,
    options: Options | None = None,
) -> Bundle:
    """Read the API as a run does."""
    with connection(guarded, folder) as api:
        run = _Run(api, Question(checks=()), needs, options or Options(probing=False))
        _read_api(run)
        return run.bundle()


def api_records(bundle: Bundle) -> dict[str, ApiRecord]:
    """Index what was read."""
    return {r.resource: r for r in bundle.records if isinstance(r, ApiRecord)}


def rights(bundle: Bundle) -> Rights:
    """Take what was learned out of a bundle that was written and read again."""
    again = msgspec.json.decode(msgspec.json.encode(bundle), type=Bundle)
    return Rights(tuple(r.review for r in again.records if isinstance(r, RightsRecord)))


@pytest.mark.parametrize("rules", [ADMIN, granted(Tier.READ), granted(Tier.PROBE)])
def test_who_may_read_asks_for_one_review_and_gets_all(
    rules: dict[str, tuple[Rule, ...]], tmp_path: Path
) -> None:
    guarded = Guarded(rules, objects())
    bundle = read(guarded, tmp_path)
    assert len(guarded.reviewed) == 1
    assert guarded.reviewed[0].startswith("wwwm-doctor-")
    assert sorted(p for _, p in guarded.asked) == sorted([*LISTS, *CONFIGMAPS])
    assert {(r.status, r.reason) for r in api_records(bundle).values()} == {(200, "")}
    assert bundle.api_requests == 2 + len(guarded.asked)


def test_who_may_do_everything_is_asked_about_once_in_a_whole_run(tmp_path: Path) -> None:
    guarded = Guarded(ADMIN, objects())
    read(guarded, tmp_path, EVERYTHING, Options(probe_namespace="probes"))
    assert len(guarded.reviewed) == 1


def test_who_may_nothing_sends_no_list(tmp_path: Path) -> None:
    guarded = Guarded({}, objects())
    records = api_records(read(guarded, tmp_path))
    assert guarded.asked == []
    assert records["pods"].status == 403
    assert records["pods"].reason == (
        "may not list pods (core) in all namespaces; wwwm-doctor rbac prints the role"
    )
    assert records["nodes"].reason == (
        "may not list nodes (core); wwwm-doctor rbac prints the role"
    )
    assert records["endpointslices"].reason.startswith(
        "may not list endpointslices (discovery.k8s.io) in all namespaces; "
    )
    assert set(records) == {s for s in RESOURCES if s in READS}


def test_a_part_of_the_rights_gets_a_part_of_the_answers(tmp_path: Path) -> None:
    rule = Rule(("get", "list"), ("", "apps"), ("nodes", "daemonsets"))
    guarded = Guarded({"": (rule,)}, objects())
    records = api_records(read(guarded, tmp_path))
    # the ConfigMaps' namespaces may have roles of their own: it takes asking to know
    assert sorted(guarded.asked) == [
        ("GET", p) for p in sorted([*CONFIGMAPS[:2], "/api/v1/nodes", RESOURCES["daemonsets"].path])
    ]
    assert {n for n, r in records.items() if r.status == 200} == {"nodes", "daemonsets"}
    assert records["configmaps/kube-system/kube-proxy"].reason == (
        'may not get configmaps (core) "kube-proxy" in kube-system;'
        " wwwm-doctor rbac prints the role"
    )


UNKNOWN: list[Answer] = [
    (403, {"message": 'User "u" cannot create resource "selfsubjectrulesreviews"'}),
    (404, b"404 page not found"),
    (500, b""),
    (201, b"<html>"),
    (201, {"status": None}),
    (201, {"status": {"resourceRules": [{"verbs": "all"}]}}),
]


@pytest.mark.parametrize("reviews", UNKNOWN)
def test_without_a_review_everything_is_tried(reviews: Answer, tmp_path: Path) -> None:
    guarded = Guarded(granted(Tier.READ), objects(), reviews=reviews)
    bundle = read(guarded, tmp_path, EVERYTHING, Options(probe_namespace="probes"))
    assert len(guarded.reviewed) == 1
    assert {r.status for r in api_records(bundle).values()} == {200}
    (review,) = rights(bundle).reviews
    assert review.reason
    assert "\n" not in review.reason
    assert may_exec(rights(bundle), "kube-flannel") == may_probe(rights(bundle), None) == ""


def test_an_empty_review_is_one(tmp_path: Path) -> None:
    """Nothing is allowed, and that is certain."""
    guarded = Guarded({}, objects(), reviews=(201, {"status": {"incomplete": False}}))
    read(guarded, tmp_path)
    assert guarded.asked == []


def test_an_incomplete_review_denies_nothing(tmp_path: Path) -> None:
    guarded = Guarded(granted(Tier.READ), objects(), incomplete=True)
    guarded.rules[""] = guarded.rules[""][1:]
    bundle = read(guarded, tmp_path, EVERYTHING, Options())
    assert len(guarded.reviewed) == 1
    assert sorted(p for _, p in guarded.asked) == sorted([*LISTS, *CONFIGMAPS[:2]])
    refused = {n for n, r in api_records(bundle).items() if r.status == 403}
    assert "pods" in refused
    assert may_exec(rights(bundle), "kube-flannel") == ""


def test_a_refusal_in_spite_of_the_review_says_the_same(tmp_path: Path) -> None:
    guarded = Guarded(ADMIN, objects(), forbids=True)
    tried = api_records(read(guarded, tmp_path))
    known = api_records(read(Guarded({}, objects()), tmp_path))
    assert len(guarded.asked) == len(LISTS)
    assert tried == known


def test_what_is_not_installed_stays_so(tmp_path: Path) -> None:
    held = objects()
    del held[RESOURCES["ipaddresspools"].path]
    records = api_records(read(Guarded(granted(Tier.READ), held), tmp_path))
    assert records["ipaddresspools"].status == 404
    assert "may not" not in records["ipaddresspools"].reason
    assert {r.status for n, r in records.items() if n != "ipaddresspools"} == {200}


REMOTE = Scope(resident=("kube-flannel", "kube-system"))
GIVEN = Scope(resident=("kube-flannel", "kube-system"), probes="probes")


def learned(guarded: Guarded, folder: Path, options: Options | None = None) -> Rights:
    """Learn what a whole run needs to know."""
    return rights(read(guarded, folder, EVERYTHING, options or Options()))


def test_roles_in_namespaces_are_seen(tmp_path: Path) -> None:
    guarded = Guarded(granted(Tier.PROBE, GIVEN), objects())
    known = learned(guarded, tmp_path, Options(probe_namespace="probes"))
    assert guarded.reviewed[1:] == ["kube-flannel", "kube-system", "probes"]
    assert may_exec(known, "kube-flannel") == may_exec(known, "kube-system") == ""
    assert may_probe(known, "probes") == ""
    assert may_probe(known, None) == (
        "may not create namespaces (core);"
        " give --probe-namespace NAME, or wwwm-doctor rbac prints the role"
    )


def test_reading_alone_enters_nothing_and_starts_nothing(tmp_path: Path) -> None:
    guarded = Guarded(granted(Tier.READ), objects())
    known = learned(guarded, tmp_path, Options(probe_namespace="probes"))
    assert guarded.reviewed[1:] == ["kube-flannel", "kube-system", "probes"]
    assert may_exec(known, "kube-flannel") == (
        "may not get pods/exec (core) in kube-flannel; wwwm-doctor rbac prints the role"
    )
    assert may_probe(known, "probes") == (
        "may not create pods (core) in probes;"
        " wwwm-doctor rbac --probe-namespace probes prints the role"
    )


def test_who_does_not_probe_is_not_asked_about_it(tmp_path: Path) -> None:
    guarded = Guarded(granted(Tier.READ), objects())
    learned(guarded, tmp_path, Options(probing=False, probe_namespace="probes"))
    assert len(guarded.reviewed) == 1


def holding(*permissions: Permission) -> Rights:
    """Know exactly these to be allowed."""
    found: dict[str, list[Rule]] = {"": []}
    for p in permissions:
        rule = Rule((p.verb,), (p.group,), (p.resource,), (p.name,) if p.name else ())
        found.setdefault(p.namespace, []).append(rule)
    return Rights(tuple(Review(n, tuple(rules)) for n, rules in found.items()))


@pytest.mark.parametrize("namespace", [None, "probes"])
def test_no_probe_pod_is_started_that_could_not_be_used_and_removed(namespace: str | None) -> None:
    everything = list(probing(namespace or ""))
    assert may_probe(holding(*everything), namespace) == ""
    costly: set[tuple[str, str]] = set()
    for one in everything:
        said = may_probe(holding(*(p for p in everything if p != one)), namespace)
        assert said == "" or said.startswith(f"may not {one}; ")
        costly |= {(one.verb, one.resource)} if said else set()
    own = {("create", "namespaces"), ("delete", "namespaces")} if namespace is None else set()
    assert costly == own | {
        ("create", "pods"),
        ("list", "pods"),
        ("delete", "pods"),
        ("get", "pods/exec"),
    }


def test_older_servers_need_no_right_to_create_an_exec() -> None:
    getting, creating = entering("kube-flannel")
    assert may_exec(holding(getting), "kube-flannel") == ""
    assert may_exec(holding(creating), "kube-flannel").startswith("may not get pods/exec (core)")
    assert may_exec(Rights(), "kube-flannel") == ""


@pytest.mark.parametrize(
    ("allowed", "needs", "scope", "expected"),
    [
        ((), EVERYTHING, GIVEN, ("kube-flannel", "kube-system", "probes")),
        ((), EVERYTHING, Scope(("kube-flannel",), "kube-flannel"), ("kube-flannel",)),
        ((), EVERYTHING, REMOTE, ("kube-flannel", "kube-system")),
        ((), READS, GIVEN, ()),
        ((), frozenset({Wave.NODE}), GIVEN, ("kube-flannel", "kube-system")),
        ((), frozenset({Wave.PROBE_PODS}), GIVEN, ("probes",)),
        (tuple(entering("")), EVERYTHING, REMOTE, ()),
        (tuple(entering("")), EVERYTHING, GIVEN, ("probes",)),
        (tuple(entering(""))[:1], EVERYTHING, REMOTE, ("kube-flannel", "kube-system")),
        (tuple(probing("")), EVERYTHING, GIVEN, ()),
    ],
)
def test_only_what_is_undecided_is_asked_again(
    allowed: Iterable[Permission],
    needs: frozenset[Source],
    scope: Scope,
    expected: tuple[str, ...],
) -> None:
    assert undecided(holding(*allowed), needs, scope) == expected


@pytest.mark.parametrize(
    "known",
    [
        Rights(),
        Rights((Review(reason="HTTP 500"),)),
        Rights((Review(incomplete=True),)),
    ],
)
def test_what_nobody_can_tell_is_not_asked_again(known: Rights) -> None:
    assert undecided(known, EVERYTHING, GIVEN) == ()


def test_only_rules_that_matter_are_kept(tmp_path: Path) -> None:
    mine = Rule(("get",), ("", "apps"), ("secrets", "pods"), ("a",))
    others = (
        Rule(("get",), ("",), ("secrets",), ("the-name-of-a-secret",)),
        Rule(("*",), ("example.org",), ("*",)),
    )
    with connection(Guarded({"": (*others, mine)}), tmp_path) as api:
        (review,) = learn(api, Rights(), ("",)).reviews
    assert review == Review(rules=(mine,))


@pytest.mark.parametrize("tier", Tier)
def test_what_is_dropped_decides_nothing(tier: Tier, tmp_path: Path) -> None:
    rules = granted(tier)
    with connection(Guarded(rules), tmp_path) as api:
        known = learn(api, Rights(), ("",))
    whole = Rights((Review(rules=rules[""]),))
    for wanted in (p for t in Tier for p in permissions(EVERYTHING, t)):
        assert known.permits(wanted) is whole.permits(wanted)


def test_a_run_without_rights_is_judged_the_same_again(tmp_path: Path) -> None:
    """Nothing found, each essential check open, each naming the right it misses."""
    with connection(Guarded({}, objects()), tmp_path) as api:
        bundle = gather(api, Question(), READS, Options(probing=False))
    first = diagnose(bundle, CHAIN)
    save(bundle, tmp_path / "bundle")
    assert diagnose(load(tmp_path / "bundle"), CHAIN) == first
    assert first.diagnoses == ()
    assert first.exit_code == 5
    for check in first.checks:
        assert check.verdict is Verdict.INSUFFICIENT, check.id
        assert any("rbac prints the role" in g.reason for g in check.gaps), check.id


def flannel_pod(node: str) -> Pod:
    """Make flannel's pod on a node."""
    made = pod(f"kube-flannel/ds-{node}", node, address(node), labels={"app": "flannel"})
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, host_network=True))


def test_what_is_not_allowed_is_not_tried(tmp_path: Path) -> None:
    """Nobody is entered, nothing is started; said once, however many nodes there are."""
    held = objects()
    labels = Meta(labels={"app": "flannel"})
    whole: DaemonSet = msgspec.convert(held[RESOURCES["daemonsets"].path][0], DaemonSet)
    template = msgspec.structs.replace(whole.spec.template, metadata=labels)
    spec = msgspec.structs.replace(whole.spec, template=template)
    held[RESOURCES["daemonsets"].path][0] = msgspec.to_builtins(
        msgspec.structs.replace(whole, spec=spec)
    )
    held["/api/v1/pods"] += msgspec.to_builtins([flannel_pod(n) for n in names(3)])
    needs = EVERYTHING - {Wave.TARGET, Wave.PROXY}
    guarded = Guarded(granted(Tier.READ), held)
    with connection(guarded, tmp_path) as api:
        bundle = gather(api, Question(), needs, Options())
    assert {m for m, _ in guarded.asked} == {"GET"}
    # the ends of logs are read by those who may read
    assert not any("/pods/" in p and not p.endswith("/log") for _, p in guarded.asked)
    gaps = [r.gap for r in bundle.records if isinstance(r, GapRecord)]
    assert [(g.needs, g.reason, g.essential) for g in gaps] == [
        ("entering nodes", may_exec(rights(bundle), "kube-flannel"), True),
        ("probe pods", may_probe(rights(bundle), None), True),
    ]
