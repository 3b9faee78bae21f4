"""The shell text of the relay: what it finds out first, how it asks, how it prints.

Runs under dash, busybox's ash and bash, as any user, with standard input empty. Capital letters are
what was found out and holds for the whole script; ``i`` is the number of the job at hand.

Some of it looks odd and has its reason:

- It runs in containers whose first process may bury no children, as flanneld does not: what is left
  to it stays a zombie for as long as the pod runs. So whatever is started is waited for, also what
  is ended early, and busybox's ``timeout``, which leaves a watcher behind, is not used.
- A shell that has just been forked may lose a signal that its parent traps. So a program and the
  ``sleep`` that bounds it are begun while TERM is not trapped, and whichever ends first ends the other;
  workers and watchdog look for a file as well, and each job has its own bound.
- The pipe that is read to its end is opened by the program alone, through
  ``sh -c 'exec "$@" 9>"$0"'``, and a usage text goes to a file, not into ``$(...)``: no watcher may
  hold them open.
- A web server takes the end of its input for the visitor's leaving, so it must not see one. Alpine's
  ``nc`` shows the end of its input to the server, and goes on for as long as it has input when the
  server has closed: so busybox's hands the connection itself to a program (``-e``). ncat takes a pipe
  that stays open, and ends when it is closed. OpenBSD's and the traditional one take a file and keep
  its end to themselves.
- Connections are read by ``dd``: busybox's ``cat`` uses ``sendfile``, which hands on nothing before the
  end, and swallows errors.
- What is sent comes from a file by ``dd``, in one piece: bash's ``printf`` would cut a datagram in
  two after a byte that is a line feed.
- OpenBSD's ``nc -uv`` sends bytes of its own, and without ``-v`` it does not say what failed; nor does
  the traditional one; ncat is slow to start. They carry UDP only where there is no bash.
- A worker takes a job by making a file that must not exist (``set -C``): no program is started.
- ``arping -c`` of iputils ends with the first answer, and a second owner would stay unseen; busybox
  without it sends for a second longer than it was told.
- ``ping -w`` of iputils counts answers, not packets, so that losses are retried away; ``-W`` is safe.
- A shell that forks keeps what it had saved of its output, and the other end waits for that: so each
  worker gives its output up for good (``exec``), and only then sends that of its jobs elsewhere.
- A job that is ended early may still make a file while the folder is removed: then that is not empty,
  and is removed once more.
- Every job has its own bound, to dial that of ``nc -w``: to bound it twice takes three forks more; the watchdog ends the wait for one that outlives it all the same.
"""

__all__ = [
    "ARPING",
    "BEGIN",
    "CONNECT_SECONDS",
    "END",
    "EXCHANGE",
    "FOUND",
    "NC",
    "NSLOOKUP",
    "PING",
    "RESOLVER",
    "WORK",
]

CONNECT_SECONDS = 4
"""An address that answers no ARP gives EHOSTUNREACH after three seconds; a shorter wait would take
it for a filter."""

_SCRIPT_SECONDS = 18
_LAST_START = 10
_MOST_PRINTED = 4_000_000
_MOST_OF_A_JOB = 100_000
_MOST_RESOLVER = 8192

BEGIN = """\
umask 077
ulimit -f 2048 2>/dev/null
d= w= g= G=
there() { command -v "$1" >/dev/null 2>&1; }
for c in head mkdir rm sleep mkfifo dd; do there $c || G=$G,$c; done
case $G in *head*|*mkdir*|*rm*) ;; *)
for t in "${TMPDIR:-/tmp}" /tmp /dev/shm /run /var/tmp .; do
mkdir "$t/wwwm-$m" 2>/dev/null && d=$t/wwwm-$m && break
done
esac
[ -n "$d" ] || { echo "@@$m tools folder=none lacks=$G"; echo "@@$m end"; exit; }
trap '{ true >"$d/end"; kill $w $g; for t in 1 2 3 4 5 6 7 8 9; do wait; rm -rf "$d" && break; sleep 1; done; } 2>/dev/null' EXIT
trap 'exit 1' HUP INT PIPE TERM
trap : USR1
limit() {
exec 4<&0
_s=$1; shift
sleep $_s >/dev/null 2>&1 4<&- & _w=$!
(trap 'kill $!' TERM; "$@" <&4 4<&- & wait $!; _r=$?; { wait $!; kill $_w; } 2>/dev/null; exit $_r) & _p=$!
trap '{ kill $_p $_w; wait; } 2>/dev/null; exit 143' TERM
wait $_w 2>/dev/null && kill $_p 2>/dev/null
wait $_p 2>/dev/null; _r=$?
trap - TERM
return $_r
}
T=limit
barred() { case $h in *'not permitted'*|*'ermission denied'*) eval $1=barred;; *) there $2 && eval $1=unknown;; esac; }
usage() { ($T 2 "$@") >"$d/h" 2>&1 </dev/null; h=$(head -c 4096 "$d/h"); }
usage timeout --help
case $h in *BusyBox*) ;; *) timeout 1 sh -c : >/dev/null 2>&1 && T=timeout;; esac
"""

