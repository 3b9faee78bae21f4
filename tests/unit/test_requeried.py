"""The second look at what a node tracks: only where something led to nobody, and bounded."""

import re
from typing import cast

import msgspec

from doctor.bundle.schema import GapRecord, NodeRecord, Record
from doctor.collect.kube import ExecAnswer
from doctor.collect.requeried import look_again
from doctor.collect.shells import Shell
from doctor.evidence.tables import Tables
from doctor.model.evidence import StaleQueries, StaleQuery
from doctor.model.flow import Vantage, VantageKind

QUERY = StaleQuery("one", "10.244.1.9", 40053, "10.244.0.253", 29)


class _Tables:
    """Evidence with these entries."""

    def __init__(self, *items: StaleQuery) -> None:
        self._table = StaleQueries(items=items, server="10.96.0.10")

    def get(self, _kind: type) -> StaleQueries:
        """Return them."""
        return self._table


class _Node:
    """A node's shell that prints one frame of a name, or fails."""

    via = "kube-flannel/one"

    def __init__(self, prints: str = "dns-queries", reason: str = "") -> None:
        self.vantage = Vantage(VantageKind.NODE, "one")
        self._prints, self._reason = prints, reason

    def run(self, script: str, _seconds: float) -> ExecAnswer:
        """Print it."""
        found = re.search(r"@@[0-9a-f]{16}", script)
        mark = found[0] if found else ""
        return ExecAnswer(stdout=f"{mark} {self._prints}\nat 7\n{mark}= 0\n", reason=self._reason)


def looked(shell: _Node | None, *items: StaleQuery) -> list[Record]:
    """Look again."""
    shells = {"one": cast("Shell", shell)} if shell else {}
    return list(look_again(shells, cast("Tables", _Tables(*items))))


def test_nothing_is_read_where_nothing_is_odd() -> None:
    assert looked(_Node()) == []
    assert looked(None, QUERY) == []


def test_each_node_is_read_once() -> None:
    other = msgspec.structs.replace(QUERY, port=40054)
    (record,) = looked(_Node(), QUERY, other)
    assert isinstance(record, NodeRecord)
    (output,) = record.outputs
    assert (record.node, output.name, output.stdout) == ("one", "dns-queries later", "at 7")


def test_a_look_that_failed_is_a_gap() -> None:
    for shell in (_Node(reason="the connection broke off"), _Node(prints="something")):
        (record,) = looked(shell, QUERY)
        assert isinstance(record, GapRecord)
        assert not record.gap.essential
        assert record.tables == ("StaleQueries",)
