"""How goldens are kept and compared: each way to be wrong is seen to be one."""

from pathlib import Path

import msgspec
import pytest

from checks import CHAIN
from tests.golden.store import (
    HEALTHY,
    Golden,
    Named,
    Stated,
    all_goldens,
    asked,
    judge,
    pack,
    regenerate,
    unpack,
)
from tests.lab.goldens import wrong
from tests.unit.support import bundle, cluster

FIRST = Named(
    code="DNS_SCALED_TO_ZERO",
    title="Deployment kube-system/coredns is scaled to 0",
    hop="service:kube-system/kube-dns",
    severity="fail",
    confidence="certain",
    check="dns.running",
    evidence=("api:services/kube-system/kube-dns",),
    explains=(),
    remediation=(),
    falsifier="it has an endpoint",
)
OTHER = msgspec.structs.replace(FIRST, code="PROXY_HOST_HEADER_LOST", title="Host is lost")
ZERO, LOST = "coredns-at-zero", "host-header-lost"
DECOY = "decoy-old-subnet-env"


def stated(*diagnoses: Named, exit_code: int = 3) -> Stated:
    """What a run amounted to."""
    return Stated(
        names={ZERO: ("coredns",), LOST: ("Host",)},
        verdict="fail",
        exit_code=exit_code,
        targets=(),
        diagnoses=diagnoses,
        findings={},
        gaps={},
        verdicts={},
        notices=(),
    )


WELL = stated(exit_code=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (ZERO, stated(FIRST)),
        (f"{LOST}+{ZERO}", stated(FIRST, OTHER)),
        (HEALTHY, WELL),
        (DECOY, WELL),
    ],
)
def test_what_is_right_is_not_wrong(name: str, said: Stated) -> None:
    assert wrong(name, said) == ""


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        (ZERO, stated(), "it says nothing"),
        (ZERO, stated(OTHER), "no diagnosis is DNS_SCALED_TO_ZERO"),
        (ZERO, stated(msgspec.structs.replace(FIRST, title="x")), "names coredns"),
        (ZERO, stated(FIRST, OTHER), "forbidden: PROXY_HOST_HEADER_LOST"),
        (ZERO, stated(FIRST, FIRST), "more than were put in"),
        (f"{LOST}+{ZERO}", stated(FIRST), "no diagnosis is PROXY_HOST_HEADER_LOST"),
        (f"{LOST}+{ZERO}", stated(FIRST, OTHER, FIRST), "more than were put in"),
        (HEALTHY, stated(FIRST), "nothing is broken"),
        (HEALTHY, stated(exit_code=5), "nothing is broken"),
        (DECOY, stated(FIRST), "nothing is broken"),
    ],
)
def test_what_is_wrong_is_told(name: str, said: Stated, why: str) -> None:
    assert why in wrong(name, said)


def test_a_check_that_was_added_since_is_left_out() -> None:
    """For its sake nothing was recorded: it can say neither that all is well nor that it is not."""
    recorded = tuple(c.id for c in CHAIN[:3])
    old = bundle(*cluster(2), checks=recorded)
    assert [c.id for c in asked(old, CHAIN)] == list(recorded)
    assert set(judge(old, CHAIN, {}).verdicts) == set(recorded)


def test_a_check_that_is_gone_is_noticed() -> None:
    old = bundle(*cluster(2), checks=tuple(c.id for c in CHAIN[:3]))
    assert judge(old, CHAIN, {}).dump() != judge(old, CHAIN[1:], {}).dump()


def test_evidence_comes_back_as_it_was_packed() -> None:
    whole = bundle(*cluster(2))
    assert unpack(pack(msgspec.json.encode(whole))) == whole


def test_a_golden_comes_back_as_it_was_written(tmp_path: Path) -> None:
    golden = Golden("article", ZERO, tmp_path)
    assert all_goldens(tmp_path) == ()
    golden.write(stated(FIRST), b"evidence")
    assert all_goldens(tmp_path) == (golden,)
    assert (golden.stated(), golden.evidence) == (stated(FIRST), b"evidence")
    golden.write(WELL)
    assert (golden.stated(), golden.evidence) == (WELL, b"evidence")


def test_a_failure_says_how_to_regenerate() -> None:
    said = regenerate(Golden("hostgw", ZERO))
    assert f"python -m tests.lab.goldens --judge --only {ZERO}" in said
    assert "python -m tests.lab --shape hostgw up" in said