NC = f"""\
K=none
for c in nc ncat netcat 'busybox nc'; do
usage $c -h
case $h in
*Ncat*) K=ncat X='-nv -w {CONNECT_SECONDS}' Y=$X Z='-nvu -w {CONNECT_SECONDS}';;
*OpenBSD*|*'usage: nc ['*) K=openbsd X='-nv -w {CONNECT_SECONDS}' Y='-nv -w 6' Z='-nu -w 6';;
*v1.10*) K=traditional X='-nvv -w {CONNECT_SECONDS}' Y=$X Z='-nvvu -w {CONNECT_SECONDS}';;
*BusyBox*UDP*) K=busybox110 X='-nvv -w {CONNECT_SECONDS}' Y=$X Z='-nvvu -w {CONNECT_SECONDS}';;
*BusyBox*'-e PROG'*) K=busybox X='-w {CONNECT_SECONDS}' Y=$X;;
*) [ "$c" = "${{c#* }}" ] && there $c && K=unknown; continue;;
esac
N=$c; break
done
V=nc U=nc
case $K in none|unknown) V=none U=none;; busybox) U=none;; esac
case $K in busybox110);; *)
bash -c 'exec 3<>/dev/udp/127.0.0.1/9' >/dev/null 2>&1 </dev/null && U=bash && [ $V = none ] && V=bash
esac
connect() {{
case $V$K in
bash*) $T {CONNECT_SECONDS} bash -c 'exec 3<>/dev/tcp/$0/$1' "$1" "$2";;
ncbusybox*) $N $X "$1" "$2" -e true;;
nc*) $N -z $X "$1" "$2";;
esac
}}
"""

EXCHANGE = """\
O=none
od -An -v -tx1 </dev/null >/dev/null 2>&1 && O='od -An -v -tx1'
E=$O
base64 </dev/null >/dev/null 2>&1 && E=base64
talk() {
p=$d/$i s=$4 f=$6 l=$7 k=$V o=$Y c='dd bs=4096' x='exec "$@" >"$0"'
[ $1 = udp ] && k=$U o=$Z c='dd bs=4096 count=1'
mkfifo "$p.q" || return 127
y=$5
[ $k$K = ncncat ] && { y=$p.p; mkfifo "$y" && exec 3<>"$y" && dd bs=4096 <"$5" >&3 2>/dev/null || return 127; }
case $k$K in
bash*) set -- bash -c 'exec 3<>/dev/$0/$1/$2 && dd bs=4096 <"$3" >&3 2>/dev/null && shift 3 && exec "$@" <&3' $1 $2 $3 "$5" $c;;
ncbusybox*) x='exec "$@" 9>"$0"'; set -- $N $o $2 $3 -e sh -c 'dd bs=4096 <"$0" 2>/dev/null && exec "$@" >&9' "$5" $c;;
nc*) set -- $N $o $2 $3;;
*) return 127;;
esac
$T $s sh -c "$x" "$p.q" "$@" <"$y" 3<&- & n=$!
$f $l <"$p.q" >"$p.b"
exec 3<&-
[ -s "$p.b" ] && kill $n 2>/dev/null
wait $n 2>/dev/null; n=$?
$E <"$p.b"
return $n
}
datagram() { dd bs=$1 count=1 2>/dev/null; }
most() { head -c $1; }
message() {
[ "$O" = none ] && { head -c $1; return; }
set -- $(dd bs=1 count=2 2>/dev/null | $O)
[ $# = 2 ] || return
printf "\\\\$(printf %o 0x$1)\\\\$(printf %o 0x$2)"
head -c $((0x$1$2))
}
"""

