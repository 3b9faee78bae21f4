"""The checks that are installed, found by entry point, and how a selection is understood."""

import difflib
from collections.abc import Iterable
from importlib.metadata import entry_points

from doctor.contract import Check
from doctor.errors import UsageError
from doctor.model.finding import Code
from doctor.model.link import Link

__all__ = ["GROUP", "codes", "load", "select", "suggestion"]

GROUP = "wwwm_doctor.checks"

_CROSSES: dict[Link, tuple[Link, ...]] = {
    Link.NODE: (),
    Link.FLANNEL: (Link.NODE,),
    Link.OVERLAY: (Link.FLANNEL,),
    Link.DNS: (Link.OVERLAY, Link.KUBE_PROXY),
    Link.WEBHOOK: (Link.OVERLAY, Link.KUBE_PROXY),
    Link.KUBE_PROXY: (Link.OVERLAY,),
    Link.SERVICE: (Link.OVERLAY, Link.EGRESS),
    Link.METALLB: (Link.OVERLAY, Link.KUBE_PROXY),
    Link.INGRESS: (Link.SERVICE, Link.KUBE_PROXY),
    Link.HOST_PROXY: (Link.METALLB, Link.INGRESS),
    Link.EGRESS: (Link.DNS,),
}
"""What the traffic that a link is about crosses next; what that crosses in turn is crossed, too.

A Service's pods are not ready without what they depend on, so its way goes on out of the cluster.
"""


def _crossed(link: Link) -> frozenset[Link]:
    """Return all that a link's traffic crosses: blame falls there, so it is looked at too."""
    return frozenset(far for near in _CROSSES[link] for far in (near, *_crossed(near)))


def load() -> tuple[Check, ...]:
    """Return all installed checks, the shipped ones first, in walking order.

    Raises:
        UsageError: Two checks have one id, or an entry point holds no checks.
    """
    found: list[Check] = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name != "builtin", p.name)):
        chain = point.load()
        if not isinstance(chain, tuple) or not all(isinstance(c, Check) for c in chain):
            raise UsageError(f"the entry point {point.value} does not hold a tuple of checks")
        found.extend(chain)
    seen: set[str] = set()
    for check in found:
        if check.id in seen:
            raise UsageError(f"two installed checks are called {check.id}")
        seen.add(check.id)
    order = list(Link)
    return tuple(sorted(found, key=lambda c: order.index(c.link)))


def select(checks: tuple[Check, ...], names: Iterable[str]) -> tuple[Check, ...]:
    """Choose checks by link or id, with those of the links that their traffic crosses.

    Raises:
        UsageError: A name is neither a link nor a check's id.
    """
    wanted = tuple(name.lower() for name in names)
    if not wanted:
        return checks
    links = {c.link.value for c in checks}
    ids = {c.id for c in checks}
    for name in wanted:
        if name not in links | ids:
            known = ", ".join(k.value for k in Link if k.value in links)
            hint = _said_by(name, checks) or suggestion(name, (*links, *ids))
            raise UsageError(
                f"no link or check is called {name!r}{hint}; links: {known};"
                " `wwwm-doctor list` shows all"
            )
    chosen = {c.link for c in checks if c.id in wanted or c.link.value in wanted}
    crossed = frozenset[Link]().union(*map(_crossed, chosen))
    return tuple(c for c in checks if c.id in wanted or c.link.value in wanted or c.link in crossed)


def _said_by(name: str, checks: Iterable[Check]) -> str:
    """Return a hint at the checks that say a code which was given for a check; empty for none."""
    code = name.upper().replace("-", "_")
    ids = [c.id for c in checks if any(k.name == code for k in c.codes)]
    return f" ({code} is a code, said by {', '.join(ids)})" if ids else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint at what a misspelt name may have meant; empty where nothing is near."""
    by_case = {k.lower(): k for k in sorted(known)}
    near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.75)
    return f" (did you mean {by_case[near[0]]}?)" if near else ""


def codes(checks: Iterable[Check]) -> dict[str, Code]:
    """Return all codes by name."""
    return {code.name: code for check in checks for code in check.codes}
