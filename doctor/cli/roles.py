"""What ``rbac`` does: print the roles that checks need."""

import re

import msgspec

from doctor.collect.rights import Scope, roles, tier_of
from doctor.contract import Check
from doctor.engine.registry import load, select
from doctor.errors import UsageError
from doctor.evidence.tables import needs_of
from doctor.model.rights import Needs, Tier
from doctor.render.rbac import Printed, render_roles

__all__ = ["needs", "role_page"]

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"


class _Wish(msgspec.Struct, frozen=True):
    """The options of ``rbac``, typed."""

    tier: Tier = Tier.PROBE
    names: tuple[str, ...] = ()
    exec_namespaces: tuple[str, ...] = ()
    probe_namespace: str | None = None
    name: str = "wwwm-doctor"
    service_account: str | None = None


def needs(check: Check, among: tuple[Check, ...] = ()) -> Needs:
    """Derive what a check needs from the evidence that it asks for.

    Args:
        check: The check.
        among: All checks: those that are run with it, as its traffic crosses them, count as well.
    """
    required = needs_of(tuple(n.type for n in check.needs if n.required))
    more = tier_of(needs_of(tuple(n.type for n in check.needs)))
    together = select(among, (check.id,)) if among else (check,)
    wanted = needs_of(tuple(n.type for c in together for n in c.needs))
    everything = tier_of(wanted)
    crosses = tuple(dict.fromkeys(c.link.value for c in together if c.id != check.id))
    return Needs(
        id=check.id,
        answers=tier_of(required),
        more=more,
        roles=roles(wanted, everything),
        crosses=crosses,
        all=everything if crosses else None,
    )


def role_page(given: dict[str, object]) -> str:
    """Return the roles as YAML.

    Args:
        given: The command line's options.

    Raises:
        UsageError: A name is none, or no check is called so.
    """
    wish = msgspec.convert(given, _Wish)
    probes = wish.probe_namespace or ""
    checks = select(load(), wish.names)
    sources = needs_of(tuple(n.type for c in checks for n in c.needs))
    printed = Printed(
        tier=wish.tier,
        roles=roles(sources, wish.tier, Scope(wish.exec_namespaces, probes)),
        needs=tuple(needs(c) for c in checks),
        name=_checked("--name", wish.name, _SUBDOMAIN),
        account=_account(wish.service_account) if wish.service_account is not None else None,
        probes=probes,
    )
    return render_roles(printed)


def _account(text: str) -> tuple[str, str]:
    """Take a service account's ``NAMESPACE/NAME`` apart."""
    _checked("--service-account", text, f"{_LABEL}/{_SUBDOMAIN}", "NAMESPACE/NAME")
    namespace, _, name = text.partition("/")
    return namespace, name


def _checked(option: str, text: str, form: str, what: str = "a name that Kubernetes takes") -> str:
    """Return a name that Kubernetes would take.

    Raises:
        UsageError: It is none.
    """
    if not re.fullmatch(form, text):
        raise UsageError(f"{option}: {text!r} is not {what}")
    return text
