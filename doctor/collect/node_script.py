"""The script that reads a node from inside: one reading after the other, framed and bounded.

It needs a POSIX shell, ``head`` and ``sleep``; where another program is missing, the readings that need it end
with status 127. It writes no file, changes no setting and takes no input.

It runs in a container whose first process may bury no children, as flanneld does not: what is left
to it stays a zombie for as long as the pod runs. So whatever is started is waited for, and busybox's
``timeout``, which leaves a watcher behind, is not used.
"""

from doctor.bundle.schema import CommandOutput
from doctor.model.address import is_ipv4

__all__ = ["CNI_FILE", "READINGS_IN_ALL", "node_script", "read_outputs"]

CNI_FILE = "cni-file "
READINGS_IN_ALL = 6

_READING_SECONDS = 4
_ALL_SECONDS = 12
_UNKNOWN = -1
_LONGEST_COMPLAINT = 300
_KEPT_OF_CUT = 4096
_MOST_TRACKED = 65536
"""A kernel that tracks more connections is not asked for all of them: that takes it a while."""

_SCRIPT = r"""
limit() {
  seconds=$1
  shift
  sleep "$seconds" >/dev/null 2>&1 3<&- & watcher=$!
  (trap 'kill $!' TERM; "$@" <&3 3<&- & wait $!; status=$?; { wait $!; kill $watcher; } 2>/dev/null; exit $status) & asked=$!
  wait $watcher 2>/dev/null && kill $asked 2>/dev/null
  wait $asked 2>/dev/null
} 3<&0
up() { read -r now _ </proc/uptime; now=${now%%.*}; }
whole() { head -c $(($1 + 1)); }
tables() {
  awk -v most="$1" '
    /^[*]/ { size = 0; cut = 0 }
    /^# Table .* (is|contains) incompatible/ { name = $3; gsub(/[^a-z]/, "", name); printf "%s ", name | "cat 1>&5" }
    { size += length($0) + 1 }
    size > most && !cut && /^(\[|-A|:)/ { cut = 1; print "# cut here" }
    !cut || /^([*]|COMMIT)/'
}
r() {
  name=$1 most=$2 tool=$(command -v "$3") || tool=$3
  shift 3
  echo "MARK $name" >&4
  up
  if [ $((now - began)) -ge ALL_SECONDS ]; then
    echo "MARK= 124 no time was left" >&4
    return
  fi
  { { $limit "$tool" "$@" </dev/null 4>&- 5>&-; echo "@$?" >&2; } | "$cut" "$most" >&4; } 2>&1 | {
    first='' last=''
    while read -r line; do first=${first:-$line} last=$line; done
    echo >&4
    echo "MARK= ${last##*@} $first" >&4
  }
}
ask() { printf 'GET %s HTTP/1.0\r\n\r\n' "$2" | $bound "$netcat" -w 2 127.0.0.1 "$1"; }
nft_tables() {
  tool=$(command -v nft) || tool=nft
  echo "MARK nft" >&4
  found=$($limit "$tool" list tables 2>&1 </dev/null 4>&-)
  status=$?
  echo "$found" >&4
  if [ $status -ne 0 ]; then
    echo "MARK= $status ${found%%
*}" >&4
    return
  fi
  echo "MARK= 0" >&4
  echo "$found" | while read -r _ family name; do
    case $family in '' | ip6) continue ;; esac
    case $name in '' | -* | *[!A-Za-z0-9_./-]*) continue ;; esac
    case $family.$name in
      ip.filter | ip.nat | ip.mangle | ip.raw | ip.security)
        case " $odd " in *" $name "*) ;; *) continue ;; esac ;;
    esac
    count=$((count + 1))
    [ "$count" -le 16 ] && r "nft $family $name" MOST nft -json list table "$family" "$name"
  done
}
queries() {
  [ -n "SERVER" ] && [ -r /proc/net/nf_conntrack ] && r dns-queries 16384 sh -c '
    many=$(cat /proc/sys/net/netfilter/nf_conntrack_count) || exit
    if [ "$many" -gt BUSY ]; then
      echo "$many connections are too many to look through" >&2
      exit 3
    fi
    read -r now _ </proc/uptime
    echo "at $now"
    awk "$0" /proc/net/nf_conntrack' '
    $3 == "udp" && / dst=SERVER .* dport=53 / {
      split("", of)
      split("", seen)
      for (i = 6; i <= NF; i++) {
        split($i, pair, "=")
        of[pair[1], ++seen[pair[1]]] = pair[2]
      }
      to = of["src", 2]
      if (of["dst", 1] == "SERVER" && of["dport", 1] == 53 && ++shown[to] <= 8)
        print of["src", 1], of["sport", 1], to, $5
    }'
}
main() {
  exec 4>&1
  export LC_ALL=C
  up
  began=$now limit='' cut=whole count=0
  limit='limit READING_SECONDS'
  bound=$limit netcat=$(command -v nc) || netcat=nc
  r address MOST ip -json -details -statistics address show
  r route MOST ip -json -4 route show table all
  r rule MOST ip -json -4 rule show
  r sysctl MOST sh -c '
    cd /proc/sys/net || exit
    set --
    for file in ipv4/ip_forward bridge/bridge-nf-call-iptables netfilter/nf_conntrack_max \
      netfilter/nf_conntrack_count netfilter/nf_conntrack_udp_timeout ipv4/conf/*/forwarding \
      ipv4/conf/*/rp_filter ipv4/conf/*/arp_ignore ipv4/conf/*/arp_announce; do
      case $file in */veth* | */cali* | */lxc*) continue ;; esac
      if [ -r "$file" ]; then set -- "$@" "$file"; fi
      [ -e "$file" ] || echo "$file:"
    done
    grep -H "" "$@"'
  r neighbour MOST ip -json -4 neigh show
  r fdb MOST sh -c '
    set -f
    for kind in "vxlan dev" "bridge dynamic br"; do
      found=$(ip -o link show type "${kind%% *}") || exit
      for device in $(echo "$found" | cut -d: -f2 | cut -d@ -f1); do
        echo "dev $device" && bridge -json fdb show ${kind#* } "$device" && echo || exit
      done
    done'
  r sockets MOST sh -c '
    for file in tcp tcp6 udp udp6; do
      [ -r /proc/net/$file ] || continue
      awk -v file=$file "$0" /proc/net/$file || exit
    done' '$4 == "0A" || (file ~ /udp/ && $4 == "07") { print file, $2 }'
  limit=''
  r subnet.env 4096 cat /run/flannel/subnet.env
  r resolv.conf 8192 cat /etc/resolv.conf
  r conntrack 65536 cat /proc/net/stat/nf_conntrack
  [ -d /etc/cni/net.d ] && r cni 16384 ls /etc/cni/net.d
  for file in /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist /etc/cni/net.d/*.json; do
    [ -f "$file" ] && r "CNI_FILE${file##*/}" 65536 cat "$file"
  done
  [ -d /opt/cni/bin ] && r cni-bin 16384 ls /opt/cni/bin
  limit=$bound
  cut=tables odd='filter nat mangle raw security'
  if command -v iptables-nft-save >/dev/null; then
    odd=$(r iptables-nft MOST iptables-nft-save -c 5>&1)
    command -v iptables-legacy-save >/dev/null &&
      r iptables-legacy MOST iptables-legacy-save -c 5>/dev/null
  else
    r iptables MOST iptables-save -c 5>/dev/null
  fi
  cut=whole
  nft_tables
  queries
  limit=''
  r kube-proxy-healthz 4096 ask 10256 /healthz
  r kube-proxy-mode 4096 ask 10249 /proxyMode
}
later() {
  exec 4>&1
  up
  began=$now limit='limit READING_SECONDS' cut=whole
  queries
}
BEGIN | head -c $((MOST * READINGS_IN_ALL))
"""


