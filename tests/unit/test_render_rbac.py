"""Roles as YAML: read back, they are what was asked for."""

import json
from typing import Any

import pytest
import yaml

from doctor.model.rights import Needs, Role, Rule, Tier
from doctor.render.rbac import Printed, render_roles

READ = Role(
    Tier.READ,
    (
        Rule(("list",), ("",), ("nodes", "pods")),
        Rule(("get",), ("",), ("configmaps",), ("coredns",)),
        Rule(("list",), ("metallb.io",), ("ipaddresspools",)),
    ),
)
ENTER = Role(Tier.EXEC, (Rule(("get", "create"), ("",), ("pods/exec",)),), "kube-flannel")
PROBE = Role(Tier.PROBE, (Rule(("create", "delete"), ("",), ("namespaces",)),))
ROLES = (READ, ENTER, PROBE)
NEEDS = (
    Needs("node.ready", Tier.READ, Tier.READ),
    Needs("flannel.on-every-node", Tier.READ, Tier.PROBE),
    Needs("webhook.reachable", Tier.EXEC, Tier.EXEC),
)


def printed(
    tier: Tier = Tier.PROBE,
    roles: tuple[Role, ...] = ROLES,
    account: tuple[str, str] | None = None,
    probes: str = "",
) -> str:
    """Render."""
    return render_roles(Printed(tier, roles, NEEDS, "wd", account, probes))


def documents(text: str) -> list[dict[str, Any]]:
    """Read it as kubectl does."""
    return [d for d in yaml.safe_load_all(text) if d]


def rules(document: dict[str, Any]) -> tuple[Rule, ...]:
    """Read a role's rules."""
    return tuple(
        Rule(
            tuple(r["verbs"]),
            tuple(r["apiGroups"]),
            tuple(r["resources"]),
            tuple(r.get("resourceNames", ())),
        )
        for r in document["rules"]
    )


def test_roles_are_read_back_as_they_were() -> None:
    found = documents(printed())
    assert [rules(d) for d in found] == [r.rules for r in ROLES]
    assert {d["apiVersion"] for d in found} == {"rbac.authorization.k8s.io/v1"}
    assert [(d["kind"], d["metadata"]) for d in found] == [
        ("ClusterRole", {"name": "wd-read"}),
        ("Role", {"name": "wd-exec", "namespace": "kube-flannel"}),
        ("ClusterRole", {"name": "wd-probe"}),
    ]
    assert "resourceNames" not in found[0]["rules"][0]


def test_each_role_is_bound_to_the_account() -> None:
    found = documents(printed(account=("ops", "doctor")))
    bindings = found[1::2]
    assert found[::2] == documents(printed())
    assert [(b["kind"], b["metadata"]) for b in bindings] == [
        ("ClusterRoleBinding", {"name": "wd-read"}),
        ("RoleBinding", {"name": "wd-exec", "namespace": "kube-flannel"}),
        ("ClusterRoleBinding", {"name": "wd-probe"}),
    ]
    for role, binding in zip(found[::2], bindings, strict=True):
        group, named = "rbac.authorization.k8s.io", role["metadata"]["name"]
        assert binding["roleRef"] == {"apiGroup": group, "kind": role["kind"], "name": named}
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "namespace": "ops", "name": "doctor"}
        ]


@pytest.mark.parametrize("text", ["on", "null", "1e3", "a: b", "# x", '"', "\n---\nkind: X", "é"])
def test_nothing_is_taken_for_anything_else(text: str) -> None:
    role = Role(Tier.READ, (Rule((text,), (text,), (text,), (text,)),), text)
    (found,) = documents(render_roles(Printed(Tier.READ, (role,), (), text)))
    assert rules(found) == role.rules
    assert found["metadata"] == {"name": f"{text}-read", "namespace": text}


def comments(text: str, tier: Tier) -> str:
    """Read what is said of a tier, in one line."""
    lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    start = next(n for n, line in enumerate(lines) if line.startswith(f"Tier {tier} "))
    end = next((n for n, x in enumerate(lines) if n > start and x.startswith("Tier ")), len(lines))
    return " ".join(lines[start:end])


def test_each_tier_says_which_answers_it_adds() -> None:
    text = printed(Tier.HOST)
    assert "It answers: node.ready, flannel.on-every-node." in comments(text, Tier.READ)
    assert "says more" not in comments(text, Tier.READ)
    assert "It answers: webhook.reachable." in comments(text, Tier.EXEC)
    assert "It says more on: flannel.on-every-node." in comments(text, Tier.EXEC)
    assert "It answers" not in comments(text, Tier.PROBE)
    assert "It says more on: flannel.on-every-node." in comments(text, Tier.PROBE)
    assert "takes no further role" in comments(text, Tier.HOST)
    assert "Tier host" not in printed(Tier.PROBE)
    assert len(documents(text)) == len(ROLES)


def test_what_is_allowed_anywhere_is_said_to_be() -> None:
    assert "--exec-namespace" not in comments(printed(), Tier.EXEC)
    assert "--probe-namespace" in comments(printed(), Tier.PROBE)
    anywhere = Role(Tier.EXEC, ENTER.rules)
    assert "--exec-namespace" in comments(printed(roles=(anywhere,)), Tier.EXEC)
    given = Role(Tier.PROBE, PROBE.rules, "probes")
    assert "--probe-namespace" not in comments(printed(roles=(given,)), Tier.PROBE)


def test_a_namespace_for_pods_on_the_hosts_has_to_allow_them() -> None:
    assert "pod-security" in comments(printed(Tier.HOST, probes="probes"), Tier.HOST)
    assert "pod-security" not in comments(printed(Tier.HOST), Tier.HOST)


def test_a_tier_that_is_not_needed_is_said_to_be_so() -> None:
    text = render_roles(Printed(Tier.PROBE, (READ,), NEEDS[:1], "wd"))
    assert "None of these checks needs it." in comments(text, Tier.PROBE)
    assert "None of these" not in comments(text, Tier.READ)
    assert "None of these" not in printed(Tier.HOST)


def test_what_a_lower_tier_cannot_answer_is_said() -> None:
    left = "NOT ENOUGH, as it takes --tier exec, for: webhook.reachable."
    assert left in comments(printed(Tier.READ), Tier.READ)
    assert "NOT ENOUGH" not in printed(Tier.EXEC)
    assert "NOT ENOUGH" not in printed(Tier.HOST)


def test_a_checks_name_stays_in_its_comment() -> None:
    odd = Needs("node.x\nkind: Secret\x1b[31m", Tier.READ, Tier.READ)
    text = render_roles(Printed(Tier.READ, (READ,), (odd,), "wd"))
    assert [rules(d) for d in documents(text)] == [READ.rules]
    assert "\x1b" not in text


def test_it_is_ascii() -> None:
    text = render_roles(Printed(Tier.READ, (READ,), (), "é"))
    assert json.dumps("é-read") in text
    assert text.isascii()