NSLOOKUP = """\
L=none
[ $U = none ] && {
usage nslookup --help
case $h in
*BusyBox*-type*-debug*) L=nslookup;;
*BusyBox*) L=small;;
*) usage nslookup -version
case $h in *nslookup\\ [0-9]*) L=nslookup;; *) there nslookup && L=unknown;; esac;;
esac
}
udpdns() {
case $U in
none) $T $(($5+1)) nslookup -type=a -port=$2 -retry=1 -timeout=$5 $4 $1;;
*) talk udp $1 $2 $5 "$3" datagram 4096;;
esac
}
"""

PING = """\
P=none I=
usage ping -h
case $h in *'-M '*) P=ping;; *BusyBox*) P=plain;; *) barred P ping;; esac
case $h in *'-i '*) I='-i 0.2';; esac
pings() {
[ -z "$I" ] && [ $2 -gt 3 ] && set -- $1 3 $3
case $P in ping) $T 7 ping -n -c $2 $I -W 4 ${3:+-M do -s $3} $1; return;; esac
$T 7 ping -c $2 $I -W 4 ${3:+-s $3} $1; n=$?
[ -n "$3" ] && {
a=$(ip -4 route get $1) b=${a#* dev }; b=${b%% *} k= l=
read -r k <"/sys/class/net/$b/mtu"
read -r l </proc/sys/net/ipv4/ip_no_pmtu_disc
echo "route mtu=$k no_pmtu_disc=$l $a"
} 2>/dev/null
return $n
}
"""

ARPING = """\
A=none
usage arping -h
case $h in
*Habets*) A=habets;;
*BusyBox*) A=busybox;;
*'-I <device>'*|*'-I device'*) A=iputils;;
*) barred A arping;;
esac
arp() {
case $A in
habets) $T 3 arping -c 1 -w 1 -i "$2" $1;;
busybox) $T 3 arping -b -c 1 -w 1 -I "$2" $1;;
iputils) $T 3 arping -b -w 1 -I "$2" $1;;
esac
}
"""

FOUND = """\
echo "@@$m tools folder=made timeout=${T%% *} nc=$K tcp=$V udp=$U encoding=${E%% *} nslookup=$L ping=$P arping=$A lacks=$G"
"""
"""Printed before anything is asked of the network, so that no answer comes before the mark."""

RESOLVER = f"""\
echo "@@$m resolver"
head -c {_MOST_RESOLVER} /etc/resolv.conf
echo
"""
"""What the resolver of the container is told: nothing is asked for it."""

WORK = f"""\
read -r u _ </proc/uptime
B=${{u%.*}}
one() {{
read -r u _ </proc/uptime
[ ${{u%.*}} -gt $((B+{_LAST_START})) ] && return
s=$(((${{u%.*}}-B)*100+1${{u#*.}}-100)) n=0
for l in $R; do [ $i -ge $l ] && n=$((n+20)); done
n=$((n-s))
[ $n -gt 9 ] && {{ sleep $((n/100)).$((n%100/10)); read -r u _ </proc/uptime; }}
run $i >"$d/$i.o" 2>"$d/$i.e" </dev/null & wait $!; r=$?
read -r v _ </proc/uptime
echo "$i $r $u $v" >"$d/$i.r"
}}
worker() {{
exec >/dev/null 2>&1
trap 'kill $!; wait; exit' TERM
i=0
while [ $i -lt $J ] && [ ! -e "$d/end" ]; do
set -C; true >"$d/$i.l"; c=$?; set +C
[ $c = 0 ] && one
i=$((i+1))
done
}}
(trap 'kill $!; wait; exit' TERM
n=0
while [ ! -e "$d/end" ] && [ $n -lt {_SCRIPT_SECONDS} ]; do sleep 1 & wait $!; n=$((n+1)); done
[ -e "$d/end" ] || kill -USR1 $$) >/dev/null 2>&1 & g=$!
while [ $W -gt 0 ]; do worker & w="$w $!" W=$((W-1)); done
[ -n "$w" ] && wait $w && w=
"""

END = f"""\
{{
i=0
while [ $i -lt $J ]; do
[ -s "$d/$i.r" ] && {{
read -r l <"$d/$i.r"
echo "@@$m $l"
head -c {_MOST_OF_A_JOB} "$d/$i.o"; echo
echo "@@$m err"
[ -s "$d/$i.e" ] && head -c 1024 "$d/$i.e"; echo
}}
i=$((i+1))
done
echo "@@$m end"
}} | head -c {_MOST_PRINTED}
"""
