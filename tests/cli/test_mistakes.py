"""What a user gets wrong is one line, before any work is done."""

import contextlib
import fcntl
import gzip
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.unit.loopback import kubeconfig

BUNDLE = Path(__file__).parents[2] / "doctor" / "recordings" / "article.bundle"


def doctor(
    *arguments: str, stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "doctor", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--url", "http://shop.example.org/"),
        ("--kubeconfig", "x"),
        ("--context", "x"),
        ("--no-probe",),
        ("--probe-image", "x"),
        ("--save", "x"),
    ],
    ids=lambda o: o[0],
)
def test_a_bundle_answers_no_other_question(options: tuple[str, ...]) -> None:
    """An option that would be ignored is refused: its answer would be another question's."""
    done = doctor("run", "--bundle", str(BUNDLE), *options)
    assert done.returncode == 2
    assert done.stdout == ""
    expected = f"wwwm-doctor: {options[0]} asks a cluster; it cannot be given with --bundle\n"
    assert done.stderr == expected


@pytest.mark.parametrize("code", ["DNS_UDP_FILTERED", "dns-udp-filtered"])
@pytest.mark.parametrize("words", [("rbac", "--for"), ("check",)], ids=" ".join)
def test_a_code_for_a_check_is_told_whose_it_is(words: tuple[str, ...], code: str) -> None:
    done = doctor(*words, code)
    assert (done.returncode, done.stdout) == (2, "")
    assert "(DNS_UDP_FILTERED is a code, said by dns.udp-and-tcp); links: node" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def on_terminal(columns: int, *arguments: str) -> str:
    """Run the command line on a terminal that is so wide."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    heard = b""
    with subprocess.Popen(
        [sys.executable, "-m", "doctor", *arguments], stdout=its, stdin=its, env=environment
    ) as program:
        os.close(its)
        with contextlib.suppress(OSError):  # the terminal's end once nobody holds it
            while found := os.read(ours, 65536):
                heard += found
        assert program.wait(60) == 0
    os.close(ours)
    return heard.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 60, 300])
@pytest.mark.parametrize("words", [("list",), ("explain", "webhook"), ("explain", "dns.running")])
def test_a_page_fits_the_terminal(columns: int, words: tuple[str, ...]) -> None:
    shown = on_terminal(columns, *words)
    longest = max(map(len, shown.splitlines()))
    # a command or a name is never broken
    most = {80: 80, 60: 76, 300: 300}[columns]
    assert longest <= most, shown
    if words == ("list",):
        assert len(doctor("list").stdout.splitlines()) < len(shown.splitlines())


@pytest.mark.parametrize("option", ["--save", "--output"])
@pytest.mark.parametrize("place", ["absent/file", ""])
def test_a_file_that_cannot_be_written_is_noticed_first(
    tmp_path: Path, option: str, place: str
) -> None:
    target = tmp_path / place
    value = f"json={target}" if option == "--output" else str(target)
    done = doctor("run", "--kubeconfig", str(tmp_path / "none"), option, value)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr or "is a directory" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "terminal={0}/x", "-o", "json={0}/x"),
        ("-o", "terminal={0}/x", "-o", "json={0}/folder/../x"),
        ("-o", "json={0}/x", "--save", "{0}/x"),
        ("-o", "json={0}/link", "--bundle", "{0}/bundle"),
    ],
    ids=lambda o: o[1] + o[3],
)
def test_two_outputs_to_the_same_file_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The second would overwrite the first, or the evidence itself."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "bundle").write_bytes(BUNDLE.read_bytes())
    (tmp_path / "link").symlink_to("bundle")
    done = doctor("run", *(o.format(tmp_path) for o in options))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is named twice, by --output, --save or --bundle" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "bundle").read_bytes() == BUNDLE.read_bytes()
    assert not (tmp_path / "x").exists()


def test_several_outputs_may_go_nowhere() -> None:
    options = ("-o", "json=/dev/null", "-o", "terminal=/dev/null")
    assert doctor("run", "--bundle", str(BUNDLE), *options).returncode == 3


@pytest.mark.parametrize("formats", [("json", "terminal"), ("json", "json")], ids="-".join)
def test_two_outputs_to_stdout_are_refused(formats: tuple[str, str]) -> None:
    done = doctor("run", "--bundle", str(BUNDLE), "-o", formats[0], "-o", formats[1])
    assert (done.returncode, done.stdout) == (2, "")
    assert "only one format can go to stdout" in done.stderr


@pytest.mark.parametrize(
    "option",
    [("--allow-host-probe",), ("--probe-image", "x"), ("--probe-namespace", "x")],
    ids=lambda o: o[0],
)
def test_no_probe_and_how_to_probe_exclude_each_other(option: tuple[str, ...]) -> None:
    done = doctor("run", "--no-probe", *option, "--kubeconfig", "/absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"wwwm-doctor: --no-probe and {option[0]} exclude each other\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:0/", "http://-/"])
def test_a_url_that_cannot_be_asked_for_is_refused(url: str) -> None:
    done = doctor("run", "--url", url, "--kubeconfig", "/absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"wwwm-doctor: --url: {url!r} ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "images", "cleanup"])
def test_an_exec_plugin_that_is_not_there_is_one_line(tmp_path: Path, command: str) -> None:
    """The client only logs it, and would go on without credentials."""
    config = Path(kubeconfig(tmp_path, "https://127.0.0.1:1"))
    document = json.loads(config.read_text(encoding="utf-8"))
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}
    document["users"][0]["user"] = {"exec": entry}
    config.write_text(json.dumps(document), encoding="utf-8")
    done = doctor(command, "--kubeconfig", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"wwwm-doctor: the kubeconfig {config}: its exec plugin 'no-such-plugin' gives no"
        " credentials: no such file or directory\n"
    )


@pytest.mark.parametrize("proxy", ["nonsense", "socks5://127.0.0.1:1", "127.0.0.1:1"])
@pytest.mark.parametrize("command", ["run", "images"])
def test_a_proxy_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, proxy: str
) -> None:
    for name in ("https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    done = doctor(command, "--kubeconfig", kubeconfig(tmp_path, "https://127.0.0.1:1"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "HTTPS_PROXY" in done.stderr


@pytest.mark.parametrize("command", ["run", "list", "demo"])
def test_a_full_disk_is_one_line(command: str) -> None:
    arguments = ("run", "--bundle", str(BUNDLE)) if command == "run" else (command,)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = doctor(*arguments, stdout=full.fileno())
    assert done.returncode == 2
    assert done.stderr == "wwwm-doctor: cannot write the output: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m doctor list | true"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("run", "--bogus"), ("check",), ("explain",)])
def test_usage_is_one_line(arguments: tuple[str, ...]) -> None:
    done = doctor(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("wwwm-doctor: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "check"])
def test_help_shows_examples_line_by_line(command: str) -> None:
    lines = doctor(command, "--help").stdout.splitlines()
    examples = lines[lines.index("  Examples:") + 1 :]
    assert examples[0].startswith(f"    wwwm-doctor {command}")
    assert not [line for line in lines if "\\b" in line]


def test_several_outputs_at_once(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = doctor("run", "--bundle", str(BUNDLE), "-o", f"json={file}", "-o", "terminal")
    assert done.returncode == 3
    assert "DNS_PORT_FILTERED" in done.stdout
    assert json.loads(file.read_text())["diagnoses"][0]["code"] == "DNS_PORT_FILTERED"


def test_a_link_is_explained_by_its_checks() -> None:
    done = doctor("explain", "dns")
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} >= {"dns.udp-and-tcp"}


def test_a_bundle_with_objects_of_another_shape_is_damaged(tmp_path: Path) -> None:
    """Whole, of the right version, and yet not what the API gives."""
    document = json.loads(gzip.decompress(BUNDLE.read_bytes()))
    for record in document["records"]:
        if record.get("resource") == "nodes":
            record["items"] = [{"metadata": "no object"}]
    forged = tmp_path / "forged.bundle"
    forged.write_bytes(gzip.compress(json.dumps(document).encode()))
    done = doctor("run", "--bundle", str(forged))
    assert done.returncode == 2
    assert done.stderr.startswith(f"wwwm-doctor: {forged} is damaged: ")
    assert done.stderr.count("\n") == 1


def test_a_check_that_a_bundle_was_recorded_without_does_not_pass(tmp_path: Path) -> None:
    """For its sake nothing was gathered: no evidence is no proof of health."""
    document = json.loads(gzip.decompress(BUNDLE.with_name("healthy.bundle").read_bytes()))
    document["question"]["checks"].remove("dns.running")
    older = tmp_path / "older.bundle"
    older.write_bytes(gzip.compress(json.dumps(document).encode(), mtime=0))
    done = doctor("check", "dns.running", "--bundle", str(older), "--output", "json")
    assert done.returncode == 5
    (found,) = [c for c in json.loads(done.stdout)["checks"] if c["id"] == "dns.running"]
    assert found["verdict"] == "insufficient"
    (gap,) = found["gaps"]
    assert gap["reason"] == "the bundle was recorded without this check"
    whole = doctor("run", "--bundle", str(older))
    assert whole.returncode == 0


def test_without_a_command_the_help_is_shown_as_it_is() -> None:
    done = doctor()
    assert done.returncode == 2
    assert "\nCommands:\n" in done.stderr
    assert done.stderr.startswith("Usage: ")
