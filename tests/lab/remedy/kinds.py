"""What kind of thing a printed remedy is: commands that change something, or advice. Pure."""

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["changes", "is_commands", "left_open", "needs_a_person"]

_PERSON: Final = re.compile(
    r"""
    \bkubectl\b[^|;&]*\s(edit)\b
    | \b(vi|vim|nano|visudo|virsh\ edit)\s
    | \$\{?(EDITOR|VISUAL)\b
    | <[a-z][a-z0-9 _-]*>           # a placeholder
    """,
    re.VERBOSE,
)
_USED: Final = re.compile(r"\$\{?([A-Z][A-Z0-9_]+)")
_SET: Final = re.compile(r"(?:^|[\s;])([A-Z][A-Z0-9_]+)=")
_GIVEN: Final = frozenset({"HOME", "KUBECONFIG", "PATH", "PWD", "USER"})
_CHANGES: Final = re.compile(
    r"""
    \bkubectl\b[^|;&]*\s(apply|create|delete|patch|annotate|label|scale|set|cordon|uncordon|taint
        |drain|replace|autoscale|expose|run|rollout\ (restart|undo))\b
    | \bopenstack\b[^|;&]*\s(create|set|unset|delete|add|remove)\b
    | \bip\b[^|;&]*\s(add|append|del|delete|replace|change|set|flush)\b
    | \bbridge\b[^|;&]*\s(add|append|del|replace|set)\b
    | \b(iptables|ip6tables|arptables|ebtables)(-legacy|-nft)?\b[^|;&]*\s(-[ADIRPFXN]|--(append|delete|insert|replace|policy|flush))\b
    | \b(iptables|ip6tables)(-legacy|-nft)?-restore\b
    | \bnft\b[^|;&]*\s(add|insert|delete|destroy|flush|replace|-f)\b
    | \bsysctl\b[^|;&]*\s(-w|-p|--system|--write)\b
    | \bsystemctl\b[^|;&]*\s(start|restart|reload|enable|disable|stop|mask|unmask|try-restart)\b
    | \bkubeadm\b[^|;&]*\s(init|join|upgrade|certs\ renew)\b
    | \bconntrack\b[^|;&]*\s(-D|-F|--delete|--flush)\b
    | \bethtool\b[^|;&]*\s(-K|--offload|-s|--features)\b
    | \bsed\b[^|;&]*\s(-i|--in-place)
    | \bnginx\b[^|;&]*\s-s\ (reload|quit|stop)\b
    | \b(modprobe|tee|rm|mv|cp|ln|setsebool|firewall-cmd|ufw|reboot|kill|pkill|chmod|chown|dd|install|nmcli|netplan)\s
    """,
    re.VERBOSE,
)


def needs_a_person(command: str) -> bool:
    """Whether somebody has to type something into it, or to fill something in."""
    return _PERSON.search(command) is not None


def changes(command: str) -> bool:
    """Whether it changes something, rather than only looking."""
    return _CHANGES.search(command) is not None


def left_open(commands: Iterable[str]) -> frozenset[str]:
    """The variables that are used and nowhere set: whoever runs the commands is to choose them."""
    text = "\n".join(commands)
    return frozenset(_USED.findall(text)) - frozenset(_SET.findall(text)) - _GIVEN


def is_commands(commands: Iterable[str]) -> bool:
    """Whether a remedy is one that can be run as printed: nothing to choose, something to change."""
    listed = list(commands)
    person = left_open(listed) or any(map(needs_a_person, listed))
    return not person and any(map(changes, listed))
