"""The reverse proxy on a host: whose process owns the port, and what it forwards where.

What is read there is shell and /proc alone, so that the same script serves this machine and a
host that ssh reaches.
"""

import base64
import re
import secrets
import shlex
from itertools import pairwise
from pathlib import PurePosixPath

import msgspec

from doctor.bundle.schema import ProxyRecord
from doctor.collect.shells import Shell
from doctor.model.flow import VantageKind
from doctor.model.proxy import HostProxy
from doctor.parse.nginx_conf import parse_nginx

__all__ = ["find_proxy"]

_FIND_SECONDS = 10
_OCTAL = re.compile(r"[0-7]{3,4}", re.ASCII)
_DUMP_SECONDS = 10

# Sockets are listed of the own network namespace only, so no other one's process is taken for the
# proxy. A command line can hold anything, hence base64.
_FIND = r"""
p={port}; m={mark}
own() {{
  e=$(readlink "$1/exe") || e=
  u=$(sed -n 's/^Uid:[[:space:]]*//p' "$1/status" | tr '\t' ,)
  c=$(base64 "$1/cmdline" | tr -d '\n')
  a=$(stat -L -c %d:%i,%u,%a "$1/exe"); b=$(stat -L -c %d:%i,%u,%a "$e" 2>/dev/null)
  r=$(stat -L -c %d:%i "$1/root"); o=$(stat -L -c %d:%i /)
  t=elsewhere; [ -n "$a" ] && [ "$a" = "$b" ] && [ "$r" = "$o" ] && t=here
  echo "$m owner ${{1#/proc/}} ${{u:--}} $t ${{a#*,}} ${{c:--}} $e"
}}
h=$(printf '%04X' "$p"); n=
for f in /proc/net/tcp /proc/net/tcp6; do
  [ -r "$f" ] && while read -r _ l _ s _ _ _ _ _ i _; do
    case "$s $l" in "0A "*":$h") n="$n|$i";; esac
  done <"$f"
done
echo "$m uid $(id -u)"
echo "$m listening ${{n#|}}"
[ -n "$n" ] && ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E "^/proc/|socket:\[(${{n#|}})\]" |
while read -r line; do
  case "$line" in
    /proc/*:) d=${{line%/fd:}}; seen=;;
    *) [ -z "$seen" ] && seen=1 && own "$d";;
  esac
done
echo "$m end"
"""


class _Owner(msgspec.Struct, frozen=True):
    """A process that holds a listening socket.

    Args:
        pid: Its number.
        uids: Its real, effective, saved and file system user: others than one are a set-uid program's.
        here: Whether its program is what stands at that path here: not in a container.
        file: Owner and mode of the program, ``0,755``.
        words: Its command line.
        program: The path of its program.
    """

    pid: int
    uids: frozenset[str]
    here: bool
    file: str
    words: tuple[str, ...]
    program: str

    def distrusted(self, uid: int) -> str:
        """Say why this program is not one to be run by a user; empty where it is."""
        if not self.here:
            return "it runs in a container, or its program was replaced"
        if self.uids not in ({"0"}, {str(uid)}):
            return f"it runs as user {','.join(sorted(self.uids))}, whose programs are not run"
        owner, _, mode = self.file.partition(",")
        if owner not in ("0", str(uid)) or not _OCTAL.fullmatch(mode) or int(mode, 8) & 0o022:
            return "others than its user can change its program"
        if not PurePosixPath(self.program).name.startswith(("nginx", "openresty")):
            return f"its program is {PurePosixPath(self.program).name}"
        return ""


class _Found(msgspec.Struct, frozen=True):
    """What the script saw: who asked, whether anything listens, and who owns it."""

    uid: int
    listening: bool
    owners: tuple[_Owner, ...]


def find_proxy(shell: Shell, port: int) -> ProxyRecord:
    """Find the process that listens on a port, and read its configuration if it is nginx.

    Args:
        shell: The host on which the proxy stands.
        port: The TCP port that visitors dial.
    """
    record = _found(shell, port)
    return msgspec.structs.replace(record, place=str(shell.vantage), ssh=shell.via)


