"""Roles as YAML, with what each tier is good for."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from doctor.model.rights import Needs, Role, Rule, Tier
from doctor.render.text import inert

__all__ = ["Printed", "render_roles"]

_WIDTH = 100
_GROUP = "rbac.authorization.k8s.io"
_DOES = {
    Tier.READ: "lists objects and changes nothing. Of ConfigMaps it gets only those that are named,"
    " and no Secret.",
    Tier.EXEC: "enters resident pods on the nodes' own network, as flannel's are, to read and"
    " measure there.",
    Tier.PROBE: "starts one unprivileged pod a node, and removes them.",
    Tier.HOST: "starts pods on the nodes' own network where no resident pod can be entered"
    " (--allow-host-probe). They are the same objects, so it takes no further role.",
}
_ANYWHERE = {
    Tier.EXEC: "Anywhere, as it is not known here where those pods are: --exec-namespace names it.",
    Tier.PROBE: "Anywhere, as each run makes a namespace of its own, whose name is random:"
    " --probe-namespace names one that is there.",
}
_PRIVILEGED = (
    "The namespace has to be labelled pod-security.kubernetes.io/enforce=privileged, if Pod"
    " Security is enforced."
)


class Printed(msgspec.Struct, frozen=True):
    """What is printed.

    Args:
        tier: The highest tier.
        roles: Its roles and those of the tiers below.
        needs: What each check needs that was asked for.
        name: What the names of all objects begin with.
        account: Namespace and name of the service account to bind the roles to; None for none.
        probes: The namespace given for probe pods; empty where there is none.
    """

    tier: Tier
    roles: tuple[Role, ...]
    needs: tuple[Needs, ...]
    name: str
    account: tuple[str, str] | None = None
    probes: str = ""


def render_roles(printed: Printed) -> str:
    """Write roles, and bindings if there is an account, for ``kubectl apply -f -``."""
    lines: list[str] = []
    for tier in printed.tier.up_to:
        made = [r for r in printed.roles if r.tier is tier]
        lines += [*([""] if lines else []), *_comment(tier, made, printed)]
        for role in made:
            lines += ["---", *_role(role, printed.name)]
            if printed.account:
                lines += ["---", *_binding(role, printed.name, printed.account)]
    return "".join(f"{line}\n" for line in lines)


def _comment(tier: Tier, made: Sequence[Role], printed: Printed) -> Iterator[str]:
    """Say what a tier does, and which answers it adds."""
    does = [f"Tier {tier} {_DOES[tier]}"]
    if any(not r.namespace for r in made):
        does += [_ANYWHERE[tier]] if tier in _ANYWHERE else []
    if tier is Tier.HOST and printed.probes:
        does.append(_PRIVILEGED)
    yield from _wrapped(" ".join(does))
    answers = [n.id for n in printed.needs if n.answers is tier]
    more = [n.id for n in printed.needs if n.answers.rank < tier.rank <= n.more.rank]
    if answers:
        yield from _wrapped(f"It answers: {', '.join(answers)}.")
    if more:
        yield from _wrapped(f"It says more on: {', '.join(more)}.")
    if not answers and not more and tier is not Tier.HOST:
        yield from _wrapped("None of these checks needs it.")
    if tier is printed.tier:
        yield from _unanswered(printed)


def _unanswered(printed: Printed) -> Iterator[str]:
    """Say which checks come to no answer by what is printed, and which tier they take."""
    left: dict[Tier, list[str]] = {}
    for need in printed.needs:
        if need.answers.rank > printed.tier.rank:
            left.setdefault(need.answers, []).append(need.id)
    for tier, ids in left.items():
        yield from _wrapped(f"NOT ENOUGH, as it takes --tier {tier}, for: {', '.join(ids)}.")


def _wrapped(text: str) -> Iterator[str]:
    """Write a comment."""
    for line in textwrap.wrap(inert(text), _WIDTH - 2, break_on_hyphens=False):
        yield f"# {line}"


def _role(role: Role, name: str) -> Iterator[str]:
    """Write one role."""
    yield from _head("Role" if role.namespace else "ClusterRole", role, name)
    yield "rules:"
    for rule in role.rules:
        yield from _rule(rule)


def _head(kind: str, role: Role, name: str) -> Iterator[str]:
    """Write how an object begins."""
    yield f"apiVersion: {_GROUP}/v1"
    yield f"kind: {kind}"
    yield "metadata:"
    yield f"  name: {json.dumps(_name(role, name))}"
    if role.namespace:
        yield f"  namespace: {json.dumps(role.namespace)}"


def _name(role: Role, name: str) -> str:
    """Name a role and its binding."""
    return f"{name}-{role.tier}"


def _rule(rule: Rule) -> Iterator[str]:
    """Write one rule."""
    yield f"  - apiGroups: {_list(rule.groups)}"
    yield f"    resources: {_list(rule.resources)}"
    if rule.names:
        yield f"    resourceNames: {_list(rule.names)}"
    yield f"    verbs: {_list(rule.verbs)}"


def _list(words: Iterable[str]) -> str:
    """Write a list as JSON, which YAML contains: nothing in it can be taken for anything else."""
    return json.dumps(list(words))


def _binding(role: Role, name: str, account: tuple[str, str]) -> Iterator[str]:
    """Write the binding of one role to a service account."""
    kind = "Role" if role.namespace else "ClusterRole"
    yield from _head(f"{kind}Binding", role, name)
    yield "roleRef:"
    yield f"  apiGroup: {_GROUP}"
    yield f"  kind: {kind}"
    yield f"  name: {json.dumps(_name(role, name))}"
    yield "subjects:"
    yield "  - kind: ServiceAccount"
    yield f"    namespace: {json.dumps(account[0])}"
    yield f"    name: {json.dumps(account[1])}"
