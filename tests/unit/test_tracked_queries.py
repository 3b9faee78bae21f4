"""What is tracked of queries: the kernel's table reduced by the node's script, and any text at all."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.collect.node_script import node_script, read_outputs
from doctor.model.node_state import TrackedQueries, TrackedQuery
from doctor.parse.tracked_queries import parse_tracked_queries
from tests.unit.recorded import damaged

MARK = "@@0123456789abcdef"
SERVER = "10.96.0.10"
# as a node's kernel shows it
TABLE = """\
ipv4     2 udp      17 29 src=10.244.2.41 dst=10.96.0.10 sport=51714 dport=53 [UNREPLIED] \
src=10.244.1.29 dst=10.244.2.41 sport=53 dport=51714 mark=0 zone=0 use=2
ipv4     2 udp      17 117 src=192.168.100.102 dst=10.96.0.10 sport=57516 dport=53 \
src=10.244.2.36 dst=10.244.2.1 sport=53 dport=38241 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 86390 ESTABLISHED src=10.244.2.41 dst=10.96.0.10 sport=40000 dport=53 \
src=10.244.1.29 dst=10.244.2.41 sport=53 dport=40000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 13 src=10.244.1.29 dst=203.0.113.53 sport=58083 dport=53 \
src=203.0.113.53 dst=192.168.100.102 sport=53 dport=11312 mark=0 zone=0 use=2
ipv4     2 udp      17 13 src=10.244.1.29 dst=10.96.0.100 sport=58083 dport=53 \
src=10.244.1.7 dst=192.168.100.102 sport=53 dport=11312 mark=0 zone=0 use=2
ipv4     2 udp      17 13 src=10.244.1.29 dst=10.96.0.10 sport=58083 dport=5353 \
src=10.244.1.7 dst=192.168.100.102 sport=5353 dport=11312 mark=0 zone=0 use=2
ipv4     2 udp      17 13 src=10.244.1.29 dst=10.96.0.10 sport=53 dport=5353 \
src=10.244.1.7 dst=10.244.1.29 sport=5353 dport=53 mark=0 zone=0 use=2
"""
PRINTED = "at 39885.98\n192.168.100.102 48210 10.244.1.29 28\n192.168.100.102 40053 10.244.1.253 29"


def reduced(table: str, folder: Path, server: str = SERVER, many: str = "6") -> list[str] | None:
    """Have the script read a table; None where it does not look."""
    (folder / "table").write_text(table)
    (folder / "many").write_text(many)
    script = node_script(MARK, 65536, server, later=True)
    script = script.replace("/proc/net/nf_conntrack", str(folder / "table"))
    script = script.replace("/proc/sys/net/netfilter/nf_conntrack_count", str(folder / "many"))
    done = subprocess.run(
        ("sh", "-c", script), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    found = read_outputs(done.stdout, MARK, 65536)
    if not found:
        return None
    (output,) = found
    assert output.name == "dns-queries"
    if output.status:
        return [output.stderr]
    assert parse_tracked_queries(output.stdout) is not None
    return output.stdout.splitlines()


def test_the_kernels_table_is_reduced(tmp_path: Path) -> None:
    head, *lines = reduced(TABLE, tmp_path) or [""]
    assert head.startswith("at ")
    assert lines == ["10.244.2.41 51714 10.244.1.29 29", "192.168.100.102 57516 10.244.2.36 117"]


def test_of_those_that_lead_to_one_address_only_some_are_shown(tmp_path: Path) -> None:
    first, second = TABLE.splitlines()[:2]
    many = "\n".join(first.replace("51714", str(40000 + n)) for n in range(100))
    lines = reduced(f"{many}\n{second}\n", tmp_path) or []
    assert len(lines) == 1 + 8 + 1
    assert lines[-1] == "192.168.100.102 57516 10.244.2.36 117"


def test_a_busy_node_is_not_asked(tmp_path: Path) -> None:
    assert reduced(TABLE, tmp_path, many="65537") == [
        "65537 connections are too many to look through"
    ]


@pytest.mark.parametrize("server", ["", "None", "10.96.0.10; reboot", "fd00::a"])
def test_without_an_address_nothing_is_looked_for(tmp_path: Path, server: str) -> None:
    assert reduced(TABLE, tmp_path, server) is None


def test_what_the_script_printed() -> None:
    assert parse_tracked_queries(PRINTED) == TrackedQueries(
        39885.98,
        (
            TrackedQuery("192.168.100.102", 48210, "10.244.1.29", 28),
            TrackedQuery("192.168.100.102", 40053, "10.244.1.253", 29),
        ),
    )
    assert parse_tracked_queries("at 7") == TrackedQueries(7.0)


@pytest.mark.parametrize("text", ["", "10.244.1.1 1 10.244.1.2 3", "at", "at ٣", f"at {'9' * 40}"])
def test_what_is_not_that(text: str) -> None:
    assert parse_tracked_queries(text) is None


@pytest.mark.parametrize(
    "line",
    [
        "10.244.1.1 1 10.244.1.2",
        "a 1 10.244.1.2 3",
        "10.244.1.1 x 10.244.1.2 3",
        "1 2 3 4",
        "- - - -",
    ],
)
def test_lines_that_are_left_out(line: str) -> None:
    assert parse_tracked_queries(f"at 1.5\n{line}") == TrackedQueries(1.5)


def test_no_more_than_so_many_are_kept() -> None:
    text = "at 1\n" + "10.244.1.1 1 10.244.1.2 3\n" * 100_000
    found = parse_tracked_queries(text)
    assert found is not None
    assert len(found.items) == 256


@given(damaged(PRINTED) | st.text())
def test_any_text_is_read(anything: str) -> None:
    found = parse_tracked_queries(anything)
    assert found is None or found.at >= 0
