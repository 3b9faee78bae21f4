"""The script that reads a node, run by real shells: its frames, its bounds, what is missing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.bundle.schema import CommandOutput, NodeRecord
from doctor.collect.kube import Api, ExecAnswer
from doctor.collect.node_facts import most_bytes, read_by_kube_proxy, read_node
from doctor.collect.node_script import node_script, read_outputs
from doctor.evidence.node_facts import node_network
from doctor.model.flow import Vantage, VantageKind
from doctor.model.node_state import CniConf
from tests.unit.recorded import printed, text

MARK = "@@0123456789abcdef"
MOST = 4096
BASIC = ("sh", "head", "cat", "cut", "grep", "awk", "ls", "sleep", "tr", "true")
NAMES = [
    *("address", "route", "rule", "sysctl", "neighbour", "fdb", "sockets", "subnet.env"),
    *("resolv.conf", "conntrack", "kube-proxy-healthz", "kube-proxy-mode"),
]

Programs = Callable[..., Path]


@pytest.fixture(name="programs")
def _programs(tmp_path: Path) -> Programs:
    """Make a directory of programs: real ones, and scripts in place of those of a node."""

    def make(**scripts: str) -> Path:
        for name in BASIC:
            found = shutil.which(name)
            assert found is not None
            (tmp_path / name).symlink_to(found)
        for name, body in scripts.items():
            assert name not in BASIC, "a link would be followed"
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        return tmp_path

    return make


def run(path: str, most: int = MOST, script: str = "") -> dict[str, CommandOutput]:
    """Run the script with programs from a path."""
    done = subprocess.run(
        ("/bin/sh", "-c", script or node_script(MARK, most)),
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return {o.name: o for o in read_outputs(done.stdout, MARK, most)}


def test_every_reading_has_a_frame_on_a_real_machine() -> None:
    found = run(os.environ["PATH"], 1 << 20)
    assert [n for n in found if n in NAMES] == NAMES
    assert "nft" in found
    assert {"iptables", "iptables-nft"} & set(found)
    assert all(o.status >= 0 for o in found.values())
    assert not any(o.truncated for o in found.values())
    assert found["subnet.env"].status != 0
    assert "No such file" in found["subnet.env"].stderr
    assert "ipv4/ip_forward:" in found["sysctl"].stdout


def test_what_is_missing_is_named(programs: Programs) -> None:
    found = run(str(programs()))
    for name in ("address", "route", "rule", "neighbour", "fdb", "iptables", "nft"):
        assert found[name].status == 127, name
        assert found[name].stderr, name
    assert found["kube-proxy-mode"].status != 0
    assert found["sockets"].status == 0


def test_complaints_and_statuses_are_kept(programs: Programs) -> None:
    found = run(str(programs(ip="echo '[]'; echo 'first @1' >&2; echo second >&2; exit 7")))
    assert found["address"] == CommandOutput("address", 7, "[]", "first @1")
    assert found["rule"].stderr == "first @1"


def test_a_complaint_without_an_end_of_line(programs: Programs) -> None:
    found = run(str(programs(ip="printf 'no end' >&2; exit 3")))
    assert (found["rule"].status, found["rule"].stderr) == (3, "no end")


def test_a_setting_that_is_absent_is_said(programs: Programs) -> None:
    script = node_script(MARK, MOST).replace("ipv4/ip_forward", "ipv4/no_such_setting")
    found = run(str(programs()), script=script)["sysctl"]
    assert "ipv4/no_such_setting:" in found.stdout.split("\n")
    assert found.status == 0


HASTY = node_script(MARK, MOST).replace("limit 4", "limit 1")


def test_endless_output_is_cut(programs: Programs) -> None:
    found = run(str(programs(ip="while :; do echo xxxxxxxxxxxxxxxxxxxxx; done")), script=HASTY)
    assert (found["address"].truncated, len(found["address"].stdout)) == (True, MOST)
    assert found["route"].truncated
    assert (found["subnet.env"].status, found["subnet.env"].truncated) == (1, False)


def test_all_together_is_bounded_too(programs: Programs) -> None:
    lines = "; ".join(f"echo '*t{n}'; head -c 4000 /dev/zero | tr '\\0' x; echo" for n in range(4))
    path = programs(ip="head -c 4000 /dev/zero", iptables_nft_save=lines, nft="echo never")
    found = run(str(path))
    assert found["address"].truncated is False
    last = list(found.values())[-1]
    assert (last.name, last.status, last.truncated) == ("iptables-nft", -1, True)
    assert last.stderr == "the output ends here"


def test_a_program_that_hangs_is_stopped(programs: Programs) -> None:
    found = run(str(programs(nft="exec /bin/sleep 600", ip="echo '[]'")), script=HASTY)
    assert found["nft"].status in (124, 137, 143)
    assert found["address"].status == 0


def test_when_time_is_over_the_rest_is_left_out(programs: Programs) -> None:
    script = node_script(MARK, MOST).replace("-ge 12", "-ge 0")
    found = run(str(programs(ip="echo '[]'")), script=script)
    assert found["address"] == CommandOutput("address", 124, "", "no time was left")


def rules(count: int) -> str:
    """Write a script that prints a table nat of that many rules, then a short table filter."""
    return (
        "echo '# Generated by iptables-nft-save v1.8.9 (nf_tables) on x'; echo '*nat'; "
        f'n=0; while [ $n -lt {count} ]; do echo "[0:0] -A KUBE-SVC-$n -j RETURN"; n=$((n + 1)); done; '
        "echo COMMIT; echo '*filter'; echo ':FORWARD DROP [0:0]'; echo COMMIT"
    )


def test_a_table_that_is_too_long_takes_no_other_with_it(programs: Programs) -> None:
    path = str(programs(iptables_nft_save=rules(400), iptables_legacy_save="exit 0"))
    found = run(path)
    output = found["iptables-nft"]
    assert output.truncated is False
    assert len(output.stdout) < 2 * MOST
    network = node_network([NodeRecord("n", "a/b", tuple(found.values()))])
    assert [(t.name, t.whole) for t in network.tables] == [("nat", False), ("filter", True)]
    assert [d.text for d in network.drops] == ["-P FORWARD DROP"]
    assert found["iptables-legacy"].status == 0
    assert "iptables" not in found


NFT = """
case "$*" in
  "list tables") printf 'table %s\\n' 'ip nat' 'ip filter' 'ip raw' 'ip6 mine' 'inet mine' 'ip x;y' 'ip -f' ;;
  *) echo "$*" ;;
