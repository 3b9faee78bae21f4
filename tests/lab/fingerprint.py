"""What a fault can leave behind on a machine, as lines of text that can be compared.

Counters are left out, and so is what comes and goes while pods do.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

_TABLES_OF_OTHERS: Final = (
    '"ip filter"|"ip nat"|"ip mangle"|"ip raw"|"ip security"|"ip6 filter"|"ip6 nat"|"ip6 mangle"'
    '|"ip6 raw"|"ip6 security"|"ip kube-proxy"|"ip6 kube-proxy"|"ip flannel-ipv4"'
)
_FILES: Final = (
    "/etc/resolv.conf /etc/hosts /var/lib/kubelet/config.yaml /etc/kubernetes/manifests/*"
    " /etc/cni/net.d/* /run/flannel/subnet.env"
)
_SYSCTLS: Final = (
    "net.ipv4.ip_forward net.ipv4.conf.all.rp_filter net.ipv4.conf.eth0.rp_filter"
    " net.bridge.bridge-nf-call-iptables"
)
SCRIPT: Final = f"""
echo '## iptables'; iptables-save; iptables-legacy-save
echo '## nftables'
nft list tables | while read -r _ family table; do
    case "$family $table" in
        {_TABLES_OF_OTHERS}) ;;
        *) nft -s list table "$family" "$table" ;;
    esac
done
echo '## routes'; ip -4 route show table all; ip -4 rule
echo '## links'; ip -o link
echo '## addresses'; ip -o -4 address
echo '## sysctls'; sysctl {_SYSCTLS}
echo '## files'; sha256sum {_FILES}
"""
_MANAGED: Final = re.compile(r"KUBE-|CNI-|FLANNEL-|cali-")
_REFUSING: Final = re.compile(r"-j (DROP|REJECT)")
# a service without endpoints is kube-proxy's to refuse, for as long as it has none
_PASSING: Final = re.compile(r"has no endpoints|KUBE-(SERVICES|EXTERNAL|NODEPORTS)")


def _iptables(lines: Iterable[str]) -> list[str]:
    kept, table = [], ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            if not _MANAGED.search(line) or (_REFUSING.search(line) and not _PASSING.search(line)):
                kept.append(f"{table} {line}")
        elif line.startswith(":") and " ACCEPT" not in line and not _MANAGED.search(line):
            kept.append(f"{table} {line.split('[')[0]}")
    return kept


def _routes(lines: Iterable[str]) -> list[str]:
    cleaned = (re.sub(r"\s*(linkdown|proto kernel|onlink)\b", "", line).strip() for line in lines)
    return sorted(line for line in cleaned if "table local" not in line and "dev cni0" not in line)


def _link(line: str) -> str:
    """Name, flag UP, MTU and state of a link; empty for those of pods."""
    match = re.match(r"\d+: ([^:@]+)(?:@\S+)?: <([^>]*)> mtu (\d+).*? state (\S+)", line)
    if match is None or match[1].startswith("veth"):
        return ""
    name, flags, mtu, state = match.groups()
    up = "up" if "UP" in flags.split(",") else "down"
    # the bridge of pods has no carrier while it has no pods
    return f"{name} {up} mtu {mtu}" + ("" if name == "cni0" else f" {state}")


def _bridge(sections: dict[str, list[str]], links: list[str], mtu: int) -> list[str]:
    """What is odd about the bridge of pods, which is there from a node's first pod on."""
    mine = [link for link in links if link.startswith("cni0 ")]
    if not mine:
        return []
    # a bridge without ports falls back to the MTU that it was made with
    ports = any("master cni0" in line for line in sections["links"])
    odd = [link for link in mine if link != f"cni0 up mtu {mtu}" and (ports or " up " not in link)]
    if not any("dev cni0" in line and "scope link" in line for line in sections["routes"]):
        odd.append("cni0 without its route")
    return odd


def normalise(text: str, mtu: int) -> list[str]:
    """The lines of `SCRIPT`'s output that tell one state of a machine from another.

    Args:
        text: What the script printed.
        mtu: The MTU that the bridge of pods is to have.

    Returns:
        Sorted where the order means nothing.
    """
    # a machine that vanished halfway through has printed some sections only
    sections: defaultdict[str, list[str]] = defaultdict(list)
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("## "):
            current = sections[line[3:]]
        elif line.strip():
            current.append(line)
    links = [link for line in sections["links"] if (link := _link(line))]
    addresses = [re.sub(r"^\d+: |\s*valid_lft.*|\\", "", line) for line in sections["addresses"]]
    return [
        *_iptables(sections["iptables"]),
        *sections["nftables"],
        *_routes(sections["routes"]),
        *sorted(link for link in links if not link.startswith("cni0 ")),
        *_bridge(sections, links, mtu),
        *sorted(" ".join(a.split()) for a in addresses if not a.startswith(("cni0", "veth"))),
        *sections["sysctls"],
        *sections["files"],
    ]