def _found(shell: Shell, port: int) -> ProxyRecord:
    """Look for the process."""
    mark = secrets.token_hex(8)
    said = shell.run(_FIND.format(port=port, mark=mark), _FIND_SECONDS)
    where = str(shell.vantage)
    found = None if said.reason else _read(said.stdout, mark)
    if found is None:
        reason = said.reason or f"{where} could not be read: {_first_line(said.stderr)}"
        return ProxyRecord(proxy=None, reason=reason, reached=False)
    if not found.listening:
        return ProxyRecord(proxy=None, reason=f"nothing listens on port {port} of {where}")
    if not found.owners:
        reason = f"the process that listens on port {port} of {where} cannot be seen"
        return ProxyRecord(proxy=None, reason=f"{reason} (run as root, or with --sudo)")
    return _describe(shell, found)


def _describe(shell: Shell, found: _Found) -> ProxyRecord:
    """Say what owns the port, and read its configuration if it is nginx."""
    # Workers share the master's socket, but only the master's command line names the configuration.
    owner = next((o for o in found.owners if "master" in o.words), found.owners[0])
    if not any("nginx" in w for w in owner.words[:2]):
        name = PurePosixPath(owner.words[0]).name if owner.words else "unknown"
        proxy = _proxy(shell, name, "", "")
        return ProxyRecord(proxy=proxy, reason=f"{proxy.software} is not read, only nginx is")
    if why := owner.distrusted(found.uid):
        # Whoever can listen there must not choose what we run.
        reason = f"nginx's configuration is not read: {why}"
        return ProxyRecord(proxy=_proxy(shell, "nginx", "", ""), reason=reason)
    return _nginx(shell, owner)


def _read(text: str, mark: str) -> _Found | None:
    """Read what the script printed; None where its end is missing."""
    uid, listening, owners, ended = -1, False, [], False
    for line in text.splitlines():
        words = line.split(" ")
        match words:
            case [first, "uid", number] if first == mark and number.isdecimal():
                uid = int(number)
            case [first, "listening", inodes] if first == mark:
                listening = bool(inodes)
            case [first, "owner", pid, users, at, file, command, *program] if first == mark:
                if pid.isdecimal():
                    uids, path = frozenset(users.split(",")), " ".join(program)
                    owners.append(_Owner(int(pid), uids, at == "here", file, _words(command), path))
            case [first, "end"] if first == mark:
                ended = True
    return _Found(uid, listening, tuple(owners)) if ended else None


def _words(command: str) -> tuple[str, ...]:
    """Take a command line apart; nginx rewrites its own with spaces."""
    try:
        raw = base64.b64decode(command, validate=True)
    except ValueError:
        return ()
    words = [w for w in raw.decode("utf-8", "replace").split("\0") if w]
    return tuple(words[0].split()) if len(words) == 1 else tuple(words)


def _nginx(shell: Shell, owner: _Owner) -> ProxyRecord:
    """Read the configuration that a running nginx uses."""
    chosen = [
        w for flag in ("-c", "-p") if flag in owner.words for w in (flag, _after(owner.words, flag))
    ]
    config = _after(owner.words, "-c") or "/etc/nginx/nginx.conf"
    mark = secrets.token_hex(8)
    command = shlex.join([owner.program, "-T", *chosen])
    # a login shell may say something of its own first
    said = shell.run(f"echo {mark}\n{command}\necho {mark} $?", _DUMP_SECONDS)
    if said.reason:
        return ProxyRecord(proxy=None, reason=f"nginx -T could not be run: {said.reason}")
    text, _, status = said.stdout.partition(f"{mark}\n")[2].rpartition(f"{mark} ")
    proxy = _proxy(shell, "nginx", config, text)
    if status.strip() == "0":
        return ProxyRecord(proxy=proxy)
    lines = said.stderr.strip().splitlines()
    return ProxyRecord(proxy=proxy, reason=f"nginx -T: {(lines or ['failed'])[-1]}"[:300])


def _proxy(shell: Shell, software: str, config: str, dump: str) -> HostProxy:
    """Describe the proxy, reduced to what it forwards where."""
    away = shell.vantage.kind is not VantageKind.MACHINE
    return HostProxy(
        software=re.sub(r"[^\w.@+-]", "?", software)[:40],
        config=config,
        servers=parse_nginx(dump) if dump else (),
        evidence="proxy:host" if away else "proxy:machine",
    )


def _after(words: tuple[str, ...], flag: str) -> str:
    """Return the word after a flag; empty where it is absent."""
    return next((b for a, b in pairwise(words) if a == flag), "")


def _first_line(text: str) -> str:
    """Return the first line of what was said on stderr, shortened."""
    return (text.strip().splitlines() or ["it printed nothing"])[0][:200]
