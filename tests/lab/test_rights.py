"""The roles that `rbac` prints, each given to a user who has nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from doctor.bundle.io import load
from doctor.bundle.schema import RightsRecord
from doctor.model.rights import Permission, Review, Rights, Rule, Tier
from tests.lab.accounts import Account, account
from tests.lab.lab import Lab
from tests.lab.patient import Said, doctor, examine

pytestmark = [pytest.mark.lab, pytest.mark.shapes("hostgw")]

REVIEWS = "selfsubjectrulesreviews"
GIVEN = "probes-of-ours"
FORBIDDEN = 403


def printed(lab: Lab, *words: str) -> str:
    """What `rbac` prints, with no cluster to ask."""
    done = doctor(lab, "rbac", *words, vantage="internet")
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def given(lab: Lab, name: str, *words: str) -> Iterator[Account]:
    """A user with the roles that are printed for some words, and a binding of his own."""
    where = "kube-public"
    rbac = printed(lab, *words, "--name", name, "--service-account", f"{where}/{name}")
    with account(lab, name, rbac) as user:
        assert (user.namespace, user.name) == (where, name)
        yield user


def requests(lab: Lab, since: int, user: Account) -> list[dict[str, Any]]:
    """What a user has asked, by the API server's own record."""
    # an exec is logged twice, when it begins and when it ends
    return [
        e
        for e in lab.audit(since=since)
        if e["user"]["username"] == user.user and e["stage"] == "ResponseComplete"
    ]


def refused(entries: list[dict[str, Any]]) -> list[str]:
    """What was asked in vain for want of a right."""
    return [
        f"{e['verb']} {e['requestURI']}"
        for e in entries
        if e["responseStatus"]["code"] == FORBIDDEN
    ]


def resources(entries: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Verbs and resources of what was asked."""
    refs = [(e["verb"], e["objectRef"]) for e in entries if "objectRef" in e]
    return {(v, "/".join(filter(None, (r["resource"], r.get("subresource"))))) for v, r in refs}


def run(lab: Lab, user: Account, *words: str) -> tuple[Said, list[dict[str, Any]]]:
    """A whole run by a user, and what it asked."""
    mark = lab.audit_mark()
    said = examine(lab, "--url", f"{lab.site_url}/", "--kubeconfig", str(user.kubeconfig), *words)
    return said, requests(lab, mark, user)


def verdicts(said: Said) -> dict[str, str]:
    """Each check's verdict."""
    return {c["id"]: c["verdict"] for c in said.document["checks"]}


def reasons(said: Said) -> str:
    """All that is said to be missing."""
    gaps = (g["reason"] for c in said.document["checks"] for g in c["gaps"])
    return "\n".join(dict.fromkeys(gaps))


def learned(path: Path) -> Rights:
    """What a saved run has learned of its rights."""
    records = load(path).records
    return Rights(tuple(r.review for r in records if isinstance(r, RightsRecord)))


def test_an_administrator_is_asked_about_once(lab: Lab, tmp_path: Path) -> None:
    """One review, answered with everything."""
    mark = lab.audit_mark()
    said = examine(lab, "--save", str(tmp_path / "bundle"))
    assert said.exit_code == 0, said.lines
    reviews = [
        e for e in lab.audit(since=mark) if e.get("objectRef", {}).get("resource") == REVIEWS
    ]
    assert len([e for e in reviews if e["stage"] == "ResponseComplete"]) == 1
    (review,) = learned(tmp_path / "bundle").reviews
    assert (review.namespace, review.incomplete, review.reason) == ("", False, "")
    assert Rule(("*",), ("*",), ("*",)) in review.rules


@pytest.mark.parametrize("tier", Tier)
def test_what_is_printed_can_be_applied_as_it_is(lab: Lab, tier: Tier) -> None:
    """By the API server's own judgement, comments and all; nothing is kept."""
    words = ("--tier", tier.value, "--service-account", "kube-public/doctor")
    places = ("--exec-namespace", "kube-system", "--probe-namespace", "default")
    for text in (printed(lab, *words), printed(lab, *words, *places)):
        said = lab.kubectl("apply", "--dry-run=server", "-f", "-", input=text).splitlines()
        assert len(said) == text.count("---\n")
        assert all(line.endswith(" created (server dry run)") for line in said)


def test_the_printed_roles_are_enough_for_a_whole_run(lab: Lab) -> None:
    """A user with nothing else is refused nothing, and finds the lab healthy."""
    with given(lab, "prober", "--tier", "probe") as user:
        said, asked = run(lab, user)
    assert said.exit_code == 0, said.lines
    assert refused(asked) == []
    assert len([e for e in asked if e.get("objectRef", {}).get("resource") == REVIEWS]) == 1
    assert ("create", "pods") in resources(asked)
    assert said.document["stats"]["api_requests"] == len(asked)


def test_who_may_only_read_gets_every_answer_of_the_api(lab: Lab) -> None:
    """As an administrator who does not probe; the rest is open, and nothing is tried in vain."""
    without = examine(lab, "--url", f"{lab.site_url}/", "--no-probe")
    with given(lab, "reader", "--tier", "read") as user:
        said, asked = run(lab, user)
    assert said.codes == [], said.lines
    assert said.exit_code == 5, said.lines
    assert verdicts(said) == verdicts(without), said.lines
    assert "pass" in verdicts(said).values()
    assert refused(asked) == []
    assert {v for v, r in resources(asked) if r != REVIEWS} == {"get", "list"}
    assert "may not get pods/exec (core) in " in reasons(said)
    assert "may not create namespaces (core); give --probe-namespace NAME" in reasons(said)


def test_who_may_enter_pods_sees_what_nodes_see(lab: Lab) -> None:
    """Where flannel and kube-proxy are, and nowhere else."""
    places = {lab.shape.flannel_namespace, "kube-system"}
    words = (w for p in sorted(places) for w in ("--exec-namespace", p))
    with given(lab, "visitor", "--tier", "exec", *words) as user:
        said, asked = run(lab, user)
    assert said.codes == [], said.lines
    assert said.exit_code == 5, said.lines
    assert refused(asked) == []
    assert verdicts(said)["webhook.reachable"] == "pass", said.lines
    assert "pods/exec" not in reasons(said)
    entered = [e for e in asked if e.get("objectRef", {}).get("subresource") == "exec"]
    assert {e["objectRef"]["namespace"] for e in entered} <= places
    assert entered
    assert ("create", "pods") not in resources(asked)


def test_a_namespace_that_is_given_takes_no_right_outside_it(lab: Lab, tmp_path: Path) -> None:
    """Reading aside, the user has roles in single namespaces only; none is made or removed."""
    places = sorted({lab.shape.flannel_namespace, "kube-system"})
    words = ("--probe-namespace", GIVEN, *(w for p in places for w in ("--exec-namespace", p)))
    lab.kubectl("create", "namespace", GIVEN)
    try:
        with given(lab, "guest", *words) as user:
            bundle = str(tmp_path / "bundle")
            said, asked = run(lab, user, "--probe-namespace", GIVEN, "--save", bundle)
        left = lab.kubectl("get", "pods", "-n", GIVEN, "-o", "name")
    finally:
        lab.kubectl("delete", "namespace", GIVEN, "--wait=false")
    assert said.exit_code == 0, said.lines
    assert refused(asked) == []
    assert not [r for v, r in resources(asked) if r == "namespaces" and v != "get"]
    assert left == ""
    known = learned(tmp_path / "bundle")
    assert [r.namespace for r in known.reviews] == ["", *places, GIVEN]
    creating = Permission("create", "", "pods")
    assert known.permits(creating) is False
    assert known.permits(Permission("create", "", "pods", GIVEN)) is True


def test_without_the_corefile_no_answer_is_called_wrong(lab: Lab) -> None:
    """The cluster domain is guessed then, and where it is another one, the name does not exist."""
    documents = [d for d in yaml.safe_load_all(printed(lab, "--tier", "probe")) if d]
    for role in documents:
        role["rules"] = [r for r in role["rules"] if "configmaps" not in r["resources"]]
    with account(lab, "nearly", yaml.safe_dump_all(documents)) as user:
        said, asked = run(lab, user)
    assert said.codes == [], said.lines
    assert said.exit_code == (0 if lab.shape.cluster_domain == "cluster.local" else 5), said.lines
    assert len(refused(asked)) == 3
    assert 'may not get configmaps (core) "coredns" in kube-system' in reasons(said)


def test_who_may_nothing_is_told_what_is_missing(lab: Lab) -> None:
    """No object is asked for, nothing is found, nothing passes."""
    nothing = (
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nobody, namespace: kube-public}\n"
    )
    with account(lab, "nobody", nothing) as user:
        said, asked = run(lab, user)
    assert said.exit_code == 5, said.lines
    assert said.codes == []
    assert set(verdicts(said).values()) <= {"insufficient", "pass"}
    passed = {c for c, v in verdicts(said).items() if v == "pass"}
    assert passed <= {"host-proxy.url", "host-proxy.forwards"}, said.lines
    assert resources(asked) == {("create", REVIEWS)}
    assert "may not list pods (core) in all namespaces; wwwm-doctor rbac prints the role" in (
        reasons(said)
    )


