"""Every recorded fault is judged anew: no root, no network, no process."""

import re
from functools import cache

import pytest

from doctor.bundle.schema import Bundle
from doctor.contract import Check
from doctor.engine.registry import load
from doctor.engine.run import diagnose
from doctor.evidence.lookup import Found, look_up
from doctor.evidence.tables import Tables
from doctor.model.verdict import Result
from doctor.render.evidence import evidence_page
from tests.golden.store import HEALTHY, Golden, Stated, all_goldens, asked, regenerate, stated_of
from tests.lab.faults import FAULTS
from tests.lab.faults.lookalikes import LOOKALIKES
from tests.lab.goldens import wanted, wrong
from tests.lab.shape import SHAPES

GOLDENS = all_goldens()
NOT_FOUND = 404
MOST = 40_000
"""Bytes of compressed evidence: a repository keeps each for good."""

each = pytest.mark.parametrize("golden", GOLDENS, ids=[g.id for g in GOLDENS])


@cache
def checks() -> tuple[Check, ...]:
    """The installed checks, found once."""
    return load()


@cache
def judged(golden: Golden) -> tuple[Bundle, Result]:
    """A golden's bundle, and the result that it gives today."""
    bundle = golden.bundle()
    return bundle, diagnose(bundle, asked(bundle, checks()))


def today(golden: Golden) -> Stated:
    """What is said of a golden today."""
    return stated_of(judged(golden)[1], golden.stated().names)


@each
def test_it_is_the_golden_of_a_fault_that_fits(golden: Golden) -> None:
    assert golden.shape in SHAPES
    if golden.fault != HEALTHY:
        parts = golden.fault.split("+")
        assert set(parts) <= set(FAULTS), f"{golden.folder}: no fault is called so; remove it"
        assert all(FAULTS[p].fits(SHAPES[golden.shape]) for p in parts)


@each
def test_the_cause_is_named_first_and_alone(golden: Golden) -> None:
    """Also where the checks have changed since: what they found then, they find today."""
    trouble = wrong(golden.fault, today(golden))
    assert not trouble, f"{golden.id}: {trouble}; {regenerate(golden)}"


@each
def test_it_is_said_as_it_is_stored(golden: Golden) -> None:
    """Each title, hop, echo, verdict and command: a change of them is there to be reviewed."""
    assert today(golden).dump() == golden.text, f"{golden.id} reads otherwise; {regenerate(golden)}"


@each
def test_every_proof_leads_to_what_was_seen(golden: Golden) -> None:
    """Also the proofs of what is folded: each id resolves to something that is in the bundle."""
    bundle, result = judged(golden)
    tables = Tables(bundle)
    cited = {e for c in result.checks for f in c.findings for e in f.evidence}
    cited |= {e for d in result.diagnoses for e in d.against}
    shown: dict[str, Found] = {}
    for one in cited:
        found = look_up(tables, one, cited=True)
        assert found is not None, one
        assert found.id == one
        shown.setdefault(one.partition(":")[0], found)
    for found in shown.values():
        page = evidence_page(found, result.diagnoses)
        assert page.startswith(f"{found.id}\n")
        assert page.count("\n") > 2, page


def test_what_came_of_a_request_is_its_status() -> None:
    (golden,) = (g for g in GOLDENS if g.id == "article/host-header-lost")
    bundle, result = judged(golden)
    seen = next(o for o in Tables(bundle).observations() if o.status == NOT_FOUND)
    found = look_up(Tables(bundle), seen.flow.id, cited=True)
    assert found is not None
    assert f"\nCame of it\n  HTTP status {NOT_FOUND} after " in evidence_page(
        found, result.diagnoses
    )


@each
def test_every_variable_that_is_printed_is_set_before(golden: Golden) -> None:
    """A command that is run as printed finds what it names, or says what is to be filled in."""
    for diagnosis in judged(golden)[1].diagnoses:
        for remedy in diagnosis.finding.remediation:
            known: set[str] = set()
            for command in remedy.commands:
                known |= set(re.findall(r"\b([A-Z_]{3,})=", command))
                assert set(re.findall(r"\$\{?([A-Z_]{3,})\b(?!:\?)", command)) <= known, command


@each
def test_it_is_small(golden: Golden) -> None:
    assert len(golden.evidence) <= MOST


@each
def test_it_holds_nothing_of_the_machine_that_it_was_recorded_on(golden: Golden) -> None:
    assert "/.cache/" not in str(judged(golden)[0])


@pytest.mark.parametrize("number", LOOKALIKES)
def test_a_lookalike_is_not_called_by_the_name_of_another(number: str) -> None:
    members = LOOKALIKES[number].members
    for golden in (g for g in GOLDENS if g.fault in members):
        own = FAULTS[golden.fault].expected
        others = {c for m in members if m != golden.fault for c in FAULTS[m].expected} - own
        assert set(today(golden).codes) & own, golden.id
        assert not set(today(golden).codes) & others, golden.id


@pytest.mark.parametrize("shape", sorted({g.shape for g in GOLDENS}))
def test_the_healthy_lab_of_a_shape_is_recorded_too(shape: str) -> None:
    assert HEALTHY in {g.fault for g in GOLDENS if g.shape == shape}


DUE: frozenset[str] = frozenset(
    {
        "flannel-br-netfilter-missing",
        "flannel-node-ip-changed",
        "kube-proxy-api-unreachable",
        "kube-proxy-cluster-cidr-wrong",
        "kube-proxy-duplicate",
        "pod-cidr-overlaps",
        "service-cidr-overlaps",
        "sg-drops-node-ports",
    }
)
"""Faults whose evidence is still to be recorded: what is not in here and has none fails."""


def test_every_fault_is_recorded() -> None:
    recorded = {g.fault for g in GOLDENS}
    missing = [f for f in FAULTS if f not in recorded | DUE]
    shapes = [next(s.name for s in SHAPES.values() if f in wanted(s)) for f in missing]
    due = [f"{shape}/{fault}" for shape, fault in zip(shapes, missing, strict=True)]
    assert not due, f"`python -m tests.lab.goldens --missing` records, in a lab of the shape: {due}"


def test_what_is_due_is_not_recorded_yet() -> None:
    assert set(FAULTS) - {g.fault for g in GOLDENS} >= DUE