esac"""


def nft_readings(found: dict[str, CommandOutput]) -> dict[str, str]:
    """Say which tables of nft were read, and how."""
    return {n: o.stdout for n, o in found.items() if n.startswith("nft ")}


def test_tables_of_nft_that_iptables_shows_are_not_read(programs: Programs) -> None:
    found = run(str(programs(nft=NFT, iptables_nft_save="echo '*filter'; echo COMMIT")))
    assert nft_readings(found) == {"nft inet mine": "-json list table inet mine"}
    assert found["nft"].status == 0


def test_tables_of_nft_that_iptables_cannot_show_are_read(programs: Programs) -> None:
    said = (
        "echo \"# Table \\`raw' contains incompatible base-chains, use 'nft' tool to list them.\"\n"
        "echo \"# Table \\`nat' is incompatible, use 'nft' tool.\""
    )
    found = run(str(programs(nft=NFT, iptables_nft_save=said)))
    assert set(nft_readings(found)) == {"nft ip nat", "nft ip raw", "nft inet mine"}


def test_all_tables_of_nft_are_read_where_its_iptables_is_missing(programs: Programs) -> None:
    found = run(str(programs(nft=NFT, iptables_save="echo '*filter'; echo COMMIT")))
    assert set(nft_readings(found)) == {
        "nft ip nat",
        "nft ip filter",
        "nft ip raw",
        "nft inet mine",
    }
    assert found["iptables"].status == 0


def test_a_ruleset_of_nft_that_may_not_be_read(programs: Programs) -> None:
    found = run(str(programs(nft="echo 'Operation not permitted' >&2; exit 1")))
    assert (found["nft"].status, found["nft"].stderr) == (1, "Operation not permitted")


def test_forwarding_tables_device_by_device(programs: Programs) -> None:
    ip = """
case "$*" in
  *"type vxlan") echo '3: flannel.1: <UP> mtu 1450'; echo '4: vx2@eth0: <UP> mtu 1450' ;;
  *"type bridge") echo '5: cni0: <UP> mtu 1450' ;;
esac"""
    found = run(str(programs(ip=ip, bridge='printf \'%s\' "[\\"$*\\"]"')))
    assert found["fdb"].stdout.split("\n") == [
        "dev flannel.1",
        '["-json fdb show dev flannel.1"]',
        "dev vx2",
        '["-json fdb show dev vx2"]',
        "dev cni0",
        '["-json fdb show dynamic br cni0"]',
    ]


def test_forwarding_tables_whose_devices_are_not_known(programs: Programs) -> None:
    found = run(str(programs(ip="echo 'no such kind' >&2; exit 2")))
    assert (found["fdb"].status, found["fdb"].stderr) == (2, "no such kind")


def test_frames_cannot_be_forged_without_the_mark() -> None:
    whole = f"{MARK} a\n@@ b\n{MARK}= 0 @0\n{MARK} c\nx"
    assert read_outputs(whole, MARK, MOST) == (
        CommandOutput("a", 0, "@@ b"),
        CommandOutput("c", -1, "x", "the output ends here", truncated=True),
    )


@given(
    st.lists(
        st.sampled_from([MARK, " a", "=", " 0", "\n", "@0", "999999", "²"]) | st.text(max_size=3)
    )
)
def test_any_output_is_cut_apart(parts: list[str]) -> None:
    for found in read_outputs("".join(parts), MARK, MOST):
        assert found.status >= -1


class Canned(msgspec.Struct, frozen=True):
    """A shell that answers with frames, in which ``@@`` stands for the script's mark."""

    frames: str
    reason: str = ""

    @property
    def vantage(self) -> Vantage:
        """A node."""
        return Vantage(VantageKind.NODE, "n1")

    @property
    def via(self) -> str:
        """A pod."""
        return "a/b"

    def run(self, script: str, seconds: float) -> ExecAnswer:
        """Answer."""
        assert seconds == 20
        mark = script.partition('echo "')[2].partition(" ")[0]
        return ExecAnswer(stdout=self.frames.replace("@@", mark), reason=self.reason)