def test_a_run_asks_for_what_the_roles_grant_and_for_all_that_one_may_read(lab: Lab) -> None:
    """Of an administrator's run, who would be let do anything: by the audit log, not by belief."""
    held = holding(printed(lab, "--tier", "probe"))
    mark = lab.audit_mark()
    said = examine(lab, "--url", f"{lab.site_url}/")
    assert said.exit_code == 0, said.lines
    proxy = lab.shape.proxy_address
    asked = {wanted(e) for e in lab.audit(since=mark) if proxy in e["sourceIPs"] and is_object(e)}
    assert [str(w) for w in asked if held.permits(w) is not True] == []
    reading = holding(printed(lab, "--tier", "read")).reviews
    for rule in (r for review in reading for r in review.rules):
        for resource in rule.resources:
            used = [w for w in asked if w.resource == resource and w.verb in rule.verbs]
            assert {rule.grants(w) for w in used} == {True}, resource


def holding(manifest: str) -> Rights:
    """The rights of who has the roles of a manifest and nothing else."""
    documents = (d for d in yaml.safe_load_all(manifest) if d)
    return Rights(
        tuple(
            Review(d["metadata"].get("namespace", ""), tuple(_rule(r) for r in d["rules"]))
            for d in documents
        )
    )


def _rule(rule: dict[str, list[str]]) -> Rule:
    return Rule(
        tuple(rule["verbs"]),
        tuple(rule["apiGroups"]),
        tuple(rule["resources"]),
        tuple(rule.get("resourceNames", ())),
    )


def is_object(entry: dict[str, Any]) -> bool:
    """Whether something was asked that takes a role: reviews are open to everybody."""
    return "objectRef" in entry and entry["objectRef"]["resource"] != REVIEWS


def wanted(entry: dict[str, Any]) -> Permission:
    """What a request took."""
    about = entry["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    # a namespace is recorded as being in itself
    inside = "" if about["resource"] == "namespaces" else about.get("namespace", "")
    name = "" if entry["verb"] in ("list", "create", "deletecollection") else about.get("name", "")
    return Permission(entry["verb"], about.get("apiGroup", ""), resource, inside, name)
