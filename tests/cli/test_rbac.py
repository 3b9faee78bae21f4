"""`rbac`: valid YAML that holds what the chosen checks need, no cluster asked."""

import subprocess
import sys
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from checks import CHAIN
from doctor.cli.main import cli
from doctor.cli.main import rbac as command
from doctor.cli.roles import needs
from doctor.collect.rights import Scope, roles
from doctor.contract import Check
from doctor.engine.registry import select
from doctor.evidence.tables import needs_of
from doctor.model.rights import Rule, Tier

Document = dict[str, Any]


def rbac(*words: str) -> str:
    """Run the command."""
    done = CliRunner().invoke(cli, ["rbac", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def documents(*words: str) -> list[Document]:
    """Run it, and read what it prints as kubectl does."""
    return [d for d in yaml.safe_load_all(rbac(*words)) if d]


def granted(found: list[Document]) -> dict[tuple[str, str], tuple[Rule, ...]]:
    """Read the rules of each role, by its name and namespace."""
    return {
        (d["metadata"]["name"], d["metadata"].get("namespace", "")): tuple(
            Rule(
                tuple(r["verbs"]),
                tuple(r["apiGroups"]),
                tuple(r["resources"]),
                tuple(r.get("resourceNames", ())),
            )
            for r in d["rules"]
        )
        for d in found
        if d["kind"] in ("Role", "ClusterRole")
    }


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("names", [(), ("dns",), ("node.ready",), ("webhook", "metallb.assigned")])
@pytest.mark.parametrize(
    "scope", [Scope(), Scope(("kube-flannel", "kube-system"), "probes")], ids=["any", "given"]
)
def test_what_is_printed_is_what_the_checks_need(
    tier: Tier, names: tuple[str, ...], scope: Scope
) -> None:
    words = ["--tier", tier.value, *(w for n in names for w in ("--for", n))]
    words += [w for n in scope.resident for w in ("--exec-namespace", n)]
    words += ["--probe-namespace", scope.probes] if scope.probes else []
    sources = needs_of(tuple(n.type for c in select(CHAIN, names) for n in c.needs))
    expected = {
        (f"wwwm-doctor-{r.tier}", r.namespace): r.rules for r in roles(sources, tier, scope)
    }
    assert granted(documents(*words)) == expected


@pytest.mark.parametrize("check", CHAIN, ids=lambda c: c.id)
def test_a_page_names_the_roles_that_its_command_prints(check: Check) -> None:
    """Those of the checks that are run with it count as well."""
    said = needs(check, CHAIN)
    printed = granted(documents("--tier", (said.all or said.more).value, "--for", check.id))
    assert printed == {(f"wwwm-doctor-{r.tier}", r.namespace): r.rules for r in said.roles}
    others = {c.link.value for c in select(CHAIN, [check.id]) if c.id != check.id}
    assert set(said.crosses) == others
    done = CliRunner().invoke(cli, ["explain", check.id], catch_exceptions=False)
    page = " ".join(done.stdout.split())
    assert f"rbac --tier {said.all or said.more} --for {check.id}`" in page
    assert [r for role in said.roles for r in role.rules if f"- {role.tier}: {r}" not in page] == []


def test_what_is_asked_of_too_low_a_tier_is_said() -> None:
    left = rbac("--tier", "read", "--for", "webhook.reachable").partition("---")[0]
    entering = left.partition("# NOT ENOUGH, as it takes --tier exec, for:")[2]
    assert "webhook.reachable" in entering.partition("NOT ENOUGH")[0]
    crossed = rbac("--tier", "exec", "--for", "webhook.reachable").partition("NOT ENOUGH")[2]
    assert "takes --tier probe, for: overlay.pod-to-pod" in crossed.partition("---")[0]
    assert "NOT ENOUGH" not in rbac("--tier", "read", "--for", "node.ready")
    assert "NOT ENOUGH" not in rbac("--tier", "host")


def test_the_default_is_all_checks_with_probe_pods() -> None:
    assert rbac() == rbac("--tier", "probe", "--name", "wwwm-doctor")
    assert {n for n, _ in granted(documents())} == {
        "wwwm-doctor-read",
        "wwwm-doctor-exec",
        "wwwm-doctor-probe",
    }


def test_the_tiers_offered_are_those_there_are() -> None:
    (offered,) = [p.type for p in command.params if p.name == "tier"]
    assert isinstance(offered, click.Choice)
    assert list(offered.choices) == [t.value for t in Tier]


def test_roles_are_bound_to_an_account() -> None:
    found = documents("--service-account", "ops/doctor", "--name", "look", "--probe-namespace", "p")
    bound = [d for d in found if d["kind"].endswith("Binding")]
    assert len(bound) * 2 == len(found)
    for binding in bound:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "namespace": "ops", "name": "doctor"}
        ]
        name, place = binding["roleRef"]["name"], binding["metadata"].get("namespace", "")
        assert (name, place) in granted(found)
        assert name.startswith("look-")


def test_every_check_is_answered_by_one_tier() -> None:
    said = " ".join(rbac("--tier", "host").replace("\n# ", " ").split())
    answered = [
        name
        for part in said.split("It answers: ")[1:]
        for name in part.partition(". ")[0].split(", ")
    ]
    assert sorted(answered) == sorted(c.id for c in CHAIN)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--for", "nonsense"), "no link or check is called 'nonsense'"),
        (("--name", "Not_A_Name"), "--name: 'Not_A_Name' is not a name that Kubernetes takes"),
        (("--name", ""), "--name: '' is not a name"),
        (("--name", "a\n"), "is not a name that Kubernetes takes"),
        (("--probe-namespace", ""), "'--probe-namespace': '' is no name of a namespace"),
        (("--exec-namespace", ""), "'--exec-namespace': '' is no name of a namespace"),
        (("--exec-namespace", "a.b"), "'--exec-namespace': 'a.b' is no name of a namespace"),
        (("--service-account", "doctor"), "'doctor' is not NAMESPACE/NAME"),
        (("--service-account", "a/b/c"), "'a/b/c' is not NAMESPACE/NAME"),
        (("--service-account", ""), "'' is not NAMESPACE/NAME"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doctor", "rbac", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_check_says_what_it_needs() -> None:
    done = CliRunner().invoke(cli, ["explain", "webhook.reachable"], catch_exceptions=False)
    page = done.stdout.partition("\nNeeds\n")[2].partition("\nCodes\n")[0]
    assert "Tier exec. The checks of what it crosses (node, flannel," in page
    assert "get, create pods/exec (core)" in page
    assert "validatingwebhookconfigurations" in page
    done = CliRunner().invoke(cli, ["explain", "node.ready"], catch_exceptions=False)
    page = done.stdout.partition("\nNeeds\n")[2].partition("\nCodes\n")[0]
    assert "Tier read. `wwwm-doctor rbac --tier read --for node.ready`" in page
    assert "exec:" not in page
