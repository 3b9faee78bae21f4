"""The command line: what it prints where, and how it ends."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks import CHAIN
from doctor.bundle.io import save
from doctor.bundle.schema import GapRecord
from doctor.cli.main import main
from doctor.model.verdict import Gap
from tests.unit.support import api, bundle, cluster, service

Run = Callable[..., tuple[int, str, str]]
IDS = tuple(c.id for c in CHAIN)
CODES = tuple(sorted({k.name for c in CHAIN for k in c.codes}))
FOLDER = Path(__file__).parents[2]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Run]:
    """Run the program as its entry point does; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGTERM)

    def act(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wwwm-doctor", *words])
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        else:
            code = 0
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    yield act
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """Save the bundle of a small cluster whose nodes could not be entered."""
    gap = GapRecord(Gap("probes inside the cluster", "switched off"), ("Mesh", "DnsFlows"))
    front = service("edge/web", "10.96.0.9", vips=["192.0.2.200"])
    refused = api("ingresses", status=403, reason="forbidden")
    path = tmp_path / "a.bundle"
    save(bundle(*cluster(3, front), refused, gap, checks=IDS), path)
    return str(path)


WRONG = [
    (("check", "nonsense"), "no link or check is called 'nonsense'"),
    (("check", "dns", "--url", "ftp://x"), "--url: 'ftp://x' is no http:// or https:// URL"),
    (("run", "--url", "http://[::1"), "--url: Invalid IPv6 URL"),
    (("run", "--url", "http://u:p@shop.example/"), "--url: a URL with a user name"),
    (("run", "--bundle", "absent.bundle"), "cannot read the bundle absent.bundle: No such file"),
    (("run", "--bundle", __file__), "is not a wwwm-doctor bundle"),
    (("run",), "no kubeconfig: "),
    (("run", "--kubeconfig", "two\nlines\x1b[31m"), "no kubeconfig: "),
]


def one_line(text: str) -> str:
    """See that this is one harmless line of the program's own."""
    assert text.startswith("wwwm-doctor: ")
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    return text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *WRONG,
        (("run", "--output", "yaml"), "no format is called 'yaml'; formats: terminal, json"),
        (("run", "-o", "json", "-o", "terminal"), "only one format can go to stdout"),
        (("run", "-o", "json", "-o", "json"), "only one format can go to stdout"),
        (("run", "-o", "json="), "'json=' names no file"),
        (("explain", "NONSENSE"), "no code or check is called 'NONSENSE'"),
        (("demo", "nonsense"), "no recording is called 'nonsense'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    run: Run, words: tuple[str, ...], said: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in one_line(err)


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_the_same_as_a_json_document(run: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run(*words, "--output", "json")
    document = json.loads(out)
    assert code == 2
    assert (document["verdict"], document["exit_code"]) == ("error", 2)
    assert said in document["message"]
    assert err == "" or said in one_line(err)


def test_the_same_as_a_json_file(run: Run, tmp_path: Path) -> None:
    code, out, err = run("check", "nonsense", "--output", "json=result.json")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 2


def test_a_file_that_cannot_be_written(run: Run, saved: str) -> None:
    code, out, err = run("run", "--bundle", saved, "--output", "json=absent/result.json")
    assert (code, out) == (2, "")
    assert "cannot write absent/result.json: No such file" in one_line(err)


@pytest.mark.parametrize("words", [("run", "--nonsense"), ("nonsense",), ("check",), ("explain",)])
def test_what_click_refuses_ends_the_same_way(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err


def judged(run: Run, *words: str) -> tuple[int, dict[str, Any]]:
    """Judge a bundle, and read the document."""
    code, out, err = run("run", "--output", "json", *words)
    assert err == ""
    return code, json.loads(out)


def test_a_saved_bundle_is_judged_the_same_each_time(run: Run, saved: str) -> None:
    first, second = (run("run", "--bundle", saved, "--output", "json") for _ in range(2))
    assert first == second
    code, document = judged(run, "--bundle", saved)
    assert [c["id"] for c in document["checks"]] == list(IDS)
    assert code == document["exit_code"]
    assert "crashed" not in {c["verdict"] for c in document["checks"]}


def test_other_checks_than_were_gathered_can_be_asked_of_a_bundle(run: Run, saved: str) -> None:
    code, out, _ = run("check", "node", "--bundle", saved, "-o", "json")
    assert [(c["id"], c["verdict"]) for c in json.loads(out)["checks"]] == [
        ("node.ready", "pass"),
        ("node.network-available", "pass"),
    ]
    assert code == 0


def test_several_outputs_at_once_say_the_same(run: Run, saved: str, tmp_path: Path) -> None:
    alone = run("run", "--bundle", saved)
    both = run("run", "--bundle", saved, "-o", "terminal", "-o", "json=r.json", "-o", "terminal=t")
    assert both == alone
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == both[0]
    assert (tmp_path / "t").read_text() == alone[1]


def test_every_check_is_listed_in_walking_order(run: Run) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(IDS)
    assert set(CODES) <= set(out.split())


@pytest.mark.parametrize("name", [*IDS, *CODES, "dns-udp-filtered"])
def test_everything_is_explained(run: Run, name: str) -> None:
    code, out, err = run("explain", name)
    assert (code, err) == (0, "")
    assert name.upper().replace("-", "_") in out or name in out
    assert len(out.splitlines()) > 5


HELP = (
    "import sys, contextlib, io\n"
    "from doctor.cli.main import main\n"
    "sys.argv = ['wwwm-doctor', *{words}]\n"
    "with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
    "    main()\n"
    "assert 'Usage:' in out.getvalue(), out.getvalue()\n"
    "heavy = ('kubernetes', 'httpx', 'dns', 'scapy', 'rich', 'checks', 'urllib3', 'msgspec')\n"
    "print(*(m for m in heavy if m in sys.modules))\n"
)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["check", "-h"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(words=words)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_the_package_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doctor", "check", "nonsense"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    one_line(done.stderr)
