"""Who owns a port of this machine, and whether its configuration may be read."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect import proxy_host
from doctor.collect.deadline import Deadline
from doctor.collect.proxy_host import find_proxy
from doctor.collect.shells import LocalShell
from tests.unit.loopback import closed_port

HERE = LocalShell(Deadline(600))
LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening(*program: str) -> Iterator[int]:
    """Have a process of its own listen on a port of loopback."""
    with subprocess.Popen(
        [*program, "-c", LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_the_owner_of_a_port_is_named() -> None:
    with listening(sys.executable) as port:
        record = find_proxy(HERE, port)
    assert record.proxy is not None
    assert re.fullmatch(r"python[\d.]*", record.proxy.software)
    assert record.reason == f"{record.proxy.software} is not read, only nginx is"
    assert (record.place, record.ssh, record.reached) == ("this machine", "", True)


def test_a_port_on_which_nothing_listens() -> None:
    port = closed_port()
    record = find_proxy(HERE, port)
    assert record.proxy is None
    assert record.reason == f"nothing listens on port {port} of this machine"


NGINX_CONF = """server {
    listen 8080;
    location / { proxy_pass http://192.0.2.9:81; }
}
"""


def test_what_only_calls_itself_nginx_is_not_asked_for_its_configuration(tmp_path: Path) -> None:
    """A program called nginx that listens, and prints a configuration when it is told -T."""
    conf = tmp_path / "my site.conf"
    conf.write_text(NGINX_CONF)
    nginx = tmp_path / "nginx"
    nginx.write_text(f"""#!{sys.executable}
import pathlib, socket, sys
if "-T" in sys.argv:
    name = sys.argv[sys.argv.index("-c") + 1]
    print(f"# configuration file {{name}}:")
    print(pathlib.Path(name).read_text())
    sys.exit(0)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
""")
    nginx.chmod(0o700)
    with subprocess.Popen(
        [sys.executable, str(nginx), "-c", str(conf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        record = find_proxy(HERE, port)
        process.kill()
    # what runs is python, whatever it calls itself
    assert record.proxy is not None
    assert (record.proxy.software, record.proxy.servers) == ("nginx", ())
    assert re.search(r"not read: (its program is python|others than)", record.reason), record.reason


NGINX = "bmdpbng6IG1hc3RlciBwcm9jZXNzIG5naW54"


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        ("7 1000,1000,1000,1000 here 0,755", "it runs as user 1000, whose programs are not run"),
        ("7 1000,0,0,0 here 0,4755", "it runs as user 0,1000, whose programs are not run"),
        ("7 0,0,0,0 elsewhere 0,755", "it runs in a container, or its program was replaced"),
        ("7 0,0,0,0 here 1000,755", "others than its user can change its program"),
        ("7 0,0,0,0 here 0,775", "others than its user can change its program"),
        ("7 0,0,0,0 here 0,-", "others than its user can change its program"),
    ],
)
def test_another_users_program_is_not_run(owner: str, why: str) -> None:
    """Whoever can listen on a port does not choose what root runs."""
    mark = "m" * 16
    said = f"{mark} uid 0\n{mark} listening 1\n{mark} owner {owner} {NGINX} /tmp/nginx\n{mark} end"
    found = proxy_host._read(said, mark)
    assert found is not None
    record = proxy_host._describe(HERE, found)
    assert record.proxy is not None
    assert record.proxy.servers == ()
    assert record.reason == f"nginx's configuration is not read: {why}"


def test_another_program_that_calls_itself_nginx_is_not_run() -> None:
    mark = "m" * 16
    owner = f"7 0,0,0,0 here 0,755 {NGINX} /usr/bin/su"
    said = f"{mark} uid 0\n{mark} listening 1\n{mark} owner {owner}\n{mark} end"
    found = proxy_host._read(said, mark)
    assert found is not None
    reason = proxy_host._describe(HERE, found).reason
    assert reason == "nginx's configuration is not read: its program is su"


def test_lines_without_the_mark_say_nothing() -> None:
    forged = "x uid 0\nx listening 1\nx owner 1 0 bmdpbng= /bin/evil\nm uid 5\nm listening \nm end"
    found = proxy_host._read(forged, "m")
    assert found == proxy_host._Found(5, listening=False, owners=())


@given(st.text())
def test_whatever_is_printed_is_read(text: str) -> None:
    proxy_host._read(text.replace("X", "m owner 1 2 "), "m")


def test_a_user_who_may_not_see_the_owner_is_told(tmp_path: Path) -> None:
    """Only root sees what other users' processes hold."""
    if os.geteuid() != 0:
        with listening(sys.executable) as port:
            assert find_proxy(HERE, port).proxy is not None
        return
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from doctor.collect.deadline import Deadline
from doctor.collect.proxy_host import find_proxy
from doctor.collect.shells import LocalShell
print(find_proxy(LocalShell(Deadline(30)), int(sys.argv[1])).reason)
"""
    with listening(sys.executable) as port:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script, str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path.root,
        )
    assert f"port {port} of this machine cannot be seen (run as root" in done.stdout, done.stderr