def test_a_node_is_read() -> None:
    found = read_node(Canned("@@ a\nx\n@@= 0 @0\n"))
    assert found == NodeRecord("n1", "a/b", (CommandOutput("a", 0, "x"),))
    assert read_node(Canned("", "exec refused")).reason == "exec refused"


def test_what_came_before_an_end_is_kept() -> None:
    found = read_node(Canned("@@ a\nx\n@@= 0 @0\n@@ b\n", "no end within 20 s"))
    assert [o.name for o in found.outputs] == ["a", "b"]
    assert found.reason == "no end within 20 s"


def test_of_cnis_files_nothing_is_kept_that_may_be_secret() -> None:
    conf = '{"name": "n", "type": "bridge", "token": "s3cret"}'
    found = read_node(Canned(f"@@ cni-file 10-a.conf\n{conf}\n@@= 0 @0\n@@ cni-file b\n{conf}"))
    assert "s3cret" not in repr(found)
    first = msgspec.json.decode(found.outputs[0].stdout, type=CniConf)
    assert first == CniConf("10-a.conf", "n", plugins=("bridge",))
    assert found.outputs[1].truncated


class Answers(Api):
    """An API server whose containers answer with what is given, by the program's name."""

    def __init__(self, **answers: ExecAnswer) -> None:
        """Take the answers."""
        self._answers = answers
        self.asked: list[list[str]] = []

    def exec(
        self, namespace: str, pod: str, container: str, command: list[str], seconds: float
    ) -> ExecAnswer:
        assert (namespace, pod, container, seconds) == ("kube-system", "p", "kube-proxy", 6)
        self.asked.append(command)
        return self._answers.get(command[0].replace("-", "_"), ExecAnswer())


def by_kube_proxy(most: int = MOST, **answers: ExecAnswer) -> NodeRecord:
    """Read a node through kube-proxy's programs."""
    api = Answers(**answers)
    found = read_by_kube_proxy(api, "kube-system", "p", "kube-proxy", "n1", most)
    assert len(api.asked) == 3
    return found


def test_a_node_is_read_by_kube_proxys_programs() -> None:
    found = by_kube_proxy(
        1 << 20,
        iptables_save=ExecAnswer(printed("iptables-nft"), "# Warning: legacy\nmore"),
        nft=ExecAnswer(text("nft-kube-proxy.json")),
        conntrack=ExecAnswer("cpu=0 insert_failed=3\n"),
    )
    assert (found.node, found.via, found.reason) == ("n1", "kube-system/p", "")
    assert [(o.name, o.status, o.stderr) for o in found.outputs] == [
        ("iptables", 0, "# Warning: legacy"),
        ("nft ruleset", 0, ""),
        ("conntrack-tool", 0, ""),
    ]
    network = node_network([found])
    assert network.tools
    assert len(network.services or ()) == 5
    assert network.conntrack is not None


def test_what_kube_proxys_programs_print_too_much_of() -> None:
    found = by_kube_proxy(
        iptables_save=ExecAnswer(printed("iptables-nft")), nft=ExecAnswer(text("nft-site.json"))
    )
    assert [(o.truncated, len(o.stdout)) for o in found.outputs[1:]] == [(True, 0), (False, 0)]
    network = node_network([found])
    assert {t.name: t.whole for t in network.tables} == {
        "mangle": True,
        "filter": True,
        "nat": False,
    }
    assert network.why_unread("nft") == "it is longer than what is kept"
    assert network.services is None


def test_kube_proxys_programs_that_fail() -> None:
    found = by_kube_proxy(iptables_save=ExecAnswer(reason="exec refused (403): Forbidden"))
    assert found == NodeRecord("n1", "kube-system/p", reason="exec refused (403): Forbidden")
    assert by_kube_proxy().reason == "kube-proxy's programs printed nothing"
    some = by_kube_proxy(
        conntrack=ExecAnswer("cpu=0 insert_failed=0"), nft=ExecAnswer("", "denied\n")
    )
    assert [(o.status, o.stderr) for o in some.outputs] == [
        (1, "it printed nothing"),
        (1, "denied"),
        (0, ""),
    ]


@pytest.mark.parametrize(
    ("nodes", "most"), [(0, 524288), (3, 524288), (256, 262144), (9000, 196608)]
)
def test_how_much_a_reading_may_print(nodes: int, most: int) -> None:
    assert most_bytes(nodes) == most