def node_script(mark: str, most: int, server: str = "", *, later: bool = False) -> str:
    """Write the script.

    Args:
        mark: What frames begin with; nothing that is read may guess it.
        most: How many bytes one reading may print, of iptables one table; all together may print
            READINGS_IN_ALL times as many.
        server: The address of the DNS Service; what is tracked of queries to it is read, too.
        later: Whether nothing but that is wanted, once more.
    """
    words = {
        "MARK": mark,
        "MOST": str(most),
        "CNI_FILE": CNI_FILE,
        "READING_SECONDS": str(_READING_SECONDS),
        "READINGS_IN_ALL": str(READINGS_IN_ALL),
        "ALL_SECONDS": str(_ALL_SECONDS),
        "SERVER": server if is_ipv4(server) else "",
        "BUSY": str(_MOST_TRACKED),
        "BEGIN": "later" if later else "main",
    }
    # the script travels in a URL
    text = "\n".join(line.lstrip() for line in _SCRIPT.split("\n") if line.strip())
    for name, word in words.items():
        text = text.replace(name, word)
    return text


def read_outputs(text: str, mark: str, most: int) -> tuple[CommandOutput, ...]:
    """Cut apart what the script printed.

    Args:
        text: Its output, which may end anywhere.
        mark: What it was told to begin frames with.
        most: How many bytes a reading was allowed.

    Returns:
        One for each reading that began. Of one that printed too much little is kept: half an answer
        is none. Tables of iptables were shortened one by one, and say so themselves.
    """
    found: list[CommandOutput] = []
    name, body, open_ = "", "", False
    for part in text.split(mark)[1:]:
        if part.startswith("=") and open_:
            found.append(_output(name, body, part[1:], most))
            open_ = False
        elif part.startswith(" "):
            name, _, body = part[1:].partition("\n")
            open_ = True
    if open_:
        found.append(
            CommandOutput(
                name, _UNKNOWN, body[:_KEPT_OF_CUT], "the output ends here", truncated=True
            )
        )
    return tuple(found)


def _output(name: str, body: str, end: str, most: int) -> CommandOutput:
    """Make one output of a frame."""
    status, _, complaint = end.strip().partition(" ")
    complaint = complaint.strip()
    complaint = "" if complaint == f"@{status}" else complaint.removesuffix(f"@{status}")
    cut = len(body.encode()) > most + 1 and not name.startswith("iptables")
    return CommandOutput(
        name=name,
        status=int(status) if status.isdecimal() and len(status) <= 3 else _UNKNOWN,  # noqa: PLR2004
        stdout=body[:_KEPT_OF_CUT] if cut else body.strip("\n"),
        stderr=complaint[:_LONGEST_COMPLAINT],
        truncated=cut,
    )
